"""What is wrong with a set, said before anything is learned from it: boxes that show nothing, images that are lost.

Knows boxes, sizes and files. Knows nothing of how a set was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glip.data.annotations import Truth
from glip.data.coco import CocoDataset
from glip.errors import InputError
from glip.images.reading import UnreadableImage, read_image

LOOKED_AT = 200  # images of a split that are opened; that they exist is asked of all
_LISTED = 5


@dataclass(frozen=True, eq=False)
class Placed:
    """Boxes in their images.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the original image, as annotated.
        sizes_wh: (N, 2) of the box's image.
        crowd: (N,) around an uncounted many.
    """

    boxes: NDArray[np.float64]
    sizes_wh: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    @classmethod
    def of_dataset(cls, dataset: CocoDataset) -> Placed:
        """The boxes of a COCO file."""
        sizes = {image.id: (image.width, image.height) for image in dataset.images}
        boxes = np.array([box.bbox for box in dataset.annotations], np.float64).reshape(-1, 4)
        sizes_wh = np.array([sizes[box.image_id] for box in dataset.annotations], np.float64).reshape(-1, 2)
        return cls(_xyxy(boxes), sizes_wh, np.array([bool(box.iscrowd) for box in dataset.annotations], bool))

    @classmethod
    def of_truth(cls, truth: Truth) -> Placed:
        """The boxes of a split that is scored."""
        rows = np.searchsorted(truth.image_ids, truth.image_id)
        return cls(_xyxy(truth.bbox), truth.sizes_hw[rows][:, ::-1].astype(np.float64), truth.iscrowd)

    @property
    def outside(self) -> NDArray[np.bool_]:
        """(N,) which show nothing of their image."""
        return np.asarray((self.boxes[:, :2] >= self.sizes_wh).any(1) | (self.boxes[:, 2:] <= 0).any(1))

    @property
    def crossing(self) -> NDArray[np.bool_]:
        """(N,) which reach out of their image by more than a pixel."""
        out = (self.boxes[:, :2] < 0).any(1) | (self.boxes[:, 2:] > self.sizes_wh + 1).any(1)
        return np.asarray(out & ~self.outside)

    @property
    def learnable(self) -> NDArray[np.bool_]:
        """(N,) which are no crowd, and more than a pixel wide and high inside of their image."""
        sides = np.minimum(self.boxes[:, 2:], self.sizes_wh) - np.maximum(self.boxes[:, :2], 0)
        return np.asarray((sides > 1).all(1) & ~self.crowd)


def _xyxy(xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1)


def misplaced(placed: Placed) -> list[str]:
    """What a person should know of where boxes to learn from lie; none of it stops the work."""
    found = []
    if outside := int(placed.outside.sum()):
        found.append(f"{outside} boxes lie outside of their image and are left out.")
    if crossing := int(placed.crossing.sum()):
        found.append(f"{crossing} boxes reach out of their image and are cut at its border.")
    return found


def never_found(placed: Placed) -> list[str]:
    """A sentence about boxes that are scored and cannot be found."""
    outside = int(placed.outside.sum())
    return [f"{outside} boxes lie outside of their image and count as missed."] if outside else []


def without_examples(dataset: CocoDataset) -> list[str]:
    """A sentence about classes that are asked for and never shown."""
    per_class = Counter(box.category_id for box in dataset.annotations)
    empty = [category.name for category in dataset.categories if not per_class[category.id]]
    listed = ", ".join(repr(name) for name in empty[:_LISTED])
    return [f"the examples show no {listed}{more(empty)}: asked for, never learned."] if empty else []


def more(listed: Sequence[object]) -> str:
    """' and 3 more' after the first of many."""
    return f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""


def refuse_nothing_to_learn(train: CocoDataset, annotations: Path) -> None:
    """Asks for one box that can be learned from.

    Raises:
        InputError: there is none; the message says why.
    """
    placed = Placed.of_dataset(train)
    if placed.learnable.any():
        return
    if not len(placed.boxes):
        raise InputError(
            f"The examples of {annotations} have no box of a class that is asked for: there is nothing to learn from. "
            f"Annotate some images."
        )
    small = ~placed.learnable & ~placed.outside & ~placed.crowd
    why = {
        "outside of their image": placed.outside & ~placed.crowd,
        "not more than a pixel wide or high": small,
        "marked as crowds": placed.crowd,
    }
    parts = ", ".join(f"{int(some.sum())} {reason}" for reason, some in why.items() if some.any())
    raise InputError(
        f"None of the {len(placed.boxes)} boxes of the examples of {annotations} can be learned from ({parts}). "
        f"Correct the annotations."
    )


def refuse_nothing_to_find(val: Truth, name: str, annotations: Path) -> None:
    """Asks for one box that a validation can find.

    Raises:
        InputError: there is none.
    """
    if Placed.of_truth(val).learnable.any():
        return
    count = len(val.image_id)
    many = f"{count} boxes, all outside of their image, empty or crowds" if count else "no box"
    raise InputError(
        f"The validation split of {name} ({annotations}) has {many}, so no epoch can be told from another. Annotate "
        f"some of its images, or take the split away: then a part of the others is held out."
    )


Size = tuple[int, int]
Known = dict[Path, Size | str]  # of each image: its height and width, or why it cannot be read


def refuse_unreadable(split: str, sizes_hw: Mapping[Path, Size], known: Known, *, all_needed: bool) -> list[str]:
    """Looks whether images are there, and opens some of them.

    Args:
        split: what they are of, for messages.
        sizes_hw: height and width of each image, as annotated.
        known: what was found out before; grows.
        all_needed: one image that cannot be read is one too many; else only if none can.

    Returns:
        Sentences about images that will be left out, or have another size than the annotations say.

    Raises:
        InputError: images are missing, cannot be read, or none is of the size that was annotated.
    """
    for path in list(sizes_hw)[:: -(-len(sizes_hw) // LOOKED_AT) or 1]:
        if path not in known:
            known[path] = _size_of(path)
    lost = {path: reason for path in sizes_hw if isinstance(reason := known.get(path) or _absence(path), str)}
    good = {path: size for path in sizes_hw if isinstance(size := known.get(path), tuple)}
    other = {path: size for path, size in good.items() if size != sizes_hw[path]}
    sentences = []
    if lost:
        path, reason = next(iter(lost.items()))
        sentence = f"{len(lost)} of {len(sizes_hw)} images of {split} cannot be read; the first, {path}: {reason}."
        if all_needed or not good:
            raise InputError(f"{sentence} Put them in their place, or take them out of the annotations.")
        sentences.append(f"{sentence} They are left out.")
    if other:
        path, (height, width) = next(iter(other.items()))
        size = f"{width} × {height} pixels, not {sizes_hw[path][1]} × {sizes_hw[path][0]} as annotated"
        sentence = f"{len(other)} of {len(good)} images of {split} have another size; the first, {path}: {size}."
        if len(other) == len(good):
            raise InputError(f"{sentence} Correct the annotations.")
        sentences.append(sentence)
    return sentences


def _size_of(path: Path) -> Size | str:
    try:
        image = read_image(path)
    except UnreadableImage as error:
        return error.reason
    return image.height, image.width


def _absence(path: Path) -> str | None:
    return None if path.is_file() else "it does not exist, or does not any more"
