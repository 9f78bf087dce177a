"""Reads annotation files of LVIS v1: COCO's form, with classes that were checked in some images only."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from glip.data.annotations import Federated, Truth, area_or_box
from glip.data.coco import BoxXYWH, is_inside
from glip.data.coco_checks import MAX_SIDE, Place, check_ids
from glip.errors import InputError
from glip.files import read_json


def read_lvis(path: str | Path) -> Truth:
    """Reads an annotation file of LVIS v1: the published one, or a part of it such as minival.

    Raises:
        InputError: the file cannot be read, contradicts itself, or lacks what LVIS's score needs.
    """
    path = Path(path)
    file = read_json(
        path,
        _LvisFile,
        "an annotation file of LVIS v1",
        hint="Its images list neg_category_ids and not_exhaustive_category_ids, its categories their frequency; get "
        "lvis_v1_val.json from lvisdataset.org.",
    )
    _check(path, file)
    return _truth(file)


class _LvisImage(msgspec.Struct, frozen=True):
    id: int
    width: int
    height: int
    neg_category_ids: frozenset[int]
    not_exhaustive_category_ids: frozenset[int]
    coco_url: str = ""
    file_name: str = ""

    @property
    def name(self) -> str:
        # The published file has addresses only; their end is the path in COCO's folders: val2017/000000397133.jpg.
        return self.file_name or "/".join(self.coco_url.split("/")[-2:])


class _LvisCategory(msgspec.Struct, frozen=True):
    id: int
    name: str
    frequency: str


class _LvisAnnotation(msgspec.Struct, frozen=True):
    id: int
    image_id: int
    category_id: int
    bbox: BoxXYWH
    area: float | UnsetType = UNSET
    ignore: int = 0


class _LvisFile(msgspec.Struct, frozen=True):
    images: list[_LvisImage]
    annotations: list[_LvisAnnotation]
    categories: list[_LvisCategory]


def _check(path: Path, file: _LvisFile) -> None:
    for image in file.images:
        outside = image.name != "" and not is_inside(image.name)
        if outside or not 0 < min(image.width, image.height) <= max(image.width, image.height) <= MAX_SIDE:
            raise InputError(
                f"{path}: image {image.id} is {image.name[:200]!r} with {image.width} × {image.height} pixels; it must "
                f"be below the folder of images, and have 1 to {MAX_SIDE} pixels per side."
            )
    for category in file.categories:
        if category.frequency not in ("r", "c", "f"):
            raise InputError(
                f"{path}: category {category.id} has the frequency {category.frequency[:40]!r}; accepted are r, c, f."
            )
    check_ids(Place(path, b""), file.images, file.annotations, file.categories)


def _truth(file: _LvisFile) -> Truth:
    images = sorted(file.images, key=lambda image: image.id)
    categories = sorted(file.categories, key=lambda category: category.id)
    boxes = file.annotations
    bbox = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
    area = np.array([np.nan if box.area is UNSET else box.area for box in boxes], np.float64)
    return Truth(
        image_ids=np.array([image.id for image in images], np.int64),
        sizes_hw=np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2),
        file_names=tuple(image.name for image in images),
        category_ids=np.array([category.id for category in categories], np.int64),
        names=tuple(category.name for category in categories),
        annotation_id=np.array([box.id for box in boxes], np.int64),
        image_id=np.array([box.image_id for box in boxes], np.int64),
        category_id=np.array([box.category_id for box in boxes], np.int64),
        bbox=bbox,
        area=area_or_box(area, bbox),
        iscrowd=np.zeros(len(boxes), bool),
        ignore=np.array([bool(box.ignore) for box in boxes], bool),
        federated=Federated(
            frequency=tuple(category.frequency for category in categories),
            negative={image.id: image.neg_category_ids for image in images},
            not_exhaustive={image.id: image.not_exhaustive_category_ids for image in images},
        ),
    )
