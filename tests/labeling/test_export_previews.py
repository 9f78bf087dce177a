"""Previews: which images are drawn, and where they are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.detections import Detections
from glip.labeling.export import PREVIEW_FOLDER, PreviewPool


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


def write_previews(
    folder: Path, found: Iterator[tuple[str, Detections]], paths: dict[str, Path], count: int
) -> list[Path]:
    pool = PreviewPool(count)
    for name, detections in found:
        pool.add(name, detections)
    return pool.draw(folder / PREVIEW_FOLDER, dict(paths))


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [1]), (2, [1, 17]), (3, [1, 9, 17]), (5, [1, 5, 9, 13, 17]), (50, [1, 3, 5, 7, 9, 11, 13, 15, 17])],
)
def test_previews_are_spread_evenly_over_images_that_have_boxes(
    tmp_path: Path, images: dict[str, Path], count: int, expected: list[int]
) -> None:
    odd = range(1, 18, 2)
    written = write_previews(tmp_path / "out", found_in(images, *odd), images, count)
    assert [path.name for path in written] == [f"{i:03d}-p{number}.jpg" for i, number in enumerate(expected, start=1)]
    assert all(Image.open(path).size == (60, 50) for path in written)


def test_no_boxes_anywhere_make_no_previews(tmp_path: Path, images: dict[str, Path]) -> None:
    assert write_previews(tmp_path / "out", found_in(images), images, 4) == []


def test_earlier_previews_are_replaced(tmp_path: Path, images: dict[str, Path]) -> None:
    write_previews(tmp_path / "out", found_in(images, *range(9)), images, 9)
    write_previews(tmp_path / "out", found_in(images, 3), images, 9)
    assert [path.name for path in (tmp_path / "out" / "preview").iterdir()] == ["001-p3.jpg"]


def test_equal_names_in_different_folders_do_not_meet(tmp_path: Path) -> None:
    paths = {"a/x.png": tmp_path / "a.png", "b/x.png": tmp_path / "b.png"}
    for path in paths.values():
        Image.new("RGB", (60, 50)).save(path)
    written = write_previews(tmp_path / "out", found_in(paths, 0, 1), paths, 2)
    assert len(set(written)) == 2


def test_an_image_that_cannot_be_read_any_more_is_left_out(tmp_path: Path, images: dict[str, Path]) -> None:
    images["a/p2.png"].write_bytes(b"gone")
    written = write_previews(tmp_path / "out", found_in(images, 1, 2, 3), images, 3)
    assert [path.name for path in written] == ["001-p1.jpg", "003-p3.jpg"]


@pytest.mark.parametrize("total", [1, 2, 1023, 1024, 1025, 5000, 20_000])
def test_previews_of_many_images_are_spread_evenly_in_bounded_memory(total: int) -> None:
    pool = PreviewPool(5)
    for number in range(total):
        pool.add(str(number), boxes((5, 5, 40, 40)))
        assert len(pool._pool) <= 1024
    chosen = [int(name) for name, _ in pool.chosen()]
    assert len(chosen) == min(5, total)
    assert (chosen[0], chosen[-1]) == (0, total - 1)
    steps = np.diff(chosen)
    assert not len(steps) or steps.max() - steps.min() <= max(1, total // 100)
