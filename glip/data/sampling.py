"""In which order a stream walks through its images: another one each epoch, by random access.

Knows numbers only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from glip.errors import InputError


def random_numbers(*key: str | int) -> np.random.RandomState:
    """Random numbers of a key, the same in every process.

    The old generator, because numpy promises its numbers for all versions to come: so that a run can be resumed with
    another one.
    """
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


@lru_cache(maxsize=16)  # a mix needs one for each of its streams; of a large data set each takes tens of megabytes
def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int32]:
    """(count,) the numbers 0 to count - 1 in random order."""
    return random_numbers("order", seed, epoch).permutation(count).astype(np.int32)


@dataclass(frozen=True)
class Order:
    """Positions to indices of images: each comes `copies` times an epoch.

    Attributes:
        count: of images.
        seed: another one gives another order.
        copies: how often each comes in an epoch.

    Raises:
        InputError: fewer copies than one.
    """

    count: int
    seed: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise InputError(f"Copies of a data set in an epoch must be at least 1, not {self.copies}.")

    @property
    def epoch_length(self) -> int:
        """Positions of an epoch."""
        return self.count * self.copies

    def index(self, position: int) -> int:
        """Which image stands at a position."""
        epoch, place = divmod(position, self.epoch_length)
        return int(permutation(self.seed, epoch, self.epoch_length)[place]) % self.count
