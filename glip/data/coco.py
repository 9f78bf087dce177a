"""COCO annotation files: read and checked in one pass, written entry by entry in bounded memory.

A box is [left, top, width, height] in pixels of the original image. Knows nothing of prompts, models or records.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import msgspec
from msgspec import UNSET, UnsetType

from glip.errors import InputError
from glip.files import whole_file

logger = logging.getLogger(__name__)

BoxXYWH = tuple[float, float, float, float]


class CocoImage(msgspec.Struct, frozen=True):
    """An image: `file_name` is relative to the folder of images, with '/' between folders; sizes in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class CocoCategory(msgspec.Struct, frozen=True):
    """A class. `supercategory` is kept as the file has it."""

    id: int
    name: str
    supercategory: Any = UNSET


class CocoAnnotation(msgspec.Struct, frozen=True):
    """A box.

    A segmentation is not read. Every box is written with an empty one: CVAT's importer and pycocotools' `showAnns`
    need the key.

    Attributes:
        id: unique in the file.
        image_id: of the image.
        category_id: of the class.
        bbox: left, top, width, height in pixels of the image.
        area: square pixels of the box or of a finer outline.
        iscrowd: 1 if the box holds an uncounted group.
        score: of a detector; not set in a file made by people.
        ignore, difficult: marks by which some files leave a box out of the score: 0, 1, true or null, as in the file.
    """

    id: int
    image_id: int
    category_id: int
    bbox: BoxXYWH
    area: float | UnsetType = UNSET
    iscrowd: int = 0
    score: float | UnsetType = UNSET
    ignore: Any = UNSET
    difficult: Any = UNSET

    @property
    def is_ignored(self) -> bool:
        """Returns whether the box is marked as ignored or difficult."""
        return any(mark is not UNSET and bool(mark) for mark in (self.ignore, self.difficult))


class _WrittenAnnotation(CocoAnnotation, frozen=True):
    segmentation: tuple[()] = ()


class CocoResult(msgspec.Struct, frozen=True):
    """A box in COCO's results format, a bare list of these, which benchmark servers accept."""

    image_id: int
    category_id: int
    bbox: BoxXYWH
    score: float


class CocoDataset(msgspec.Struct, frozen=True, dict=True):
    """A COCO file. Its other content (segmentations, licences, …) is not read."""

    images: tuple[CocoImage, ...]
    annotations: tuple[CocoAnnotation, ...]
    categories: tuple[CocoCategory, ...]
    info: dict[str, Any] = {}

    @property
    def label_of_category(self) -> dict[int, int]:
        """Returns the label of each category id: categories count from 0 in the order of their ids."""
        return {category.id: label for label, category in enumerate(self._sorted_categories)}

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the class names in the order of the labels."""
        return tuple(category.name for category in self._sorted_categories)

    @cached_property
    def _sorted_categories(self) -> list[CocoCategory]:
        return sorted(self.categories, key=lambda category: category.id)

    @property
    def unused_group(self) -> int | None:
        """Returns the id of a category without boxes that groups all others, as Roboflow writes; None without one."""
        name = next((category.name for category in self.categories if category.id == 0), None)
        others = [category for category in self.categories if category.id != 0]
        if name is None or not others or any(category.supercategory != name for category in others):
            return None
        return None if any(box.category_id == 0 for box in self.annotations) else 0

    def boxes_by_image(self) -> dict[int, list[CocoAnnotation]]:
        """Returns the annotations of each image id; images without boxes have an empty list."""
        boxes: dict[int, list[CocoAnnotation]] = {image.id: [] for image in self.images}
        for annotation in self.annotations:
            boxes[annotation.image_id].append(annotation)
        return boxes

    def with_images(self, ids: set[int]) -> CocoDataset:
        """Returns some of the images with their boxes; all categories stay."""
        return msgspec.structs.replace(
            self,
            images=tuple(image for image in self.images if image.id in ids),
            annotations=tuple(box for box in self.annotations if box.image_id in ids),
        )

    def with_categories(self, ids: Sequence[int], names: Sequence[str]) -> CocoDataset:
        """Returns the same images with other categories, and the boxes of these."""
        known = set(ids)
        return msgspec.structs.replace(
            self,
            categories=tuple(CocoCategory(id, name) for id, name in zip(ids, names, strict=True)),
            annotations=tuple(box for box in self.annotations if box.category_id in known),
        )


def load_coco(path: str | Path) -> CocoDataset:
    """Reads and checks a COCO file without its images; what is left out is logged.

    See `glip.data.coco_reading` for files of other tools.

    Raises:
        InputError: the file cannot be read, lacks a field, or contradicts itself.
    """
    from glip.data.coco_reading import read_coco  # builds on this module

    read = read_coco(Path(path))
    for sentence in (*read.notes, *read.left_out):
        logger.warning("%s", sentence)
    return read.dataset


def save_coco(path: Path, dataset: CocoDataset) -> None:
    """Writes a COCO file, complete or not at all; equal data gives equal bytes.

    Raises:
        JobFailed: the file cannot be written.
    """
    with whole_file(path) as file, coco_writer(file, dataset.categories, dataset.info) as writer:
        for image in dataset.images:
            writer.add_image(image)
        for annotation in dataset.annotations:
            writer.add_annotation(annotation)


class CocoWriter:
    """Writes images and boxes in any order; made by `coco_writer`."""

    def __init__(self, images: Entries, annotations: Entries) -> None:
        self._images = images
        self._annotations = annotations

    def add_image(self, image: CocoImage) -> None:
        """Writes one image."""
        self._images.add(image)

    def add_annotation(self, annotation: CocoAnnotation) -> None:
        """Writes one box, with an empty segmentation."""
        self._annotations.add(_WrittenAnnotation(*msgspec.structs.astuple(annotation)))


@contextmanager
def coco_writer(file: BinaryIO, categories: Iterable[CocoCategory], info: Mapping[str, Any]) -> Iterator[CocoWriter]:
    """Writes a COCO file, one entry per line, in memory that does not grow. The file is complete after the block.

    Args:
        file: open for writing; has a name, because boxes are kept in a temporary file in its folder meanwhile.
        categories: all classes.
        info: the file's description.
    """
    with open_lists(file, categories, info) as (images, annotations):
        yield CocoWriter(images, annotations)


@contextmanager
def open_lists(
    file: BinaryIO, categories: Iterable[CocoCategory], info: Mapping[str, Any]
) -> Iterator[tuple[Entries, Entries]]:
    """Yields the two long lists of a COCO-like file, images and annotations, to be filled in any order.

    Memory does not grow: annotations are kept in a temporary file in the same folder until all images are written.
    """
    head = {"info": info, "licenses": [], "categories": list(categories)}
    with tempfile.TemporaryFile(dir=Path(file.name).parent) as annotations:
        file.write(msgspec.json.encode(head)[:-1] + b',\n"images": [\n')
        yield Entries(file), Entries(annotations)
        annotations.seek(0)
        file.write(b'\n],\n"annotations": [\n')
        shutil.copyfileobj(annotations, file, 1 << 20)
        file.write(b"\n]}\n")


@contextmanager
def results_writer(file: BinaryIO) -> Iterator[Callable[[CocoResult], None]]:
    """Yields a function that writes one entry of COCO's results format. The end of the block completes the file."""
    file.write(b"[\n")
    yield Entries(file).add
    file.write(b"\n]\n")


class Entries:
    """The entries of a JSON list, one per line, and their count."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encode = msgspec.json.Encoder().encode
        self.count = 0

    def add(self, entry: msgspec.Struct | Mapping[str, Any]) -> None:
        """Writes one entry."""
        self._file.write((b",\n" if self.count else b"") + self._encode(entry))
        self.count += 1


def is_inside(file_name: str) -> bool:
    """Returns whether a relative path stays in its folder, on this and other operating systems."""
    if not file_name or "\0" in file_name:
        return False
    kinds = (PurePosixPath(file_name), PureWindowsPath(file_name))
    return not any(path.is_absolute() or path.anchor or ".." in path.parts for path in kinds)


def check_image(path: Path, id: int, file_name: str, width: int, height: int) -> None:
    """Refuses an image outside of its folder or without pixels.

    Raises:
        InputError: the message names the file, the image and the value.
    """
    if not is_inside(file_name):
        raise InputError(
            f"{path}: the file_name {file_name!r} of image {id} is outside of the folder of images. Only relative "
            f"paths without `..` are accepted."
        )
    if width < 1 or height < 1:
        raise InputError(f"{path}: image {id} has the size {width} × {height} pixels; both must be at least 1.")
