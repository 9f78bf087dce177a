"""Draws shapes of several kinds, textures and colours.

Knows outlines and colours. Knows nothing of scenes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from glip.data.synthetic.sprites import LARGEST, Sprite
from glip.data.synthetic.words import PLAIN

_FINE = 4  # drawn this many times as large and then averaged, for smooth edges
_SIDE = _FINE * LARGEST

RGB = tuple[int, int, int]
_RGB: dict[str, RGB] = {
    "red": (215, 35, 35),
    "orange": (245, 130, 25),
    "yellow": (245, 215, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 215),
    "purple": (130, 50, 175),
    "pink": (248, 145, 195),
    "brown": (115, 70, 35),
    "black": (25, 25, 28),
    "white": (243, 243, 240),
}
_LIGHT = ("yellow", "pink", "white", "orange")
VARIANTS = 4  # variants of each texture: fewer and more stripes, in several directions

Draw = ImageDraw.ImageDraw


@cache
def shape_sprite(kind: str, texture: str, variant: int = 0) -> Sprite:
    """Returns a shape whose L is 0 where it has its own colour and 255 where it has the texture's second colour.

    Args:
        kind: one of `KINDS`.
        texture: one of `TEXTURES`.
        variant: 0 to `VARIANTS` - 1; the lowest has the coarsest texture.
    """
    outline = _outline(kind)
    field = _texture(texture, variant, outline)
    box = outline.getbbox()
    assert box is not None
    image = Image.merge("LA", (field.crop(box), outline.crop(box)))
    scale = LARGEST / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return Sprite(image.resize(size, Image.Resampling.BOX))


def colours_of(colour: str, texture: str, rng: random.Random) -> tuple[RGB, RGB]:
    """Returns a shade of the named colour, and the second colour of its texture."""
    gain = rng.uniform(0.9, 1.08)
    own = _clipped(*(channel * gain + rng.uniform(-12, 12) for channel in _RGB[colour]))
    if texture == "checked":  # half of the area: only another shade, so that the colour stays unambiguous
        return own, _clipped(*((channel * 0.55 if colour in _LIGHT else channel * 0.55 + 110) for channel in own))
    grey = rng.randint(5, 45) if colour in _LIGHT else rng.randint(215, 250)
    return own, (grey, grey, grey)


def ramp(*colours: RGB) -> bytes:
    """Returns a palette of 256 colours for Pillow, evenly from the first to the last of `colours`."""
    return (_blend(len(colours)) @ np.array(colours, np.float32)).astype(np.uint8).tobytes()


@cache
def _blend(stops: int) -> NDArray[np.float32]:
    """Returns the (256, stops) share of each colour in each entry of a palette."""
    distance = np.abs(np.linspace(0, stops - 1, 256)[:, None] - np.arange(stops))
    return np.maximum(0, 1 - distance).astype(np.float32)


def coloured(
    weights: Image.Image, opacity: Image.Image, colours: tuple[RGB, RGB], shading: Image.Image | None = None
) -> Image.Image:
    """Makes an RGBA image of the two channels of a posed shape.

    Args:
        weights: L, the share of the second colour; it is changed.
        opacity: L.
        colours: the colours where `weights` is 0 and where it is 255.
        shading: RGB of any size, which is stretched and multiplied with the colours.
    """
    weights.putpalette(ramp(*colours))
    image = weights.convert("RGB")
    if shading is not None:
        image = ImageChops.multiply(image, shading.resize(image.size, Image.Resampling.BILINEAR))
    image.putalpha(opacity)
    return image


def _clipped(red: float, green: float, blue: float) -> RGB:
    return (min(255, max(0, round(red))), min(255, max(0, round(green))), min(255, max(0, round(blue))))


# --- outlines -------------------------------------------------------------------------------------------------------


def _polygon(corners: int, start_degrees: float = -90.0, radius: float = 0.5) -> list[tuple[float, float]]:
    """Returns corners on a circle around (0.5, 0.5), in units of the canvas."""
    angles = [math.radians(start_degrees + 360.0 * corner / corners) for corner in range(corners)]
    return [(0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle)) for angle in angles]


def _star() -> list[tuple[float, float]]:
    outer, inner = _polygon(5), _polygon(5, -54.0, 0.21)
    return [corner for pair in zip(outer, inner, strict=True) for corner in pair]


def _heart() -> list[tuple[float, float]]:
    turns = [math.tau * step / 90 for step in range(90)]
    across = [16 * math.sin(turn) ** 3 for turn in turns]
    up = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
    return [(0.5 + x / 34, 0.45 - y / 34) for x, y in zip(across, up, strict=True)]


_CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
    "triangle": _polygon(3),
    "star": _star(),
    "diamond": [(0.5, 0), (0.82, 0.5), (0.5, 1), (0.18, 0.5)],
    "hexagon": _polygon(6, 0.0),
    "cross": [
        (0.34, 0), (0.66, 0), (0.66, 0.34), (1, 0.34), (1, 0.66), (0.66, 0.66),
        (0.66, 1), (0.34, 1), (0.34, 0.66), (0, 0.66), (0, 0.34), (0.34, 0.34),
    ],
    "heart": _heart(),
    "arrow": [(0, 0.36), (0.52, 0.36), (0.52, 0.12), (1, 0.5), (0.52, 0.88), (0.52, 0.64), (0, 0.64)],
}  # fmt: skip


def _outline(kind: str) -> Image.Image:
    """Returns an L image, `_SIDE` × `_SIDE`, 255 inside the shape."""
    image = Image.new("L", (_SIDE, _SIDE))
    draw = ImageDraw.Draw(image)

    def disc(centre_x: float, radius: float, fill: int) -> None:
        draw.ellipse(
            [_SIDE * side for side in (centre_x - radius, 0.5 - radius, centre_x + radius, 0.5 + radius)], fill
        )

    if kind in _CORNERS:
        draw.polygon([(x * (_SIDE - 1), y * (_SIDE - 1)) for x, y in _CORNERS[kind]], 255)
    else:
        disc(0.5, 0.5, 255)
    if kind == "ring":
        disc(0.5, 0.27, 0)
    elif kind == "crescent":
        disc(0.72, 0.42, 0)
    elif kind == "semicircle":
        draw.rectangle((0, _SIDE // 2, _SIDE, _SIDE), 0)
    return image


# --- textures -------------------------------------------------------------------------------------------------------

_Coordinates = NDArray[np.float64]


def _striped(across: _Coordinates, down: _Coordinates, count: int) -> NDArray[np.bool_]:
    return (across * count) % 1 < 0.36


def _dotted(across: _Coordinates, down: _Coordinates, count: int) -> NDArray[np.bool_]:
    return ((across * count) % 1 - 0.5) ** 2 + ((down * count) % 1 - 0.5) ** 2 < 0.3**2


def _checked(across: _Coordinates, down: _Coordinates, count: int) -> NDArray[np.bool_]:
    return (np.floor(across * count) + np.floor(down * count)) % 2 == 0


_PATTERNS: dict[str, Callable[[_Coordinates, _Coordinates, int], NDArray[np.bool_]]] = {
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
}
_TURNS = {"striped": (45, 0, 90, 20), "dotted": (0, 45, 15, 30), "checked": (0, 45, 20, 0)}
_COUNTS = (4, 5, 6, 7)


def _texture(texture: str, variant: int, outline: Image.Image) -> Image.Image:
    """Returns an L image of the size of `outline`, 255 where the second colour goes."""
    if texture == PLAIN:
        return Image.new("L", outline.size)
    if texture == "outlined":
        small = outline.reduce(_FINE)
        inside = Image.new("L", (LARGEST + 32, LARGEST + 32))
        inside.paste(small, (16, 16))
        inside = inside.filter(ImageFilter.MinFilter(2 * (5 + variant) + 1))
        inside = inside.crop((16, 16, 16 + LARGEST, 16 + LARGEST)).resize(outline.size, Image.Resampling.BILINEAR)
        return inside.point([255 * (value < 128) for value in range(256)])
    turn = math.radians(_TURNS[texture][variant])
    down, across = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    turned = (across * math.cos(turn) + down * math.sin(turn), down * math.cos(turn) - across * math.sin(turn))
    return Image.fromarray(_PATTERNS[texture](*turned, _COUNTS[variant]).astype(np.uint8) * 255)
