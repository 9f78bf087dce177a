"""Streams of numbers, mixed: shares, order, and nothing lost."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glip.data.examples import Example
from glip.data.mixing import BLOCK, Concatenation, Mixture, _apportioned
from glip.data.sampling import EpochOrder, permutation
from glip.errors import InputError


@dataclass(frozen=True)
class Numbers:
    """Says in its caption who it is and at which position it was asked."""

    name: str
    epoch_length: int | None = None

    def example(self, position: int) -> Example:
        return Example(Image.new("RGB", (1, 1)), f"{self.name}{position}", np.zeros((0, 4), np.float32), ())


def captions(stream: Mixture | Concatenation, start: int, count: int) -> list[str]:
    return [stream.example(position).caption for position in range(start, start + count)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30))
def test_shares_are_whole_and_as_near_as_can_be(weights: list[float]) -> None:
    quotas = _apportioned(weights)
    assert sum(quotas) == BLOCK
    assert min(quotas) >= 1
    total = sum(weights)
    for weight, quota in zip(weights, quotas, strict=True):
        wanted = weight / total * BLOCK
        # Those raised to 1 are taken from the others.
        assert wanted - len(weights) - 1 < quota < max(1, wanted + 1) + 1e-6


def test_streams_come_by_weight_and_each_is_walked_through_without_a_gap() -> None:
    mixture = Mixture((Numbers("a"), Numbers("b"), Numbers("c")), (5, 3, 2), seed=1)
    places = [mixture.locate(position) for position in range(2 * BLOCK + 500)]
    for stream, share in enumerate((0.5, 0.3, 0.2)):
        inner = [position for chosen, position in places if chosen == stream]
        assert inner == list(range(len(inner)))  # in order, none skipped, none twice
        assert abs(len(inner) / len(places) - share) < 0.01
    assert Counter(chosen for chosen, _ in places[:BLOCK]) == {0: 5000, 1: 3000, 2: 2000}
    assert mixture.example(7).caption == f"{'abc'[places[7][0]]}{places[7][1]}"


def test_processes_that_share_the_positions_see_every_stream_by_weight() -> None:
    mixture = Mixture((Numbers("a"), Numbers("b")), (1, 1))
    for ranks in (2, 3, 4, 8):
        for rank in range(ranks):
            seen = Counter(mixture.locate(position)[0] for position in range(rank, 4000, ranks))
            assert abs(seen[0] / (4000 / ranks) - 0.5) < 0.08


def test_any_position_is_found_at_once_and_in_any_process() -> None:
    mixture = Mixture((Numbers("a"), Numbers("b")), (2, 1), seed=3)
    forwards = [mixture.locate(position) for position in range(BLOCK - 5, BLOCK + 5)]
    sent = pickle.loads(pickle.dumps(Mixture([Numbers("a"), Numbers("b")], [2.0, 1.0], seed=3)))
    assert [sent.locate(position) for position in reversed(range(BLOCK - 5, BLOCK + 5))][::-1] == forwards
    stream, inner = mixture.locate(10**12)
    assert abs(inner / 10**12 - (2 / 3, 1 / 3)[stream]) < 1e-4
    other = Mixture(mixture.streams, mixture.weights, seed=4)
    assert [other.locate(position) for position in range(50)] != [mixture.locate(position) for position in range(50)]


@pytest.mark.parametrize("lengths", [(3, 5), (7000, 40), (1, 12_345)])
def test_an_epoch_of_a_mixture_ends_when_every_stream_has_ended_once(lengths: tuple[int, int]) -> None:
    mixture = Mixture([Numbers("a", lengths[0]), Numbers("b", lengths[1])], (3, 1))
    end = mixture.epoch_length
    assert end is not None
    seen = Counter(mixture.locate(position)[0] for position in range(end))
    assert seen[0] >= lengths[0]
    assert seen[1] >= lengths[1]
    last = mixture.locate(end - 1)
    assert last[1] + 1 == lengths[last[0]]  # the last position completes a stream
    assert Mixture([Numbers("a", 3), Numbers("b")], (1, 1)).epoch_length is None


@pytest.mark.parametrize("weights", [(1,), (1, 0), (1, -1), (1, float("nan")), (1, float("inf")), (1, 1, 1)])
def test_weights_must_be_numbers_above_0_one_for_each(weights: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="weights"):
        Mixture((Numbers("a"), Numbers("b")), weights)


def test_a_concatenation_shows_everything_once_an_epoch_in_another_order() -> None:
    streams = (Numbers("a", 3), Numbers("b", 5), Numbers("c", 1))
    both = Concatenation(streams, seed=2)
    assert both.epoch_length == 9
    for epoch in range(3):
        wanted = [f"{s.name}{epoch * (s.epoch_length or 0) + i}" for s in streams for i in range(s.epoch_length or 0)]
        assert sorted(captions(both, 9 * epoch, 9)) == sorted(wanted)
    orders = {tuple(caption[0] for caption in captions(both, 9 * epoch, 9)) for epoch in range(5)}
    assert len(orders) > 2
    sent = pickle.loads(pickle.dumps(both))
    assert [sent.example(position).caption for position in reversed(range(27))][::-1] == captions(both, 0, 27)


def test_what_has_no_end_cannot_be_concatenated() -> None:
    with pytest.raises(InputError, match="epochs"):
        Concatenation((Numbers("a", 3), Numbers("b")))
    with pytest.raises(InputError, match="epochs"):
        Concatenation(())


def test_orders_do_not_change_from_one_version_to_the_next() -> None:
    # A run is resumed in the middle of an epoch: these numbers are a promise.
    assert permutation(0, 0, 8).tolist() == [1, 2, 6, 3, 4, 0, 7, 5]
    assert permutation(7, 3, 8).tolist() == [7, 6, 1, 5, 0, 3, 2, 4]
    assert [EpochOrder(4, seed=1, copies=2).index(position) for position in range(8)] == [3, 0, 2, 3, 2, 0, 1, 1]
