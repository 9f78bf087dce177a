"""COCO files in and out: checked when read, written piece by piece in bounded memory.

A box is [left, top, width, height] in pixels of the original image. Knows nothing of prompts, models or records.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from glip.errors import InputError
from glip.files import whole_file

BoxXYWH = tuple[float, float, float, float]
_Kind = TypeVar("_Kind")


class CocoImage(msgspec.Struct, frozen=True):
    """An image: `file_name` is relative to the folder of images, with '/' between folders; sizes in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class CocoCategory(msgspec.Struct, frozen=True):
    """A class."""

    id: int
    name: str


class CocoAnnotation(msgspec.Struct, frozen=True):
    """A box. `score` stands in files made by a detector only.

    There is no segmentation, because an empty one breaks importers.
    """

    id: int
    image_id: int
    category_id: int
    bbox: BoxXYWH
    area: float | UnsetType = UNSET
    iscrowd: int = 0
    score: float | UnsetType = UNSET


class CocoResult(msgspec.Struct, frozen=True):
    """A box in the results form, which benchmarks take: a bare list of these."""

    image_id: int
    category_id: int
    bbox: BoxXYWH
    score: float


class CocoDataset(msgspec.Struct, frozen=True):
    """A COCO file. What else it holds (segmentations, licences, …) is not read."""

    images: tuple[CocoImage, ...]
    annotations: tuple[CocoAnnotation, ...]
    categories: tuple[CocoCategory, ...]
    info: dict[str, Any] = {}

    @property
    def label_of_category(self) -> dict[int, int]:
        """Category id to label: categories count from 0 in the order of their ids."""
        return {category.id: label for label, category in enumerate(self._sorted_categories())}

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        return tuple(category.name for category in self._sorted_categories())

    def boxes_by_image(self) -> dict[int, list[CocoAnnotation]]:
        """Image id to its annotations; every image is there, those without boxes too."""
        boxes: dict[int, list[CocoAnnotation]] = {image.id: [] for image in self.images}
        for annotation in self.annotations:
            boxes[annotation.image_id].append(annotation)
        return boxes

    def _sorted_categories(self) -> list[CocoCategory]:
        return sorted(self.categories, key=lambda category: category.id)


def load_coco(path: str | Path) -> CocoDataset:
    """Reads and checks a COCO file.

    Raises:
        InputError: it cannot be read, something is missing or contradicts itself; the message says what and where.
    """
    dataset = _decode(Path(path), CocoDataset, "a COCO file")
    _check(Path(path), dataset)
    return dataset


def load_results(path: str | Path, dataset: CocoDataset) -> list[CocoResult]:
    """Reads boxes in the results form and checks them against the images and categories they talk about.

    Raises:
        InputError: it cannot be read, or an entry fits no image or category of `dataset`.
    """
    path = Path(path)
    results = _decode(path, list[CocoResult], "a list of COCO results")
    images = {image.id for image in dataset.images}
    categories = {category.id for category in dataset.categories}
    for index, result in enumerate(results):
        _check_box(f"{path}: entry {index}", result, images, categories)
    return results


def save_coco(path: Path, dataset: CocoDataset) -> None:
    """Writes a COCO file, whole or not at all; equal data gives equal bytes.

    Raises:
        JobFailed: it cannot be written.
    """
    with whole_file(path) as file, coco_writer(file, dataset.categories, dataset.info) as writer:
        for image in dataset.images:
            writer.add_image(image)
        for annotation in dataset.annotations:
            writer.add_annotation(annotation)


class CocoWriter:
    """Takes images and boxes in any order; made by `coco_writer`."""

    def __init__(self, images: Entries, annotations: Entries) -> None:
        self._images = images
        self._annotations = annotations

    def add_image(self, image: CocoImage) -> None:
        """One more image."""
        self._images.add(image)

    def add_annotation(self, annotation: CocoAnnotation) -> None:
        """One more box."""
        self._annotations.add(annotation)


@contextmanager
def coco_writer(file: BinaryIO, categories: Iterable[CocoCategory], info: Mapping[str, Any]) -> Iterator[CocoWriter]:
    """Writes a COCO file, one entry a line, in memory that does not grow with it. It is complete after the block.

    Args:
        file: open for writing; named, because boxes wait in a nameless file on the same disk until all images stand.
        categories: all classes.
        info: the file's own description.
    """
    with open_lists(file, categories, info) as (images, annotations):
        yield CocoWriter(images, annotations)


@contextmanager
def open_lists(
    file: BinaryIO, categories: Iterable[CocoCategory], info: Mapping[str, Any]
) -> Iterator[tuple[Entries, Entries]]:
    """Gives the two long lists of a file of COCO's form, images and annotations, to be filled in any order.

    Memory does not grow with them: annotations wait in a nameless file on the same disk until all images stand.
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
    """Writes the results form, one entry a line. It is complete after the block."""
    file.write(b"[\n")
    yield Entries(file).add
    file.write(b"\n]\n")


class Entries:
    """Entries of a JSON list, one a line, with their count."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encode = msgspec.json.Encoder().encode
        self.count = 0

    def add(self, entry: msgspec.Struct) -> None:
        """Writes one more."""
        self._file.write((b",\n" if self.count else b"") + self._encode(entry))
        self.count += 1


class _PlacedBox(Protocol):
    @property
    def image_id(self) -> int: ...
    @property
    def category_id(self) -> int: ...
    @property
    def bbox(self) -> BoxXYWH: ...


def _decode(path: Path, kind: type[_Kind], what: str) -> _Kind:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except msgspec.ValidationError as error:
        raise InputError(f"{path} is not {what}: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Also where NaN and Infinity end up, and letters that are not UTF-8: they are no JSON.
        raise InputError(f"{path} is not complete, valid JSON: {error}. Make or fetch it again.") from error


def _check(path: Path, dataset: CocoDataset) -> None:
    _check_unique(path, "image id", [image.id for image in dataset.images])
    _check_unique(path, "image file_name", [image.file_name for image in dataset.images])
    _check_unique(path, "category id", [category.id for category in dataset.categories])
    _check_unique(path, "annotation id", [annotation.id for annotation in dataset.annotations])
    for image in dataset.images:
        if not is_inside(image.file_name):
            raise InputError(
                f"{path}: the file_name {image.file_name!r} of image {image.id} leads out of the folder of images. "
                f"Only relative paths without `..` are accepted."
            )
        if image.width < 1 or image.height < 1:
            raise InputError(
                f"{path}: image {image.id} is {image.width} × {image.height} pixels large, which cannot be."
            )
    images = {image.id for image in dataset.images}
    categories = {category.id for category in dataset.categories}
    for annotation in dataset.annotations:
        _check_box(f"{path}: annotation {annotation.id}", annotation, images, categories)


def _check_box(where: str, box: _PlacedBox, images: set[int], categories: set[int]) -> None:
    if box.image_id not in images:
        raise InputError(f"{where} belongs to image {box.image_id}, which is not listed.")
    if box.category_id not in categories:
        raise InputError(f"{where} has category {box.category_id}, which is not listed.")
    if box.bbox[2] < 0 or box.bbox[3] < 0:
        raise InputError(f"{where} has a negative size: {list(box.bbox)} (left, top, width, height).")


def _check_unique(path: Path, what: str, values: Sequence[int | str]) -> None:
    if len(set(values)) < len(values):
        seen: set[int | str] = set()
        double = next(value for value in values if value in seen or seen.add(value))  # type: ignore[func-returns-value]
        raise InputError(f"{path}: the {what} {double!r} stands there twice.")


def is_inside(file_name: str) -> bool:
    """Whether a relative path stays in its folder, read as this system or another one reads it."""
    if not file_name or "\0" in file_name:
        return False
    kinds = (PurePosixPath(file_name), PureWindowsPath(file_name))
    return not any(path.is_absolute() or path.anchor or ".." in path.parts for path in kinds)
