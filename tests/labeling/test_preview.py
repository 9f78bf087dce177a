"""Previews: which images are drawn, and where they are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.detections import Detections
from glip.labeling.preview import write_previews


def boxes(*rows: tuple[float, float, float, float], names: tuple[str, ...] = ("dog",)) -> Detections:
    count = len(rows)
    return Detections(
        np.array(rows, np.float32).reshape(-1, 4), np.full(count, 0.5, np.float32), np.zeros(count, np.int64), names
    )


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    paths = {f"a/p{number}.png": tmp_path / f"p{number}.png" for number in range(20)}
    for path in paths.values():
        Image.new("RGB", (60, 50)).save(path)
    return paths


def found_in(paths: dict[str, Path], *with_boxes: int) -> Iterator[tuple[str, Detections]]:
    for number, name in enumerate(paths):
        yield name, boxes((5, 5, 40, 40)) if number in with_boxes else boxes()


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [1]), (2, [1, 17]), (3, [1, 9, 17]), (5, [1, 5, 9, 13, 17]), (50, [1, 3, 5, 7, 9, 11, 13, 15, 17])],
)
def test_previews_are_spread_evenly_over_images_that_have_boxes(
    tmp_path: Path, images: dict[str, Path], count: int, expected: list[int]
) -> None:
    odd = range(1, 18, 2)
    written = write_previews(tmp_path / "out", lambda: found_in(images, *odd), images, count)
    assert [path.name for path in written] == [f"{i:03d}-p{number}.jpg" for i, number in enumerate(expected, start=1)]
    assert all(Image.open(path).size == (60, 50) for path in written)


def test_no_boxes_anywhere_make_no_previews(tmp_path: Path, images: dict[str, Path]) -> None:
    assert write_previews(tmp_path / "out", lambda: found_in(images), images, 4) == []


def test_earlier_previews_are_replaced(tmp_path: Path, images: dict[str, Path]) -> None:
    write_previews(tmp_path / "out", lambda: found_in(images, *range(9)), images, 9)
    write_previews(tmp_path / "out", lambda: found_in(images, 3), images, 9)
    assert [path.name for path in (tmp_path / "out" / "preview").iterdir()] == ["001-p3.jpg"]


def test_equal_names_in_different_folders_do_not_meet(tmp_path: Path) -> None:
    paths = {"a/x.png": tmp_path / "a.png", "b/x.png": tmp_path / "b.png"}
    for path in paths.values():
        Image.new("RGB", (60, 50)).save(path)
    written = write_previews(tmp_path / "out", lambda: found_in(paths, 0, 1), paths, 2)
    assert len(set(written)) == 2


def test_an_image_that_cannot_be_read_any_more_is_left_out(tmp_path: Path, images: dict[str, Path]) -> None:
    images["a/p2.png"].write_bytes(b"gone")
    written = write_previews(tmp_path / "out", lambda: found_in(images, 1, 2, 3), images, 3)
    assert [path.name for path in written] == ["001-p1.jpg", "003-p3.jpg"]
