"""Several streams as one, without losing an image of any: by weights, or one behind the other and shuffled.

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

# Positions are handed out in blocks, each with the same shares: so what came before needs no counting from the start.
BLOCK = 10_000


@dataclass(frozen=True, eq=False)
class Mixture:
    """Streams by weight: each is walked through in its own order, none of its positions is skipped.

    Which stream comes when is random, not a pattern: else one of several processes that share the positions could see
    one stream only.

    Attributes:
        streams: at least one.
        weights: of each, above 0; shares are exact to 1 in 10 000, and none is smaller than that.
        seed: another one gives another mix.

    Raises:
        InputError: not one weight above 0 per stream.
    """

    streams: Sequence[ExampleStream]
    weights: Sequence[float]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.streams or len(self.streams) != len(self.weights) or len(self.streams) > BLOCK:
            raise InputError(
                f"There are {len(self.streams)} data sets, but {len(self.weights)} weights. Give one each."
            )
        if not all(math.isfinite(weight) and weight > 0 for weight in self.weights):
            raise InputError(f"Weights of data sets must be numbers above 0, not {list(self.weights)}.")

    @cached_property
    def quotas(self) -> tuple[int, ...]:
        """How many of `BLOCK` positions each stream gets."""
        return _apportioned(self.weights)

    @property
    def epoch_length(self) -> int | None:
        """After how many positions every stream has come to the end of its first epoch; None if one has no end."""
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
        """See `ExampleStream`."""
        stream, inner = self.place(position)
        return self.streams[stream].example(inner)

    def place(self, position: int) -> tuple[int, int]:
        """Which stream a position belongs to, and how many earlier ones do."""
        block, offset = divmod(position, BLOCK)
        choices, ranks = _block(self.seed, self.quotas, block)
        stream = int(choices[offset])
        return stream, block * self.quotas[stream] + int(ranks[offset])


def _apportioned(weights: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers that add up to `BLOCK`, at least 1 each, as near to the weights as can be."""
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
    """(BLOCK,) the stream of each position of a block, and (BLOCK,) how many positions of that stream came before."""
    choices = np.repeat(np.arange(len(quotas), dtype=np.int16), quotas)
    choices = choices[random_numbers("mixture", seed, number).permutation(BLOCK)]
    ranks = np.empty(BLOCK, np.int32)
    for stream, quota in enumerate(quotas):
        ranks[choices == stream] = np.arange(quota)
    return choices, ranks


@dataclass(frozen=True, eq=False)
class Concatenation:
    """Streams one behind the other, shuffled together each epoch: the published way to mix, by the sizes of the sets.

    Attributes:
        streams: each with an end.
        seed: another one gives another order.

    Raises:
        InputError: no stream, or one without an end.
    """

    streams: Sequence[ExampleStream]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.streams or any(stream.epoch_length is None for stream in self.streams):
            raise InputError("Data sets one behind the other need an end each. Mix endless ones by weights instead.")

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(stream.epoch_length or 0 for stream in self.streams))

    @property
    def epoch_length(self) -> int:
        """Of all together."""
        return self._ends[-1]

    def example(self, position: int) -> Example:
        """See `ExampleStream`."""
        stream, inner = self.place(position)
        return self.streams[stream].example(inner)

    def place(self, position: int) -> tuple[int, int]:
        """Which stream a position belongs to, and the position in it."""
        epoch, offset = divmod(position, self.epoch_length)
        index = int(permutation(self.seed, epoch, self.epoch_length)[offset])
        stream = bisect_right(self._ends, index)
        length = self.streams[stream].epoch_length or 0
        return stream, epoch * length + index - (self._ends[stream] - length)
