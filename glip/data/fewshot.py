"""Few examples of each class, drawn by the rule of the ODinW benchmark where it publishes no list.

Knows images and their classes. Knows nothing of files or training.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import msgspec

from glip.data.coco import CocoAnnotation, CocoDataset

SHOTS = (1, 3, 5, 10)
SEEDS = (3, 30, 300)


@dataclass(frozen=True)
class FewShot:
    """A part of a data set.

    Attributes:
        dataset: the images taken, in their old order, with all of their boxes.
        missing: by category id, how many images short of the wish a class is; classes with enough are not in it.
    """

    dataset: CocoDataset
    missing: dict[int, int]


def draw_few_shot(dataset: CocoDataset, shots: int, seed: int) -> FewShot:
    """Takes images until each class is in `shots` of them.

    The benchmark's rule: images in the order of their ids, shuffled by the seed; one is taken if any of its classes
    is still wanted, and then counts for every class in it, so that common classes get more than they need. Images
    without a box of more than one pixel are never taken.
    """
    boxes = {image: [box for box in found if _is_valid(box)] for image, found in dataset.boxes_by_image().items()}
    ids = sorted(image for image, found in boxes.items() if found)
    random.Random(seed).shuffle(ids)  # noqa: S311  # the benchmark's draw, no secret
    wanted = {category.id: shots for category in dataset.categories}
    taken = set()
    for image in ids:
        classes = {box.category_id for box in boxes[image]}
        if any(wanted[category] > 0 for category in classes):
            taken.add(image)
            for category in classes:
                wanted[category] -= 1
    part = msgspec.structs.replace(
        dataset,
        images=tuple(image for image in dataset.images if image.id in taken),
        annotations=tuple(box for box in dataset.annotations if box.image_id in taken),
    )
    return FewShot(part, {category: count for category, count in wanted.items() if count > 0})


def _is_valid(box: CocoAnnotation) -> bool:
    return box.bbox[2] > 1 and box.bbox[3] > 1
