"""Colors of classes, and where tags stand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from glip.detections import Detections
from glip.drawing import class_color, place_tags, text_color


def luminance(color: str) -> float:
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("background", [*map(class_color, range(100)), "#ffffff", "#000000", "#ffff00", "#777777"])
def test_text_can_be_read_on_every_color(background: str) -> None:
    assert contrast(text_color(background), background) >= 4.5


def test_the_first_classes_have_colors_that_differ() -> None:
    rgb = np.array([[int(class_color(label)[i : i + 2], 16) for i in (1, 3, 5)] for label in range(20)], float)
    distances = np.linalg.norm(rgb[:, None] - rgb[None], axis=2) + 1000 * np.eye(20)
    assert distances.min() > 35


def overlaps(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_tags_of_boxes_in_one_place_do_not_overlap() -> None:
    boxes = [(50.0, 50.0, 150.0, 150.0)] * 5 + [(50.0, 52.0, 150.0, 152.0)]
    places = [place for place in place_tags(boxes, [(60.0, 16.0)] * 6, (300, 200)) if place is not None]
    assert len(places) == 6
    assert not any(overlaps(one, other) for one, other in itertools.combinations(places, 2))
    assert places[0] == (50, 34, 110, 50)  # above the upper left corner


def test_of_too_many_boxes_the_first_have_tags() -> None:
    places = place_tags([(0.0, 0.0, 20.0, 20.0)] * 50, [(60.0, 16.0)] * 50, (100, 60))
    assert places[0] is not None and places[-1] is None
    placed = [place for place in places if place is not None]
    assert not any(overlaps(one, other) for one, other in itertools.combinations(placed, 2))


@pytest.mark.parametrize("box", [(0, 0, 30, 20), (270, 180, 299, 199), (0, 0, 299, 199), (290, 0, 299, 5)])
def test_tags_lie_on_the_image(box: tuple[float, float, float, float]) -> None:
    (place,) = place_tags([box], [(60.0, 16.0)], (300, 200))
    assert place is not None
    x1, y1, x2, y2 = place
    assert min(x1, y1) >= 0 and x2 <= 300 and y2 <= 200


def test_boxes_have_the_color_of_their_class() -> None:
    box = np.array([[10, 40, 60, 90], [80, 40, 130, 90]], np.float32)
    found = Detections(box, np.array([0.9, 0.8], np.float32), np.array([0, 4]), tuple("abcde"))
    drawn = found.draw(Image.new("RGB", (160, 120)), tags=())
    assert drawn.getpixel((10, 60)) == tuple(bytes.fromhex(class_color(0)[1:]))
    assert drawn.getpixel((80, 60)) == tuple(bytes.fromhex(class_color(4)[1:]))


def test_boxes_beyond_the_image_and_long_names_are_drawn() -> None:
    box = np.array([[-50, -50, 500, 500], [300, 300, 400, 400]], np.float32)
    found = Detections(box, np.array([0.9, 0.8], np.float32), np.array([0, 0]), ("a long\nname " * 50,))
    drawn = found.draw(Image.new("RGB", (60, 40)))
    assert np.asarray(drawn)[[0, -1]].any()
