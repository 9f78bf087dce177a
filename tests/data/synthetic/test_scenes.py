"""Scenes as a whole: the same from the same seed, true to their objects, and with the right objects."""

from __future__ import annotations

import math

import pytest

from glip.data.synthetic import SPLITS, Look, ObjectSampler, Scene, SceneMaker, SceneVocabulary, Split, SpritePool, fits
from glip.data.synthetic.scenes import LARGE, SMALL
from glip.data.synthetic.words import HELD_OUT, UNSEEN_PAIRS
from glip.errors import InputError

SIZE = (200, 144)


def content(scene: Scene) -> tuple[object, ...]:
    return scene.image.tobytes(), scene.objects, scene.caption


def test_a_scene_is_the_same_to_the_byte_whatever_was_made_before(small_pool: SpritePool) -> None:
    first = SceneMaker.of_split(small_pool, seed=3)
    forwards = [content(first.scene(index, SIZE)) for index in range(6)]
    names = [first.names(index, first.scene(index, SIZE)) for index in range(6)]
    other = SceneMaker.of_split(small_pool, seed=3)
    other.scene(99, (320, 320))
    for index in reversed(range(6)):
        scene = other.scene(index, SIZE)
        assert content(scene) == forwards[index]
        assert other.names(index, scene) == names[index]


def test_number_seed_and_split_each_change_the_scene(small_pool: SpritePool) -> None:
    choices: list[tuple[Split, int, int]] = [("train", 0, 0), ("train", 0, 1), ("train", 1, 0), ("seen", 0, 0)]
    scenes = {
        SceneMaker.of_split(small_pool, split, seed).scene(index, SIZE).image.tobytes()
        for split, seed, index in choices
    }
    assert len(scenes) == 4


@pytest.mark.parametrize("size_wh", [(64, 64), (160, 160), (333, 97), (480, 360)])
def test_images_have_the_size_asked_for_and_boxes_lie_inside(no_images: SpritePool, size_wh: tuple[int, int]) -> None:
    maker = SceneMaker.of_split(no_images)
    for index in range(15):
        scene = maker.scene(index, size_wh)
        assert (scene.image.size, scene.image.mode) == (size_wh, "RGB")
        assert 1 <= len(scene.objects) <= 12
        for item in scene.objects:
            x, y, width, height = item.box_xywh
            assert 0 <= x < x + width <= size_wh[0]
            assert 0 <= y < y + height <= size_wh[1]
            assert 0.5 <= item.visible <= 1


def test_a_scene_too_small_to_see_anything_is_refused(no_images: SpritePool) -> None:
    with pytest.raises(InputError, match="200 × 63"):
        SceneMaker.of_split(no_images).scene(0, (200, 63))


def test_there_are_scenes_of_one_and_of_many_objects_alone_and_overlapping(small_pool: SpritePool) -> None:
    scenes = [SceneMaker.of_split(small_pool).scene(index, (320, 320)) for index in range(80)]
    counts = {len(scene.objects) for scene in scenes}
    assert {1, 2, 3, 4, 5, 6} <= counts
    assert max(counts) >= 9
    occluded = sum(item.visible < 0.9 for scene in scenes for item in scene.objects)
    assert 0.03 < occluded / sum(len(scene.objects) for scene in scenes) < 0.4
    again = sum(len({item.thing.label for item in scene.objects}) < len(scene.objects) for scene in scenes)
    assert again > 10


def test_small_and_large_say_how_much_of_the_image_a_thing_takes_and_nothing_lies_between(
    no_images: SpritePool,
) -> None:
    circles = ObjectSampler("circles", ((1.0, (("red", "circle"),)),), SceneVocabulary())
    maker = SceneMaker(no_images, circles, look=Look(objects=(1, 3)))
    sizes = set()
    for index in range(120):
        for item in maker.scene(index, (400, 300)).objects:
            if item.visible < 0.999:
                continue
            side = max(item.box_xywh[2:]) / math.sqrt(400 * 300)
            sizes.add(item.thing.size)
            assert item.thing.size == ("small" if side < SMALL else "large" if side > LARGE else "")
            assert all(not 0.99 < side / limit < 1.01 for limit in (SMALL, LARGE))
    assert sizes == {"small", "", "large"}


def test_things_of_a_kind_stand_together_more_often_than_by_chance(no_images: SpritePool) -> None:
    scenes = [SceneMaker.of_split(no_images).scene(index, (200, 200)) for index in range(60)]
    again = sum(len({item.thing.label for item in scene.objects}) < len(scene.objects) for scene in scenes)
    assert again > 20


@pytest.mark.parametrize("split", ["train", "seen"])
def test_pre_training_shows_and_names_nothing_that_is_held_out(small_pool: SpritePool, split: Split) -> None:
    maker = SceneMaker.of_split(small_pool, split, shapes=0.6)
    shown = set()
    for index in range(120):
        scene = maker.scene(index, (160, 160))
        for name in (item.name for item in maker.names(index, scene)):
            words = name.split()
            assert not any((word, words[-1]) in UNSEEN_PAIRS for word in words[:-1])
            assert words[-1] not in HELD_OUT
        shown |= {(item.thing.colour, item.thing.noun) for item in scene.objects}
    assert not shown & {*UNSEEN_PAIRS}
    assert not {noun for _, noun in shown} & {*HELD_OUT}
    assert len(shown) > 50


def test_half_of_the_shapes_of_unseen_pairs_are_unseen_and_asked_for_present_or_not(small_pool: SpritePool) -> None:
    maker = SceneMaker.of_split(small_pool, "unseen pairs")
    things, present, absent = [], 0, 0
    for index in range(120):
        scene = maker.scene(index, (160, 160))
        things += [item.thing for item in scene.objects]
        for item in maker.names(index, scene):
            words = item.name.split()
            if any((word, words[-1]) in UNSEEN_PAIRS for word in words[:-1]):
                present += bool(item.objects)
                absent += not item.objects
    shapes = [thing for thing in things if thing.is_shape]
    assert 0.35 < sum((thing.colour, thing.noun) in UNSEEN_PAIRS for thing in shapes) / len(shapes) < 0.65
    assert 0.25 < len(shapes) / len(things) < 0.55
    assert absent > present > 20


def test_the_held_out_split_shows_only_what_is_held_out(small_pool: SpritePool) -> None:
    maker = SceneMaker.of_split(small_pool, "held out")
    nouns = {item.thing.noun for index in range(20) for item in maker.scene(index, (160, 160)).objects}
    assert nouns == {"owl", "parrot", "rooster"}
    asked = {item.name for index in range(20) for item in maker.names(index, maker.scene(index, (160, 160)))}
    assert "old shoe" in asked


def test_without_images_there_are_shapes_in_every_split_but_one(no_images: SpritePool) -> None:
    for split in SPLITS[:3]:
        maker = SceneMaker.of_split(no_images, split, shapes=0.0)
        assert all(item.thing.is_shape for item in maker.scene(0, (160, 160)).objects)
    with pytest.raises(InputError, match="'held out'"):
        SceneMaker.of_split(no_images, "held out")


def test_the_share_of_shapes_is_as_asked(small_pool: SpritePool) -> None:
    for share in (0.0, 1.0):
        scenes = [SceneMaker.of_split(small_pool, shapes=share).scene(index, (160, 160)) for index in range(10)]
        assert {item.thing.is_shape for scene in scenes for item in scene.objects} == {bool(share)}
    with pytest.raises(InputError, match=r"shapes is 1\.5"):
        SceneMaker.of_split(small_pool, shapes=1.5)


def test_an_unknown_split_is_refused_with_the_known_ones(small_pool: SpritePool) -> None:
    with pytest.raises(InputError, match=r"'val'.*train, seen, unseen pairs, held out"):
        SceneMaker.of_split(small_pool, "val")  # type: ignore[arg-type]


def test_sizes_of_scenes_lie_in_the_range_and_differ(no_images: SpritePool) -> None:
    maker = SceneMaker.of_split(no_images)
    sizes = [maker.size_wh(index, (160, 100), (480, 120)) for index in range(200)]
    widths, heights = ({size[side] for size in sizes} for side in (0, 1))
    assert min(widths) < 170 < 470 < max(widths) <= 480
    assert (min(heights), max(heights)) == (100, 120)
    assert sizes[7] == maker.size_wh(7, (160, 100), (480, 120))


def test_every_phrase_of_a_caption_fits_what_it_speaks_of(small_pool: SpritePool) -> None:
    maker = SceneMaker.of_split(small_pool)
    several = 0
    for index in range(80):
        scene = maker.scene(index, (256, 256))
        spoken = [number for phrase in scene.caption.phrases for number in phrase.objects]
        assert len(set(spoken)) == len(spoken)
        for phrase in scene.caption.phrases:
            words = scene.caption.text[slice(*phrase.span)]
            if len(phrase.objects) == 1:
                fitting = tuple(n for n, item in enumerate(scene.objects) if fits(words, item.thing))
                assert phrase.objects == fitting
            else:
                several += 1
    assert several > 5
