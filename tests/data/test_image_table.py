"""Files of a data set: found, checked, and passed over where they are broken."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from glip.data import image_table as images
from glip.data.image_table import ImageTable, TextTable
from glip.data.sampling import EpochOrder
from glip.errors import InputError, JobFailed
from glip.images.reading import UnreadableImage
from tests.data.sets import HEIGHT, WIDTH, draw, name_of


def listed(count: int) -> list[tuple[str, int, int]]:
    return [(name_of(number), WIDTH, HEIGHT) for number in range(count)]


@pytest.fixture(autouse=True)
def _forget_warnings() -> None:
    images._warn_of_unusable.cache_clear()


def test_texts_come_back_as_they_went_in() -> None:
    texts = ["a cat", "", "ein Käfer", "猫🐈", "x" * 1000, ""]
    packed = TextTable(iter(texts))
    assert [packed[index] for index in range(len(packed))] == texts
    assert len(TextTable([])) == 0
    for index in (-1, 6):
        with pytest.raises(IndexError):
            packed[index]


def test_an_image_is_looked_for_in_each_folder_in_turn(tmp_path: Path) -> None:
    draw(tmp_path / "coco" / "0.png", 0)
    draw(tmp_path / "vg" / "0.png", 10)
    draw(tmp_path / "vg" / "1.png", 1)
    found = ImageTable.of(listed(3), [tmp_path / "coco", tmp_path / "vg"])
    assert found.read(0).getpixel((0, 0)) == (0, 0, 7)
    assert found.read(1).getpixel((0, 0)) == (1, 0, 7)
    with pytest.raises(UnreadableImage, match=r"coco/2\.png"):
        found.read(2)


def test_an_image_of_another_size_than_its_boxes_is_not_used(tmp_path: Path) -> None:
    draw(tmp_path / "0.png", 0, size_wh=(HEIGHT, WIDTH))  # as one turned by its EXIF orientation
    with pytest.raises(UnreadableImage, match=r"30 × 40.*40 × 30"):
        ImageTable.of(listed(1), tmp_path).read(0)


def test_a_missing_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        ImageTable.of(listed(1), [tmp_path, tmp_path / "nowhere"])


def test_the_next_image_is_used_instead_of_a_broken_one_which_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        draw(tmp_path / name_of(number), number)
    (tmp_path / "2.png").write_bytes(b"no image")
    found, order = ImageTable.of(listed(4), tmp_path), EpochOrder(4, seed=5)
    broken = next(position for position in range(4) if order.index(position) == 2)
    with caplog.at_level(logging.WARNING):
        used = [found.readable(order, position)[0] for position in range(20)]
    assert used[broken] == order.index(broken + 1)
    assert 2 not in used
    assert [index for position, index in enumerate(used) if order.index(position) != 2] == [
        order.index(position) for position in range(20) if order.index(position) != 2
    ]
    assert len(caplog.records) == 1
    assert "2.png" in caplog.text


def test_training_ends_where_no_image_can_be_read_any_more(tmp_path: Path) -> None:
    found = ImageTable.of(listed(200), tmp_path)
    with pytest.raises(JobFailed, match=r"64 images.*\.png"):
        found.readable(EpochOrder(200), 3)
    with pytest.raises(JobFailed, match="5 images"):
        found.readable(EpochOrder(5), 0)
