"""Prepares a data set for fine-tuning: takes the examples, and checks boxes and images before training starts.

`glip.data` finds and reads the files. Opens images to check them; opens no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glip.boxes import xywh_to_xyxy
from glip.data.annotations import Truth
from glip.data.coco import CocoDataset
from glip.data.lookup import TrainingSplits
from glip.data.training_splits import OpenTrainingSplits, few_shot, open_training_splits
from glip.errors import InputError
from glip.images.reading import UnreadableImage, read_image
from glip.training.recipes import Shots

SAMPLED = 200  # images per split that are opened to check them; that they exist is checked for all
_LISTED = 5  # names in a message

SizeHW = tuple[int, int]
CheckedImages = dict[Path, SizeHW | str]  # of each opened image: its height and width, or why it cannot be read


def open_examples(data: TrainingSplits, shots: Shots, seed: int) -> OpenTrainingSplits:
    """Reads a data set, takes the examples, and checks their boxes.

    Args:
        data: its files.
        shots: images per class, from the published list of this seed if there is one next to the annotations, else
            drawn by the same rule; validation images likewise. 'all' takes everything, 0 only evaluates.
        seed: of the draw.

    Raises:
        InputError: a file cannot be used, a split is empty, splits have different categories, or no box can be
            trained on or found.
    """
    opened = open_training_splits(data)
    if shots != "all" and shots > 0:
        opened = few_shot(opened, shots, seed)
    notes = list(opened.notes)
    if shots != 0:
        _refuse_no_training_box(opened.train, data.train.annotations)
        _refuse_no_validation_box(opened.val.truth, opened.name, (data.val or data.train).annotations)
        about = (*_without_examples(opened.train), *_crossing_note(AnnotatedBoxes.of_dataset(opened.train)))
        notes += [f"{opened.name}: {sentence}" for sentence in about]
    return replace(opened, notes=tuple(dict.fromkeys(notes)))


def check_images(data: OpenTrainingSplits, shots: Shots, checked: CheckedImages) -> list[str]:
    """Checks before training whether the images exist and can be read.

    Args:
        data: the examples.
        shots: as for `open_examples`. All few-shot examples are needed; of whole data sets some may be unreadable.
        checked: results of earlier calls; this call adds its own.

    Returns:
        Sentences about images that are skipped, or that have another size than annotated.

    Raises:
        InputError: images that are needed are missing or cannot be read, or all images of a split have another size.
    """
    sentences = []
    if shots != 0:
        located = replace(data.test.split, images=data.folders)
        sizes = {located.image_path(image.file_name): (image.height, image.width) for image in data.train.images}
        sentences += _check_split(f"the examples of {data.name}", sizes, checked, all_needed=shots != "all")
    for name, opened in (("validation", data.val), ("test", data.test)):
        if shots != 0 or name == "test":
            sizes = dict(zip(opened.images, map(tuple, opened.truth.sizes_hw.tolist()), strict=True))
            sentences += _check_split(f"the {name} split of {data.name}", sizes, checked, all_needed=True)
    return sentences


# Boxes ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AnnotatedBoxes:
    """Annotated boxes with the sizes of their images.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the original image, as annotated.
        sizes_wh: (N, 2) width and height of the image of each box.
        crowd: (N,) whether the box holds an uncounted group.
    """

    boxes: NDArray[np.float64]
    sizes_wh: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    @classmethod
    def of_dataset(cls, dataset: CocoDataset) -> AnnotatedBoxes:
        """Returns the boxes of a COCO data set."""
        sizes = {image.id: (image.width, image.height) for image in dataset.images}
        bbox = np.array([box.bbox for box in dataset.annotations], np.float64).reshape(-1, 4)
        sizes_wh = np.array([sizes[box.image_id] for box in dataset.annotations], np.float64).reshape(-1, 2)
        return cls(xywh_to_xyxy(bbox), sizes_wh, np.array([bool(box.iscrowd) for box in dataset.annotations], bool))

    @classmethod
    def of_truth(cls, truth: Truth) -> AnnotatedBoxes:
        """Returns the boxes of a split that is scored."""
        sizes_hw = truth.sizes_hw[truth.image_indices(truth.image_id)]
        return cls(xywh_to_xyxy(truth.bbox), sizes_hw[:, ::-1].astype(np.float64), truth.iscrowd)

    @property
    def outside(self) -> NDArray[np.bool_]:
        """Returns (N,) whether the box lies entirely outside its image."""
        return np.asarray((self.boxes[:, :2] >= self.sizes_wh).any(1) | (self.boxes[:, 2:] <= 0).any(1))

    @property
    def crossing(self) -> NDArray[np.bool_]:
        """Returns (N,) whether the box crosses the border of its image by more than a pixel."""
        beyond = (self.boxes[:, :2] < 0).any(1) | (self.boxes[:, 2:] > self.sizes_wh + 1).any(1)
        return np.asarray(beyond & ~self.outside)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Returns (N,) whether the box is no crowd, and more than a pixel wide and high inside its image."""
        sides = np.minimum(self.boxes[:, 2:], self.sizes_wh) - np.maximum(self.boxes[:, :2], 0)
        return np.asarray((sides > 1).all(1) & ~self.crowd)


def _crossing_note(boxes: AnnotatedBoxes) -> list[str]:
    crossing = int(boxes.crossing.sum())
    return [f"{crossing} boxes cross the border of their image and are clipped to it."] if crossing else []


def _without_examples(dataset: CocoDataset) -> list[str]:
    per_class = Counter(box.category_id for box in dataset.annotations)
    missing = [category.name for category in dataset.categories if not per_class[category.id]]
    listed = ", ".join(repr(name) for name in missing[:_LISTED])
    more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
    return [f"the examples have no box of {listed}{more}, which are prompted all the same."] if missing else []


def _refuse_no_training_box(train: CocoDataset, annotations: Path) -> None:
    boxes = AnnotatedBoxes.of_dataset(train)
    if boxes.usable.any():
        return
    if not len(boxes.boxes):
        raise InputError(
            f"The examples of {annotations} have no box of a prompted class, so there is nothing to train on. "
            f"Annotate some images."
        )
    reasons = {
        "outside their image": boxes.outside & ~boxes.crowd,
        "at most a pixel wide or high": ~boxes.usable & ~boxes.outside & ~boxes.crowd,
        "marked as crowds": boxes.crowd,
    }
    parts = ", ".join(f"{int(which.sum())} {reason}" for reason, which in reasons.items() if which.any())
    raise InputError(
        f"None of the {len(boxes.boxes)} boxes of the examples of {annotations} can be trained on ({parts}). "
        f"Correct the annotations."
    )


def _refuse_no_validation_box(val: Truth, name: str, annotations: Path) -> None:
    if AnnotatedBoxes.of_truth(val).usable.any():
        return
    count = len(val.image_id)
    boxes = f"{count} boxes, all outside their image, empty or crowds" if count else "no box"
    raise InputError(
        f"The validation split of {name} ({annotations}) has {boxes}, so the best epoch cannot be chosen. Annotate "
        f"some of its images, or remove the split: part of the training images is then held out instead."
    )


# Images ---------------------------------------------------------------------------------------------------------------


def _check_split(split: str, sizes_hw: Mapping[Path, SizeHW], checked: CheckedImages, *, all_needed: bool) -> list[str]:
    """Opens a sample of images and checks that all of them exist; see `check_images`.

    Args:
        split: its name in messages.
        sizes_hw: annotated height and width of each image.
        checked: see `check_images`.
        all_needed: refuse if a single image cannot be read; else only if all of them cannot.
    """
    for path in list(sizes_hw)[:: -(-len(sizes_hw) // SAMPLED) or 1]:
        if path not in checked:
            checked[path] = _size_of(path)
    unreadable = {path: why for path in sizes_hw if isinstance(why := checked.get(path) or _missing(path), str)}
    readable = {path: size for path in sizes_hw if isinstance(size := checked.get(path), tuple)}
    other_size = {path: size for path, size in readable.items() if size != sizes_hw[path]}
    sentences = []
    if unreadable:
        path, why = next(iter(unreadable.items()))
        sentence = f"{len(unreadable)} of {len(sizes_hw)} images of {split} cannot be read; the first, {path}: {why}."
        if all_needed or not readable:
            raise InputError(f"{sentence} Restore them, or remove them from the annotations.")
        sentences.append(f"{sentence} They are skipped.")
    if other_size:
        path, (height, width) = next(iter(other_size.items()))
        size = f"{width} × {height} pixels, not {sizes_hw[path][1]} × {sizes_hw[path][0]} as annotated"
        sentence = (
            f"{len(other_size)} of {len(readable)} images of {split} have another size; the first, {path}: {size}."
        )
        if len(other_size) == len(readable):
            raise InputError(f"{sentence} Correct the annotations.")
        sentences.append(sentence)
    return sentences


def _size_of(path: Path) -> SizeHW | str:
    try:
        image = read_image(path)
    except UnreadableImage as error:
        return error.reason
    return image.height, image.width


def _missing(path: Path) -> str | None:
    return None if path.is_file() else "there is no such file"
