"""Draws things without a name, behind and in front of a scene's objects.

Knows outlines. Knows nothing of names.
"""

from __future__ import annotations

import math
import random
from functools import cache

from PIL import Image, ImageDraw, ImageFilter

from glip.data.synthetic.shapes import RGB, coloured
from glip.data.synthetic.sprites import LARGEST, Pose, Sprite

_FINE = 4
_SHAPES = 24  # number of outlines, which are always the same


def blob(rng: random.Random, long_side: float) -> Image.Image:
    """Draws an irregular thing of any colour, RGBA."""
    pose = Pose(long_side, rng.uniform(0, 360), math.exp(rng.uniform(-0.7, 0.7)))
    return _posed(rng, pose, _blob(rng.randrange(_SHAPES)))


def bar(rng: random.Random, long_side: float) -> Image.Image:
    """Draws a long thin thing, such as a pole or a blade of grass, RGBA."""
    return _posed(rng, Pose(long_side, rng.uniform(0, 180)), _bar(rng.randrange(_SHAPES)))


def _posed(rng: random.Random, pose: Pose, sprite: Sprite) -> Image.Image:
    weights, opacity = sprite.posed(pose).split()
    return coloured(weights, opacity, (_any_colour(rng), _any_colour(rng)))


def _any_colour(rng: random.Random) -> RGB:
    return (rng.randrange(256), rng.randrange(256), rng.randrange(256))


@cache
def _bar(shape: int) -> Sprite:
    rng = random.Random(shape)  # noqa: S311  # outlines, no secret
    length, thickness = 2 * LARGEST, rng.randint(8, 28)
    outline = Image.new("L", (length, thickness))
    ends = [rng.randint(0, thickness // 2 - 2) for _ in range(2)]
    corners = [(0, ends[0]), (length, ends[1]), (length, thickness - ends[1]), (0, thickness - ends[0])]
    ImageDraw.Draw(outline).polygon(corners, 255)
    weights = Image.frombytes("L", (4, 1), rng.randbytes(4)).resize(outline.size, Image.Resampling.BICUBIC)
    return Sprite(Image.merge("LA", (weights, outline)).reduce(2))


@cache
def _blob(shape: int) -> Sprite:
    rng = random.Random(shape)  # noqa: S311  # outlines, no secret
    side = _FINE * LARGEST
    outline = Image.new("L", (side, side))
    corners = rng.randint(5, 10)
    points = []
    for corner in range(corners):
        angle, radius = math.tau * (corner + rng.uniform(-0.3, 0.3)) / corners, side / 2 * rng.uniform(0.3, 1.0)
        points.append((side / 2 + radius * math.cos(angle), side / 2 + radius * math.sin(angle)))
    ImageDraw.Draw(outline).polygon(points, 255)
    if shape % 2:  # rounded: blurred, then thresholded
        outline = outline.filter(ImageFilter.GaussianBlur(side / 16)).point(
            [255 * (value > 110) for value in range(256)]
        )
    weights = Image.frombytes("L", (4, 4), rng.randbytes(16)).resize((side, side), Image.Resampling.BICUBIC)
    box = outline.getbbox()
    assert box is not None
    return Sprite(Image.merge("LA", (weights.crop(box), outline.crop(box))).reduce(_FINE))
