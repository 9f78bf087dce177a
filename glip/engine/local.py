"""Runs one worker over many shards of work.

Knows neither images nor models: a shard is any value, a worker any function of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class Engine(Protocol):
    """Somewhere to run workers."""

    def map(self, make_worker: Callable[[], Callable[[Shard], Result]], shards: Iterable[Shard]) -> Iterator[Result]:
        """Applies a worker to every shard.

        Args:
            make_worker: called once in each place that works, so that what is costly (a model) is made once.
            shards: what to do.

        Returns:
            One result a shard, as soon as it is there; not necessarily in order.
        """
        ...


class LocalEngine:
    """Works here, in this process, one shard after the other."""

    def map(self, make_worker: Callable[[], Callable[[Shard], Result]], shards: Iterable[Shard]) -> Iterator[Result]:
        """See `Engine.map`. Nothing runs until the first result is asked for; no worker is made for no shards."""
        worker: Callable[[Shard], Result] | None = None
        for shard in shards:
            worker = worker or make_worker()
            yield worker(shard)
