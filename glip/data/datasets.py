"""Data sets as endless streams of examples: boxes of classes with captions of their names, and captions with boxes.

Each epoch shows every image once, in a new order; an example depends only on the seed and its position. A data set is
kept as arrays, since every worker process holds a copy. Knows COCO and grounding files as they are read. Knows nothing
of tensors, models or where published data sets are.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from tokenizers import Tokenizer

from glip.boxes import clip_boxes, xywh_to_xyxy
from glip.data.captions import (
    PRETRAINING,
    ClassCaption,
    ClassNames,
    Packing,
    cut_caption,
    full_caption,
    packed_caption,
    sampled_caption,
)
from glip.data.coco import BoxXYWH, CocoDataset
from glip.data.examples import Example, Span
from glip.data.grounding import GroundingAnnotation, GroundingDataset
from glip.data.image_table import ImageTable, TextTable, starts_of
from glip.data.sampling import EpochOrder
from glip.errors import InputError
from glip.prompts import Wording

Folders = Path | str | Sequence[Path | str]
Sampling = Literal["pretrain", "all-names"]

PSEUDO_LABEL_FLOOR = 0.5  # minimum score of a detector's boxes to learn from, as published


class DetectionStream:
    """Images with boxes of classes. Each example gets a new caption of class names.

    As published, crowds are left out, boxes are cut at the border of their image, and boxes of at most one pixel in
    width or height are left out. Images without a box are left out too, unless `keep_empty` is set: the published
    training lists some of them, but skips their batches.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        folders: Folders,
        tokenizer: Tokenizer,
        seed: int = 0,
        *,
        sampling: Sampling = "pretrain",
        shuffle_names: bool = False,
        wordings: Sequence[Wording] | None = None,
        copies: int = 1,
        keep_empty: bool = False,
    ) -> None:
        """Reads the data set into arrays; opens no image.

        Args:
            dataset: images, boxes and classes; category ids may be any.
            folders: of the images, searched in order.
            tokenizer: the model's; counts what fits into a caption.
            seed: of the order and the captions.
            sampling: 'pretrain' for present names among random others (`sampled_caption`); 'all-names' for all names
                in the order of their ids (`full_caption`).
            shuffle_names: for 'all-names': in random order.
            wordings: how each class is written in the caption, in the order of the category ids; None for the plain
                names.
            copies: how often each image comes in an epoch.
            keep_empty: keep images without a box.

        Raises:
            InputError: there is no image to learn from, no usable name, or a folder does not exist.
        """
        names, label_of = dataset.names, dataset.label_of_category
        if not names:
            raise InputError("The data set has no category, so it has no class names to learn.")
        self._names = ClassNames.of(names, tokenizer, wordings)
        usable = set(self._names.labels)
        by_image = dataset.boxes_by_image()
        found = [
            [box for box in by_image[image.id] if not box.iscrowd and label_of[box.category_id] in usable]
            for image in dataset.images
        ]
        sizes = [(image.width, image.height) for image in dataset.images]
        self._boxes, images, kept = _learnable([[box.bbox for box in boxes] for boxes in found], sizes, keep_empty)
        labels = np.array([label_of[box.category_id] for boxes in found for box in boxes], np.int32)
        self._labels = labels[kept]
        listed = [dataset.images[index] for index in images]
        self._images = ImageTable.of(((image.file_name, image.width, image.height) for image in listed), folders)
        self._order = EpochOrder(_some(len(listed), "a box of a named class"), seed, copies)
        self._sampling, self._shuffle_names = sampling, shuffle_names

    @property
    def epoch_length(self) -> int:
        """Returns the number of images times copies."""
        return self._order.epoch_length

    def example(self, position: int) -> Example:
        """Returns the example at a position, see `ExampleStream`.

        Raises:
            JobFailed: many images in a row cannot be read.
        """
        index, image = self._images.readable(self._order, position)
        boxes, rows = self._boxes.of_image(index)
        labels = self._labels[rows].tolist()
        caption = self._caption(labels, _rng(self._order.seed, position))
        kept = [row for row, label in enumerate(labels) if label in caption.spans]
        return Example(image, caption.text, boxes[kept], tuple((caption.spans[labels[row]],) for row in kept))

    def _caption(self, labels: Iterable[int], rng: random.Random) -> ClassCaption:
        if self._sampling == "pretrain":
            return sampled_caption(self._names, labels, rng, PRETRAINING)
        return full_caption(self._names, labels, rng, self._shuffle_names)


class GroundingStream:
    """Images with a caption and boxes for its phrases; each entry of the file is one example.

    Boxes are treated as in `DetectionStream`. Captions of more than 256 tokens are cut; a box without a remaining
    range is left out, and so is one whose score is too low.
    """

    def __init__(
        self,
        dataset: GroundingDataset,
        folders: Folders,
        tokenizer: Tokenizer,
        seed: int = 0,
        *,
        score_floor: float = PSEUDO_LABEL_FLOOR,
        packing: Packing | None = None,
        copies: int = 1,
        keep_empty: bool = False,
    ) -> None:
        """Reads the data set into arrays; opens no image.

        Args:
            dataset: captions and boxes.
            folders: of the images, searched in order.
            tokenizer: the model's.
            seed: of the order and of packing.
            score_floor: boxes of a detector must have a higher score; boxes of people have none and are all used.
            packing: how often captions of other images are added; None for never. Published for pseudo-labelled
                captions.
            copies: how often each entry comes in an epoch.
            keep_empty: keep entries without a box.

        Raises:
            InputError: there is no image to learn from, or a folder does not exist.
        """
        by_caption = dataset.boxes_by_caption()
        found = [[box for box in by_caption[image.id] if _is_wanted(box, score_floor)] for image in dataset.images]
        sizes = [(image.width, image.height) for image in dataset.images]
        self._boxes, images, kept = _learnable([[box.bbox for box in boxes] for boxes in found], sizes, keep_empty)
        every = [box for boxes in found for box in boxes]
        wanted = [every[row].tokens_positive for row in kept]
        self._spans = np.array([span for group in wanted for span in group], np.int32).reshape(-1, 2)
        self._span_starts = starts_of(map(len, wanted))
        listed = [dataset.images[index] for index in images]
        self._images = ImageTable.of(((image.file_name, image.width, image.height) for image in listed), folders)
        self._captions = TextTable(image.caption for image in listed)
        self._order = EpochOrder(_some(len(listed), f"a caption and a box scored above {score_floor:g}"), seed, copies)
        self._tokenizer, self._packing = tokenizer, packing

    @property
    def epoch_length(self) -> int:
        """Returns the number of entries times copies."""
        return self._order.epoch_length

    def example(self, position: int) -> Example:
        """Returns the example at a position, see `ExampleStream`.

        Raises:
            JobFailed: many images in a row cannot be read.
        """
        index, image = self._images.readable(self._order, position)
        boxes, rows = self._boxes.of_image(index)
        caption, spans = cut_caption(self._captions[index], [self._spans_of(row) for row in rows], self._tokenizer)
        kept = [row for row, group in enumerate(spans) if group]
        caption, start = self._packed(caption, _rng(self._order.seed, position))
        moved = tuple(tuple((start + first, start + last) for first, last in spans[row]) for row in kept)
        return Example(image, caption, boxes[kept], moved)

    def _spans_of(self, row: int) -> list[Span]:
        spans = self._spans[self._span_starts[row] : self._span_starts[row + 1]]
        return [(start, end) for start, end in spans.tolist()]

    def _packed(self, caption: str, rng: random.Random) -> tuple[str, int]:
        if self._packing is None:
            return caption, 0
        others = [self._captions[rng.randrange(len(self._captions))] for _ in range(self._packing.draw(rng))]
        return packed_caption(caption, [other for other in others if other != caption], rng, self._tokenizer)


@dataclass(frozen=True, eq=False)
class _BoxTable:
    """(M, 4) boxes of all images, xyxy, and (N + 1,) the first row of each image."""

    boxes: NDArray[np.float32]
    starts: NDArray[np.int64]

    def of_image(self, index: int) -> tuple[NDArray[np.float32], range]:
        """Returns (n, 4) the boxes of an image, and their rows in the table."""
        rows = range(int(self.starts[index]), int(self.starts[index + 1]))
        return self.boxes[rows.start : rows.stop], rows


def _learnable(
    bboxes_xywh: Sequence[Sequence[BoxXYWH]], sizes_wh: Sequence[tuple[int, int]], keep_empty: bool
) -> tuple[_BoxTable, list[int], list[int]]:
    """Selects the boxes and images to learn from.

    Args:
        bboxes_xywh: the boxes of each image.
        sizes_wh: width and height of each image.
        keep_empty: keep images without a box.

    Returns:
        The boxes; (N) the indices of their images, and (M) the indices of the boxes among all given.
    """
    counts = [len(group) for group in bboxes_xywh]
    boxes = xywh_to_xyxy(np.fromiter(chain.from_iterable(chain.from_iterable(bboxes_xywh)), np.float64).reshape(-1, 4))
    image = np.repeat(np.arange(len(counts)), counts)
    limits = np.array(sizes_wh, np.float64).reshape(-1, 2)[image]
    boxes = clip_boxes(boxes, limits)
    # The published boxes end at x + width - 1, so a box of one pixel is empty there.
    kept = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] > 1).all(axis=1))
    per_image = np.bincount(image[kept], minlength=len(counts))
    images = np.arange(len(counts)) if keep_empty else np.flatnonzero(per_image)
    table = _BoxTable(boxes[kept].astype(np.float32), starts_of(per_image[images]))
    return table, images.tolist(), kept.tolist()


def _is_wanted(box: GroundingAnnotation, score_floor: float) -> bool:
    scored_well = box.score is UNSET or box.score > score_floor
    return not box.iscrowd and bool(box.tokens_positive) and scored_well


def _some(count: int, what: str) -> int:
    if not count:
        raise InputError(
            f"No image of the data set has {what}, so there is nothing to learn from. Check its annotations."
        )
    return count


def _rng(seed: int, position: int) -> random.Random:
    return random.Random(f"{seed}/caption/{position}")  # noqa: S311  # chooses names, not a secret
