"""Engines: one worker, many shards."""

from __future__ import annotations

from collections.abc import Callable

from glip.engine.local import LocalEngine


def test_a_worker_is_made_once_and_called_for_every_shard_in_order() -> None:
    made = 0

    def make_worker() -> Callable[[int], int]:
        nonlocal made
        made += 1
        return lambda shard: shard * 10

    assert list(LocalEngine().map(make_worker, [1, 2, 3])) == [10, 20, 30]
    assert made == 1


def test_no_worker_is_made_for_no_shards() -> None:
    def make_worker() -> Callable[[int], int]:
        raise AssertionError("a model would be loaded for nothing")

    assert list(LocalEngine().map(make_worker, [])) == []


def test_a_shard_is_not_begun_before_the_result_of_the_one_before_is_taken() -> None:
    begun: list[int] = []

    def work(shard: int) -> int:
        begun.append(shard)
        return shard

    results = LocalEngine().map(lambda: work, [1, 2, 3])
    assert next(results) == 1
    assert begun == [1]
