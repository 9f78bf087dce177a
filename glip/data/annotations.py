"""The annotated boxes that scores are computed against, as columns: one form for COCO, LVIS, VOC and D3.

A box is [left, top, width, height] in pixels of the original image, float64, because the reference evaluators compute
so. Rows are in the order of the file, which decides between equal scores. Knows nothing of detectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from glip.data.coco import CocoDataset, load_coco
from glip.errors import InputError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Federated:
    """What LVIS annotates beside boxes: which classes were checked in which image. Classes and images by their ids.

    Attributes:
        frequency: of each class, in the order of `Truth.category_ids`: 'r' rare, 'c' common, 'f' frequent.
        negative: image id to the classes that are known to be absent from the image.
        not_exhaustive: image id to the classes of which only some boxes were annotated.
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
        annotation_id: (N,) as in the file. COCO's evaluator never counts the id 0 as found; see `metrics/coco.py`.
        image_id: (N,) one of `image_ids`.
        category_id: (N,) one of `category_ids`.
        bbox: (N, 4) left, top, width, height.
        area: (N,) square pixels of the box or of a finer outline; decides small, medium and large.
        iscrowd: (N,) whether the box holds an uncounted group.
        ignore: (N,) whether the file marks the box `ignore` or `difficult`; COCO's evaluator does not read this.
        federated: of LVIS; None for a data set in which every class is annotated in every image.
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
        """Returns the columns of a COCO file, or of what was read from one.

        Raises:
            InputError: the file cannot be read, contradicts itself, or has boxes in another format.
        """
        if not isinstance(source, CocoDataset):
            truth = cls.from_coco(load_coco(source))
            check_box_format(truth, Path(source))
            return truth
        images = sorted(source.images, key=lambda image: image.id)
        categories = sorted(source.categories, key=lambda category: category.id)
        boxes = source.annotations
        bbox = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
        area = np.array([np.nan if box.area is UNSET else box.area for box in boxes], np.float64)
        return cls(
            image_ids=np.array([image.id for image in images], np.int64),
            sizes_hw=np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2),
            file_names=tuple(image.file_name for image in images),
            category_ids=np.array([category.id for category in categories], np.int64),
            names=tuple(category.name for category in categories),
            annotation_id=np.array([box.id for box in boxes], np.int64),
            image_id=np.array([box.image_id for box in boxes], np.int64),
            category_id=np.array([box.category_id for box in boxes], np.int64),
            bbox=bbox,
            area=area_or_box(area, bbox),
            iscrowd=np.array([bool(box.iscrowd) for box in boxes], bool),
            ignore=np.array([box.is_ignored for box in boxes], bool),
        )

    @property
    def label_of_category(self) -> dict[int, int]:
        """Returns the index in `names` of each category id."""
        return {int(id): label for label, id in enumerate(self.category_ids)}

    def image_indices(self, image_ids: Integers) -> Integers:
        """Returns (N,) indices into `image_ids`; every id must be known."""
        return np.searchsorted(self.image_ids, image_ids)

    def category_indices(self, category_ids: Integers) -> Integers:
        """Returns (N,) indices into `category_ids`; every id must be known."""
        return np.searchsorted(self.category_ids, category_ids)

    def of_images(self, image_ids: Sequence[int] | Integers) -> Truth:
        """Returns some of the images with their boxes; all classes stay. Unknown ids are skipped."""
        keep = np.isin(self.image_ids, np.asarray(image_ids, np.int64))
        part = replace(
            self,
            image_ids=self.image_ids[keep],
            sizes_hw=self.sizes_hw[keep],
            file_names=tuple(name for name, kept in zip(self.file_names, keep, strict=True) if kept),
        )
        return part.rows(np.isin(self.image_id, part.image_ids))

    def of_categories(self, category_ids: Sequence[int] | Integers) -> Truth:
        """Returns some of the classes with their boxes; all images stay. Unknown ids are skipped."""
        keep = np.isin(self.category_ids, np.asarray(category_ids, np.int64))
        federated = self.federated and replace(
            self.federated, frequency=tuple(f for f, kept in zip(self.federated.frequency, keep, strict=True) if kept)
        )
        part = replace(
            self,
            category_ids=self.category_ids[keep],
            names=tuple(name for name, kept in zip(self.names, keep, strict=True) if kept),
            federated=federated,
        )
        return part.rows(np.isin(self.category_id, part.category_ids))

    def rows(self, keep: Bools) -> Truth:
        """Returns some of the boxes; all images and classes stay."""
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


def area_or_box(area: Floats, bbox: Floats) -> Floats:
    """Returns (N,) areas in square pixels, with the area of the (N, 4) xywh box where the file has none (NaN)."""
    return np.where(np.isnan(area), bbox[:, 2] * bbox[:, 3], area)


def check_box_format(truth: Truth, path: Path) -> None:
    """Refuses a file whose boxes are almost certainly not left, top, width, height in pixels.

    Raises:
        InputError: the message names the file and the likely format.
    """
    sizes_wh = truth.sizes_hw[truth.image_indices(truth.image_id)][:, ::-1].astype(np.float64)
    if problem := box_format_problem(truth.bbox, sizes_wh):
        raise InputError(f"{path}: {problem}")


_ENOUGH_BOXES = 3  # the format of fewer boxes cannot be told


def box_format_problem(bbox: Floats, sizes_wh: Floats) -> str | None:
    """Returns in which other format boxes are, as sentences; None if they can be left, top, width, height in pixels.

    Args:
        bbox: (N, 4) boxes.
        sizes_wh: (N, 2) width and height in pixels of the image of each box.
    """
    count = len(bbox)
    if count < _ENOUGH_BOXES:
        return None
    first, second = bbox[:, :2], bbox[:, 2:]
    if (bbox <= 1).all() and (second > 0).any() and (sizes_wh > 2).all():
        return (
            f"no number of the {count} boxes is above 1, so they are probably fractions of the image. Boxes must be "
            f"left, top, width, height in pixels."
        )
    # A detector's boxes may extend a little beyond the image, so 2 % of its size is tolerated.
    outside = np.any(first + second > 1.02 * sizes_wh + 1, axis=1)
    corners = np.all((second >= first) & (second <= 1.02 * sizes_wh + 1), axis=1)
    if np.mean(outside) > 0.5 and np.mean(corners) > 0.95:
        return (
            f"{int(outside.sum())} of {count} boxes extend beyond their image if read as left, top, width, height, and "
            f"{int(corners.sum())} of {count} fit if read as two corners, so they are almost certainly x1, y1, x2, y2. "
            f"Write [x1, y1, x2 - x1, y2 - y1]."
        )
    return None
