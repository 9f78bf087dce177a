"""Augments examples: random sizes and horizontal flips. Boxes are moved with the image.

Knows examples. Knows nothing of tensors or where examples come from.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from glip.data.examples import Example, ExampleStream
from glip.errors import InputError
from glip.images.batch import fitted_hw

PUBLISHED_SHORT_SIDES = (480, 560, 640, 720, 800)
PUBLISHED_LONGEST = 1333

# Words that a horizontal flip makes wrong: 'left', 'Left-hand', 'leftmost', 'bottomright', 'myleft', 'RedLeft',
# 'clockwise'.
# Not 'bright', 'cleft', 'copyright', 'leftover', 'rights'.
_SIDES = re.compile(
    r"(?<![^\W\d_])(?:(?:top|bottom|upper|lower|front|back|rear|near|far|mid|my|your|his|her|its|our|their)?"
    r"(?:left|right)(?:y|most|wards?|hand(?:ed|er)?s?|side)?|(?:anti|counter)?clockwise)(?![^\W\d_])"
    # A word inside of a class name such as 'GreenLeft'.
    r"|(?-i:(?<=[a-z])(?:Left|Right)(?![a-z]))",
    re.IGNORECASE,
)


def names_sides(caption: str) -> bool:
    """Returns whether a caption names left or right, so that it is wrong for the flipped image."""
    return _SIDES.search(caption) is not None


def flipped(example: Example) -> Example:
    """Returns the example flipped horizontally."""
    boxes = example.boxes.copy()
    boxes[:, [0, 2]] = example.image.width - example.boxes[:, [2, 0]]
    return Example(example.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), example.caption, boxes, example.spans)


def resized(example: Example, size_hw: tuple[int, int]) -> Example:
    """Returns the example at another size. Boxes are cut at the border, and those without area are left out.

    Args:
        example: any.
        size_hw: height and width in pixels.
    """
    height, width = size_hw
    old = example.image
    image = old if (old.height, old.width) == size_hw else old.resize((width, height), Image.Resampling.BILINEAR)
    limits = np.array([width, height, width, height])
    scaled = example.boxes * (limits / [old.width, old.height, old.width, old.height])
    boxes = np.clip(scaled, 0, limits).astype(np.float32)
    kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    return Example(image, example.caption, boxes[kept], tuple(example.spans[row] for row in kept))


@dataclass(frozen=True, eq=False)
class AugmentedStream:
    """A stream whose examples are resized and, in part, flipped horizontally.

    An image whose caption names left or right is never flipped (`names_sides`). The published training flips these
    too, and so confuses left and right.

    Attributes:
        stream: examples of any size.
        seed: of the sizes and flips.
        flip: share of the examples that are flipped, where that is allowed.
        sizes_short: sizes of the short side in pixels; one is drawn for each example.
        longest: maximum size of the long side in pixels; the short side becomes smaller where it is needed.
        group: number of positions in a row that share one drawn size, so that batches need less padding; 1 as
            published.

    Raises:
        InputError: a size, the share or the group is out of range.
    """

    stream: ExampleStream
    seed: int = 0
    flip: float = 0.5
    sizes_short: tuple[int, ...] = PUBLISHED_SHORT_SIDES
    longest: int = PUBLISHED_LONGEST
    group: int = 1

    def __post_init__(self) -> None:
        if not self.sizes_short or min(self.sizes_short) < 32 or self.longest < max(self.sizes_short):
            raise InputError(
                f"sizes_short is {list(self.sizes_short)} and longest is {self.longest}; sizes_short needs at least "
                f"one size in pixels, from 32 to longest."
            )
        if not 0 <= self.flip <= 1 or self.group < 1:
            raise InputError(
                f"flip is {self.flip} and group is {self.group}; flip must lie between 0 and 1, "
                f"and group must be 1 or more."
            )

    @property
    def epoch_length(self) -> int | None:
        """Returns the number of positions in an epoch of the stream."""
        return self.stream.epoch_length

    def example(self, position: int) -> Example:
        """Returns the example at a position, see `ExampleStream`."""
        example = self.stream.example(position)
        short = self._rng("size", position // self.group).choice(self.sizes_short)
        size_hw = fitted_hw((example.image.height, example.image.width), short, self.longest)
        example = resized(example, size_hw)
        flip = self._rng("flip", position).random() < self.flip
        return flipped(example) if flip and not names_sides(example.caption) else example

    def _rng(self, purpose: str, number: int) -> random.Random:
        return random.Random(f"{self.seed}/{purpose}/{number}")  # noqa: S311  # augments images, not a secret
