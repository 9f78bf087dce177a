"""Mixes photographs of several sets and drawn scenes into one stream whose batches need no padding.

All examples of a batch have one canvas size and similar numbers of names in their captions. Knows streams only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

from glip.data.canvas import SizeWH
from glip.data.examples import Example
from glip.data.mixing import Mixture
from glip.data.photos import PhotoStream
from glip.data.synthetic.stream import SceneStream
from glip.errors import InputError

# Width over height of a canvas, and its share: everyday photographs are mostly wide.
_SHAPES = ((4 / 3, 0.65), (3 / 4, 0.2), (1.0, 0.15))
_MANY = (20, 80)  # number of classes of the everyday sets, which evaluation prompts at once
_CELL = 32  # the sides of a canvas are multiples, so nothing is padded


@dataclass(frozen=True, eq=False)
class Blend:
    """Streams by weight.

    Attributes:
        photos: sets of photographs.
        weights: of each set, above 0.
        scenes: drawn scenes.
        scene_share: of all images; from 0 to less than 1.
        sides: short sides of the canvases, in pixels; each is drawn equally often.
        group: number of examples in a batch.
        many: share of the batches whose captions have up to 20 absent names, and of those with up to 80.
        seed: of the order and the canvases.

    Raises:
        InputError: a weight, a share or a side is out of range.
    """

    photos: Sequence[PhotoStream]
    weights: Sequence[float]
    scenes: SceneStream
    scene_share: float
    sides: tuple[int, ...]
    group: int
    many: tuple[float, float] = (0.12, 0.02)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sides or not all(64 <= side <= 4096 for side in self.sides):
            raise InputError(f"sides is {self.sides}; each must be a number of pixels from 64 to 4096.")
        if not 0 <= self.scene_share < 1 or min(self.many) < 0 or sum(self.many) > 1:
            raise InputError(
                f"scene_share is {self.scene_share} and many is {self.many}; shares must lie between 0 and 1."
            )
        self._mixture  # noqa: B018  # checks the weights

    @property
    def epoch_length(self) -> int | None:
        """Returns None: scenes have no epochs."""
        return None

    @cached_property
    def _mixture(self) -> Mixture:
        weights = [weight * (1 - self.scene_share) / max(sum(self.weights), 1e-9) for weight in self.weights]
        streams = list(repeat(self.scenes, len(self.photos)))  # only their number counts; see `example`
        if self.scene_share:
            return Mixture([*streams, self.scenes], [*weights, self.scene_share], self.seed)
        return Mixture(streams, weights, self.seed)

    def example(self, position: int) -> Example:
        """Returns the example at a position, see `ExampleStream`."""
        size_wh, most_absent = self.canvas(position // self.group)
        stream, inner = self._mixture.locate(position)
        if stream == len(self.photos):
            return self.scenes.example(inner, size_wh)
        return self.photos[stream].example(inner, size_wh, most_absent)

    def canvas(self, batch: int) -> tuple[SizeWH, int | None]:
        """Returns width and height of the images of a batch, and its number of absent names; None for the default."""
        rng = random.Random(f"{self.seed}/canvas/{batch}")  # noqa: S311  # sizes of images, not a secret
        short = rng.choice(self.sides)
        ratio = rng.choices([ratio for ratio, _ in _SHAPES], [share for _, share in _SHAPES])[0]
        width, height = (short * max(1.0, ratio), short / min(1.0, ratio))
        return (_multiple(width), _multiple(height)), rng.choices((*_MANY, None), (*self.many, 1 - sum(self.many)))[0]


def _multiple(side: float) -> int:
    return max(1, round(side / _CELL)) * _CELL
