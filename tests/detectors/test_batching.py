"""Batcher: items with equal keys come together, in batches of one size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glip.detectors.batching import Batcher


@given(items=st.lists(st.tuples(st.integers(0, 3), st.integers())), size=st.integers(1, 4))
def test_every_item_is_in_one_batch_with_others_of_its_key(items: list[tuple[int, int]], size: int) -> None:
    batcher: Batcher[tuple[int, int]] = Batcher(size)
    full = [batch for item in items if (batch := batcher.add(item[0], item)) is not None]
    rest = list(batcher.rest())
    assert all(len(batch) == size for batch in full)
    assert all(0 < len(batch) < size for batch in rest)
    assert all(len({key for key, _ in batch}) == 1 for batch in full + rest)
    assert sorted(item for batch in full + rest for item in batch) == sorted(items)
    assert list(batcher.rest()) == []


def test_a_batch_keeps_the_order_of_arrival() -> None:
    batcher: Batcher[int] = Batcher(2)
    assert batcher.add("a", 1) is None
    assert batcher.add("b", 2) is None
    assert batcher.add("a", 3) == [1, 3]
    assert list(batcher.rest()) == [[2]]
