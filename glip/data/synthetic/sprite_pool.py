"""Loads the named images that scenes show, from an emoji font or a folder.

Knows files. Knows nothing of scenes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from glip.data.synthetic.emoji import HOW_TO_GET_A_FONT, find_font, load_emoji
from glip.data.synthetic.sprites import Sprite
from glip.data.synthetic.words import HELD_OUT, KINDS, SIZES
from glip.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SpritePool:
    """Named images.

    Attributes:
        sprites: name to image, with similar ones near each other; empty if scenes only show drawn shapes.
    """

    sprites: Mapping[str, Sprite]

    @property
    def trained(self) -> tuple[str, ...]:
        """Returns the names that pre-training may show."""
        return tuple(name for name in self.sprites if name not in HELD_OUT)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Returns the names that pre-training never shows and never names."""
        return tuple(name for name in self.sprites if name in HELD_OUT)

    def simplest(self, count: int) -> SpritePool:
        """Returns the pool with at most `count` names for pre-training, those of the fewest words and letters.

        All held-out names stay.
        """
        ranked = sorted(self.trained, key=lambda name: (len(name.split()), len(name), name))
        kept = {*ranked[:count], *self.held_out}
        return SpritePool({name: sprite for name, sprite in self.sprites.items() if name in kept})


def load_pool(folder: Path | None = None) -> SpritePool:
    """Loads the images of a folder, else of this system's emoji font; without a font it warns and returns none.

    Args:
        folder: folder of PNG files, preferably transparent, named by their files: `red_apple.png` is a "red apple".

    Raises:
        InputError: the folder has no image, or one that cannot be used.
    """
    if folder is not None:
        return SpritePool({name: Sprite(image) for name, image in _load_folder(folder).items()})
    font = find_font()
    if font is None:
        logger.warning("%s Until then scenes only show drawn shapes.", HOW_TO_GET_A_FONT)
        return SpritePool({})
    return SpritePool({name: Sprite(image) for name, image in load_emoji(font).items()})


def _load_folder(folder: Path) -> dict[str, Image.Image]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; `sprites` must be a folder of images.")
    images: dict[str, Image.Image] = {}
    for path in sorted(folder.glob("*.png")):
        name = " ".join(path.stem.replace("_", " ").lower().split())
        if name in images:
            raise InputError(f"Two images in {folder} have the name {name!r}; rename one.")
        words = name.split()
        if not words or words[-1] in KINDS or words[0] in SIZES:
            raise InputError(
                f"The image {path} cannot have the name {name!r}: a name may not begin with 'small' or 'large', "
                f"nor end with a drawn shape ({', '.join(KINDS)}). Rename it."
            )
        images[name] = _read(path)
    if not images:
        raise InputError(f"There is no .png file in {folder}; `sprites` must be a folder of images.")
    return images


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path) as file:
            image = file.convert("RGBA")
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"The image {path} cannot be read: {error}. Replace or remove it.") from None
    visible = image.getchannel("A").point([255 * (value > 16) for value in range(256)]).getbbox()
    if visible is None:
        raise InputError(f"The image {path} is fully transparent. Replace or remove it.")
    return image.crop(visible)
