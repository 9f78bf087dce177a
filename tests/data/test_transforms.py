"""Resizing and mirroring: boxes stay on their things, captions stay true."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from glip.data.examples import Example
from glip.data.transforms import AugmentedStream, flipped, names_sides, resized
from glip.errors import InputError
from glip.images.batch import fitted_hw, resized_hw
from tests.data.sets import same

BOX = (30, 20, 90, 50)


def scene(caption: str = "a red box", size_wh: tuple[int, int] = (160, 120)) -> Example:
    """A red rectangle on black, and a box around it."""
    image = Image.new("RGB", size_wh)
    ImageDraw.Draw(image).rectangle((BOX[0], BOX[1], BOX[2] - 1, BOX[3] - 1), fill=(255, 0, 0))
    return Example(image, caption, np.array([BOX], np.float32), (((2, 5),),))


def red_box(image: Image.Image) -> list[int]:
    """Around all that is more red than not: left, top, right, bottom."""
    found = image.getchannel("R").point([255 * (value > 127) for value in range(256)]).getbbox()
    assert found is not None
    return list(found)


@dataclass(frozen=True)
class Scenes:
    caption: str = "a red box"
    size_wh: tuple[int, int] = (160, 120)
    epoch_length: int | None = 11

    def example(self, position: int) -> Example:
        return scene(self.caption, self.size_wh)


def test_a_mirrored_box_lies_on_the_mirrored_thing() -> None:
    mirrored = flipped(scene())
    assert mirrored.boxes.tolist() == [[70, 20, 130, 50]]
    assert red_box(mirrored.image) == [70, 20, 130, 50]
    assert same(flipped(mirrored), scene())
    assert mirrored.boxes.dtype == np.float32


@settings(deadline=None, max_examples=40)
@given(st.integers(100, 400), st.integers(60, 400))
def test_a_resized_box_lies_on_the_resized_thing(width: int, height: int) -> None:
    small = resized(scene(), (height, width))
    assert small.image.size == (width, height)
    assert np.abs(small.boxes[0] - red_box(small.image)).max() < 1.01


def test_boxes_are_cut_at_the_border_and_those_outside_left_out() -> None:
    boxes = np.array([[-20, 10, 80, 140], [170, 10, 190, 20], [0, 0, 160, 120]], np.float32)
    example = Example(Image.new("RGB", (160, 120)), "a b c", boxes, (((0, 1),), ((2, 3),), ((4, 5),)))
    half = resized(example, (60, 80))
    assert half.boxes.tolist() == [[0, 5, 40, 60], [0, 0, 80, 60]]
    assert half.spans == (((0, 1),), ((4, 5),))
    empty = resized(Example(example.image, "a", np.zeros((0, 4), np.float32), ()), (60, 80))
    assert flipped(empty).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "caption",
    [
        "a dog left of a cat", "Right: a cat", "the left-hand door", "the lefthand side", "leftmost car", "RIGHTMOST",
        "turn right", "rightward arrow", "lefty", "upper-left corner", "bottomright", "left_hand", "cat.left", "myleft",
        "yourright", "trafficLight-GreenLeft", "clockwise arrows", "counterclockwise", "left", "hand (right)",
    ],
)  # fmt: skip
def test_captions_that_tell_sides(caption: str) -> None:
    assert names_sides(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "a bright red box", "copyright", "upright piano", "leftovers", "human rights", "cleft chin", "righteous",
        "playwright", "fright", "straightforward", "Wright brothers", "", "alright", "a red box. a cat", "Outright",
    ],
)  # fmt: skip
def test_captions_that_do_not(caption: str) -> None:
    assert not names_sides(caption)


def mirrored_share(stream: AugmentedStream, count: int = 200) -> float:
    lefts = [stream.example(position).boxes[0, 0] / stream.example(position).image.width for position in range(count)]
    return sum(left > 0.3 for left in lefts) / count


def test_about_half_of_the_images_are_mirrored_unless_their_caption_names_sides() -> None:
    small = {"sizes_short": (60,), "longest": 100}
    assert abs(mirrored_share(AugmentedStream(Scenes(), **small)) - 0.5) < 0.12  # type: ignore[arg-type]
    assert mirrored_share(AugmentedStream(Scenes("a cat left of a dog"), **small)) == 0  # type: ignore[arg-type]
    assert mirrored_share(AugmentedStream(Scenes(), flip=0, **small)) == 0  # type: ignore[arg-type]
    assert mirrored_share(AugmentedStream(Scenes(), flip=1, **small)) == 1  # type: ignore[arg-type]


def test_the_short_side_is_drawn_from_the_sizes_and_the_long_side_is_limited() -> None:
    stream = AugmentedStream(Scenes(), sizes_short=(32, 64, 96), longest=110)
    sizes = {stream.example(position).image.size for position in range(60)}
    assert sizes == {(42, 32), (85, 64), (109, 82)}  # 96 would make 128 on the long side
    assert stream.epoch_length == 11
    wide = AugmentedStream(Scenes(size_wh=(1000, 100)), sizes_short=(64,), longest=200).example(0)
    assert wide.image.size == (200, 20)


def test_the_published_sizes_round_as_in_prediction() -> None:
    for size_hw in ((480, 640), (427, 640), (640, 427), (300, 1000), (37, 2000), (800, 800), (801, 1334)):
        assert fitted_hw(size_hw, 800, 1333) == resized_hw(size_hw, 800)


def test_positions_of_a_group_share_a_size() -> None:
    stream = AugmentedStream(Scenes(), sizes_short=(32, 40, 48, 56, 64), longest=200, group=4, flip=0)
    heights = [stream.example(position).image.height for position in range(80)]
    groups = [set(heights[start : start + 4]) for start in range(0, 80, 4)]
    assert all(len(group) == 1 for group in groups)
    assert len(set(heights)) == 5


def test_a_position_gives_the_same_look_in_every_process() -> None:
    stream = AugmentedStream(Scenes(), seed=3, sizes_short=(32, 48), longest=200)
    sent = pickle.loads(pickle.dumps(stream))
    forwards = [stream.example(position) for position in range(12)]
    backwards = [sent.example(position) for position in reversed(range(12))][::-1]
    assert all(map(same, forwards, backwards))
    other = AugmentedStream(Scenes(), seed=4, sizes_short=(32, 48), longest=200)
    assert not all(map(same, forwards, map(other.example, range(12))))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sizes_short": ()}, r"sizes_short is \[\]"),
        ({"sizes_short": (8,)}, r"sizes_short is \[8\]"),
        ({"longest": 700}, "longest is 700"),
        ({"flip": 1.5}, r"flip is 1\.5"),
        ({"flip": -1}, "flip is -1"),
        ({"group": 0}, "group is 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        AugmentedStream(Scenes(), **options)  # type: ignore[arg-type]
