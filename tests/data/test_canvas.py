"""Views of photographs: what lies in a box lies in it afterwards."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from glip.data.canvas import FILL, View, coloured, framed, mosaic

BOX = (30, 20, 70, 60)


def photograph(size_wh: tuple[int, int] = (120, 90)) -> Image.Image:
    """Grey with a red box."""
    image = Image.new("RGB", size_wh, (90, 90, 90))
    ImageDraw.Draw(image).rectangle((BOX[0], BOX[1], BOX[2] - 1, BOX[3] - 1), (255, 0, 0))
    return image


def boxes(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def red_box(image: Image.Image) -> tuple[int, int, int, int]:
    """What is mostly red."""
    pixels = np.asarray(image).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 170) & (pixels[..., 1] < 60))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize("size_wh", [(96, 64), (64, 96), (64, 64), (224, 160)])
def test_a_box_follows_what_it_surrounds(size_wh: tuple[int, int]) -> None:
    seen = 0
    for seed in range(60):
        view = framed(photograph(), boxes(BOX), size_wh, random.Random(seed))
        assert view.image.size == size_wh
        if view.clear[0]:
            assert np.abs(np.array(red_box(view.image)) - view.boxes[0]).max() <= 2.0, seed
            seen += 1
    assert seen > 50


def test_a_crop_keeps_a_box_on_the_canvas() -> None:
    views = [framed(photograph((400, 90)), boxes(BOX), (64, 64), random.Random(seed)) for seed in range(60)]
    assert min(view.visible[0] for view in views) > 0.1
    assert np.mean([view.clear[0] for view in views]) > 0.8


def test_views_differ_in_mirror_and_zoom() -> None:
    views = [framed(photograph(), boxes(BOX), (96, 64), random.Random(seed)) for seed in range(60)]
    widths = [float(view.boxes[0, 2] - view.boxes[0, 0]) for view in views]
    assert max(widths) > 2.5 * min(widths)
    assert {tuple(view.image.getpixel((0, 0))) for view in views} >= {FILL, (90, 90, 90)}  # type: ignore[arg-type]
    lefts = [view.boxes[0, 0] for view in views if not view.visible[0] < 1]
    assert min(lefts) < 30 < max(lefts)


def test_the_visible_share_is_that_of_the_area() -> None:
    view = View(photograph(), boxes((0, 0, 10, 10), (0, 0, 2, 50), (0, 0, 40, 40)), np.array([1, 1, 0.3], np.float32))
    assert view.clear.tolist() == [True, False, False]


def test_a_photograph_without_boxes_has_views_too() -> None:
    view = framed(photograph(), boxes(), (64, 64), random.Random(0))
    assert view.boxes.shape == (0, 4)
    assert view.clear.shape == (0,)


def test_a_mosaic_holds_four_photographs_and_their_boxes_in_order() -> None:
    parts = [
        (photograph(), boxes(BOX)),
        (photograph(), boxes()),
        (photograph(), boxes(BOX, BOX)),
        (photograph(), boxes()),
    ]
    for seed in range(20):
        view = mosaic(parts, (128, 96), random.Random(seed))
        assert view.image.size == (128, 96)
        assert len(view.boxes) == len(view.visible) == 3
        assert view.boxes[0, 3] <= 0.6 * 96 + 1  # above
        assert view.boxes[1, 1] >= 0.4 * 96 - 1  # below
        for box, clear in zip(view.boxes, view.clear, strict=True):
            if clear:
                middle = int(box[[0, 2]].mean()), int(box[[1, 3]].mean())
                assert view.image.getpixel(middle)[0] > 170  # type: ignore[index]


def test_colours_change_and_pixels_stay() -> None:
    images = [coloured(photograph(), random.Random(seed)) for seed in range(40)]
    assert len({image.tobytes() for image in images}) > 20
    assert all(image.size == (120, 90) and image.mode == "RGB" for image in images)
