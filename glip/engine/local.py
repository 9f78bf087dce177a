"""Runs the worker in this process, one shard after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from glip.engine import Result, Shard


class LocalEngine:
    """Works in this process. Nothing runs until the first result is requested, and no worker is made for no shards."""

    def map(
        self, make_worker: Callable[[], Callable[[Shard], Iterable[Result]]], shards: Iterable[Shard]
    ) -> Generator[Result, None, None]:
        """Applies the worker to every shard, in order; see `Engine.map`."""
        worker: Callable[[Shard], Iterable[Result]] | None = None
        for shard in shards:
            worker = worker or make_worker()
            yield from worker(shard)
