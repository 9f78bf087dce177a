"""Divides the images of a run into parts for training: seeded, by class where it can be, no image in two parts.

Knows records and files; knows nothing of formats.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glip.detections import Detections
from glip.errors import InputError
from glip.labeling.writers.base import PARTS

if TYPE_CHECKING:
    from glip.images import RemoteFile

_EMPTY = -1  # the class of images without boxes, which are divided like those of any class


@dataclass(frozen=True)
class Split:
    """How to divide images.

    Attributes:
        ratios: shares of train and val, or of train, val and test; they add up to 1.
        seed: of the random order.

    Raises:
        InputError: there are not two or three shares, or they do not add up.
    """

    ratios: tuple[float, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        shown = "/".join(f"{ratio:g}" for ratio in self.ratios)
        if len(self.ratios) not in (2, 3):
            raise InputError(f"split_ratio is {shown!r}; give two shares (0.8/0.2) or three (0.7/0.2/0.1).")
        if not all(math.isfinite(ratio) and ratio > 0 for ratio in self.ratios):
            raise InputError(f"split_ratio is {shown!r}; each share must be above 0.")
        if abs(sum(self.ratios) - 1) > 1e-6:
            raise InputError(f"split_ratio is {shown!r}; the shares add up to {sum(self.ratios):g}, not to 1.")

    @property
    def parts(self) -> tuple[str, ...]:
        """Returns the names of the parts."""
        return PARTS[: len(self.ratios)]


@dataclass(frozen=True)
class _Image:
    """An image to divide: its name, the classes in it, and its boxes as text ("" without boxes)."""

    name: str
    classes: frozenset[int]
    boxes: str


def divide(
    images: Iterable[tuple[str, Detections, tuple[int, int]]],
    split: Split,
    files: Mapping[str, Path | RemoteFile] | None = None,
) -> dict[str, str]:
    """Returns the part of each image.

    Images with the same bytes, or of one size with the same boxes and scores, are copies of each other and come into
    the same part. The number of images in each part is that of the ratios, up to the size of such a group. Classes are
    divided by the same ratios as far as possible, the rarest first.

    Args:
        images: name, boxes and size (height, width) of each, in the same order every time.
        split: shares and seed.
        files: where the images are, by name; None compares boxes only.

    Raises:
        InputError: there are fewer different images than parts.
    """
    listed = [_described(*image) for image in images]
    groups = list(_groups(listed, files or {}))
    if len(groups) < len(split.ratios):
        raise InputError(
            f"split_ratio asks for {len(split.ratios)} parts, and there are {len(groups)} different images. "
            f"Export without a split."
        )
    random.Random(split.seed).shuffle(groups)  # noqa: S311  # not for secrets
    return _assign(groups, split)


def _described(name: str, found: Detections, size_hw: tuple[int, int]) -> _Image:
    boxes = ""
    if len(found):
        digest = hashlib.sha256(repr(size_hw).encode())
        for column in (found.boxes, found.scores, found.labels):
            digest.update(column.tobytes())
        boxes = digest.hexdigest()
    return _Image(name, frozenset(found.labels.tolist()) or frozenset([_EMPTY]), boxes)


def _groups(images: Sequence[_Image], files: Mapping[str, Path | RemoteFile]) -> Iterator[list[_Image]]:
    """Yields the images in groups of copies, in the order of their first ones."""
    first: dict[str, int] = {}
    parent = list(range(len(images)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    contents = _contents([image.name for image in images], files)
    for index, image in enumerate(images):
        for mark in (image.boxes, contents.get(image.name, "")):
            if mark:
                low, high = sorted((root(index), root(first.setdefault(mark, index))))
                parent[high] = low
    groups: dict[int, list[_Image]] = defaultdict(list)
    for index, image in enumerate(images):
        groups[root(index)].append(image)
    yield from groups.values()


def _contents(names: Sequence[str], files: Mapping[str, Path | RemoteFile]) -> dict[str, str]:
    """Returns a hash of the bytes of each image that shares its size in bytes with another."""
    of_size: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for name in names:
        path = files.get(name)
        if isinstance(path, Path) and path.is_file():
            of_size[path.stat().st_size].append((name, path))
    hashes: dict[str, str] = {}
    for alike in of_size.values():
        for name, path in alike if len(alike) > 1 else ():
            try:
                with path.open("rb") as file:
                    hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:  # it cannot be placed either, and is counted there
                continue
    return hashes


def _assign(groups: Sequence[list[_Image]], split: Split) -> dict[str, str]:
    """Returns the part of each image: the rarest class first, each group where its class is missing most."""
    count = Counter(label for group in groups for image in group for label in image.classes)
    room = _rooms(sum(map(len, groups)), split.ratios)
    wanted = {label: [number * ratio for ratio in split.ratios] for label, number in count.items()}
    part_of: dict[str, str] = {}

    def rarest(group: list[_Image]) -> tuple[int, int]:
        return min((count[label], label) for image in group for label in image.classes)

    for group in sorted(groups, key=rarest):  # stable: groups of one class stay in random order
        _, label = rarest(group)
        open_parts = [part for part, free in enumerate(room) if free >= len(group)] or range(len(room))
        part = max(open_parts, key=lambda part: (wanted[label][part], room[part], -part))
        room[part] -= len(group)
        for image in group:
            part_of[image.name] = split.parts[part]
            for other in image.classes:
                wanted[other][part] -= 1
    return part_of


def _rooms(images: int, ratios: Sequence[float]) -> list[int]:
    """Returns the number of images of each part: at least one, and all together `images`."""
    rooms = [max(1, math.floor(images * ratio + 1e-9)) for ratio in ratios]
    by_rest = sorted(range(len(ratios)), key=lambda part: rooms[part] - images * ratios[part])
    for part in by_rest[: max(0, images - sum(rooms))]:
        rooms[part] += 1
    while sum(rooms) > images:
        rooms[rooms.index(max(rooms))] -= 1
    return rooms
