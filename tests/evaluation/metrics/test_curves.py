"""Precision, recall and F1 under every threshold, by hand and by counting again for each."""

from __future__ import annotations

import pytest

from glip.evaluation.metrics.curves import best_f1_thresholds, judge, threshold_curves
from glip.evaluation.predictions import Predictions
from tests.evaluation.cases import random_case, simple_predictions, simple_truth

BOX = (0.0, 0.0, 10.0, 10.0)
OTHER = (50.0, 50.0, 10.0, 10.0)
NOWHERE = (80.0, 0.0, 10.0, 10.0)


def test_a_curve_by_hand() -> None:
    truth = simple_truth([(1, 1, BOX), (1, 1, OTHER)])
    found = simple_predictions([(1, 1, BOX, 0.9), (1, 1, NOWHERE, 0.6), (1, 1, OTHER, 0.6), (1, 1, NOWHERE, 0.2)])
    (curve,) = threshold_curves(truth, found)
    assert curve.score.tolist() == [0.9, 0.6, 0.2]
    assert curve.precision.tolist() == pytest.approx([1, 2 / 3, 1 / 2])
    assert curve.recall.tolist() == [0.5, 1, 1]
    assert curve.f1.tolist() == pytest.approx([2 / 3, 4 / 5, 2 / 3])
    assert curve.best == 1
    assert best_f1_thresholds(truth, found) == {1: 0.6}


@pytest.mark.parametrize("seed", range(20))
def test_every_threshold_equals_a_count_of_the_boxes_above_it(seed: int) -> None:
    case = random_case(seed)
    for curve in threshold_curves(case.truth, case.predictions):
        for index, score in enumerate(curve.score.tolist()):
            left = case.predictions.rows(case.predictions.score >= score)
            label = case.truth.label_of_category[curve.category_id]
            judged = judge(case.truth, left)[label]
            right, wrong = int(judged.right.sum()), int(judged.wrong.sum())
            assert curve.precision[index] == (right / (right + wrong) if right + wrong else -1)
            assert curve.recall[index] == (right / curve.positives if curve.positives else -1)


def test_crowds_and_boxes_in_them_do_not_count() -> None:
    truth = simple_truth([(1, 1, BOX), (1, 1, (40, 40, 60, 60))], crowds=[1])
    found = simple_predictions([(1, 1, BOX, 0.5), (1, 1, OTHER, 0.9), (1, 1, (60, 60, 9, 9), 0.8)])
    (judged,) = judge(truth, found)
    assert judged.positives == 1
    assert judged.right.tolist() == [False, False, True]
    assert judged.wrong.tolist() == [False, False, False]
    assert judged.positives_of_image.tolist() == [1]


def test_a_class_without_a_right_box_has_no_best_threshold() -> None:
    truth = simple_truth([(1, 1, BOX)], classes=2)
    assert best_f1_thresholds(truth, simple_predictions([(1, 1, OTHER, 0.9), (1, 2, OTHER, 0.9)])) == {}
    assert best_f1_thresholds(truth, Predictions.none()) == {}
