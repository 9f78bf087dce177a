"""Which boxes are worth a look: doubt, likely misses, likely duplicates."""

from __future__ import annotations

import numpy as np
import pytest

from glip.review.priorities import DUPLICATE, MISS, entropy, hints


def hint(*boxes: tuple[list[float], float, int, bool], threshold: float = 0.4) -> list[str]:
    """Of boxes given as (xyxy, score, class, kept), best first."""
    return hints(
        np.array([box for box, *_ in boxes], np.float32).reshape(-1, 4),
        np.array([score for _, score, *_ in boxes], np.float32),
        np.array([label for *_, label, _ in boxes], np.int64),
        np.array([kept for *_, kept in boxes], bool),
        np.full(len(boxes), threshold, np.float32),
    )


def test_doubt_is_one_bit_at_one_half_and_none_at_the_ends() -> None:
    assert entropy(np.array([0.0, 0.5, 1.0, 0.11], np.float32)) == pytest.approx([0, 1, 0, 0.4999], abs=1e-3)


def test_no_boxes_have_no_hints() -> None:
    assert hint() == []


def test_a_box_just_below_the_threshold_that_nothing_covers_is_a_likely_miss() -> None:
    assert hint(([0, 0, 10, 10], 0.9, 0, True), ([50, 50, 60, 60], 0.3, 0, False)) == ["", MISS]


def test_far_below_the_threshold_nothing_is_missed() -> None:
    assert hint(([50, 50, 60, 60], 0.19, 0, False)) == [""]


def test_what_a_kept_box_covers_is_not_missed() -> None:
    assert hint(([0, 0, 10, 10], 0.9, 0, True), ([0, 0, 10, 9], 0.3, 1, False)) == ["", ""]


def test_the_worse_of_two_kept_boxes_in_one_place_is_a_likely_duplicate_whatever_its_class() -> None:
    assert hint(([0, 0, 10, 10], 0.9, 0, True), ([0, 0, 10, 9], 0.8, 1, True)) == ["", DUPLICATE]


def test_a_part_inside_a_better_box_of_its_class_is_a_likely_duplicate_and_of_another_class_is_not() -> None:
    whole, part = [0.0, 0.0, 100.0, 100.0], [10.0, 10.0, 20.0, 20.0]
    assert hint((whole, 0.9, 0, True), (part, 0.8, 0, True)) == ["", DUPLICATE]
    assert hint((whole, 0.9, 0, True), (part, 0.8, 1, True)) == ["", ""]
    assert hint((part, 0.9, 0, True), (whole, 0.8, 0, True)) == ["", ""]


def test_boxes_without_area_are_no_duplicates() -> None:
    assert hint(([5, 5, 5, 5], 0.9, 0, True), ([5, 5, 5, 5], 0.8, 0, True)) == ["", ""]
