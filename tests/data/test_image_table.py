"""Files of a data set: found, checked, and passed over where they are broken."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from glip.data import image_table as images
from glip.data.image_table import Images, Texts
from glip.data.sampling import Order
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
    packed = Texts(iter(texts))
    assert [packed[index] for index in range(len(packed))] == texts
    assert len(Texts([])) == 0
    for index in (-1, 6):
        with pytest.raises(IndexError):
            packed[index]


def test_an_image_is_looked_for_in_each_folder_in_turn(tmp_path: Path) -> None:
    draw(tmp_path / "coco" / "0.png", 0)
    draw(tmp_path / "vg" / "0.png", 10)
    draw(tmp_path / "vg" / "1.png", 1)
    found = Images.of(listed(3), [tmp_path / "coco", tmp_path / "vg"])
    assert found.read(0).getpixel((0, 0)) == (0, 0, 7)
    assert found.read(1).getpixel((0, 0)) == (1, 0, 7)
    with pytest.raises(UnreadableImage, match=r"coco/2\.png' cannot be read: it does not exist"):
        found.read(2)


def test_an_image_of_another_size_than_its_boxes_is_not_used(tmp_path: Path) -> None:
    draw(tmp_path / "0.png", 0, size_wh=(HEIGHT, WIDTH))  # as one turned by its EXIF orientation
    with pytest.raises(UnreadableImage, match="it is 30 × 40 pixels large, but its boxes are made for 40 × 30"):
        Images.of(listed(1), tmp_path).read(0)


def test_a_missing_folder_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no folder .*nowhere"):
        Images.of(listed(1), [tmp_path, tmp_path / "nowhere"])


def test_the_next_image_takes_the_place_of_a_broken_one_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        draw(tmp_path / name_of(number), number)
    (tmp_path / "2.png").write_bytes(b"no image")
    found, order = Images.of(listed(4), tmp_path), Order(4, seed=5)
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
    assert "Another image takes its place" in caplog.text


def test_training_ends_where_no_image_can_be_read_any_more(tmp_path: Path) -> None:
    found = Images.of(listed(200), tmp_path)
    with pytest.raises(JobFailed, match=r"None of 64 images in a row .*does not exist.*Look whether the folder"):
        found.readable(Order(200), 3)
    with pytest.raises(JobFailed, match="None of 5 images in a row"):
        found.readable(Order(5), 0)
