"""Draws with Pillow: curves over recall, a matrix of counts, and boxes on a photograph."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from glip.data.annotations import Floats, Integers

_INK, _GREY, _PAPER = (30, 30, 30), (205, 205, 205), (255, 255, 255)
_COLOURS = (
    (31, 119, 180),
    (214, 39, 40),
    (44, 160, 44),
    (148, 103, 189),
    (255, 127, 14),
    (23, 140, 150),
    (140, 86, 75),
    (227, 119, 194),
    (127, 127, 127),
    (160, 160, 20),
)
_PLOT = 480  # pixels of a side of the curves
_MARGIN = 60
_MOST_CELLS = 1200  # pixels of a side of the matrix
_LONG_SIDE = 1200  # pixels of a photograph

logger = logging.getLogger(__name__)


def draw_curves(
    title: str,
    curves: Mapping[str, tuple[Floats, Floats]],
    axes: str = "precision over recall",
    most: int = 1,
) -> bytes:
    """A PNG of curves in a square.

    Args:
        title: above them.
        curves: by name, (N,) places along, from 0 to `most`, and (N,) heights, from 0 to 1.
        axes: what stands over what.
        most: the right end.
    """
    font = _font(14)
    image = Image.new("RGB", (_PLOT + 2 * _MARGIN, _PLOT + 2 * _MARGIN + 18 * len(curves)), _PAPER)
    draw = ImageDraw.Draw(image)
    left, bottom = _MARGIN, _MARGIN + _PLOT
    for step in range(6):
        place = round(step / 5 * _PLOT)
        draw.line((left, bottom - place, left + _PLOT, bottom - place), _GREY)
        draw.line((left + place, bottom, left + place, bottom - _PLOT), _GREY)
        draw.text((left - 8, bottom - place), f"{step / 5:.1f}", _INK, font, anchor="rm")
        along = f"{step / 5:.1f}" if most == 1 else f"{step / 5 * most:g}"
        draw.text((left + place, bottom + 8), along, _INK, font, anchor="ma")
    draw.text((left, _MARGIN - 34), title, _INK, font)
    draw.text((left, _MARGIN - 16), axes, _INK, font)
    for number, (name, (along_all, heights)) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(left + x / most * _PLOT, bottom - y * _PLOT) for x, y in zip(along_all, heights, strict=True)]
        if len(points) > 1:
            draw.line(points, colour, width=2, joint="curve")
        row = bottom + 34 + 18 * number
        draw.line((left, row + 8, left + 24, row + 8), colour, width=3)
        draw.text((left + 32, row), name, _INK, font)
    return _png(image)


def draw_matrix(title: str, names: Sequence[str], counts: Integers) -> bytes:
    """A PNG of a matrix of counts: truth in rows, found in columns; dark is much of its row.

    Args:
        title: above it.
        names: (K) of the rows and columns.
        counts: (K, K)
    """
    size = max(8, min(44, _MOST_CELLS // max(1, len(names))))
    font = _font(max(7, min(14, size - 2)))
    width = max((int(font.getlength(name)) for name in names), default=0) + 12
    image = Image.new("RGB", (width + size * len(names) + 20, width + size * len(names) + 60), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((10, 8), f"{title}: truth in rows, found in columns", _INK, _font(14))
    top = 40 + width
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(names):
        draw.text((width - 6, top + row * size + size // 2), name, _INK, font, anchor="rm")
        _write_upwards(image, name, (width + row * size, top - 6), size, font)
        for column in range(len(names)):
            share = float(shares[row, column])
            corner = (width + column * size, top + row * size)
            box = (*corner, corner[0] + size - 1, corner[1] + size - 1)
            draw.rectangle(box, tuple(round(255 - share * (255 - ink)) for ink in _COLOURS[0]))
            if counts[row, column] and size >= 20:
                ink = _PAPER if share > 0.5 else _INK
                middle = (corner[0] + size // 2, corner[1] + size // 2)
                draw.text(middle, str(int(counts[row, column])), ink, font, anchor="mm")
    return _png(image)


def draw_boxes(path: Path, title: str, annotated: Floats, meant: Floats, found: Floats) -> bytes | None:
    """A PNG of a photo with boxes; None if it cannot be read any more.

    Args:
        path: of the photo.
        title: above it.
        annotated: (A, 4) left, top, width, height in pixels of the photo; thin and green.
        meant: (M, 4) annotated boxes that it is about; thick and green.
        found: (F, 4) found boxes that it is about; thick and red.
    """
    try:
        with Image.open(path) as file:
            photo = file.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        logger.warning("%s is not drawn: %s", path, error)
        return None
    scale = min(1.0, _LONG_SIDE / max(photo.size))
    photo = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    font = _font(15)
    canvas = Image.new("RGB", (max(photo.width, int(font.getlength(title)) + 16), photo.height + 28), _PAPER)
    canvas.paste(photo, (0, 28))
    draw = ImageDraw.Draw(canvas)
    draw.text((8, 5), title, _INK, font)
    for boxes, colour, width in ((annotated, _COLOURS[2], 1), (meant, _COLOURS[2], 4), (found, _COLOURS[1], 4)):
        for left, top, box_width, height in (boxes * scale).tolist():
            right, bottom = max(left, left + box_width), max(top, top + height)
            draw.rectangle((left, top + 28, right, bottom + 28), outline=colour, width=width)
    return _png(canvas)


def _write_upwards(
    image: Image.Image, text: str, foot: tuple[int, int], width: int, font: ImageFont.FreeTypeFont
) -> None:
    length = int(font.getlength(text)) + 4
    strip = Image.new("RGB", (length, width), _PAPER)
    ImageDraw.Draw(strip).text((2, width // 2), text, _INK, font, anchor="lm")
    turned = strip.rotate(90, expand=True)
    image.paste(turned, (foot[0], foot[1] - turned.height))


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow brings a font of its own; without FreeType it would be one of fixed size.
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _png(image: Image.Image) -> bytes:
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
