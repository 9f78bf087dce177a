"""Engines: one worker, many shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from glip.engine.local import LocalEngine


def test_a_worker_is_made_once_and_called_for_every_shard_in_order() -> None:
    made = 0

    def make_worker() -> Callable[[int], list[int]]:
        nonlocal made
        made += 1
        return lambda shard: [shard, shard * 10]

    assert list(LocalEngine().map(make_worker, [1, 2, 3])) == [1, 10, 2, 20, 3, 30]
    assert made == 1


def test_no_worker_is_made_for_no_shards() -> None:
    def make_worker() -> Callable[[int], list[int]]:
        raise AssertionError("a model would be loaded for nothing")

    assert list(LocalEngine().map(make_worker, [])) == []


def test_a_shard_is_not_begun_before_the_result_of_the_one_before_is_taken() -> None:
    begun: list[int] = []

    def work(shard: int) -> Iterator[int]:
        begun.append(shard)
        yield shard

    results = LocalEngine().map(lambda: work, [1, 2, 3])
    assert next(results) == 1
    assert begun == [1]


def test_closing_the_results_ends_the_work_where_the_worker_can_save_it() -> None:
    saved: list[int] = []

    def work(shard: int) -> Iterator[int]:
        try:
            yield shard
            yield -shard
        finally:
            saved.append(shard)

    results = LocalEngine().map(lambda: work, [1, 2])
    assert next(results) == 1
    results.close()
    assert saved == [1]
    assert list(results) == []
