"""Where named images come from: an emoji font, a folder, nowhere."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.data.synthetic import emoji
from glip.data.synthetic.emoji import emoji_names, find_font
from glip.data.synthetic.sprite_pool import SpritePool, load_pool
from glip.data.synthetic.words import HELD_OUT, KINDS, SIZES, TEXTURES
from glip.errors import InputError


def test_names_come_from_unicode_in_plain_words() -> None:
    names: dict[str, int] = {}
    for code, name in emoji_names():
        names.setdefault(name, code)
    assert names["dog face"] == 0x1F436
    assert names["red apple"] == 0x1F34E
    assert names["horizontal traffic light"] == 0x1F6A5
    assert names["scissors"] == 0x2702  # called BLACK SCISSORS
    assert names["crayon"] == 0x1F58D  # called LOWER LEFT CRAYON
    assert names["magnifying glass"] == 0x1F50D
    assert names["woman's hat"] == 0x1F452
    assert names["thumbs up"] == 0x1F44D
    assert set(HELD_OUT) <= set(names)


def test_what_has_no_image_of_its_own_is_left_out() -> None:
    codes = {code for code, _ in emoji_names()}
    unfit = {
        0x2648: "zodiac", 0x27A1: "arrow", 0x1F170: "letter", 0x1F1E6: "flag", 0x1F3F3: "flag", 0x1F3FB: "skin",
        0x1F51F: "keycap", 0x1F550: "clock face", 0x1F6B9: "sign of a room", 0x1F449: "direction",
        0x1F534: "drawn circle", 0x2B50: "drawn star", 0x1F499: "drawn heart", 0x1F48D: "drawn ring",
        0x1F606: "seven words", 0x1F6E9: "small airplane",
    }  # fmt: skip
    assert not codes & set(unfit)


def test_no_name_can_be_taken_for_a_drawn_shape_or_an_attribute() -> None:
    for _, name in emoji_names():
        assert not {*name.split()} & {*KINDS, *SIZES, *TEXTURES}
        assert len(name.split()) <= 4
        assert name == name.lower()


def test_the_font_gives_some_thousand_different_images(emoji_pool: SpritePool) -> None:
    assert 850 < len(emoji_pool.sprites) < 1100
    assert set(HELD_OUT) == set(emoji_pool.held_out)
    assert not {*emoji_pool.trained} & {*HELD_OUT}
    assert len(emoji_pool.trained) + len(emoji_pool.held_out) == len(emoji_pool.sprites)
    for sprite in emoji_pool.sprites.values():
        assert sprite.image.mode == "RGBA"
        assert max(sprite.image.size) >= 60
        assert sprite.image.getchannel("A").getbbox() == (0, 0, *sprite.image.size)


def test_emoji_have_colours(emoji_pool: SpritePool) -> None:
    apple = np.asarray(emoji_pool.sprites["red apple"].image, np.float32)
    red, green, blue = apple[apple[..., 3] > 250][:, :3].mean(axis=0)
    assert red > 2 * green > green > 0 <= blue < 0.5 * red


def test_of_two_images_that_look_alike_one_is_left(emoji_pool: SpritePool) -> None:
    assert "grinning face" in emoji_pool.sprites
    assert "neutral face" not in emoji_pool.sprites or "expressionless face" not in emoji_pool.sprites
    assert "sports medal" not in emoji_pool.sprites or "first place medal" not in emoji_pool.sprites


def test_the_same_font_gives_the_same_names_in_the_same_order(emoji_pool: SpritePool) -> None:
    assert list(load_pool().sprites) == list(emoji_pool.sprites)


def test_without_a_font_it_is_said_how_to_get_one_and_shapes_are_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(emoji, "FONT_FOLDERS", ())
    with caplog.at_level(logging.WARNING):
        pool = load_pool()
    assert not pool.sprites
    assert len(caplog.records) == 1
    for part in ("apt-get install fonts-noto-color-emoji", "sprites", "drawn shapes"):
        assert part in caplog.text


def test_a_file_that_is_no_font_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "NotoColorEmoji.ttf").write_bytes(b"no font")
    monkeypatch.setattr(emoji, "FONT_FOLDERS", (str(tmp_path),))
    assert find_font() is None


def save(folder: Path, name: str, opacity: int = 255) -> None:
    image = Image.new("RGBA", (40, 40))
    image.paste((200, 0, 0, opacity), (10, 5, 30, 20))
    image.save(folder / name)


def test_images_of_a_folder_are_named_by_their_files_and_cut(tmp_path: Path) -> None:
    for name in ("Red_Apple.png", "hard hat.png", "owl.png"):
        save(tmp_path, name)
    (tmp_path / "notes.txt").write_text("no image")
    pool = load_pool(tmp_path)
    assert list(pool.sprites) == ["red apple", "hard hat", "owl"]
    assert pool.trained == ("red apple", "hard hat")
    assert pool.held_out == ("owl",)
    assert pool.sprites["owl"].image.size == (20, 15)


def test_images_without_transparency_are_taken_whole(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / "tile.png")
    assert load_pool(tmp_path).sprites["tile"].image.size == (30, 20)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), r"\.png"),
        (("red_circle.png",), "'red circle'"),
        (("small_dog.png",), "'small dog'"),
        (("a b.png", "a_b.png"), "'a b'"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, files: tuple[str, ...], message: str
) -> None:
    for name in files:
        save(tmp_path, name)
    with pytest.raises(InputError, match=message):
        load_pool(tmp_path)


def test_broken_and_invisible_images_and_missing_folders_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "ghost.png", opacity=0)
    with pytest.raises(InputError, match=r"ghost\.png"):
        load_pool(tmp_path)
    (tmp_path / "ghost.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"ghost\.png"):
        load_pool(tmp_path)
    with pytest.raises(InputError, match="absent"):
        load_pool(tmp_path / "absent")


def test_the_simplest_names_are_kept_and_what_is_held_out_stays(small_pool: SpritePool) -> None:
    pool = small_pool.simplest(2)
    assert pool.trained == ("old shoe", "red door")
    assert pool.held_out == small_pool.held_out
    assert small_pool.simplest(99).trained == small_pool.trained
