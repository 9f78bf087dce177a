"""Photographs of several sets and drawn scenes as one stream whose batches need no padding.

All examples of a batch have one canvas and are asked a similar number of names. Knows streams only.
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

# Width over height of a canvas, and how often it comes: everyday photographs are mostly wide.
_SHAPES = ((4 / 3, 0.65), (3 / 4, 0.2), (1.0, 0.15))
_MANY = (20, 80)  # names of the everyday sets, which evaluation asks at once
_CELL = 32  # the sides of a canvas are multiples, so nothing is padded


@dataclass(frozen=True, eq=False)
class Blend:
    """Streams by weight.

    Attributes:
        photos: sets of photographs.
        weights: of each set, above 0.
        scenes: drawn scenes.
        scene_share: of all images; from 0 to less than 1.
        sides: short sides of the canvases, in pixels; each comes equally often.
        group: number of examples in a batch.
        many: share of the batches that ask for up to 20 absent names, and of those that ask for up to 80.
        seed: another one gives another order.

    Raises:
        InputError: weights, share or sides that cannot be used.
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
            raise InputError(f"The sides of photographs must be numbers of pixels from 64 to 4096, not {self.sides}.")
        if not 0 <= self.scene_share < 1 or min(self.many) < 0 or sum(self.many) > 1:
            raise InputError(f"Shares go from 0 to 1, not scenes={self.scene_share} and many={self.many}.")
        self._mixture  # noqa: B018  # checks the weights

    @property
    def epoch_length(self) -> int | None:
        """None: scenes have no end."""
        return None

    @cached_property
    def _mixture(self) -> Mixture:
        weights = [weight * (1 - self.scene_share) / max(sum(self.weights), 1e-9) for weight in self.weights]
        streams = list(repeat(self.scenes, len(weights)))  # only their number counts; see `example`
        if self.scene_share:
            return Mixture([*streams, self.scenes], [*weights, self.scene_share], self.seed)
        return Mixture(streams, weights, self.seed)

    def example(self, position: int) -> Example:
        """See `ExampleStream`."""
        size_wh, most_absent = self.canvas(position // self.group)
        stream, inner = self._mixture.locate(position)
        if stream == len(self.photos):
            return self.scenes.example(inner, size_wh)
        return self.photos[stream].example(inner, size_wh, most_absent)

    def canvas(self, batch: int) -> tuple[SizeWH, int | None]:
        """Returns width and height of all images of a batch, and how many absent names are asked; None: the usual."""
        rng = random.Random(f"{self.seed}/canvas/{batch}")  # noqa: S311  # sizes of images, no secret
        short = rng.choice(self.sides)
        ratio = rng.choices([ratio for ratio, _ in _SHAPES], [share for _, share in _SHAPES])[0]
        width, height = (short * max(1.0, ratio), short / min(1.0, ratio))
        return (_multiple(width), _multiple(height)), rng.choices((*_MANY, None), (*self.many, 1 - sum(self.many)))[0]


def _multiple(side: float) -> int:
    return max(1, round(side / _CELL)) * _CELL
