"""Paints the backgrounds of scenes: noise of several scales, gradients, stripes, blurred blobs, textures, patches.

A background is a grey field, drawn at low resolution where it is smooth, whose greys a palette turns into colours.
Knows nothing of objects.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from glip.data.synthetic.shapes import RGB, ramp

Field = Image.Image  # L, of the size of the scene

_BICUBIC = Image.Resampling.BICUBIC
_GRAIN_SIDE = 512
_STEP = [255 * (value > 127) for value in range(256)]
_PALE = [100 + value // 5 for value in range(256)]


def paint(rng: random.Random, size_wh: tuple[int, int], kinds: tuple[str, ...]) -> Image.Image:
    """Returns a background, RGB.

    Args:
        rng: source of randomness.
        size_wh: width and height in pixels.
        kinds: keys of `BACKGROUNDS` to choose from.
    """
    image = _layer(rng, size_wh, kinds)
    if rng.random() < 0.2:  # two of them, like a table in front of a wall
        mask = BACKGROUNDS[rng.choice(("noise", "gradient", "patches"))](rng, size_wh)
        image = Image.composite(image, _layer(rng, size_wh, kinds), mask.point(_STEP))
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.BoxBlur(rng.choice((1, 1, 2))))
    return image


def with_noise(image: Image.Image, rng: random.Random, strength: float) -> Image.Image:
    """Returns the image with the noise of a camera, equal in the three channels of a pixel.

    Args:
        image: RGB.
        rng: source of randomness.
        strength: standard deviation in grey levels.
    """
    grain = _grain_cut(rng, image.size, strength)
    return ImageChops.add(image, Image.merge("RGB", (grain,) * 3), offset=-128)


def _layer(rng: random.Random, size_wh: tuple[int, int], kinds: tuple[str, ...]) -> Image.Image:
    field = BACKGROUNDS[rng.choice(kinds)](rng, size_wh)
    if rng.random() < 0.25:
        field = Image.blend(field, BACKGROUNDS[rng.choice(kinds)](rng, size_wh), rng.uniform(0.2, 0.5))
    if rng.random() < 0.6:
        field = ImageChops.add(field, _grain_cut(rng, size_wh, rng.uniform(2, 22)), offset=-128)
    field.putpalette(ramp(*_colours(rng)))
    return field.convert("RGB")


def _colours(rng: random.Random) -> list[RGB]:
    """Returns two to five matching colours: shades of one, its neighbours, or any."""
    hue, saturation, value = rng.random(), rng.random() ** 1.5, rng.uniform(0.08, 1.0)
    spread = rng.choice((0.02, 0.1, 0.5))
    contrast = rng.uniform(0.05, 0.5)
    colours = []
    for _ in range(rng.randint(2, 5)):
        shade = colorsys.hsv_to_rgb(
            (hue + rng.uniform(-spread, spread)) % 1.0,
            min(1.0, max(0.0, saturation + rng.uniform(-0.2, 0.2))),
            min(1.0, max(0.03, value + rng.uniform(-contrast, contrast))),
        )
        colours.append((round(255 * shade[0]), round(255 * shade[1]), round(255 * shade[2])))
    return colours


@cache
def _grain() -> NDArray[np.int16]:
    """Returns (512, 512) white noise, mean 0, standard deviation about 104, always the same."""
    source = random.Random(0)  # noqa: S311  # noise, no secret
    tosses = [np.frombuffer(source.randbytes(_GRAIN_SIDE**2), np.uint8).astype(np.int16) for _ in range(2)]
    return (tosses[0] + tosses[1] - 255).reshape(_GRAIN_SIDE, _GRAIN_SIDE)


@cache
def _grain_tile(level: int) -> Image.Image:
    """Returns the noise with a standard deviation of about 2 · `level` grey levels around 128."""
    return Image.fromarray((128 + _grain() * (2 * level) // 104).clip(0, 255).astype(np.uint8))


def _grain_cut(rng: random.Random, size_wh: tuple[int, int], strength: float) -> Image.Image:
    tile = _grain_tile(max(1, round(strength / 2)))
    left, top = rng.randrange(_GRAIN_SIDE), rng.randrange(_GRAIN_SIDE)
    if left + size_wh[0] <= _GRAIN_SIDE and top + size_wh[1] <= _GRAIN_SIDE:
        return tile.crop((left, top, left + size_wh[0], top + size_wh[1]))
    cut = Image.new("L", size_wh)
    for x in range(-left, size_wh[0], _GRAIN_SIDE):
        for y in range(-top, size_wh[1], _GRAIN_SIDE):
            cut.paste(tile, (x, y))
    return cut


# --- fields ---------------------------------------------------------------------------------------------------------


def _random_field(rng: random.Random, columns: int, rows: int) -> Field:
    return Image.frombytes("L", (columns, rows), rng.randbytes(columns * rows))


def _noise(rng: random.Random, size_wh: tuple[int, int]) -> Field:
    """Draws clouds: noise of one to three scales."""
    cells = rng.choice((2, 3, 4, 6, 9))
    field = _random_field(rng, cells, cells).resize(size_wh, _BICUBIC)
    for _ in range(rng.randint(0, 2)):
        cells *= rng.choice((2, 3, 4))
        field = Image.blend(field, _random_field(rng, cells, cells).resize(size_wh, _BICUBIC), rng.uniform(0.15, 0.45))
    return field


def _gradient(rng: random.Random, size_wh: tuple[int, int]) -> Field:
    """Draws a gradient from one side to the other, or from a point outwards."""
    down, across = np.mgrid[0:32, 0:32] / 31
    if rng.random() < 0.6:
        turn = rng.uniform(0, math.tau)
        height = (across - 0.5) * math.cos(turn) + (down - 0.5) * math.sin(turn)
    else:
        height = np.hypot(across - rng.random(), down - rng.random())
    height = (height - height.min()) / np.ptp(height)
    bend = math.exp(rng.uniform(-0.9, 0.9))
    return Image.fromarray((255 * height**bend).astype(np.uint8)).resize(size_wh, _BICUBIC)


def _coordinates(
    rng: random.Random, size_wh: tuple[int, int], period: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns two (h, w) orthogonal coordinates, turned, in periods, at half the resolution of the scene."""
    turn = rng.choice((0.0, math.pi / 2, rng.uniform(0, math.pi)))
    across = np.arange((size_wh[0] + 1) // 2, dtype=np.float32) * np.float32(2 / period) + np.float32(rng.random())
    down = np.arange((size_wh[1] + 1) // 2, dtype=np.float32) * np.float32(2 / period) + np.float32(rng.random())
    cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    return across[None] * cos + down[:, None] * sin, down[:, None] * cos - across[None] * sin


def _from_half(values: NDArray[np.generic], size_wh: tuple[int, int]) -> Field:
    return Image.fromarray(values.astype(np.uint8)).resize(size_wh, Image.Resampling.BILINEAR)


def _stripes(rng: random.Random, size_wh: tuple[int, int]) -> Field:
    """Draws stripes with sharp or blurred edges."""
    across, _ = _coordinates(rng, size_wh, rng.uniform(0.04, 0.3) * min(size_wh))
    part = across % 1
    if rng.random() < 0.6:
        return _from_half((part < rng.uniform(0.3, 0.7)) * np.uint8(255), size_wh)
    return _from_half(np.abs(part - np.float32(0.5)) * 510, size_wh)


def _texture(rng: random.Random, size_wh: tuple[int, int]) -> Field:
    """Draws checks, dots, bricks or a weave, too fine to count as squares and circles."""
    across, down = _coordinates(rng, size_wh, rng.uniform(0.04, 0.12) * min(size_wh))
    pattern = rng.choice(("checks", "dots", "bricks", "weave"))
    if pattern == "checks":
        return _from_half(((across % 2 < 1) ^ (down % 2 < 1)) * np.uint8(255), size_wh)
    if pattern == "dots":
        radius = rng.uniform(0.2, 0.4) ** 2
        return _from_half(((across % 1 - 0.5) ** 2 + (down % 1 - 0.5) ** 2 < radius) * np.uint8(255), size_wh)
    if pattern == "bricks":
        shifted = across / 2 + (down % 2 < 1) * np.float32(0.5)
        return _from_half(((shifted % 1 < 0.05) | (down % 1 < 0.1)) * np.uint8(255), size_wh)
    return _from_half(np.abs(across % 1 - 0.5) * 255 + np.abs(down % 1 - 0.5) * 255, size_wh)


def _blobs(rng: random.Random, size_wh: tuple[int, int]) -> Field:
    """Draws out-of-focus lights and shadows."""
    small_wh = (max(8, size_wh[0] // 4), max(8, size_wh[1] // 4))
    field = Image.new("L", small_wh, rng.randrange(256))
    draw = ImageDraw.Draw(field)
    for _ in range(rng.randint(3, 14)):
        x, y, radius = rng.uniform(0, small_wh[0]), rng.uniform(0, small_wh[1]), rng.uniform(0.05, 0.3) * min(small_wh)
        draw.ellipse((x - radius * rng.uniform(0.5, 2), y - radius, x + radius, y + radius), rng.randrange(256))
    return field.filter(ImageFilter.BoxBlur(rng.choice((2, 3, 5)))).resize(size_wh, _BICUBIC)


def _patches(rng: random.Random, size_wh: tuple[int, int]) -> Field:
    """Draws overlapping rectangles or splinters with hard edges."""
    width, height = size_wh
    field = Image.new("L", size_wh, rng.randrange(256))
    draw = ImageDraw.Draw(field)
    splinters = rng.random() < 0.4
    for _ in range(rng.randint(3, 16)):
        points = [(rng.uniform(-0.2, 1.2) * width, rng.uniform(-0.2, 1.2) * height) for _ in range(3)]
        if splinters:
            draw.polygon(points, rng.randrange(256))
        else:
            (x, y), (right, bottom) = points[0], points[1]
            draw.rectangle((min(x, right), min(y, bottom), max(x, right), max(y, bottom)), rng.randrange(256))
    return field


def _strokes(rng: random.Random, size_wh: tuple[int, int]) -> Field:
    """Draws grass, hair or scratches: many thin lines in similar directions."""
    width, height = size_wh
    field = _random_field(rng, 5, 5).resize(size_wh, _BICUBIC)
    draw = ImageDraw.Draw(field)
    turn, spread, length = rng.uniform(0, math.pi), rng.uniform(0.1, 1.6), rng.uniform(0.05, 0.3) * min(size_wh)
    for _ in range(rng.randint(20, 80)):
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), turn + rng.uniform(-spread, spread)
        end = (x + length * math.cos(angle), y + length * math.sin(angle))
        draw.line((x, y, *end), rng.randrange(256), rng.choice((1, 1, 2)))
    return field


def _flat(rng: random.Random, size_wh: tuple[int, int]) -> Field:
    """Draws paper: nearly one colour."""
    return _random_field(rng, 3, 3).point(_PALE).resize(size_wh, _BICUBIC)


BACKGROUNDS: dict[str, Callable[[random.Random, tuple[int, int]], Field]] = {
    "noise": _noise,
    "gradient": _gradient,
    "stripes": _stripes,
    "texture": _texture,
    "blobs": _blobs,
    "patches": _patches,
    "strokes": _strokes,
    "flat": _flat,
}
