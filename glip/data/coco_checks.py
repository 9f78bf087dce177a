"""Checks what was read of a COCO file, and names the place of what cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from reprlib import Repr
from typing import Never, Protocol

import numpy as np

from glip.data.coco import BoxXYWH, CocoDataset, check_image
from glip.errors import InputError
from glip.files import line_of_entry

MAX_SIDE = 1_000_000  # pixels; no image that can be read is larger
MAX_ID = 2**63
NO_ID = "cannot be used: ids are whole numbers of at most 64 bits. Number the entries 1, 2, 3, …, and refer to these."
_MAX_NUMBER = 1e9  # of a corner or side of a box, in pixels

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def shortened(value: object) -> str:
    """Returns a value as Python writes it, cut in the middle if it is long."""
    return _short.repr(value)


@dataclass(frozen=True)
class Place:
    """Names the place of an entry in a file, for messages."""

    path: Path
    content: bytes

    def fail(self, key: str | None, index: int, message: str) -> Never:
        """Raises InputError with the file, the line if there are several, and the entry in front of the message."""
        line = line_of_entry(self.content, key, index)
        entry = f"entry {index}" if key is None else f"{key}[{index}]"
        raise InputError(f"{self.path}{'' if line is None else f', line {line}'}, {entry}: {message}")


def check_coco(place: Place, dataset: CocoDataset) -> None:
    """Refuses a data set that contradicts itself.

    Raises:
        InputError: the message names the file, the place and the value.
    """
    check_unique(place, "images", "image file_name", [image.file_name for image in dataset.images])
    for index, image in enumerate(dataset.images):
        if max(image.width, image.height) > MAX_SIDE:
            place.fail(
                "images",
                index,
                f"image {image.id} has the size {image.width} × {image.height} pixels; at most {MAX_SIDE} per side are "
                f"accepted. Write the size of the file.",
            )
        check_image(place.path, image.id, image.file_name, image.width, image.height)
    check_ids(place, dataset.images, dataset.annotations, dataset.categories)


class _Identified(Protocol):
    @property
    def id(self) -> int: ...


class _Annotated(_Identified, Protocol):
    @property
    def image_id(self) -> int: ...
    @property
    def category_id(self) -> int: ...
    @property
    def bbox(self) -> BoxXYWH: ...


def check_ids(
    place: Place,
    images: Sequence[_Identified],
    annotations: Sequence[_Annotated],
    categories: Sequence[_Identified],
) -> None:
    """Refuses ids that are listed twice, are too large or belong to nothing, and boxes that are none.

    Raises:
        InputError: the message names the file, the place and the value.
    """
    check_unique(place, "images", "image id", [image.id for image in images])
    check_unique(place, "categories", "category id", [category.id for category in categories])
    check_unique(place, "annotations", "annotation id", [box.id for box in annotations])
    known = {image.id for image in images}
    classes = {category.id for category in categories}
    for index, box in enumerate(annotations):
        if box.image_id not in known:
            place.fail(
                "annotations", index, f"annotation {box.id} belongs to image {box.image_id}, which is not listed."
            )
        if box.category_id not in classes:
            place.fail(
                "annotations", index, f"annotation {box.id} has category {box.category_id}, which is not listed."
            )
    _check_boxes(place, annotations)


def check_unique(place: Place, key: str, what: str, values: Sequence[int | str]) -> None:
    """Refuses a value that is listed twice, or an id beyond 64 bits.

    Args:
        place: names the file.
        key: of the list.
        what: the values are, such as "image id".
        values: of the entries of the list.

    Raises:
        InputError: the message names the file, the place, what the value is, and the value.
    """
    if len(set(values)) < len(values):
        seen: set[int | str] = set()
        for index, value in enumerate(values):
            if value in seen:
                place.fail(key, index, f"the {what} {value!r} is listed twice. Give each its own.")
            seen.add(value)
    if values and isinstance(values[0], int):
        large = [index for index, value in enumerate(values) if not -MAX_ID <= int(value) < MAX_ID]
        for index in large:
            place.fail(key, index, f"the {what} {shortened(values[index])} {NO_ID}")


def _check_boxes(place: Place, annotations: Sequence[_Annotated]) -> None:
    corners = np.array([box.bbox for box in annotations], np.float64).reshape(-1, 4)
    for index in np.flatnonzero((corners[:, 2:] < 0).any(1))[:1].tolist():
        box = annotations[index]
        numbers = f"{list(box.bbox)} (left, top, width, height)"
        place.fail("annotations", index, f"annotation {box.id} has a negative size: {numbers}.")
    for index in np.flatnonzero((np.abs(corners) > _MAX_NUMBER).any(1))[:1].tolist():
        box = annotations[index]
        place.fail(
            "annotations",
            index,
            f"annotation {box.id} has the box {list(box.bbox)}; numbers of pixels must be below {_MAX_NUMBER:g}.",
        )


def fit_64_bits(dataset: CocoDataset) -> bool:
    """Returns whether all ids are whole numbers of 64 bits."""
    entries: Iterable[_Identified] = chain(dataset.images, dataset.annotations, dataset.categories)
    own = (entry.id for entry in entries)
    references = chain.from_iterable((box.image_id, box.category_id) for box in dataset.annotations)
    return all(-MAX_ID <= id < MAX_ID for id in chain(own, references))
