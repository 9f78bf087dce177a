"""Random views of photographs on a canvas of a given size: crop, zoom, mirror, mosaic, colour.

A batch whose images share a canvas needs no padding. Boxes are xyxy in pixels of the image they come with. Knows
nothing of classes, captions or files.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

FILL = (124, 116, 104)  # ImageNet's mean colour, which padding has as well
LEAST_VISIBLE = 0.35  # share of a box's area that must be on the canvas for the box to be learned
_LEAST_SIDE = 3.0  # pixels
_STRETCH = 0.1  # of the logarithm of width over height
_WHOLE, _CLOSER = 0.5, 0.35  # how often all of a photograph is shown, and a part of it; else it is made smaller
_CLOSEST, _SMALLEST = 2.2, 0.5  # zoom
_COLOURS = (
    (ImageEnhance.Brightness, 0.3),
    (ImageEnhance.Contrast, 0.3),
    (ImageEnhance.Color, 0.5),
)

Boxes = NDArray[np.float32]
SizeWH = tuple[int, int]


@dataclass(frozen=True, eq=False)
class View:
    """A part of a photograph, or of several.

    Attributes:
        image: RGB.
        boxes: (N, 4) what can be seen of each box.
        visible: (N,) share of each box's area that is on the canvas.
    """

    image: Image.Image
    boxes: Boxes
    visible: NDArray[np.float32]

    @property
    def clear(self) -> NDArray[np.bool_]:
        """Returns (N,) whether enough of each box is visible to learn it."""
        large = (self.boxes[:, 2:] - self.boxes[:, :2] >= _LEAST_SIDE).all(axis=1)
        return large & (self.visible >= LEAST_VISIBLE)


def framed(image: Image.Image, boxes: Boxes, size_wh: SizeWH, rng: random.Random) -> View:
    """Puts a random crop or a smaller copy of a photograph on a canvas, mirrored half of the time.

    Args:
        image: RGB, of any size.
        boxes: (N, 4) in pixels of `image`.
        size_wh: of the canvas.
        rng: of this example.
    """
    if rng.random() < 0.5:
        image, boxes = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), _mirrored(boxes, image.width)
    scales = _scales(image.size, size_wh, rng)
    focus = rng.choice(boxes.tolist()) if len(boxes) else (0.0, 0.0, *map(float, image.size))
    offsets = [
        _offset(round(side * scale), room, (focus[axis] + focus[axis + 2]) / 2 * scale, rng)
        for axis, (side, room, scale) in enumerate(zip(image.size, size_wh, scales, strict=True))
    ]
    canvas = _pasted(image, scales, offsets, size_wh)
    placed = boxes * np.tile(scales, 2) + np.tile(offsets, 2)
    return _view(canvas, placed)


def mosaic(parts: Sequence[tuple[Image.Image, Boxes]], size_wh: SizeWH, rng: random.Random) -> View:
    """Puts four photographs on one canvas. The boxes are those of all parts in order."""
    across, down = (round(side * rng.uniform(0.4, 0.6)) for side in size_wh)
    canvas = Image.new("RGB", size_wh, FILL)
    boxes, visible = [], []
    for index, (image, own) in enumerate(parts):
        left, top = across * (index % 2), down * (index // 2)
        cell = (size_wh[0] - across if left else across, size_wh[1] - down if top else down)
        view = framed(image, own, cell, rng)
        canvas.paste(view.image, (left, top))
        boxes.append(view.boxes + np.array([left, top, left, top], np.float32))
        visible.append(view.visible)
    return View(canvas, np.concatenate(boxes), np.concatenate(visible))


def coloured(image: Image.Image, rng: random.Random) -> Image.Image:
    """Changes brightness, contrast and saturation, each half of the time; one image in twenty becomes grey."""
    if rng.random() < 0.05:
        return image.convert("L").convert("RGB")
    for enhance, most in _COLOURS:
        if rng.random() < 0.5:
            image = enhance(image).enhance(1 + rng.uniform(-most, most))
    return image


def _mirrored(boxes: Boxes, width: int) -> Boxes:
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = width - boxes[:, [2, 0]]
    return mirrored


def _scales(image_wh: SizeWH, size_wh: SizeWH, rng: random.Random) -> tuple[float, float]:
    """Draws the zoom in x and y."""
    ratios = [room / side for side, room in zip(image_wh, size_wh, strict=True)]
    fit, fill = min(ratios), max(ratios)
    kind = rng.random()
    if kind < _WHOLE:
        scale = rng.uniform(fit, min(fill, 1.25 * fit))
    elif kind < _WHOLE + _CLOSER:
        scale = fill * _CLOSEST ** rng.random()
    else:
        scale = fit * _SMALLEST ** rng.random()
    stretch = math.exp(rng.uniform(-_STRETCH, _STRETCH) / 2)
    return scale * stretch, scale / stretch


def _offset(side: int, room: int, focus: float, rng: random.Random) -> int:
    """Draws where the photograph begins on the canvas; a crop keeps `focus` away from the border.

    Args:
        side: of the photograph at its new size, in pixels.
        room: the canvas's.
        focus: the middle of a box, in pixels of the photograph at its new size.
        rng: of this example.
    """
    if side <= room:
        return rng.randint(0, room - side)
    least, most = max(room - side, math.floor(0.2 * room - focus)), min(0, math.ceil(0.8 * room - focus))
    return rng.randint(min(least, most), max(least, most)) if least <= 0 else 0


def _pasted(image: Image.Image, scales: tuple[float, float], offsets: Sequence[int], size_wh: SizeWH) -> Image.Image:
    """Resizes the part of a photograph that falls on the canvas, and only that."""
    sides = [max(1, round(side * scale)) for side, scale in zip(image.size, scales, strict=True)]
    starts = [max(0, offset) for offset in offsets]
    ends = [min(room, offset + side) for room, offset, side in zip(size_wh, offsets, sides, strict=True)]
    ratios = [side / new for side, new in zip(image.size, sides, strict=True)]
    box = [(start - offset) * ratio for start, offset, ratio in zip(starts, offsets, ratios, strict=True)]
    box += [(end - offset) * ratio for end, offset, ratio in zip(ends, offsets, ratios, strict=True)]
    limits = (*image.size, *image.size)
    region = tuple(min(max(value, 0.0), float(limit)) for value, limit in zip(box, limits, strict=True))
    shown = (ends[0] - starts[0], ends[1] - starts[1])
    part = image.resize(shown, Image.Resampling.BILINEAR, box=region)  # type: ignore[arg-type]
    if shown == size_wh:
        return part
    canvas = Image.new("RGB", size_wh, FILL)
    canvas.paste(part, (starts[0], starts[1]))
    return canvas


def _view(canvas: Image.Image, placed: NDArray[np.floating]) -> View:
    limits = np.tile(canvas.size, 2)
    boxes = np.clip(placed, 0, limits).astype(np.float32)
    whole = (placed[:, 2:] - placed[:, :2]).prod(axis=1)
    visible = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / np.maximum(whole, 1e-6)
    return View(canvas, boxes, visible.astype(np.float32))
