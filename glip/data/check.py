"""Looks for faults in a data set: its annotations, its images, and what its splits share. Changes nothing.

Every fault is counted and listed. Reads every image once; what a reader of the data set would refuse or leave out is
found here, with what it does not look for: leaks, duplicates, tiny boxes, rare classes, names alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

from glip.data.coco import CocoAnnotation, CocoDataset, CocoImage
from glip.data.coco_folders import all_splits, find_file, sets_below
from glip.data.coco_reading import CocoFile, decode_coco
from glip.data.formats import ACCEPTED, read_annotated
from glip.data.image_files import ImageFinder
from glip.data.near_duplicates import Thumbnail, near_duplicates, thumbnail
from glip.data.splits import Split
from glip.errors import InputError
from glip.files import UnexpectedJson, read_content
from glip.images.listing import list_images
from glip.images.reading import UnreadableImage, decode_image
from glip.left_out import LeftOut
from glip.names import name_key

Severity = Literal["error", "warning"]

TINY = 4  # pixels: a box with a shorter side is tiny
_READ_SIDE = 96  # minimum sides of the images that are compared; a JPEG file is decoded at 1/8 size where it can be
_SLACK = 1.0  # pixels that a box may lie beyond its image: rounding of other tools
_SAME_BOX = 0.95  # IoU of two boxes of one class that are one
_RARE = 10  # boxes: fewer are too few to learn from, or to score
_IMBALANCE = 50  # boxes of the most frequent class for one of the median class
_ALIKE_LETTERS = 0.87  # share of letters that two names have in common
_MAX_NAMES = 2000  # of more classes, names are only compared as a model reads them


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of one kind.

    Attributes:
        kind: stable name for scripts.
        severity: error: scores or training are wrong; warning: look at it.
        count: number of faults.
        sentence: what it is and what to do.
        places: all of them: "train/a.jpg", "train/a.jpg = valid/b.jpg", "annotation 17 of train/a.jpg".
    """

    kind: str
    severity: Severity
    count: int
    sentence: str
    places: tuple[str, ...]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check.

    Attributes:
        path: the folder or file.
        splits: images and boxes of each split.
        classes: boxes of each class, over all splits, the most frequent first.
        problems: errors first.
    """

    path: str
    splits: dict[str, dict[str, int]]
    classes: dict[str, int]
    problems: tuple[Problem, ...]


# Kind → severity, and the sentence: what it is, what follows, what to do.
_KINDS: dict[str, tuple[Severity, str]] = {
    "leaks": ("error", "pairs of images in two splits show the same, perhaps resized: scores are too good. Remove one"),
    "missing_images": ("error", "images of the annotations have no file. Add the files, or remove the entries"),
    "unreadable_images": ("error", "image files cannot be read. Replace or remove them"),
    "unknown_images": ("error", "annotations belong to an image that is not listed. Remove them, or list the image"),
    "unknown_classes": ("error", "annotations have a class that is not listed. Add it to the categories"),
    "unread": ("error", "kinds of entries cannot be read"),
    "repeated_ids": ("error", "ids or file names are listed twice. Give each its own"),
    "wrong_sizes": (
        "error",
        "images have another size than stated: boxes may be shifted. Write the true one",
    ),
    "empty_boxes": ("error", "boxes have no width or no height. Remove or repair them"),
    "boxes_outside": ("error", "boxes reach beyond their image. Cut them at its edges"),
    "other_classes": ("error", "classes have another name or id than in the first split. Make them equal"),
    "images_read_in_part": ("warning", "image files are read in part: they are cut off, or have several frames"),
    "duplicate_images": ("warning", "pairs of images in one split show the same, perhaps resized. Remove one"),
    "duplicate_boxes": ("warning", "boxes repeat another one of their class. Remove one"),
    "tiny_boxes": (
        "warning",
        f"boxes have a side below {TINY} pixels. Check them; a model needs tiles to find such",
    ),
    "images_without_boxes": ("warning", "images have no box. Right if they show nothing of the classes"),
    "files_without_entry": ("warning", "image files are not in the annotations. They are not used"),
    "classes_without_boxes": ("warning", "classes have no box. Remove them, or add examples"),
    "rare_classes": ("warning", f"classes have fewer than {_RARE} boxes: too few to score. Add examples"),
    "class_imbalance": ("warning", f"classes have over {_IMBALANCE} times the boxes of the median class"),
    "names_alike": (
        "warning",
        "pairs of class names are alike and may be confused. Join or rename them",
    ),
}

Advance = Callable[[int], None]


@dataclass(eq=False)
class _Split:
    """A split, read, and the thumbnails of its images by their names."""

    name: str
    dataset: CocoDataset
    finder: ImageFinder
    left_out: tuple[LeftOut, ...] = ()
    thumbnails: dict[str, Thumbnail] = field(default_factory=dict)

    def place(self, what: object) -> str:
        return f"{self.name}/{what}" if self.name else str(what)


@dataclass(eq=False)
class _Faults:
    """The places of the faults of each kind."""

    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, places: Iterable[str]) -> None:
        assert kind in _KINDS
        self.places.setdefault(kind, []).extend(places)

    def problems(self) -> tuple[Problem, ...]:
        return tuple(
            Problem(
                kind=kind,
                severity=severity,
                count=len(self.places[kind]),
                sentence=f"{len(self.places[kind])} {sentence}.",
                places=tuple(self.places[kind]),
            )
            for kind, (severity, sentence) in _KINDS.items()
            if self.places.get(kind)
        )


def count_images(path: Path) -> int:
    """Returns the number of images that `check_data` will read, for a progress bar."""
    return sum(len(one.dataset.images) for one in _opened(path))


def check_data(path: Path, advance: Advance | None = None) -> Health:
    """Returns what is wrong with a data set.

    Args:
        path: an annotation file, a folder of one or several splits, or of such folders, in any format that is read.
        advance: called with 1 for every image that was read.

    Raises:
        InputError: there are no annotations, or they cannot be read at all.
    """
    splits = _opened(path)
    faults = _Faults()
    for one in splits:
        faults.add("unread", (one.place(entry) for entry in one.left_out))
        _check_ids(one, faults)
        _check_boxes(one, faults)
        _check_images(one, faults, advance)
    _check_folders(splits, faults)
    _check_duplicates(splits, faults)
    _check_classes(splits, faults)
    counts = _boxes_of_classes(splits)
    return Health(
        path=str(path),
        splits={
            one.name or "all": {"images": len(one.dataset.images), "boxes": len(one.dataset.annotations)}
            for one in splits
        },
        classes=dict(counts.most_common()),
        problems=faults.problems(),
    )


def _opened(path: Path) -> list[_Split]:
    if not path.exists():
        raise InputError(f"{path} does not exist; give a COCO file, or the folder of a data set.")
    found: list[tuple[str, Split]] = []
    if path.is_file():
        found = [("", find_file(path))]
    else:
        own = all_splits(path)
        found = [(one.split if len(own) > 1 else "", one) for one in own]
        if not own:
            parts = ("train", "val", "test", "valid")
            unique = {
                one.annotations: (f"{one.name}/{one.split}", one) for part in parts for one in sets_below(path, part)
            }
            found = list(unique.values())
    if not found:
        raise InputError(f"{path} holds no annotations. {ACCEPTED}.")
    return [_read(name, split) for name, split in found]


def _read(name: str, split: Split) -> _Split:
    file = _read_file(split)
    folders = file.folders or split.images
    return _Split(name, file.dataset, ImageFinder(folders), file.left_out)


def _read_file(split: Split) -> CocoFile:
    path = split.annotations
    if path.suffix.lower() == ".json":
        # Without the checks of `read_coco`, which refuses at the first fault what is counted here.
        with suppress(UnexpectedJson):
            dataset, left_out = decode_coco(path, read_content(path, "a COCO file"))
            return CocoFile(dataset, left_out=tuple(left_out))
    return read_annotated(path, split.images, split.split)


def _check_ids(one: _Split, faults: _Faults) -> None:
    dataset = one.dataset
    lists: dict[str, Sequence[object]] = {
        "image id": [image.id for image in dataset.images],
        "file name": [image.file_name for image in dataset.images],
        "category id": [category.id for category in dataset.categories],
        "annotation id": [box.id for box in dataset.annotations],
    }
    for what, values in lists.items():
        repeated = [value for value, count in Counter(values).items() if count > 1]
        faults.add("repeated_ids", (one.place(f"{what} {value}") for value in repeated))
    images = {image.id for image in dataset.images}
    classes = {category.id for category in dataset.categories}
    unlisted = [box for box in dataset.annotations if box.image_id not in images]
    faults.add("unknown_images", (one.place(f"annotation {box.id} of image {box.image_id}") for box in unlisted))
    unnamed = [box for box in dataset.annotations if box.category_id not in classes]
    faults.add("unknown_classes", (one.place(f"annotation {box.id}, class {box.category_id}") for box in unnamed))


def _check_boxes(one: _Split, faults: _Faults) -> None:
    images = {image.id: image for image in one.dataset.images}
    of_image: dict[int, list[CocoAnnotation]] = {}
    for box in one.dataset.annotations:
        if box.image_id in images:
            of_image.setdefault(box.image_id, []).append(box)
    for id, boxes in of_image.items():
        image = images[id]
        for box in boxes:
            kind = _kind_of_box(box, image)
            if kind is not None:
                faults.add(kind, [_place_of_box(one, box, image)])
        faults.add("duplicate_boxes", (_place_of_box(one, box, image) for box in _repeated(boxes)))
    empty = [image for image in one.dataset.images if image.id not in of_image]
    faults.add("images_without_boxes", (one.place(image.file_name) for image in empty))


def _place_of_box(one: _Split, box: CocoAnnotation, image: CocoImage) -> str:
    return f"annotation {box.id} of {one.place(image.file_name)}"


def _kind_of_box(box: CocoAnnotation, image: CocoImage) -> str | None:
    left, top, width, height = box.bbox
    if width <= 0 or height <= 0:
        return "empty_boxes"
    has_size = image.width > 0 and image.height > 0
    right, bottom = image.width + _SLACK, image.height + _SLACK
    if left < -_SLACK or top < -_SLACK or (has_size and (left + width > right or top + height > bottom)):
        return "boxes_outside"
    return "tiny_boxes" if min(width, height) < TINY else None


def _repeated(boxes: Sequence[CocoAnnotation]) -> Iterator[CocoAnnotation]:
    """Yields the boxes that almost equal an earlier one of their class."""
    of_class: dict[int, list[CocoAnnotation]] = {}
    for box in boxes:
        earlier = of_class.setdefault(box.category_id, [])
        if any(_iou(box.bbox, other.bbox) >= _SAME_BOX for other in earlier):
            yield box
        earlier.append(box)


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def _check_images(one: _Split, faults: _Faults, advance: Advance | None) -> None:
    for image in one.dataset.images:
        name = one.finder.find(image.file_name)
        path = None if name is None else one.finder.path(name)
        if path is None:
            faults.add("missing_images", [one.place(image.file_name)])
        else:
            _check_image(one, image, path, faults)
        if advance is not None:
            advance(1)


def _check_image(one: _Split, image: CocoImage, path: Path, faults: _Faults) -> None:
    try:
        read = decode_image(path, _small_enough)
    except UnreadableImage as error:
        faults.add("unreadable_images", [f"{one.place(image.file_name)} ({error.reason})"])
        return
    if image.width > 0 and (image.height, image.width) != tuple(read.size_hw):
        said, true = f"{image.width} × {image.height}", f"{read.size_hw[1]} × {read.size_hw[0]}"
        faults.add("wrong_sizes", [f"{one.place(image.file_name)} ({said}, in truth {true})"])
    faults.add("images_read_in_part", (f"{one.place(image.file_name)} ({note})" for note in read.notes))
    one.thumbnails[image.file_name] = thumbnail(read.image)


def _small_enough(size_hw: tuple[int, int]) -> tuple[int, int]:
    return min(size_hw[0], _READ_SIDE), min(size_hw[1], _READ_SIDE)


def _check_folders(splits: Sequence[_Split], faults: _Faults) -> None:
    """Looks for image files in the folders of the splits that no split lists."""
    listed = {
        path.resolve()
        for one in splits
        for image in one.dataset.images
        if (name := one.finder.find(image.file_name)) is not None and (path := one.finder.path(name)) is not None
    }
    seen: dict[Path, str] = {}
    for one in splits:
        for folder in one.finder.folders:
            try:
                found = list_images([folder])
            except InputError:  # a folder without images
                continue
            for image in found:
                path = Path(str(image.path))
                if path.resolve() not in listed:
                    seen.setdefault(path.resolve(), one.place(image.name))
    faults.add("files_without_entry", seen.values())


def _check_duplicates(splits: Sequence[_Split], faults: _Faults) -> None:
    items = [(one, name, small) for one in splits for name, small in one.thumbnails.items()]
    for first, second in near_duplicates([small for _, _, small in items]):
        (one, name, _), (other, other_name, _) = items[first], items[second]
        kind = "duplicate_images" if one is other else "leaks"
        faults.add(kind, [f"{one.place(name)} = {other.place(other_name)}"])


def _boxes_of_classes(splits: Sequence[_Split]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for one in splits:
        names = {category.id: category.name for category in one.dataset.categories}
        group = one.dataset.unused_group
        counts.update({name: 0 for id, name in names.items() if id != group})
        counts.update(names[box.category_id] for box in one.dataset.annotations if box.category_id in names)
    return counts


def _check_classes(splits: Sequence[_Split], faults: _Faults) -> None:
    first = {category.id: category.name for category in splits[0].dataset.categories}
    for one in splits[1:]:
        own = {category.id: category.name for category in one.dataset.categories}
        differing = [id for id in sorted({*first, *own}) if first.get(id) != own.get(id)]
        faults.add(
            "other_classes",
            (one.place(f"{id} is {own.get(id, 'missing')!r}, not {first.get(id, 'missing')!r}") for id in differing),
        )
    counts = _boxes_of_classes(splits)
    faults.add("classes_without_boxes", (name for name, count in counts.items() if count == 0))
    faults.add("rare_classes", (f"{name} ({count})" for name, count in counts.items() if 0 < count < _RARE))
    present = [count for count in counts.values() if count]
    if present:
        limit = _IMBALANCE * median(present)
        faults.add("class_imbalance", (f"{name} ({count})" for name, count in counts.items() if count > limit))
    faults.add("names_alike", (f"{one!r} and {other!r}" for one, other in _alike(tuple(counts))))


def _alike(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the pairs of names that a model reads as one, or that differ in a letter or two."""
    keys = {name: name_key(name) for name in names}
    if len(names) > _MAX_NAMES:
        by_key: dict[str, list[str]] = {}
        for name, key in keys.items():
            by_key.setdefault(key, []).append(name)
        yield from ((same[0], other) for same in by_key.values() for other in same[1:])
        return
    for one, other in combinations(names, 2):
        if keys[one] == keys[other] or _differ_little(keys[one], keys[other]):
            yield one, other


def _differ_little(one: str, other: str) -> bool:
    """Returns whether two names differ in a letter or two, not counting words that both have."""
    words, others = one.split(), other.split()
    one = " ".join(word for word in words if word not in others)
    other = " ".join(word for word in others if word not in words)
    if min(len(one), len(other)) < 4 or any(letter.isdigit() for letter in one + other):
        return False
    matcher: SequenceMatcher[Any] = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.real_quick_ratio() >= _ALIKE_LETTERS and matcher.ratio() >= _ALIKE_LETTERS
