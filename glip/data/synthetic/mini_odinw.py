"""Writes thirteen small detection sets of things that pre-training never shows, in the layout of ODinW.

OUT/{set}/train|valid|test/*.jpg
OUT/{set}/train|valid|test/annotations_without_background.json
OUT/{set}/train/fewshot_train_shot{k}_seed{s}.json, OUT/{set}/valid/fewshot_val_shot{k}_seed{s}.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from glip.data.coco import save_coco
from glip.data.fewshot import SEEDS, SHOTS, draw_few_shot
from glip.data.synthetic.emoji import HOW_TO_GET_A_FONT
from glip.data.synthetic.folder import Advance, FolderSummary, as_coco, refuse_to_overwrite, write_scene
from glip.data.synthetic.naming import SceneVocabulary
from glip.data.synthetic.object_sampler import Look, ObjectSampler
from glip.data.synthetic.scenes import SceneMaker
from glip.data.synthetic.sprite_pool import SpritePool
from glip.data.synthetic.words import HELD_OUT_THEMES, SEEN_PAIRS, UNSEEN_PAIRS, Pair
from glip.errors import InputError
from glip.files import whole_folder
from glip.left_out import LeftOut, first_examples

ANNOTATIONS = "annotations_without_background.json"
SIDE = 320  # width and height of an image in pixels
_SHARES = {"train": 0.5, "valid": 0.2, "test": 0.3}
_SHORT = {"train": "train", "valid": "val", "test": "test"}  # names of the splits in few-shot files
_DISTRACTORS = 0.25  # share of the objects that belong to no class of the set


@dataclass(frozen=True)
class MiniSet:
    """A set: its classes, and the style of its images."""

    name: str
    classes: tuple[str, ...]
    look: Look
    pairs: tuple[Pair, ...] = ()

    def sampler(self, split: str, pool: SpritePool) -> ObjectSampler:
        """Returns the sampler of a split: the classes of the set, among distractors."""
        distractors = pool.trained or SEEN_PAIRS
        groups = ((1 - _DISTRACTORS, self.pairs or self.classes), (_DISTRACTORS, distractors))
        return ObjectSampler(f"{self.name}/{split}", groups, SceneVocabulary(self.classes, self.pairs))


def _emoji_set(name: str, look: Look) -> MiniSet:
    return MiniSet(name, HELD_OUT_THEMES[name], look)


_FEW = (1, 4)
_PAIRS = tuple(UNSEEN_PAIRS[index] for index in (0, 6, 8))  # a red diamond, a green ring, a blue star
MINI_ODINW = (
    _emoji_set("Animals", Look(_FEW, (0.2, 0.6), ("noise", "strokes", "gradient"))),
    _emoji_set("Aquarium", Look((2, 9), (0.1, 0.35), ("blobs", "gradient"))),
    _emoji_set("Birds", Look((2, 10), (0.07, 0.2), ("gradient", "flat"), clutter=2)),
    _emoji_set("Insects", Look(_FEW, (0.1, 0.3), ("strokes", "noise"))),
    _emoji_set("Fruit", Look((2, 8), (0.15, 0.4), ("texture", "stripes", "flat"))),
    _emoji_set("Vegetables", Look(_FEW, (0.15, 0.5), ("texture", "flat"), grey=True)),
    _emoji_set("FastFood", Look(_FEW, (0.25, 0.7), ("blobs", "patches"))),
    _emoji_set("Vehicles", Look((2, 8), (0.12, 0.45), ("patches", "stripes", "gradient"))),
    _emoji_set("Aircraft", Look((1, 6), (0.07, 0.25), ("gradient", "noise"), clutter=2)),
    _emoji_set("Instruments", Look(_FEW, (0.2, 0.5), ("blobs", "stripes"))),
    _emoji_set("Sports", Look((2, 9), (0.1, 0.3), ("strokes", "flat", "patches"))),
    _emoji_set("Tools", Look((2, 7), (0.15, 0.4), ("flat", "texture", "noise"), grey=True)),
    MiniSet("Shapes", tuple(" ".join(pair) for pair in _PAIRS), Look((2, 9), (0.1, 0.4)), _PAIRS),
)


def sets_of_themes(themes: Sequence[str], pool: SpritePool) -> tuple[list[MiniSet], list[LeftOut]]:
    """Returns the sets of themes with the classes that there are images of; if there are none, the set of drawn shapes.

    Args:
        themes: names of sets, in any case: fruit, birds, shapes, …
        pool: the images.

    Returns:
        The sets, and what states the classes without an image.

    Raises:
        InputError: a theme is unknown.
    """
    known = {item.name.casefold(): item for item in MINI_ODINW}
    unknown = [theme for theme in themes if theme.casefold() not in known]
    if unknown:
        raise InputError(f"theme is {unknown[0]!r}; accepted are {', '.join(known)}.")
    sets, missing = [], []
    for item in dict.fromkeys(known[theme.casefold()] for theme in themes):
        here = item.classes if item.pairs else tuple(name for name in item.classes if name in pool.sprites)
        missing += [name for name in item.classes if name not in here]
        sets += [replace(item, classes=here)] if here else []
    if not missing:
        return sets, []
    # `load_pool` has said how to get a font.
    source = "Add them to the folder of `sprites`." if pool.sprites else "No emoji font is installed."
    sentence = f"{len(missing)} classes have no image. {source}" + ("" if sets else " Drawn shapes are used instead.")
    examples = first_examples(missing)
    left_out = LeftOut(kind="classes_without_image", count=len(missing), sentence=sentence, examples=examples)
    return sets or [known["shapes"]], [left_out]


def write_mini_odinw(
    out: Path,
    pool: SpritePool,
    images: int = 80,
    seed: int = 0,
    overwrite: bool = False,
    sets: Sequence[MiniSet] = MINI_ODINW,
    advance: Advance = lambda: None,
) -> list[FolderSummary]:
    """Writes the sets, all or none.

    Args:
        out: output folder, with a folder for each set; must be empty or missing unless `overwrite`.
        pool: images; those that belong to no class appear as well, without a box.
        images: number of images per set, in all splits together.
        seed: determines the images.
        overwrite: whether to replace the content of `out` once all is written.
        sets: the sets to write.
        advance: called after each image.

    Returns:
        A summary of each set.

    Raises:
        InputError: `out` is not empty, `images` is too small, or images of some classes are not available.
        JobFailed: the sets cannot be written.
    """
    refuse_to_overwrite(out, overwrite)
    missing = [name for item in sets if not item.pairs for name in item.classes if name not in pool.sprites]
    if missing:
        source = HOW_TO_GET_A_FONT if not pool.sprites else "Add them to the folder of `sprites`."
        raise InputError(
            f"There is no image of {', '.join(missing[:5])}{' and others' if missing[5:] else ''}. {source}"
        )
    if images < 10:
        raise InputError(f"images is {images}; it must be at least 10, to be split in three.")
    with whole_folder(out) as folder:
        return [_write_set(folder, out, item, pool, images, seed, advance) for item in sets]


def _write_set(
    folder: Path, out: Path, item: MiniSet, pool: SpritePool, images: int, seed: int, advance: Advance
) -> FolderSummary:
    boxes = 0
    for split, share in _SHARES.items():
        split_folder = folder / item.name / split
        split_folder.mkdir(parents=True)
        maker = SceneMaker(pool, item.sampler(split, pool), seed, item.look)
        drawn = []
        for image in map(
            partial(write_scene, maker, split_folder, (SIDE, SIDE), (SIDE, SIDE)), range(round(share * images))
        ):
            drawn.append(image)
            advance()
        truth = as_coco(drawn, item.classes)
        boxes += len(truth.annotations)
        save_coco(split_folder / ANNOTATIONS, truth)
        for shots in SHOTS if split != "test" else ():
            for draw_seed in SEEDS:
                name = f"fewshot_{_SHORT[split]}_shot{shots}_seed{draw_seed}.json"
                save_coco(split_folder / name, draw_few_shot(truth, shots, draw_seed).dataset)
    return FolderSummary(str(out / item.name), images, boxes, len(item.classes))
