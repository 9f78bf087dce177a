"""Engines: where a worker runs over many shards of work. Knows neither images nor models."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs workers: in this process (`local`), or in several."""

    def map(
        self, make_worker: Callable[[], Callable[[Shard], Iterable[Result]]], shards: Iterable[Shard]
    ) -> Generator[Result, None, None]:
        """Applies a worker to every shard and yields its results as they arrive, in any order.

        Closing the iterator stops the work. The worker then sees `GeneratorExit` where it yielded its last result, and
        can save what it has.

        Args:
            make_worker: makes a worker. Picklable; called once in every process that works, so that anything expensive
                (a model) is made once.
            shards: the work; picklable values.
        """
        ...
