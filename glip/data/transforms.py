"""Another look at an example each time: at another size, or in a mirror. Boxes follow their things.

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

# Words that a mirror makes wrong: 'left', 'Left-hand', 'leftmost', 'bottomright', 'myleft', 'RedLeft', 'clockwise'.
# Not 'bright', 'cleft', 'copyright', 'leftover', 'rights'.
_SIDES = re.compile(
    r"(?<![^\W\d_])(?:(?:top|bottom|upper|lower|front|back|rear|near|far|mid|my|your|his|her|its|our|their)?"
    r"(?:left|right)(?:y|most|wards?|hand(?:ed|er)?s?|side)?|(?:anti|counter)?clockwise)(?![^\W\d_])"
    # A word inside of a class name such as 'GreenLeft'.
    r"|(?-i:(?<=[a-z])(?:Left|Right)(?![a-z]))",
    re.IGNORECASE,
)


def tells_sides(caption: str) -> bool:
    """Whether a caption says where left and right are, so that it is wrong of the image's mirror image."""
    return _SIDES.search(caption) is not None


def flipped(example: Example) -> Example:
    """The mirror image, left and right exchanged."""
    boxes = example.boxes.copy()
    boxes[:, [0, 2]] = example.image.width - example.boxes[:, [2, 0]]
    return Example(example.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), example.caption, boxes, example.spans)


def resized(example: Example, size_hw: tuple[int, int]) -> Example:
    """The example at another size; boxes are cut at the border, those without area are left out.

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
class Augmented:
    """A stream as it is learned from: every example resized, about every second one mirrored.

    Images whose caption tells left from right are never mirrored, see `tells_sides`. The published training mirrors
    them too, and so teaches that left is right.

    Attributes:
        stream: examples of any size.
        seed: of the sizes and mirrors.
        flip: share of the examples that are mirrored, where that is allowed.
        sizes_short: the short side becomes one of these, in pixels, ...
        longest: ... or less, so that the long side is no longer than this.
        group: so many positions in a row share one draw of the size, so that batches need less padding; 1 as published.

    Raises:
        InputError: sizes that no image can have, or a share that is none.
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
                f"Images cannot be resized to a short side of {list(self.sizes_short)} pixels and a long side of at "
                f"most {self.longest}. Give at least one short side, from 32 to the longest."
            )
        if not 0 <= self.flip <= 1 or self.group < 1:
            raise InputError(
                f"flip={self.flip} must be a share from 0 to 1, and group={self.group} a number of positions from 1."
            )

    @property
    def epoch_length(self) -> int | None:
        """That of the stream."""
        return self.stream.epoch_length

    def example(self, position: int) -> Example:
        """See `ExampleStream`."""
        example = self.stream.example(position)
        short = self._rng("size", position // self.group).choice(self.sizes_short)
        size_hw = fitted_hw((example.image.height, example.image.width), short, self.longest)
        example = resized(example, size_hw)
        mirrored = self._rng("flip", position).random() < self.flip
        return flipped(example) if mirrored and not tells_sides(example.caption) else example

    def _rng(self, purpose: str, number: int) -> random.Random:
        return random.Random(f"{self.seed}/{purpose}/{number}")  # noqa: S311  # looks at images, no secret
