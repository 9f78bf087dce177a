"""Pools of named images: none, a few drawn ones, those of the emoji font."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from glip.data.synthetic.emoji import find_font
from glip.data.synthetic.sprite_pool import SpritePool, load_pool

TRAINED = ("blue door", "red door", "green lamp", "lamp post", "old shoe")
HELD_OUT = ("owl", "parrot", "rooster")


@pytest.fixture(scope="session")
def sprite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight images: five for pre-training, three that are held out."""
    folder = tmp_path_factory.mktemp("sprites")
    for place, name in enumerate((*TRAINED, *HELD_OUT)):
        image = Image.new("RGBA", (80, 60))
        draw = ImageDraw.Draw(image)
        draw.rectangle((10, 5, 69, 54), fill=(30 * place, 255 - 30 * place, 120, 255))
        draw.ellipse((20 + place, 15, 60, 50), fill=(255, 40 * (place % 6), 0, 255))
        image.save(folder / f"{name.replace(' ', '_')}.png")
    return folder


@pytest.fixture(scope="session")
def small_pool(sprite_folder: Path) -> SpritePool:
    """The images of `sprite_folder`."""
    return load_pool(sprite_folder)


@pytest.fixture(scope="session")
def no_images() -> SpritePool:
    """What a machine without an emoji font has."""
    return SpritePool({})


@pytest.fixture(scope="session")
def emoji_pool() -> SpritePool:
    """The emoji of this system's font."""
    if find_font() is None:
        pytest.skip("no emoji font: apt-get install fonts-noto-color-emoji")
    return load_pool()
