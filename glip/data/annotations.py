"""The truth that boxes are scored against, as columns: images, classes and annotated boxes of one split.

A box is [left, top, width, height] in pixels of the original image, float64, because the reference evaluators
compute so. Rows stand in the order of the file, which decides between equal scores. Knows nothing of detectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from glip.data.box_formats import why_not_pixels
from glip.data.coco import CocoDataset, load_coco
from glip.data.json_errors import why_no_json, why_no_text
from glip.errors import InputError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Federated:
    """What LVIS says besides: which classes were checked in which image. Classes and images by their ids.

    Attributes:
        frequency: for each class, in the order of `Truth.category_ids`: 'r' rare, 'c' common, 'f' frequent.
        negative: image id to the classes that are surely not in the image.
        not_exhaustive: image id to the classes of which not every box was annotated.
    """

    frequency: tuple[str, ...]
    negative: Mapping[int, frozenset[int]]
    not_exhaustive: Mapping[int, frozenset[int]]


@dataclass(frozen=True, eq=False)
class Truth:
    """Annotated images.

    Attributes:
        image_ids: (I,) ascending.
        sizes_hw: (I, 2) pixels.
        file_names: (I) relative to the folder of images.
        category_ids: (K,) ascending.
        names: (K) class names.
        annotation_id: (N,) as in the file. An id of 0 counts for nothing in COCO's evaluator; see `coco.py`.
        image_id: (N,) one of `image_ids`.
        category_id: (N,) one of `category_ids`.
        bbox: (N, 4) left, top, width, height.
        area: (N,) square pixels of the box or of a finer outline; decides small, medium and large.
        iscrowd: (N,) around an uncounted many.
        ignore: (N,) marked `ignore` or `difficult` in the file; COCO's evaluator does not look at it.
        federated: of LVIS; None for a set that is annotated throughout.
    """

    image_ids: Integers
    sizes_hw: Integers
    file_names: tuple[str, ...]
    category_ids: Integers
    names: tuple[str, ...]
    annotation_id: Integers
    image_id: Integers
    category_id: Integers
    bbox: Floats
    area: Floats
    iscrowd: Bools
    ignore: Bools
    federated: Federated | None = None

    @classmethod
    def from_coco(cls, source: CocoDataset | str | Path) -> Truth:
        """Takes a COCO file or what was read from one.

        Raises:
            InputError: the file cannot be read, or contradicts itself.
        """
        if isinstance(source, CocoDataset):
            return _truth_of(source, np.zeros(len(source.annotations), bool))
        truth = _truth_of(_read_coco(Path(source)), _ignored(Path(source)))
        size_wh = truth.sizes_hw[truth.image_places(truth.image_id)][:, ::-1].astype(np.float64)
        if why := why_not_pixels(truth.bbox, size_wh):
            raise InputError(f"{source}: {why}")
        return truth

    @classmethod
    def from_lvis(cls, path: str | Path) -> Truth:
        """Reads an annotation file of LVIS v1: the published one, or a part of it such as minival.

        Raises:
            InputError: the file cannot be read, contradicts itself, or lacks what LVIS's score needs.
        """
        return _truth_of_lvis(Path(path), _read_lvis(Path(path)))

    @property
    def label_of_category(self) -> dict[int, int]:
        """Category id to its place in `names`."""
        return {int(id): label for label, id in enumerate(self.category_ids)}

    def image_places(self, image_ids: Integers) -> Integers:
        """(N,) places in `image_ids`; every id must be known."""
        return np.searchsorted(self.image_ids, image_ids)

    def category_places(self, category_ids: Integers) -> Integers:
        """(N,) places in `category_ids`; every id must be known."""
        return np.searchsorted(self.category_ids, category_ids)

    def of_images(self, image_ids: Sequence[int] | Integers) -> Truth:
        """The same classes in fewer images; ids that are not known are passed over."""
        keep = np.isin(self.image_ids, np.asarray(image_ids, np.int64))
        fewer = replace(
            self,
            image_ids=self.image_ids[keep],
            sizes_hw=self.sizes_hw[keep],
            file_names=tuple(name for name, kept in zip(self.file_names, keep, strict=True) if kept),
        )
        return fewer.rows(np.isin(self.image_id, fewer.image_ids))

    def of_categories(self, category_ids: Sequence[int] | Integers) -> Truth:
        """Fewer classes in the same images; ids that are not known are passed over."""
        keep = np.isin(self.category_ids, np.asarray(category_ids, np.int64))
        federated = self.federated and replace(
            self.federated, frequency=tuple(f for f, kept in zip(self.federated.frequency, keep, strict=True) if kept)
        )
        fewer = replace(
            self,
            category_ids=self.category_ids[keep],
            names=tuple(name for name, kept in zip(self.names, keep, strict=True) if kept),
            federated=federated,
        )
        return fewer.rows(np.isin(self.category_id, fewer.category_ids))

    def rows(self, keep: Bools) -> Truth:
        """Some of the annotated boxes; all images and classes stay."""
        return replace(
            self,
            annotation_id=self.annotation_id[keep],
            image_id=self.image_id[keep],
            category_id=self.category_id[keep],
            bbox=self.bbox[keep],
            area=self.area[keep],
            iscrowd=self.iscrowd[keep],
            ignore=self.ignore[keep],
        )


class _IgnoreFlags(msgspec.Struct, frozen=True):
    """The marks of a box by which some sets of COCO's form leave it out of the score; any of 0, 1, true, null."""

    ignore: object = None
    difficult: object = None


class _IgnoreFile(msgspec.Struct, frozen=True):
    annotations: list[_IgnoreFlags]


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
        # The published file has addresses only; their end is the name in COCO's folders: val2017/000000397133.jpg.
        return self.file_name or "/".join(self.coco_url.split("/")[-2:])


class _LvisCategory(msgspec.Struct, frozen=True):
    id: int
    name: str
    frequency: str


class _LvisAnnotation(msgspec.Struct, frozen=True):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | UnsetType = UNSET
    ignore: int = 0


class _LvisFile(msgspec.Struct, frozen=True):
    images: list[_LvisImage]
    annotations: list[_LvisAnnotation]
    categories: list[_LvisCategory]


def _truth_of(dataset: CocoDataset, ignore: Bools) -> Truth:
    images = sorted(dataset.images, key=lambda image: image.id)
    categories = sorted(dataset.categories, key=lambda category: category.id)
    boxes = dataset.annotations
    bbox = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
    area = [np.nan if box.area is UNSET else box.area for box in boxes]
    return Truth(
        image_ids=np.array([image.id for image in images], np.int64),
        sizes_hw=np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2),
        file_names=tuple(image.file_name for image in images),
        category_ids=np.array([category.id for category in categories], np.int64),
        names=tuple(category.name for category in categories),
        annotation_id=np.array([box.id for box in boxes], np.int64),
        image_id=np.array([box.image_id for box in boxes], np.int64),
        category_id=np.array([box.category_id for box in boxes], np.int64),
        bbox=bbox,
        area=_or_box_area(np.array(area, np.float64), bbox),
        iscrowd=np.array([bool(box.iscrowd) for box in boxes], bool),
        ignore=ignore,
    )


def _or_box_area(area: Floats, bbox: Floats) -> Floats:
    return np.where(np.isnan(area), bbox[:, 2] * bbox[:, 3], area)


def _read_coco(path: Path) -> CocoDataset:
    try:
        return load_coco(path)
    except InputError as error:
        why = why_no_text(path, path.read_bytes()) if path.is_file() else None
        if why is None:
            raise
        raise InputError(why) from error


def _ignored(path: Path) -> Bools:
    content = path.read_bytes()
    flags = msgspec.json.decode(content, type=_IgnoreFile).annotations
    return np.array([bool(flag.ignore or flag.difficult) for flag in flags], bool)


def _read_lvis(path: Path) -> _LvisFile:
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_LvisFile)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except msgspec.ValidationError as error:
        raise InputError(
            f"{path} is not an annotation file of LVIS v1: {error}. Its images list neg_category_ids and "
            f"not_exhaustive_category_ids, its categories their frequency; get lvis_v1_val.json from lvisdataset.org."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(why_no_json(path, path.read_bytes(), str(error))) from error
    _check_lvis(path, file)
    return file


def _check_lvis(path: Path, file: _LvisFile) -> None:
    images = {image.id for image in file.images}
    categories = {category.id for category in file.categories}
    for what, count, ids in (
        ("image", len(file.images), images),
        ("category", len(file.categories), categories),
        ("annotation", len(file.annotations), {box.id for box in file.annotations}),
    ):
        if len(ids) < count:
            raise InputError(f"{path}: an {what} id stands there twice.")
    for category in file.categories:
        if category.frequency not in ("r", "c", "f"):
            raise InputError(
                f"{path}: category {category.id} has the frequency {category.frequency!r}; LVIS knows r, c and f."
            )
    for box in file.annotations:
        if box.image_id not in images or box.category_id not in categories:
            what, id = ("image", box.image_id) if box.image_id not in images else ("category", box.category_id)
            raise InputError(f"{path}: annotation {box.id} belongs to {what} {id}, which is not listed.")


def _truth_of_lvis(path: Path, file: _LvisFile) -> Truth:
    images = sorted(file.images, key=lambda image: image.id)
    categories = sorted(file.categories, key=lambda category: category.id)
    boxes = file.annotations
    bbox = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
    area = [np.nan if box.area is UNSET else box.area for box in boxes]
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
        area=_or_box_area(np.array(area, np.float64), bbox),
        iscrowd=np.zeros(len(boxes), bool),
        ignore=np.array([bool(box.ignore) for box in boxes], bool),
        federated=Federated(
            frequency=tuple(category.frequency for category in categories),
            negative={image.id: image.neg_category_ids for image in images},
            not_exhaustive={image.id: image.not_exhaustive_category_ids for image in images},
        ),
    )
