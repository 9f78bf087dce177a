"""Prepares a data set to tune on: as many examples as asked for, and what is wrong with its boxes and images.

`glip.data` finds and reads the files. Opens images to check them; opens no model.
"""

from __future__ import annotations

from dataclasses import replace

from glip.data.lookup import TrainingSplits
from glip.data.training_splits import OpenTrainingSplits, few_shot, open_training_splits
from glip.training.finetune_checks import (
    Known,
    Placed,
    misplaced,
    never_found,
    refuse_nothing_to_find,
    refuse_nothing_to_learn,
    refuse_unreadable,
    without_examples,
)
from glip.training.recipes import Shots


def open_tuning_set(splits: TrainingSplits, shots: Shots, seed: int) -> OpenTrainingSplits:
    """Reads a data set, takes the examples asked for, and checks them.

    Args:
        splits: where the files are.
        shots: images per class, from the published list of this seed if there is one next to the annotations, else
            drawn by the same rule; validation images likewise. 'all' takes everything, 0 only evaluates.
        seed: of the draw.

    Raises:
        InputError: a file cannot be used, a split is empty, or splits have different categories.
    """
    opened = open_training_splits(splits)
    if shots != "all" and shots > 0:
        opened = few_shot(opened, shots, seed)
    notes = list(opened.notes)
    for split, truth in {"validation": opened.val.truth, "test": opened.test.truth}.items():
        notes += [f"{opened.name}, {split} split: {sentence}" for sentence in never_found(Placed.of_truth(truth))]
    if shots != 0:
        refuse_nothing_to_learn(opened.train, splits.train.annotations)
        refuse_nothing_to_find(opened.val.truth, opened.name, (splits.val or splits.train).annotations)
        about = (*without_examples(opened.train), *misplaced(Placed.of_dataset(opened.train)))
        notes += [f"{opened.name}: {sentence}" for sentence in about]
    return replace(opened, notes=tuple(dict.fromkeys(notes)))


def look_at_images(data: OpenTrainingSplits, shots: Shots, known: Known) -> list[str]:
    """Looks whether the images of a set can be read, before hours are spent.

    Args:
        data: as many examples as asked for.
        shots: how many that was. Each of few examples is needed; of whole sets some may be unreadable.
        known: what was found out of images before; grows.

    Returns:
        Sentences about images that will be left out.

    Raises:
        InputError: images that are needed cannot be read.
    """
    found = []
    if shots != 0:
        located = replace(data.test.split, images=data.folders)
        sizes = {located.image_path(image.file_name): (image.height, image.width) for image in data.train.images}
        found += refuse_unreadable(f"the examples of {data.name}", sizes, known, all_needed=shots != "all")
    for split, opened in (("validation", data.val), ("test", data.test)):
        if shots != 0 or split == "test":
            sizes = dict(zip(opened.images, map(tuple, opened.truth.sizes_hw.tolist()), strict=True))
            found += refuse_unreadable(f"the {split} split of {data.name}", sizes, known, all_needed=True)
    return found
