"""Draws boxes with tags on an image; knows the color of each class and the font of each text.

The same class has the same color in previews, in report.html, in the pages of an evaluation and in FiftyOne:
`class_color` is the only place that chooses it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

# Golden angle: few classes lie far apart on the color wheel. Classes that come close to each other there differ by a
# Fibonacci number (5, 8, 13), so the lightness repeats after three.
_GOLDEN_ANGLE = 137.508
_LIGHTNESS = (0.50, 0.64, 0.38)
_SATURATION = 0.78
_PADDING = 3  # pixels between a tag's text and its edge
_MAX_TAG_SHARE = 0.6  # of the image's width; a longer text is cut

Place = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels


def class_color(label: int) -> str:
    """Returns the color of a class by its label, as '#d62728'."""
    hue = (label * _GOLDEN_ANGLE + 212) % 360 / 360
    rgb = colorsys.hls_to_rgb(hue, _LIGHTNESS[label % len(_LIGHTNESS)], _SATURATION)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)


def text_color(background: str) -> str:
    """Returns black or white, whichever has the higher contrast (WCAG) on a color such as '#d62728'."""
    channels = np.array([int(background[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "#000000" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "#ffffff"


def draw_boxes(
    image: Image.Image,
    boxes: NDArray[np.float32],
    tags: Sequence[str],
    colors: Sequence[str],
    *,
    thickness: int | None = None,
) -> None:
    """Draws boxes into an RGB image, the first one on top, with a tag at each.

    A tag stands at its box where it covers no tag of an earlier box. A box without such a place has no tag: among many
    boxes, the first ones can be read, and the others are told by their color.

    Args:
        image: changed in place.
        boxes: (N, 4) xyxy in pixels of the image.
        tags: (N,) texts; () for none.
        colors: (N,) of the boxes, as '#d62728'.
        thickness: of the lines in pixels; None adapts it to the size of the image.
    """
    from PIL import ImageDraw

    long_side = max(image.size)
    width = thickness or max(2, round(long_side / 400))
    canvas = ImageDraw.Draw(image)
    order = range(len(boxes) - 1, -1, -1)
    corners = [_on_image(box, image.size) for box in boxes.tolist()]
    for index in order:
        canvas.rectangle(corners[index], outline=colors[index], width=width)
    if not tags:
        return
    font = _load_font("".join(sorted(set("".join(tags)))), max(13, round(long_side / 60)))
    texts = [_cut(text.replace("\n", " "), font, _MAX_TAG_SHARE * image.width) for text in tags]
    ascent, descent = font.getmetrics()
    height = ascent + descent + _PADDING
    sizes = [(font.getlength(text) + 2 * _PADDING, height) for text in texts]
    places = place_tags(corners, sizes, image.size)
    for place, text, color in zip(places, texts, colors, strict=True):
        if place is not None:
            _draw_tag(canvas, place, text, color, font)


def place_tags(
    boxes: Sequence[Place], sizes: Sequence[tuple[float, float]], size_wh: tuple[int, int]
) -> list[Place | None]:
    """Returns a place for the tag of each box, the first box choosing first; None where no place is free.

    Tries above the box, inside it, below it and beside it, at the left and at the right, and takes the first place
    that covers no other tag.

    Args:
        boxes: xyxy on the image.
        sizes: width and height of the tags.
        size_wh: of the image.
    """
    placed: list[Place] = []
    places: list[Place | None] = []
    for box, size in zip(boxes, sizes, strict=True):
        candidates = _candidates(box, size, size_wh)
        place = next((one for one in candidates if not any(_overlap(one, other) for other in placed)), None)
        placed += [] if place is None else [place]
        places.append(place)
    return places


def _candidates(box: Place, size: tuple[float, float], size_wh: tuple[int, int]) -> list[Place]:
    """Returns the places for a tag, the best first, all on the image where it is large enough."""
    (x1, y1, x2, y2), (width, height) = box, size
    tops = [y1 - height, y1, y2, y2 - height]
    tops += [y1 + row * height for row in range(1, max(1, int((y2 - y1) / height)))]
    lefts = (x1, x2 - width, x2, x1 - width)
    inside: list[Place] = []
    moved: list[Place] = []
    for left, top in [(left, top) for top in tops for left in lefts[:2]] + [(left, y1) for left in lefts[2:]]:
        x = min(max(0.0, left), max(0.0, size_wh[0] - width))
        y = min(max(0.0, top), max(0.0, size_wh[1] - height))
        (inside if (x, y) == (left, top) else moved).append((x, y, x + width, y + height))
    return inside + moved


def _overlap(one: Place, other: Place) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _on_image(box: Sequence[float], size_wh: tuple[int, int]) -> Place:
    """Returns a box cut at the edges of the image, so that its lines are seen there; corners in order."""
    (x1, x2), (y1, y2) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    right, bottom = size_wh[0] - 1, size_wh[1] - 1
    x1, y1 = min(max(0.0, x1), right), min(max(0.0, y1), bottom)
    return x1, y1, max(x1, min(x2, right)), max(y1, min(y2, bottom))


def _draw_tag(canvas: ImageDraw.ImageDraw, place: Place, text: str, color: str, font: ImageFont.FreeTypeFont) -> None:
    x1, y1, x2, y2 = (round(edge) for edge in place)
    canvas.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color)
    canvas.text((x1 + _PADDING, y1 + _PADDING // 2), text, fill=text_color(color), font=font)


def _cut(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Returns a text with its middle cut out if it is wider than `width` pixels; the score at its end stays."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 9, -1):
        short = f"{text[: kept - 7].rstrip()}… {text[-5:].lstrip()}"
        if font.getlength(short) <= width:
            return short
    return text[:9]


@cache
def _load_font(characters: str, size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(find_font(characters), size)


def find_font(text: str) -> str:
    """Returns the path of the font that has the most characters of `text`.

    Searches the font that matplotlib brings, then the installed ones.
    """
    from matplotlib import font_manager, get_data_path
    from matplotlib.ft2font import FT2Font

    default = str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    characters = {ord(character) for character in text}
    best, maximum = default, -1
    for path in (default, *sorted(font_manager.findSystemFonts())):
        try:
            known = len(characters & FT2Font(path).get_charmap().keys())
        except (RuntimeError, OSError):  # a bitmap font or a broken one
            continue
        if known > maximum:
            best, maximum = path, known
        if maximum == len(characters):
            break
    return best
