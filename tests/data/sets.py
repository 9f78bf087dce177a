"""Small data sets whose images can be told apart: each number has its own colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from glip.data.examples import Example
from glip.data.grounding import GroundingAnnotation, GroundingDataset, GroundingImage
from glip.files import read_content

WIDTH, HEIGHT = 40, 30
BOX = (5.0, 6.0, 20.0, 10.0)


def draw(path: Path, number: int = 0, size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Draws an image that `number_of` recognizes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_wh, (number % 256, number // 256, 7)).save(path)


def number_of(example: Example) -> int:
    """Returns the number of the image."""
    red, green, _ = example.image.getpixel((0, 0))  # type: ignore[misc]  # three numbers of an RGB image
    return int(red + 256 * green)


def name_of(number: int) -> str:
    """Of the file of an image."""
    return f"{number}.png"


def coco(
    folder: Path, classes: Sequence[Sequence[int]], names: Sequence[str] = ("cat", "dog", "red kite"), first_id: int = 3
) -> CocoDataset:
    """Images 0, 1, … with a box of each class listed for it; category ids count from `first_id` in steps of 4."""
    for number in range(len(classes)):
        draw(folder / name_of(number), number)
    pairs = [(number, label) for number, found in enumerate(classes) for label in found]
    return CocoDataset(
        images=tuple(CocoImage(number + 100, name_of(number), WIDTH, HEIGHT) for number in range(len(classes))),
        annotations=tuple(
            CocoAnnotation(id, number + 100, first_id + 4 * label, (BOX[0] + label, *BOX[1:]))
            for id, (number, label) in enumerate(pairs)
        ),
        categories=tuple(CocoCategory(first_id + 4 * label, name) for label, name in enumerate(names)),
    )


def grounding(
    folder: Path, captions: Sequence[str], spans: Sequence[Sequence[Sequence[tuple[int, int]]]], **box: float
) -> GroundingDataset:
    """Images 0, 1, … with a caption and boxes of these spans."""
    for number in range(len(captions)):
        draw(folder / name_of(number), number)
    pairs = [(number, group) for number, groups in enumerate(spans) for group in groups]
    return GroundingDataset(
        images=tuple(
            GroundingImage(number, name_of(number), WIDTH, HEIGHT, caption) for number, caption in enumerate(captions)
        ),
        annotations=tuple(
            GroundingAnnotation(id, number, BOX, tuple(group), **box)  # type: ignore[arg-type]
            for id, (number, group) in enumerate(pairs)
        ),
    )


def same(one: Example, other: Example) -> bool:
    """Whether two examples are equal to the bit."""
    return (
        one.image.size == other.image.size
        and one.image.tobytes() == other.image.tobytes()
        and one.caption == other.caption
        and np.array_equal(one.boxes, other.boxes)
        and one.spans == other.spans
    )


def phrases(example: Example) -> list[list[str]]:
    """For each box what its spans say."""
    return [[example.caption[start:end] for start, end in spans] for spans in example.spans]


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Returns a list that gets the path of every COCO file that is read from now on."""
    reads: list[Path] = []

    def counted(path: Path, *rest: Any) -> Any:
        reads.append(path)
        return read_content(path, *rest)

    monkeypatch.setattr("glip.data.coco_reading.read_content", counted)
    return reads
