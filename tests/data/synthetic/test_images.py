"""Single images: sprites in a pose, drawn shapes, backgrounds, things without a name."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from glip.data.synthetic.backgrounds import BACKGROUNDS, paint, with_noise
from glip.data.synthetic.clutter import bar, blob
from glip.data.synthetic.shapes import VARIANTS, coloured, colours_of, shape_sprite
from glip.data.synthetic.sprites import Pose, Sprite
from glip.data.synthetic.words import COLOURS, KINDS, PLAIN, TEXTURES


def visible_size(image: Image.Image, least: int = 128) -> tuple[int, int]:
    box = image.getchannel("A").point([255 * (value >= least) for value in range(256)]).getbbox()
    assert box is not None
    return box[2] - box[0], box[3] - box[1]


WHITE = Sprite(Image.new("RGBA", (100, 50), (255, 255, 255, 255)))


@pytest.mark.parametrize("long_side", [12.0, 30.0, 77.0, 136.0, 200.0, 391.0])
def test_a_sprite_is_scaled_to_its_long_side(long_side: float) -> None:
    width, height = visible_size(WHITE.posed(Pose(long_side)))
    assert width == pytest.approx(long_side, abs=1.5)
    assert height == pytest.approx(long_side / 2, abs=1.5)


def test_a_sprite_is_turned_counter_clockwise() -> None:
    half = Image.new("RGBA", (100, 50), (255, 0, 0, 255))
    half.paste((0, 0, 255, 255), (50, 0, 100, 50))  # blue is right
    turned = Sprite(half).posed(Pose(60, angle=90))
    assert visible_size(turned) == pytest.approx((30, 60), abs=1)
    pixels = np.asarray(turned)
    assert pixels[turned.height // 4, turned.width // 2, 2] > 200  # and is now above
    assert pixels[3 * turned.height // 4, turned.width // 2, 0] > 200


def test_a_sprite_is_mirrored_and_stretched() -> None:
    half = Image.new("RGBA", (60, 60), (255, 0, 0, 255))
    half.paste((0, 0, 255, 255), (30, 0, 60, 60))
    image = Sprite(half).posed(Pose(60, mirrored=True, stretch=4.0))
    assert visible_size(image) == pytest.approx((120, 30), abs=1.5)
    assert np.asarray(image)[image.height // 2, image.width // 4, 2] > 200


@pytest.mark.parametrize("pose", [Pose(40, angle=23), Pose(40, blur=1.5), Pose(300, angle=11), Pose(17)])
def test_edges_are_soft_and_without_dark_seams(pose: Pose) -> None:
    pixels = np.asarray(WHITE.posed(pose))
    opacity = pixels[..., 3]
    if pose.angle:
        assert ((opacity > 20) & (opacity < 235)).any()
    assert pixels[opacity > 20][:, :3].min() >= 240
    assert opacity[0].max() == opacity[-1].max() == opacity[:, 0].max() == opacity[:, -1].max() == 0


def drawn(kind: str, texture: str, colour: str, side: float = 60, variant: int = 0) -> Image.Image:
    weights, opacity = shape_sprite(kind, texture, variant).posed(Pose(side)).split()
    return coloured(weights, opacity, colours_of(colour, texture, random.Random(0)))


def test_every_kind_has_an_outline_of_its_own() -> None:
    outlines = {kind: np.asarray(drawn(kind, PLAIN, "red").getchannel("A").resize((64, 64))) / 255 for kind in KINDS}
    for kind, outline in outlines.items():
        for other, its_outline in outlines.items():
            assert kind == other or np.abs(outline - its_outline).mean() > 0.03


@pytest.mark.parametrize("colour", COLOURS)
def test_a_shape_has_the_colour_of_its_name_whatever_the_texture(colour: str) -> None:
    def mean_colour(texture: str, variant: int) -> np.ndarray:
        pixels = np.asarray(drawn("square", texture, colour, 100, variant))
        return np.median(pixels[pixels[..., 3] > 250][:, :3].astype(float), axis=0)

    plain = {other: np.asarray(colours_of(other, PLAIN, random.Random(1))[0], float) for other in COLOURS}
    for texture in set(TEXTURES) - {"checked"}:
        for variant in range(VARIANTS):
            found = mean_colour(texture, variant)
            assert min(plain, key=lambda other: np.abs(plain[other] - found).sum()) == colour


@pytest.mark.parametrize("texture", [texture for texture in TEXTURES if texture != PLAIN])
@pytest.mark.parametrize("variant", range(VARIANTS))
def test_a_texture_shows_two_colours_and_differs_from_the_others(texture: str, variant: int) -> None:
    weights, opacity = (np.asarray(part) for part in shape_sprite("square", texture, variant).posed(Pose(80)).split())
    second = (weights[opacity > 250] > 127).mean()
    assert 0.12 < second < 0.55
    plain, _ = shape_sprite("square", PLAIN).posed(Pose(80)).split()
    assert np.asarray(plain).max() == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_the_second_colour_of_a_texture_can_be_told_from_the_first(colour: str) -> None:
    for texture in TEXTURES:
        own, second = colours_of(colour, texture, random.Random(2))
        apart = max(abs(one - other) for one, other in zip(own, second, strict=True))
        assert apart >= 75
        # Checks take half of the area: there the second colour is a shade of the first, else black or white.
        is_grey = len(set(second)) == 1
        assert is_grey == (texture != "checked")


@pytest.mark.parametrize("kind", BACKGROUNDS)
@pytest.mark.parametrize("size_wh", [(64, 64), (161, 97), (700, 64)])
def test_a_background_has_the_size_asked_for(kind: str, size_wh: tuple[int, int]) -> None:
    image = paint(random.Random(1), size_wh, (kind,))
    assert (image.size, image.mode) == (size_wh, "RGB")


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_backgrounds_of_a_kind_differ_and_follow_from_their_generator(kind: str) -> None:
    means = {paint(random.Random(seed), (64, 64), (kind,)).resize((1, 1)).tobytes() for seed in range(20)}
    assert len(means) > 15
    one, two = (paint(random.Random(3), (64, 64), (kind,)).tobytes() for _ in range(2))
    assert one == two


def test_noise_has_the_strength_asked_for_and_no_direction() -> None:
    grey = Image.new("RGB", (600, 600), (128, 128, 128))
    difference = np.asarray(with_noise(grey, random.Random(0), 8.0), np.float32) - 128
    assert difference.std() == pytest.approx(8, rel=0.2)
    assert abs(difference.mean()) < 1


def test_things_without_a_name_are_of_many_forms() -> None:
    rng = random.Random(0)
    sizes = {visible_size(blob(rng, 50)) for _ in range(20)}
    assert len(sizes) > 10
    width, height = visible_size(bar(random.Random(4), 80))
    assert max(width, height) > 40
