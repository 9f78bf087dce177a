"""Positions of things in an image, and their visible parts."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from glip.data.synthetic.compose import Canvas


def disc(colour: tuple[int, int, int], side: int, border: int = 6) -> Image.Image:
    image = Image.new("RGBA", (side + 2 * border, side + 2 * border))
    ImageDraw.Draw(image).ellipse((border, border, border + side - 1, border + side - 1), fill=(*colour, 255))
    return image


def grey_canvas(size_wh: tuple[int, int] = (200, 150)) -> Canvas:
    return Canvas(Image.new("RGB", size_wh, (128, 128, 128)))


def test_a_box_is_tight_around_what_differs_from_the_background() -> None:
    for seed in range(30):
        canvas = grey_canvas()
        assert canvas.place(disc((250, 0, 0), 31), random.Random(seed))
        different = (np.asarray(canvas.image) != 128).any(axis=2)
        rows, columns = np.flatnonzero(different.any(axis=1)), np.flatnonzero(different.any(axis=0))
        assert canvas.objects[0].box_ltrb() == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_faint_edges_do_not_widen_the_box() -> None:
    thing = Image.new("RGBA", (60, 60), (255, 0, 0, 60))
    thing.paste((255, 0, 0, 255), (20, 20, 40, 35))
    canvas = grey_canvas()
    assert canvas.place(thing, random.Random(0))
    left, top, right, bottom = canvas.objects[0].box_ltrb()
    assert (right - left, bottom - top) == (20, 15)


def test_nothing_goes_where_the_background_would_swallow_it() -> None:
    canvas = grey_canvas()
    assert not canvas.place(disc((120, 140, 128), 40), random.Random(0))
    assert not canvas.objects
    half = Image.new("RGB", (200, 150), (128, 128, 128))
    half.paste((255, 0, 0), (0, 0, 100, 150))
    for seed in range(30):
        canvas = Canvas(half.copy())
        if canvas.place(disc((250, 0, 0), 40), random.Random(seed)):
            left, _, right, _ = canvas.objects[0].box_ltrb()
            assert (left + right) / 2 > 95


def test_nothing_goes_on_an_object_of_its_own_colour() -> None:
    canvas = grey_canvas((64, 64))
    assert canvas.place(Image.new("RGBA", (64, 64), (250, 0, 0, 255)), random.Random(0))
    assert not canvas.place(disc((250, 20, 0), 20), random.Random(1), minimum_visible=0.1)
    assert canvas.place(disc((0, 0, 250), 20), random.Random(1), minimum_visible=0.1)


def test_what_hides_too_much_of_an_object_goes_elsewhere() -> None:
    for seed in range(40):
        canvas = grey_canvas()
        rng = random.Random(seed)
        for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)):
            canvas.place(disc(colour, 70), rng, minimum_visible=0.6)
        assert all(placed.visible >= 0.6 for placed in canvas.objects)


def test_a_hidden_part_is_neither_counted_nor_boxed() -> None:
    partly = 0
    for seed in range(60):
        canvas = grey_canvas((120, 120))
        rng = random.Random(seed)
        canvas.place(Image.new("RGBA", (60, 60), (250, 0, 0, 255)), rng)
        canvas.place(Image.new("RGBA", (60, 60), (0, 0, 250, 255)), rng, named=False)
        red = (np.asarray(canvas.image) == (250, 0, 0)).all(axis=2)
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        assert len(canvas.objects) == 1
        assert canvas.objects[0].visible == pytest.approx(red.sum() / 3600)
        assert canvas.objects[0].box_ltrb() == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        partly += canvas.objects[0].visible < 0.9
    assert partly > 10


def test_the_border_may_cut_an_object_whose_box_ends_there() -> None:
    cut = 0
    for seed in range(80):
        canvas = grey_canvas((100, 100))
        assert canvas.place(disc((250, 0, 0), 40), random.Random(seed))
        left, top, right, bottom = canvas.objects[0].box_ltrb()
        assert 0 <= left < right <= 100
        assert 0 <= top < bottom <= 100
        cut += canvas.objects[0].visible < 1
    assert 2 < cut < 30


def test_invisible_things_are_not_placed() -> None:
    assert not grey_canvas().place(Image.new("RGBA", (20, 20)), random.Random(0))


def test_a_grey_canvas_is_grey_and_compares_greys() -> None:
    canvas = Canvas(Image.new("RGB", (100, 100), (200, 30, 30)), grey=True)
    canvas.scatter(disc((0, 250, 0), 20), random.Random(0))
    assert not canvas.place(disc((30, 105, 30), 30), random.Random(1))  # the same grey as the red
    assert canvas.place(disc((255, 255, 0), 30), random.Random(1))
    pixels = np.asarray(canvas.image)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()
