"""D3 has three parts, and scores each image for the descriptions of its scenario only."""

from __future__ import annotations

import pytest

from glip.evaluation.predictions import Predictions
from glip.evaluation.tasks.described_objects import ap_by_length, described_scores, inside_scenarios
from tests.evaluation.cases import simple_predictions, simple_truth

BOX = (0.0, 0.0, 10.0, 10.0)
FULL = simple_truth([(1, 1, BOX), (2, 2, BOX)], classes=2, images=2)
PARTS = {"FULL": FULL, "PRES": FULL.of_categories([1]), "ABS": FULL.of_categories([2])}
FOUND = simple_predictions([(1, 1, BOX, 0.5), (2, 1, BOX, 0.9), (2, 2, BOX, 0.5)])


def ap_of_parts(predictions: Predictions) -> dict[str, float]:
    return {part: scores.ap() for part, scores in described_scores(PARTS, predictions).items()}


def test_each_part_is_scored_for_its_own_descriptions() -> None:
    assert ap_of_parts(FOUND) == pytest.approx({"FULL": 0.75, "PRES": 0.5, "ABS": 1.0})


def test_boxes_of_descriptions_outside_the_scenario_are_left_out() -> None:
    found = inside_scenarios(FOUND, {1: frozenset({1}), 2: frozenset({2})})
    assert ap_of_parts(found) == pytest.approx({"FULL": 1.0, "PRES": 1.0, "ABS": 1.0})


def test_an_image_without_a_scenario_has_no_boxes() -> None:
    found = inside_scenarios(FOUND, {1: frozenset({1})})
    assert ap_of_parts(found) == pytest.approx({"FULL": 0.5, "PRES": 1.0, "ABS": 0.0})


def test_lengths_are_counted_in_words() -> None:
    lengths = ap_by_length(described_scores(PARTS, FOUND)["FULL"])
    assert lengths == pytest.approx({"short": 0.75, "middle": -1, "long": -1, "very long": -1})
