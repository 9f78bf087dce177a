"""Joins several streams into one without skipping an image: mixed by weights, or concatenated and shuffled.

Knows streams only.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from glip.data.examples import Example, ExampleStream
from glip.data.sampling import permutation, random_numbers
from glip.errors import InputError

# Each block of positions has the same shares of the streams, so earlier positions need not be counted one by one.
BLOCK = 10_000


@dataclass(frozen=True, eq=False)
class Mixture:
    """Streams mixed by weight. Each is read in its own order, and none of its positions is skipped.

    The order of the streams is random, not a pattern: with a pattern, one of several processes that share the positions
    could read a single stream only.

    Attributes:
        streams: at least one.
        weights: one per stream, above 0; shares are exact to 1 in 10 000, which is also the minimum share.
        seed: of the mixture.

    Raises:
        InputError: the number of weights is not that of the streams, or a weight is not above 0.
    """

    streams: Sequence[ExampleStream]
    weights: Sequence[float]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.streams or len(self.streams) != len(self.weights) or len(self.streams) > BLOCK:
            raise InputError(
                f"There are {len(self.streams)} data sets and {len(self.weights)} weights; give one weight per set."
            )
        if not all(math.isfinite(weight) and weight > 0 for weight in self.weights):
            raise InputError(f"weights is {list(self.weights)}; each must be a finite number above 0.")

    @cached_property
    def quotas(self) -> tuple[int, ...]:
        """Returns the number of positions of each stream in a block."""
        return _apportioned(self.weights)

    @property
    def epoch_length(self) -> int | None:
        """Returns the number of positions after which every stream has ended its first epoch; None if one has none."""
        last = 0
        for stream, (length, quota) in enumerate(zip(self._lengths, self.quotas, strict=True)):
            if length is None:
                return None
            block, rest = divmod(length - 1, quota)
            choices, _ = _block(self.seed, self.quotas, block)
            last = max(last, block * BLOCK + int(np.flatnonzero(choices == stream)[rest]))
        return last + 1

    @property
    def _lengths(self) -> list[int | None]:
        return [stream.epoch_length for stream in self.streams]

    def example(self, position: int) -> Example:
        """Returns the example at a position, see `ExampleStream`."""
        stream, inner = self.locate(position)
        return self.streams[stream].example(inner)

    def locate(self, position: int) -> tuple[int, int]:
        """Returns the index of the stream at a position, and the position in that stream."""
        block, offset = divmod(position, BLOCK)
        choices, ranks = _block(self.seed, self.quotas, block)
        stream = int(choices[offset])
        return stream, block * self.quotas[stream] + int(ranks[offset])


def _apportioned(weights: Sequence[float]) -> tuple[int, ...]:
    """Returns whole numbers in proportion to the weights, at least 1 each, that add up to `BLOCK`."""
    total = math.fsum(weights)
    wanted = [weight / total * BLOCK for weight in weights]
    quotas = [max(1, math.floor(share)) for share in wanted]
    while (rest := BLOCK - sum(quotas)) != 0:
        step = 1 if rest > 0 else -1
        free = [index for index, quota in enumerate(quotas) if quota + step >= 1]
        furthest = max(free, key=lambda index: step * (wanted[index] - quotas[index]))
        quotas[furthest] += step
    return tuple(quotas)


@lru_cache(maxsize=4)
def _block(seed: int, quotas: tuple[int, ...], number: int) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Returns (BLOCK,) the stream of each position of a block, and (BLOCK,) its rank among those of that stream."""
    choices = np.repeat(np.arange(len(quotas), dtype=np.int16), quotas)
    choices = choices[random_numbers("mixture", seed, number).permutation(BLOCK)]
    ranks = np.empty(BLOCK, np.int32)
    for stream, quota in enumerate(quotas):
        ranks[choices == stream] = np.arange(quota)
    return choices, ranks


@dataclass(frozen=True, eq=False)
class Concatenation:
    """Streams concatenated and shuffled together each epoch: the published mixture, in proportion to their sizes.

    Attributes:
        streams: each with a finite epoch.
        seed: of the order.

    Raises:
        InputError: there is no stream, or one has no epochs.
    """

    streams: Sequence[ExampleStream]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.streams or any(stream.epoch_length is None for stream in self.streams):
            raise InputError("Only data sets with epochs can be concatenated. Mix endless ones by weights instead.")

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(stream.epoch_length or 0 for stream in self.streams))

    @property
    def epoch_length(self) -> int:
        """Returns the number of positions in an epoch of all streams."""
        return self._ends[-1]

    def example(self, position: int) -> Example:
        """Returns the example at a position, see `ExampleStream`."""
        stream, inner = self.locate(position)
        return self.streams[stream].example(inner)

    def locate(self, position: int) -> tuple[int, int]:
        """Returns the index of the stream at a position, and the position in that stream."""
        epoch, offset = divmod(position, self.epoch_length)
        index = int(permutation(self.seed, epoch, self.epoch_length)[offset])
        stream = bisect_right(self._ends, index)
        length = self.streams[stream].epoch_length or 0
        return stream, epoch * length + index - (self._ends[stream] - length)
