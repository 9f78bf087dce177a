"""Reads COCO files and COCO results as other tools write them.

A file that follows the format is decoded strictly, which is fast. One that does not is decoded again, and whatever can
be read without loss is: ids written as 7.0 or "7", unknown sizes, other spellings of file names. What was read
differently is said in notes; what cannot be used is refused with its place in the file.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from glip.data.coco import (
    BoxXYWH,
    CocoAnnotation,
    CocoCategory,
    CocoDataset,
    CocoImage,
    CocoResult,
)
from glip.data.coco_checks import MAX_ID, NO_ID, Place, check_coco, fit_64_bits, shortened
from glip.data.coco_images import fitted_to_files, with_found_names
from glip.data.image_files import ImageFinder
from glip.files import UnexpectedJson, decode_json, read_content
from glip.left_out import LeftOut, first_examples

_WHOLE = re.compile(r"\s*[+-]?\d{1,19}\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?\s*", re.ASCII)


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
    notes = [f"{path} begins with a byte order mark, which is skipped."] if content.startswith(BOM_UTF8) else []
    if folders:
        dataset = with_found_names(dataset, ImageFinder(folders), path, notes)
        dataset, more = fitted_to_files(dataset, folders, place)
        notes += more
    check_coco(place, dataset)
    return CocoFile(dataset, tuple(notes), tuple(left_out))


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
        if fit_64_bits(strict):
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


def decode_results(path: Path, content: bytes, what: str) -> Sequence[CocoResult]:
    """Returns a list of COCO results. A box without a score is refused, because results are ranked by it.

    Raises:
        InputError: the file is something else, or has a value that cannot be used.
    """
    try:
        results = decode_json(content, list[CocoResult], str(path), what)
        if all(-MAX_ID <= id < MAX_ID for box in results for id in (box.image_id, box.category_id)):
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


# Tolerant decoding ----------------------------------------------------------------------------------------------------


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
            found = "missing" if entry.file_name is UNSET else shortened(entry.file_name)
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
            self.place.fail("categories", index, f"the name of category {id} is {shortened(name)}; it must be text.")
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
        if number is None or not -MAX_ID <= number < MAX_ID:
            found = "missing" if value is UNSET else shortened(value)
            self.place.fail(key, index, f"{what} {found} {NO_ID}")
        return number

    def number(self, key: str | None, index: int, what: str, value: Any, remedy: str = "") -> float:
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            return float(value)
        if not isinstance(value, int | float) or isinstance(value, bool):
            found = "missing" if value is UNSET else shortened(value)
            self.place.fail(key, index, f"{what} is {found}; it must be a number. {remedy}".rstrip())
        if isinstance(value, int) and abs(value) > 10**18:
            self.place.fail(key, index, f"{what} is {shortened(value)}, which is too large. {remedy}".rstrip())
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
                f"the bbox of {what} is {shortened(value)}; it must be four numbers: left, top, width, height in "
                f"pixels.",
            )
        left, top, width, height = (self.number(key, index, f"a number of the bbox of {what}", n) for n in value)
        return (left, top, width, height)
