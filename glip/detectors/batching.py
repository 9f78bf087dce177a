"""Groups items into batches. Knows nothing of images or models."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Collects items until enough of them share a key.

    Args:
        size: number of items in a full batch, at least 1.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: dict[Hashable, list[Item]] = {}

    def add(self, key: Hashable, item: Item) -> list[Item] | None:
        """Returns the batch that `item` completes, in the order of arrival; None if its batch is not full yet."""
        batch = self._waiting.setdefault(key, [])
        batch.append(item)
        return self._waiting.pop(key) if len(batch) >= self._size else None

    def rest(self) -> Iterator[list[Item]]:
        """Yields the batches that are not full, and forgets them."""
        while self._waiting:
            yield self._waiting.pop(next(iter(self._waiting)))
