"""Few-shot subsets: a few images of each class, from a published list or drawn by the rule of the ODinW benchmark."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import msgspec

from glip.data.coco import CocoAnnotation, CocoDataset
from glip.data.coco_checks import Place, check_coco
from glip.data.coco_reading import decode_coco
from glip.data.image_files import match_names
from glip.errors import InputError
from glip.files import read_content

SHOTS = (1, 3, 5, 10)  # images per class of ODinW's published lists ...
SEEDS = (3, 30, 300)  # ... and their seeds


@dataclass(frozen=True)
class FewShot:
    """A few-shot subset.

    Attributes:
        dataset: the chosen images in their original order, with all of their boxes.
        missing: number of images that a class lacks, by category id; classes with enough images are absent.
    """

    dataset: CocoDataset
    missing: dict[int, int]


def few_shot_list(annotations: Path, split: str, shots: int | str, seed: int) -> Path | None:
    """Returns the path of the published list next to an annotation file; None if there is none."""
    path = annotations.parent / f"fewshot_{split}_shot{shots}_seed{seed}.json"
    return path if path.is_file() else None


def choose_few_shot(dataset: CocoDataset, annotations: Path, split: str, shots: int, seed: int) -> FewShot:
    """Returns the images of the published list if there is one, else draws them.

    Args:
        dataset: images and boxes of the classes to learn.
        annotations: the file that `dataset` was read from; a published list is next to it.
        split: train or val, as in the name of the list.
        shots: images per class.
        seed: of the list or the draw.

    Raises:
        InputError: the list has other categories, or no image has a box.
    """
    published = few_shot_list(annotations, split, shots, seed)
    if published is not None:
        return FewShot(_read_list(published, dataset, annotations), {})
    drawn = draw_few_shot(dataset, shots, seed)
    if not drawn.dataset.images:
        raise InputError(f"{annotations} has no image with a box, so no example of {split} can be drawn.")
    return drawn


def draw_few_shot(dataset: CocoDataset, shots: int, seed: int) -> FewShot:
    """Draws images until each class is in `shots` of them.

    The benchmark's rule: images in the order of their ids are shuffled by the seed; an image is taken if it has a
    class that still lacks images, and then counts for every class in it, so common classes get more than `shots`.
    Images without a box of more than one pixel are never taken.
    """
    boxes = {image: [box for box in found if _is_valid(box)] for image, found in dataset.boxes_by_image().items()}
    ids = sorted(image for image, found in boxes.items() if found)
    random.Random(seed).shuffle(ids)  # noqa: S311  # the benchmark's draw, not a secret
    missing = {category.id: shots for category in dataset.categories}
    taken = set()
    for image in ids:
        classes = {box.category_id for box in boxes[image]}
        if any(missing[category] > 0 for category in classes):
            taken.add(image)
            for category in classes:
                missing[category] -= 1
    return FewShot(dataset.with_images(taken), {category: count for category, count in missing.items() if count > 0})


def _read_list(path: Path, dataset: CocoDataset, annotations: Path) -> CocoDataset:
    few = _with_names_of(path, dataset)
    known = {category.id for category in dataset.categories}
    used = {box.category_id for box in few.annotations}
    other = [category for category in few.categories if category.id not in known and category.name.strip()]
    if any(category.id in used for category in other):
        raise InputError(
            f"{path} has the category {other[0].id} {other[0].name!r}, which {annotations} does not have; the list is "
            f"of another version of the data set. Delete it to draw examples instead."
        )
    boxes = tuple(box for box in few.annotations if box.category_id in known)
    return msgspec.structs.replace(few, categories=dataset.categories, annotations=boxes)


def _with_names_of(path: Path, dataset: CocoDataset) -> CocoDataset:
    """Reads a list; images that `dataset` has get its file names and sizes, which may have been corrected."""
    content = read_content(path, "a few-shot list")
    few, _ = decode_coco(path, content)
    known = {image.file_name: image for image in dataset.images}
    same = match_names((image.file_name for image in few.images), list(known))
    images = tuple(
        msgspec.structs.replace(known[same[image.file_name]], id=image.id) if image.file_name in same else image
        for image in few.images
    )
    few = msgspec.structs.replace(few, images=images)
    check_coco(Place(path, content), few)
    return few


def _is_valid(box: CocoAnnotation) -> bool:
    return box.bbox[2] > 1 and box.bbox[3] > 1
