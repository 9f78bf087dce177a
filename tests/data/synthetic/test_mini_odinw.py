"""Small sets of things that pre-training never sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from glip.data.coco import load_coco
from glip.data.fewshot import draw_few_shot
from glip.data.synthetic import MINI_ODINW, SpritePool, sets_of_themes, write_mini_odinw
from glip.data.synthetic.words import HELD_OUT, HELD_OUT_THEMES, UNSEEN_PAIRS
from glip.errors import InputError

SHAPES = next(item for item in MINI_ODINW if item.name == "Shapes")
BIRDS = next(item for item in MINI_ODINW if item.name == "Birds")


def test_there_are_thirteen_sets_of_classes_that_are_held_out() -> None:
    assert len({item.name for item in MINI_ODINW}) == len(MINI_ODINW) == 13
    classes = [name for item in MINI_ODINW for name in item.classes]
    assert {*classes} == {*HELD_OUT} | {" ".join(pair) for pair in SHAPES.pairs}
    assert len(classes) == len(set(classes))
    assert {*SHAPES.pairs} < {*UNSEEN_PAIRS}
    assert all(1 <= len(item.classes) <= 5 for item in MINI_ODINW)


def test_a_set_is_laid_out_as_the_benchmark_is(tmp_path: Path, small_pool: SpritePool) -> None:
    done: list[None] = []
    summaries = write_mini_odinw(
        tmp_path / "out", small_pool, 30, sets=(BIRDS, SHAPES), advance=lambda: done.append(None)
    )
    assert [Path(summary.folder).name for summary in summaries] == ["Birds", "Shapes"]
    assert len(done) == 60
    for item, summary in zip((BIRDS, SHAPES), summaries, strict=True):
        boxes = 0
        for split, count in (("train", 15), ("valid", 6), ("test", 9)):
            here = tmp_path / "out" / item.name / split
            truth = load_coco(here / "annotations_without_background.json")
            assert truth.names == item.classes
            assert [category.id for category in truth.categories] == list(range(1, len(item.classes) + 1))
            assert len(truth.images) == len(list(here.glob("*.jpg"))) == count
            boxes += len(truth.annotations)
            lists = sorted(path.name for path in here.glob("fewshot_*"))
            assert len(lists) == (0 if split == "test" else 12)
            short = {"train": "train", "valid": "val", "test": ""}[split]
            for shots in (1, 3, 5, 10) if split != "test" else ():
                for seed in (3, 30, 300):
                    few = load_coco(here / f"fewshot_{short}_shot{shots}_seed{seed}.json")
                    assert few == draw_few_shot(truth, shots, seed).dataset
        assert summary.boxes == boxes


def test_images_hold_strangers_without_a_box(tmp_path: Path, small_pool: SpritePool) -> None:
    assert {name for _, group in BIRDS.sampler("train", small_pool).groups for name in group} == {
        *BIRDS.classes,
        *small_pool.trained,
    }
    assert BIRDS.sampler("train", small_pool).groups[0][0] == 0.75


def test_splits_differ_and_the_same_seed_gives_the_same_bytes(tmp_path: Path, no_images: SpritePool) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        write_mini_odinw(tmp_path / name, no_images, 10, seed, sets=(SHAPES,))
    one, two, three = (
        [path.read_bytes() for path in sorted((tmp_path / name).rglob("*.jpg"))] for name in ("one", "two", "three")
    )
    assert one == two
    assert not set(one) & set(three)
    assert len(set(one)) == 10


def test_sets_can_be_grey(tmp_path: Path, no_images: SpritePool) -> None:
    grey = replace(SHAPES, look=replace(SHAPES.look, grey=True))
    write_mini_odinw(tmp_path / "out", no_images, 10, sets=(grey,))
    with Image.open(next((tmp_path / "out").rglob("*.jpg"))) as image:
        red, green, blue = (band.getextrema() for band in image.split())
    assert red == green == blue


def test_images_that_are_missing_are_named_with_the_remedy(
    tmp_path: Path, small_pool: SpritePool, no_images: SpritePool
) -> None:
    with pytest.raises(InputError, match=r"elephant, tiger, rabbit.*sprites"):
        write_mini_odinw(tmp_path / "out", small_pool)
    with pytest.raises(InputError, match=r"elephant.*apt-get install fonts-noto-color-emoji"):
        write_mini_odinw(tmp_path / "out", no_images)
    assert not (tmp_path / "out").exists()


def test_too_few_images_and_a_folder_in_use_are_refused(tmp_path: Path, no_images: SpritePool) -> None:
    with pytest.raises(InputError, match="images is 9"):
        write_mini_odinw(tmp_path / "out", no_images, 9, sets=(SHAPES,))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="overwrite"):
        write_mini_odinw(tmp_path, no_images, sets=(SHAPES,))
    write_mini_odinw(tmp_path, no_images, 10, sets=(SHAPES,), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["Shapes"]


def test_the_set_of_most_classes_has_enough_examples_of_each(emoji_pool: SpritePool, tmp_path: Path) -> None:
    most = max(MINI_ODINW, key=lambda item: len(item.classes))
    write_mini_odinw(tmp_path / "out", emoji_pool, sets=(most,))
    path = tmp_path / "out" / most.name / "train/annotations_without_background.json"
    assert draw_few_shot(load_coco(path), 5, seed=3).missing == {}


def test_a_theme_is_made_of_the_images_there_are(small_pool: SpritePool, no_images: SpritePool) -> None:
    (birds,), none = sets_of_themes(["birds"], small_pool)
    assert (birds.name, birds.classes, none) == ("Birds", HELD_OUT_THEMES["Birds"], [])
    sets, (entry,) = sets_of_themes(["Birds", "fruit"], small_pool)
    assert [item.name for item in sets] == ["Birds"]
    assert (entry.kind, entry.count, entry.examples[0]) == ("classes_without_image", 4, "banana")
    (shapes,), (entry,) = sets_of_themes(["fruit"], no_images)
    assert shapes.name == "Shapes" and "emoji font" in entry.sentence
    with pytest.raises(InputError, match=r"'cars'.* vehicles"):
        sets_of_themes(["cars"], small_pool)
