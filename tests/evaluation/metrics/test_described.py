"""D3: three parts, and images that are asked for the descriptions of their scenario only."""

from __future__ import annotations

import pytest

from glip.evaluation.metrics.described import described_scores
from tests.evaluation.cases import simple_predictions, simple_truth

BOX = (0.0, 0.0, 10.0, 10.0)
FULL = simple_truth([(1, 1, BOX), (2, 2, BOX)], classes=2, images=2)
PARTS = {"FULL": FULL, "PRES": FULL.of_categories([1]), "ABS": FULL.of_categories([2])}
FOUND = simple_predictions([(1, 1, BOX, 0.5), (2, 1, BOX, 0.9), (2, 2, BOX, 0.5)])


def test_each_part_is_scored_for_its_own_descriptions() -> None:
    scores = described_scores(PARTS, FOUND, None)
    assert not scores.intra_scenario
    assert scores.numbers() == pytest.approx({"FULL": 0.75, "PRES": 0.5, "ABS": 1.0})


def test_inside_scenarios_other_descriptions_are_not_asked() -> None:
    scores = described_scores(PARTS, FOUND, {1: frozenset({1}), 2: frozenset({2})})
    assert scores.intra_scenario
    assert scores.numbers() == pytest.approx({"FULL": 1.0, "PRES": 1.0, "ABS": 1.0})


def test_an_image_of_no_scenario_is_asked_nothing() -> None:
    assert described_scores(PARTS, FOUND, {1: frozenset({1})}).numbers() == pytest.approx(
        {"FULL": 0.5, "PRES": 1.0, "ABS": 0.0}
    )


def test_lengths_are_counted_in_words() -> None:
    lengths = described_scores(PARTS, FOUND, None).by_length()
    assert lengths == pytest.approx({"short": 0.75, "middle": -1, "long": -1, "very long": -1})
