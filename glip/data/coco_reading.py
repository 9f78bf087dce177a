"""Reads COCO files and COCO results as other tools write them.

A file that follows the format is decoded strictly, which is fast. One that does not is decoded again, and whatever can
be read without loss is: ids written as 7.0 or "7", unknown sizes, other spellings of file names. What was read
differently is said in notes; what cannot be used is refused with its place in the file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from reprlib import Repr
from typing import Any, Never, Protocol

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from glip.data.coco import (
    BoxXYWH,
    CocoAnnotation,
    CocoCategory,
    CocoDataset,
    CocoImage,
    CocoResult,
    check_image,
    is_inside,
)
from glip.data.image_files import ImageFinder, read_size
from glip.errors import InputError
from glip.files import UnexpectedJson, decode_json, line_of_entry, read_content
from glip.left_out import LeftOut, first_examples

MAX_SIDE = 1_000_000  # pixels; no image that can be read is larger
_MAX_NUMBER = 1e9  # of a corner or side of a box, in pixels
_MAX_ID = 2**63
_WHOLE = re.compile(r"\s*[+-]?\d{1,19}\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?\s*", re.ASCII)
_ALL_OPENED = 2000  # of more images, a sample is opened to see whether their sizes are swapped
_SAMPLED = 200

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


@dataclass(frozen=True)
class CocoFile:
    """A COCO file as it was read, or annotations of another format as such a file.

    Attributes:
        dataset: images, boxes and classes.
        notes: what was read differently from how it is written, in sentences.
        left_out: what was not read.
        folders: of the images; () if the caller gives them.
    """

    dataset: CocoDataset
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    folders: tuple[Path, ...] = ()


def read_coco(path: Path, folders: Sequence[Path] = (), *, boxes: bool = True) -> CocoFile:
    """Reads a COCO file.

    Args:
        path: the file.
        folders: where its images may be. File names that are written otherwise are replaced by those of the files;
            sizes that are unknown or swapped are taken from the files.
        boxes: False for a file of images and categories only, as test-dev is published.

    Raises:
        InputError: the file cannot be read, lacks a field, or contradicts itself.
    """
    content = read_content(path, "a COCO file")
    what = "a COCO file" if boxes else "a list of images and categories in COCO's format"
    dataset, left_out = decode_coco(path, content, boxes=boxes, what=what)
    place = Place(path, content)
    notes: list[str] = []
    if folders:
        dataset = _with_found_names(dataset, ImageFinder(folders), path, notes)
        dataset, more = fitted_to_files(dataset, folders, place)
        notes += more
    check_coco(place, dataset)
    return CocoFile(dataset, tuple(notes), tuple(left_out))


def fitted_to_files(dataset: CocoDataset, folders: Sequence[Path], place: Place) -> tuple[CocoDataset, list[str]]:
    """Returns a data set with the sizes of its image files where it states none, or swaps width and height.

    Args:
        dataset: file names are those of the files.
        folders: of the images.
        place: of the annotations, for messages.

    Returns:
        The data set, and sentences about what was changed.

    Raises:
        InputError: a size is unknown, and the file cannot be read.
    """
    notes: list[str] = []
    finder = ImageFinder(folders)
    dataset = _with_sizes_of_files(dataset, finder, place, notes)
    return _turned_upright(dataset, finder, place.path, notes), notes


def decode_coco(
    path: Path, content: bytes, *, boxes: bool = True, what: str = "a COCO file"
) -> tuple[CocoDataset, list[LeftOut]]:
    """Returns the content of a COCO file, and annotations without a box; sizes that it does not state are 0.

    Raises:
        InputError: the file is something else, or has a value that cannot be used.
    """
    try:
        if boxes:
            strict = decode_json(content, CocoDataset, str(path), what)
        else:
            listed = decode_json(content, _ImageList, str(path), what)
            strict = CocoDataset(listed.images, (), listed.categories)
        if _fit_64_bits(strict):
            return strict, []
        strict_error = UnexpectedJson(f"{path} is not {what}", "ids are too large")  # the entry is named below
    except UnexpectedJson as error:
        strict_error = error
    try:
        file = decode_json(content, _LooseFile, str(path), what)
    except UnexpectedJson:
        raise strict_error from None
    missing = [name for name in ("images", "categories", *(("annotations",) * boxes)) if getattr(file, name) is UNSET]
    if missing:
        raise strict_error
    return _Tolerant(Place(path, content)).dataset(file, boxes)


def _fit_64_bits(dataset: CocoDataset) -> bool:
    entries: Iterable[_Identified] = chain(dataset.images, dataset.annotations, dataset.categories)
    own = (entry.id for entry in entries)
    references = chain.from_iterable((box.image_id, box.category_id) for box in dataset.annotations)
    return all(-_MAX_ID <= id < _MAX_ID for id in chain(own, references))


def decode_results(path: Path, content: bytes, what: str) -> Sequence[CocoResult]:
    """Returns a list of COCO results. A box without a score is refused, because results are ranked by it.

    Raises:
        InputError: the file is something else, or has a value that cannot be used.
    """
    try:
        results = decode_json(content, list[CocoResult], str(path), what)
        if all(-_MAX_ID <= id < _MAX_ID for box in results for id in (box.image_id, box.category_id)):
            return results
        strict_error = UnexpectedJson(f"{path} is not {what}", "ids are too large")  # the entry is named below
    except UnexpectedJson as error:
        strict_error = error
    try:
        entries = decode_json(content, list[_LooseResult], str(path), what)
    except UnexpectedJson:
        raise strict_error from None
    fields = ("image_id", "category_id", "bbox", "score")
    if any(getattr(entry, field) is UNSET for entry in entries for field in fields):
        raise strict_error
    return _Tolerant(Place(path, content)).results(entries)


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
        large = [index for index, value in enumerate(values) if not -_MAX_ID <= int(value) < _MAX_ID]
        for index in large:
            place.fail(key, index, f"the {what} {_short.repr(values[index])} {_NO_ID}")


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


# Tolerant decoding ----------------------------------------------------------------------------------------------------

_NO_ID = "cannot be used: ids are whole numbers of at most 64 bits. Number the entries 1, 2, 3, …, and refer to these."


class _ImageList(msgspec.Struct, frozen=True):
    images: tuple[CocoImage, ...]
    categories: tuple[CocoCategory, ...]


class _LooseImage(msgspec.Struct, frozen=True, gc=False):
    id: Any = UNSET
    file_name: Any = UNSET
    width: Any = None
    height: Any = None


class _LooseCategory(msgspec.Struct, frozen=True):
    id: Any = UNSET
    name: Any = UNSET
    supercategory: Any = UNSET


class _LooseResult(msgspec.Struct, frozen=True):
    image_id: Any = UNSET
    category_id: Any = UNSET
    bbox: Any = UNSET
    score: Any = UNSET


class _LooseAnnotation(msgspec.Struct, frozen=True):
    id: Any = UNSET
    image_id: Any = UNSET
    category_id: Any = UNSET
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None
    score: Any = None
    ignore: Any = UNSET
    difficult: Any = UNSET


class _LooseFile(msgspec.Struct, frozen=True):
    images: list[_LooseImage] | UnsetType | None = UNSET
    annotations: list[_LooseAnnotation] | UnsetType | None = UNSET
    categories: list[_LooseCategory] | UnsetType | None = UNSET
    info: Any = None


@dataclass(frozen=True)
class _Tolerant:
    place: Place

    def dataset(self, file: _LooseFile, boxes: bool) -> tuple[CocoDataset, list[LeftOut]]:
        entries = (file.annotations or []) if boxes else []
        images = tuple(self.image(index, entry) for index, entry in enumerate(file.images or []))
        categories = tuple(self.category(index, entry) for index, entry in enumerate(file.categories or []))
        numbered = bool(entries) and all(entry.id is UNSET or entry.id is None for entry in entries)
        annotations, empty = [], []
        for index, entry in enumerate(entries):
            id = index + 1 if numbered else self.id("annotations", index, "the id", entry.id)
            if entry.bbox is None or entry.bbox == []:
                empty.append(id)
            else:
                annotations.append(self.annotation(index, id, entry))
        info = file.info if isinstance(file.info, dict) else {}
        left_out = []
        if empty:
            left_out.append(
                LeftOut(
                    kind="annotations_without_box",
                    count=len(empty),
                    sentence=f"{self.place.path}: {len(empty)} of {len(entries)} annotations have no bbox; they are "
                    f"not used. Write left, top, width and height in pixels.",
                    examples=first_examples(f"annotation {id}" for id in empty),
                )
            )
        return CocoDataset(images, tuple(annotations), categories, info), left_out

    def results(self, entries: Sequence[_LooseResult]) -> list[CocoResult]:
        return [
            CocoResult(
                self.id(None, index, f"box {index}: the image_id", entry.image_id),
                self.id(None, index, f"box {index}: the category_id", entry.category_id),
                self.box(None, index, f"box {index}", entry.bbox),
                self.number(None, index, f"box {index}: the score", entry.score, "Leave out boxes without a score."),
            )
            for index, entry in enumerate(entries)
        ]

    def image(self, index: int, entry: _LooseImage) -> CocoImage:
        id = self.id("images", index, "the id", entry.id)
        if not isinstance(entry.file_name, str) or not entry.file_name.strip():
            found = "missing" if entry.file_name is UNSET else _short.repr(entry.file_name)
            self.place.fail("images", index, f"the file_name of image {id} is {found}; it must be a path as text.")
        width, height = (self.side(index, id, side, getattr(entry, side)) for side in ("width", "height"))
        return CocoImage(id, entry.file_name, width, height)

    def side(self, index: int, id: int, name: str, value: Any) -> int:
        """Returns a width or height; 0 if it is unknown."""
        if value is None or value == "":
            return 0
        number = self.number("images", index, f"the {name} of image {id}", value, "Write pixels, or leave it out.")
        if number <= 0:
            return 0
        if number != int(number):
            self.place.fail("images", index, f"the {name} of image {id} is {number}; it must be whole pixels.")
        return int(number)

    def category(self, index: int, entry: _LooseCategory) -> CocoCategory:
        id, name = self.id("categories", index, "the id", entry.id), entry.name
        if name is None or name is UNSET:
            name = ""
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str):
            self.place.fail("categories", index, f"the name of category {id} is {_short.repr(name)}; it must be text.")
        return CocoCategory(id, name, entry.supercategory)

    def annotation(self, index: int, id: int, entry: _LooseAnnotation) -> CocoAnnotation:
        def optional(field: str, value: Any) -> float | UnsetType:
            if value is None:
                return UNSET
            return self.number("annotations", index, f"the {field} of annotation {id}", value, "Or leave it out.")

        return CocoAnnotation(
            id=id,
            image_id=self.id("annotations", index, f"the image_id of annotation {id}", entry.image_id),
            category_id=self.id("annotations", index, f"the category_id of annotation {id}", entry.category_id),
            bbox=self.box("annotations", index, f"annotation {id}", entry.bbox),
            area=optional("area", entry.area),
            iscrowd=self.mark(index, f"the iscrowd of annotation {id}", entry.iscrowd),
            score=optional("score", entry.score),
            ignore=entry.ignore,
            difficult=entry.difficult,
        )

    def id(self, key: str | None, index: int, what: str, value: Any) -> int:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        exact = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        if exact or (isinstance(value, str) and _WHOLE.fullmatch(value)):
            number = int(value)
        if number is None or not -_MAX_ID <= number < _MAX_ID:
            found = "missing" if value is UNSET else _short.repr(value)
            self.place.fail(key, index, f"{what} {found} {_NO_ID}")
        return number

    def number(self, key: str | None, index: int, what: str, value: Any, remedy: str = "") -> float:
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            return float(value)
        if not isinstance(value, int | float) or isinstance(value, bool):
            found = "missing" if value is UNSET else _short.repr(value)
            self.place.fail(key, index, f"{what} is {found}; it must be a number. {remedy}".rstrip())
        if isinstance(value, int) and abs(value) > 10**18:
            self.place.fail(key, index, f"{what} is {_short.repr(value)}, which is too large. {remedy}".rstrip())
        return float(value)

    def mark(self, index: int, what: str, value: Any) -> int:
        """Returns a mark that may be written as 0, 0.0, false, null or "0"."""
        if value is None or isinstance(value, bool):
            return int(bool(value))
        return int(self.number("annotations", index, what, value, "Write 0 or 1."))

    def box(self, key: str | None, index: int, what: str, value: Any) -> BoxXYWH:
        if not isinstance(value, list) or len(value) != 4:
            self.place.fail(
                key,
                index,
                f"the bbox of {what} is {_short.repr(value)}; it must be four numbers: left, top, width, height in "
                f"pixels.",
            )
        left, top, width, height = (self.number(key, index, f"a number of the bbox of {what}", n) for n in value)
        return (left, top, width, height)


# Names and sizes ------------------------------------------------------------------------------------------------------


def _with_found_names(dataset: CocoDataset, finder: ImageFinder, path: Path, notes: list[str]) -> CocoDataset:
    """Returns the data set with the names of the files that are found under another spelling."""
    other = {image.file_name: name for image in dataset.images if (name := finder.find(image.file_name)) is not None}
    other = {name: found for name, found in other.items() if name != found}
    taken = Counter(other.get(image.file_name, image.file_name) for image in dataset.images)
    other = {name: found for name, found in other.items() if taken[found] == 1}
    if not other:
        return dataset
    name, found = next(iter(other.items()))
    notes.append(
        f"{len(other)} of {len(dataset.images)} file names of {path} are read as the files that they mean, such as "
        f"{name!r} as {found!r}."
    )
    images = (msgspec.structs.replace(i, file_name=other.get(i.file_name, i.file_name)) for i in dataset.images)
    return msgspec.structs.replace(dataset, images=tuple(images))


def _with_sizes_of_files(dataset: CocoDataset, finder: ImageFinder, place: Place, notes: list[str]) -> CocoDataset:
    """Returns the data set with the sizes of the files where it states none."""
    sizes: dict[int, tuple[int, int]] = {}
    folder = (*finder.folders, place.path.parent)[0]
    for index, image in enumerate(dataset.images):
        if (image.width > 0 and image.height > 0) or not is_inside(image.file_name):
            continue
        try:
            sizes[image.id] = read_size(finder.path(image.file_name) or folder / image.file_name)
        except InputError as error:
            place.fail(
                "images",
                index,
                f"image {image.id} has no usable size ({image.width} × {image.height} pixels), and it cannot be "
                f"measured. {error} Write its width and height.",
            )
    if sizes:
        first = next(image.file_name for image in dataset.images if image.id in sizes)
        notes.append(
            f"{place.path} states no usable size for {len(sizes)} of {len(dataset.images)} images (the first is "
            f"{first!r}); the sizes of the files are used."
        )
    return _resized(dataset, sizes)


def _turned_upright(dataset: CocoDataset, finder: ImageFinder, path: Path, notes: list[str]) -> CocoDataset:
    """Returns the data set with the sizes of the files where width and height are swapped and the boxes fit so."""
    oblong = [image for image in dataset.images if image.width != image.height]
    if len(oblong) > _ALL_OPENED and not any(_is_swapped(i, finder) for i in oblong[:: len(oblong) // _SAMPLED]):
        return dataset
    boxes = dataset.boxes_by_image() if _is_consistent(dataset) else {}
    swapped = {
        image.id: (image.height, image.width)
        for image in oblong
        if _is_swapped(image, finder) and _fit(boxes.get(image.id, ()), (image.height, image.width))
    }
    if swapped:
        first = next(image.file_name for image in oblong if image.id in swapped)
        notes.append(
            f"{path} swaps width and height of {len(swapped)} of {len(dataset.images)} images (the first is "
            f"{first!r}). Their boxes fit the upright images, so the sizes of the files are used."
        )
    return _resized(dataset, swapped)


def _is_consistent(dataset: CocoDataset) -> bool:
    known = {image.id for image in dataset.images}
    return all(box.image_id in known for box in dataset.annotations)


def _is_swapped(image: CocoImage, finder: ImageFinder) -> bool:
    file = finder.path(image.file_name)
    try:
        return file is not None and read_size(file) == (image.height, image.width)
    except InputError:
        return False


def _fit(boxes: Sequence[CocoAnnotation], size_wh: tuple[int, int]) -> bool:
    width, height = size_wh
    return all(
        left >= -1 and top >= -1 and left + w <= width + 1 and top + h <= height + 1
        for left, top, w, h in (box.bbox for box in boxes)
    )


def _resized(dataset: CocoDataset, sizes_wh: Mapping[int, tuple[int, int]]) -> CocoDataset:
    if not sizes_wh:
        return dataset

    def images() -> Iterator[CocoImage]:
        for image in dataset.images:
            width, height = sizes_wh.get(image.id, (image.width, image.height))
            yield CocoImage(image.id, image.file_name, width, height)

    return msgspec.structs.replace(dataset, images=tuple(images()))
