"""Loads named images from an emoji font.

Knows Unicode and the font. Knows nothing of scenes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from glip.data.synthetic.words import KINDS, SIZES, TEXTURES

FONT_PATTERN = "NotoColorEmoji*.ttf"
FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
)
HOW_TO_GET_A_FONT = (
    "No colour emoji font (NotoColorEmoji.ttf) is installed. Install one, on Debian and Ubuntu with "
    "`apt-get install fonts-noto-color-emoji`, or give a folder of images (`sprites`)."
)
STRIKE = 109  # the only size in the font, in points; its images are 136 × 128 pixels
IMAGE_WH = (136, 128)

# Emoji of Unicode 14 and before, so that every later Python and font gives the same names.
_RANGES = (
    (0x231A, 0x27BF),
    (0x1F300, 0x1F5FF),
    (0x1F600, 0x1F64F),
    (0x1F680, 0x1F6FC),
    (0x1F90C, 0x1F9FF),
    (0x1FA70, 0x1FA74),
    (0x1FA78, 0x1FA7C),
    (0x1FA80, 0x1FA86),
    (0x1FA90, 0x1FAAC),
    (0x1FAB0, 0x1FABA),
    (0x1FAC0, 0x1FAC5),
    (0x1FAD0, 0x1FAD9),
    (0x1FAE0, 0x1FAE7),
    (0x1FAF0, 0x1FAF6),
)
# Characters that show no object: media keys, zodiac and religious signs, card suits, clock faces, text on coloured
# squares, signs of rooms and rules, letters and digits as keys.
_NO_IMAGE = (
    (0x23CF, 0x23EF),
    (0x23F8, 0x24C2),
    (0x2622, 0x2638),
    (0x2640, 0x2653),
    (0x2660, 0x267F),
    (0x269B, 0x269B),
    (0x26A7, 0x26AB),
    (0x26CE, 0x26CE),
    (0x2714, 0x2721),
    (0x2733, 0x2734),
    (0x2747, 0x2747),
    (0x2753, 0x27BF),
    (0x1F310, 0x1F318),
    (0x1F3A6, 0x1F3A6),
    (0x1F3E7, 0x1F3E7),
    (0x1F3FB, 0x1F3FF),
    (0x1F4A0, 0x1F4A0),
    (0x1F4AF, 0x1F4AF),
    (0x1F4B1, 0x1F4B2),
    (0x1F4F3, 0x1F4F6),
    (0x1F500, 0x1F507),
    (0x1F515, 0x1F515),
    (0x1F517, 0x1F524),
    (0x1F52F, 0x1F530),
    (0x1F532, 0x1F549),
    (0x1F54E, 0x1F567),
    (0x1F573, 0x1F573),
    (0x1F595, 0x1F595),
    (0x1F5DC, 0x1F5DC),
    (0x1F5FE, 0x1F5FE),
    (0x1F6AB, 0x1F6B1),
    (0x1F6B3, 0x1F6B3),
    (0x1F6B7, 0x1F6BC),
    (0x1F6BE, 0x1F6BE),
    (0x1F6C2, 0x1F6C5),
    (0x1F6D0, 0x1F6D1),
    (0x1F6D7, 0x1F6D7),
    (0x1F7E0, 0x1F7F0),
    (0x1F9B0, 0x1F9B3),
)
# Names with one of these words are left out: they describe how a sign is written, differ in a direction only (scenes
# mirror and turn images), or could mean a drawn shape.
_UNFIT_WORDS = (
    "arrow", "button", "flag", "heart-shaped", "heavy", "index", "letter", "mark", "pointing", "symbol",
    "left-facing", "leftwards", "right", "right-facing", "right-pointing", "rightwards",
)  # fmt: skip
_MAXIMUM_WORDS = 4
_TWIN = 0.105  # root mean square difference, of at most 1, below which two images count as the same
_FEATURE_SIDE = 16


def find_font() -> Path | None:
    """Returns the first emoji font of this system, by path, whose images can be drawn; None if there is none."""
    for folder in FONT_FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob(FONT_PATTERN)):
            try:
                font = _open(path)
            except OSError:  # not a font, or one without images of this size
                continue
            if _draw(font, 0x1F600) is not None:
                return path
    return None


def load_emoji(font_path: Path) -> dict[str, Image.Image]:
    """Returns about a thousand emoji that show an object, with names and images that differ, in Unicode order.

    Returns:
        Name to image, RGBA, cropped to its visible part.
    """
    font = _open(font_path)
    images: dict[str, Image.Image] = {}
    for code, name in emoji_names():
        image = None if name in images else _draw(font, code)
        if image is not None:
            images[name] = image
    return _without_twins(images)


def _open(path: Path) -> ImageFont.FreeTypeFont:
    # By its content: given a path that it cannot read, Pillow takes any other font of that file name.
    with path.open("rb") as file:
        return ImageFont.truetype(file, STRIKE)


def emoji_names() -> Iterator[tuple[int, str]]:
    """Yields code point and name of the usable emoji, whether a font has them or not."""
    for first, last in _RANGES:
        for code in range(first, last + 1):
            if any(start <= code <= end for start, end in _NO_IMAGE):
                continue
            name = _clean(unicodedata.name(chr(code), ""), code)
            if name and _is_fit(name):
                yield code, name


def _clean(name: str, code: int) -> str:
    """Cleans a Unicode name: 'BLACK SCISSORS' → 'scissors', 'LOWER LEFT CRAYON' → 'crayon'."""
    name = re.sub(r"^(lower left|left|left-pointing) ", "", name.lower())
    if code <= 0x27BF:  # in these names black and white mean filled and hollow
        name = re.sub(r"^(black|white) ", "", name)
    return re.sub(r"^(woman|man)s\b", r"\1's", name).removesuffix(" sign")


def _is_fit(name: str) -> bool:
    words = {*name.split(), *(word.removesuffix("s") for word in name.split())}
    return len(name.split()) <= _MAXIMUM_WORDS and not words & {*KINDS, *SIZES, *TEXTURES, *_UNFIT_WORDS}


def _draw(font: ImageFont.FreeTypeFont, code: int) -> Image.Image | None:
    """Returns the image of a character, RGBA, cropped to its visible part; None if the font has none."""
    if not any(font.getbbox(chr(code), mode="RGBA")[2:]):
        return None
    image = Image.new("RGBA", IMAGE_WH)
    ImageDraw.Draw(image).text((0, 0), chr(code), font=font, embedded_color=True)
    visible = image.getchannel("A").getbbox()
    return image.crop(visible) if visible else None


def _without_twins(images: dict[str, Image.Image]) -> dict[str, Image.Image]:
    """Returns the images without those that look like an earlier one."""
    features = np.stack([_feature(image) for image in images.values()])
    squares = (features**2).sum(axis=1)
    # |a - b|² = |a|² + |b|² - 2ab: one product instead of a difference for each pair of images.
    apart = (squares[:, None] + squares - 2 * features @ features.T) / features.shape[1]
    kept: list[int] = []
    for index in range(len(features)):
        if not kept or apart[index, kept].min() >= _TWIN**2:
            kept.append(index)
    names = list(images)
    return {names[index]: images[names[index]] for index in kept}


def _feature(image: Image.Image) -> NDArray[np.float32]:
    """Returns (1024) values of an image reduced to 16 × 16: colours times opacity, and opacity, from 0 to 1."""
    scale = _FEATURE_SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.convert("RGBa").resize((width, height), Image.Resampling.BOX)
    canvas = Image.new("RGBa", (_FEATURE_SIDE, _FEATURE_SIDE))
    canvas.paste(small, ((_FEATURE_SIDE - width) // 2, (_FEATURE_SIDE - height) // 2))
    return np.asarray(canvas, np.float32).ravel() / np.float32(255)
