"""Each error is listed once, with its reason and the boxes that it is about."""

from __future__ import annotations

import numpy as np
import pytest

from glip.data.annotations import Truth
from glip.evaluation.error_analysis import Mistake, confusion_matrix, find_mistakes, worst
from glip.evaluation.predictions import Predictions
from tests.evaluation.cases import random_case, simple_predictions, simple_truth

BOX = (0.0, 0.0, 10.0, 10.0)
SHIFTED = (5.0, 0.0, 10.0, 10.0)  # an IoU of 1/3 with BOX
OTHER = (50.0, 50.0, 20.0, 20.0)


@pytest.fixture
def truth() -> Truth:
    return simple_truth([(1, 1, BOX), (1, 2, OTHER)], classes=2, images=2)


def summary(mistakes: list[Mistake]) -> list[tuple[str, int, int | None, int | None]]:
    return [(m.reason, m.category_id, m.annotation, m.prediction) for m in mistakes]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(1, 1, BOX, 0.9), (1, 2, OTHER, 0.9)], []),
        ([(1, 1, BOX, 0.9)], [("missed", 2, 1, None)]),
        ([(1, 1, BOX, 0.9), (1, 2, OTHER, 0.1)], [("missed", 2, 1, None)]),
        ([(1, 1, BOX, 0.9), (1, 1, OTHER, 0.9)], [("wrong class", 1, 1, 1), ("wrong class", 2, 1, 1)]),
        ([(1, 1, SHIFTED, 0.9), (1, 2, OTHER, 0.9)], [("badly placed", 1, 0, 0), ("badly placed", 1, 0, 0)]),
        ([(1, 1, BOX, 0.9), (1, 2, OTHER, 0.9), (1, 1, BOX, 0.8)], [("duplicate", 1, 0, 2)]),
        ([(1, 1, BOX, 0.9), (1, 2, OTHER, 0.9), (2, 1, BOX, 0.8)], [("background", 1, None, 2)]),
        ([(1, 1, BOX, 0.9), (1, 2, OTHER, 0.9), (1, 2, BOX, 0.8)], [("wrong class", 2, 0, 2)]),
    ],
)
def test_each_error_has_its_reason(
    truth: Truth,
    found: list[tuple[int, int, tuple[float, float, float, float], float]],
    expected: list[tuple[str, int, int | None, int | None]],
) -> None:
    assert summary(find_mistakes(truth, simple_predictions(found), 0.5)) == expected


def test_severity_is_the_score_or_the_size_and_orders_the_list(truth: Truth) -> None:
    mistakes = find_mistakes(truth, simple_predictions([(2, 1, BOX, 0.15)]), 0.1)
    assert [(m.reason, m.severity, m.score) for m in mistakes] == [
        ("missed", pytest.approx(0.2), None),
        ("background", 0.15, 0.15),
        ("missed", pytest.approx(0.1), None),
    ]
    assert mistakes[0].annotation == 1


def test_boxes_in_a_crowd_and_crowds_without_a_box_are_no_errors() -> None:
    truth = simple_truth([(1, 1, (0, 0, 60, 60))], crowds=[0])
    assert find_mistakes(truth, simple_predictions([(1, 1, BOX, 0.9)]), 0.5) == []
    assert confusion_matrix(truth, simple_predictions([(1, 1, BOX, 0.9)]), 0.5).counts.sum() == 0


def test_a_gallery_takes_each_reason_in_turn_and_each_image_once(truth: Truth) -> None:
    found = simple_predictions([(2, 1, BOX, 0.9), (2, 1, OTHER, 0.8), (1, 1, (80, 0, 9, 9), 0.7)])
    mistakes = find_mistakes(truth, found, 0.5)
    assert summary(worst(mistakes, 3)) == [
        ("background", 1, None, 0),
        ("missed", 2, 1, None),
        ("background", 1, None, 2),
    ]


def test_a_confusion_matrix_by_hand(truth: Truth) -> None:
    found = simple_predictions([(1, 2, BOX, 0.9), (1, 2, OTHER, 0.9), (1, 1, OTHER, 0.99), (2, 1, BOX, 0.9)])
    confusion = confusion_matrix(truth, found, {1: 0.5, 2: 0.5})
    assert confusion.names == ("class 1", "class 2", "background")
    assert confusion.counts.tolist() == [[0, 1, 0], [0, 1, 0], [2, 0, 0]]


def test_a_class_without_a_threshold_keeps_nothing(truth: Truth) -> None:
    found = simple_predictions([(1, 1, BOX, 0.9), (1, 2, OTHER, 0.9)])
    assert confusion_matrix(truth, found, {1: 0.5}).counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("seed", range(20))
def test_all_boxes_are_counted_once(seed: int) -> None:
    case = random_case(seed)
    confusion = confusion_matrix(case.truth, case.predictions, 0.3)
    counted = ~case.truth.iscrowd
    per_class = [int(np.sum(case.truth.category_id[counted] == id)) for id in case.truth.category_ids]
    assert confusion.counts[:-1].sum(axis=1).tolist() == per_class
    if not case.truth.iscrowd.any():
        assert confusion.counts[:, :-1].sum() == np.sum(case.predictions.score >= 0.3)


def test_no_boxes_at_all_make_no_error() -> None:
    assert find_mistakes(simple_truth([]), Predictions.none(), 0.5) == []
