"""The order of the images in a stream: a new random order each epoch, with random access.

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
    """Returns a random generator for a key, the same in every process.

    Uses numpy's old generator, whose numbers stay the same in all versions of numpy, so that a run can resume with
    another version.
    """
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


@lru_cache(maxsize=16)  # one for each stream of a mixture; tens of megabytes each for a large data set
def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int32]:
    """Returns (count,) the numbers 0 to count - 1 in random order."""
    return random_numbers("order", seed, epoch).permutation(count).astype(np.int32)


@dataclass(frozen=True)
class EpochOrder:
    """Maps positions of a stream to indices of images; each image comes `copies` times per epoch.

    Attributes:
        count: number of images.
        seed: of the order.
        copies: how often each image comes in an epoch.

    Raises:
        InputError: `copies` is less than 1.
    """

    count: int
    seed: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise InputError(f"copies is {self.copies}; it must be 1 or more.")

    @property
    def epoch_length(self) -> int:
        """Returns the number of positions in an epoch."""
        return self.count * self.copies

    def index(self, position: int) -> int:
        """Returns the index of the image at a position."""
        epoch, offset = divmod(position, self.epoch_length)
        return int(permutation(self.seed, epoch, self.epoch_length)[offset]) % self.count
