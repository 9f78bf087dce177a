"""Thresholds and wordings from a few images, with intervals that say how far a few images can be trusted."""

from __future__ import annotations

import re

import numpy as np
import pytest

from glip.data.annotations import Truth
from glip.errors import InputError
from glip.evaluation import threshold_selection
from glip.evaluation.metrics.curves import judge
from glip.evaluation.predictions import Predictions
from glip.evaluation.threshold_selection import class_thresholds, wording_scores
from tests.evaluation.cases import large_case, simple_predictions, simple_truth

BOX = (0.0, 0.0, 10.0, 10.0)
NOWHERE = (80.0, 80.0, 10.0, 10.0)


def few_images(images: int = 8) -> tuple[Truth, Predictions]:
    """Returns one right box (score above 0.5) and one wrong box (score below 0.4) per image."""
    truth = simple_truth([(image, 1, BOX) for image in range(1, images + 1)], images=images)
    found = [(image, 1, BOX, 0.5 + image / 100) for image in range(1, images + 1)]
    found += [(image, 1, NOWHERE, 0.4 - image / 100) for image in range(1, images + 1)]
    return truth, simple_predictions(found)


def test_the_best_f1_lies_between_right_and_wrong_boxes() -> None:
    truth, found = few_images()
    (row,) = class_thresholds(truth, found, resamples=0)
    assert row.threshold is not None
    assert row.f1 is not None
    assert 0.39 < row.threshold.value <= 0.51
    assert row.threshold.value == 0.45  # round, and near the middle
    assert (row.f1.value, row.boxes, row.images, row.why) == (1, 8, 8, "")
    assert (row.threshold.low, row.threshold.high) == (None, None)


def test_the_threshold_gives_the_stated_precision_and_recall() -> None:
    case = large_case(30)
    rows = [row for row in class_thresholds(case.truth, case.predictions, resamples=0) if row.threshold]
    assert rows
    for row in rows:
        assert row.threshold is not None
        assert row.precision is not None
        assert row.recall is not None
        left = case.predictions.rows(case.predictions.score >= row.threshold.value)
        judged = judge(case.truth, left)[case.truth.label_of_category[row.category_id]]
        assert judged.right.sum() / (judged.right.sum() + judged.wrong.sum()) == row.precision.value
        assert judged.right.sum() / judged.positives == row.recall.value


def test_a_wanted_precision_is_reached_with_the_most_recall() -> None:
    truth, found = few_images()
    (row,) = class_thresholds(truth, found, precision=0.8, resamples=0)
    assert row.precision is not None
    assert row.threshold is not None
    assert row.precision.value == 0.8  # two wrong boxes and eight right ones
    assert 0.37 < row.threshold.value <= 0.38


def test_classes_without_a_threshold_say_why() -> None:
    truth = simple_truth([(1, 1, BOX), (1, 2, BOX), (1, 4, BOX)], classes=4)
    found = simple_predictions([(1, 1, NOWHERE, 0.9), (1, 1, BOX, 0.8), (1, 2, NOWHERE, 0.9)])
    rows = class_thresholds(truth, found, precision=0.9, resamples=10)
    assert [row.threshold for row in rows] == [None] * 4
    too_low, wrong, not_annotated, not_found = (row.why for row in rows)
    assert "0.9" in too_low
    assert "0.50" in too_low
    assert "annotated" in not_annotated
    assert wrong == not_found
    assert len({too_low, wrong, not_annotated}) == 3


@pytest.mark.parametrize("wanted", [0, 1.5, -1, float("nan")])
def test_a_precision_out_of_range_is_refused(wanted: float) -> None:
    truth, found = few_images()
    with pytest.raises(InputError, match=re.escape(f"precision is {wanted}")):
        class_thresholds(truth, found, precision=wanted)


def test_intervals_contain_the_value_repeat_with_the_seed_and_shrink_with_more_images() -> None:
    width = []
    for images in (10, 160):
        case = large_case(images, seed=3)
        truth = case.truth.of_categories([2])
        found = case.predictions.rows(case.predictions.category_id == 2)
        (row,) = class_thresholds(truth, found, resamples=200)
        assert class_thresholds(truth, found, resamples=200) == [row]
        assert row.f1 is not None
        assert row.f1.low is not None
        assert row.f1.high is not None
        assert row.f1.low <= row.f1.value <= row.f1.high
        width.append(row.f1.high - row.f1.low)
    assert width[1] < width[0] / 2
    assert class_thresholds(truth, found, resamples=200, seed=1) != [row]


def test_resampling_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, found = few_images()
    whole = class_thresholds(truth, found, resamples=50)
    monkeypatch.setattr(threshold_selection, "_VALUES_AT_A_TIME", 40)
    assert class_thresholds(truth, found, resamples=50) == whole


def test_a_resample_weighs_images_as_if_they_were_there_more_than_once() -> None:
    case = large_case(6, seed=1)
    truth = case.truth.of_categories([2])
    found = case.predictions.rows(case.predictions.category_id == 2)
    judged = judge(truth, found)[0]
    weights = np.array([[2, 0, 1, 1, 0, 2]])
    last = np.array([len(judged.score) - 1])
    precision, recall, _ = next(threshold_selection._resampled(judged, weights, last))
    of_box = weights[0, judged.image]
    right, wrong = np.sum(of_box * judged.right), np.sum(of_box * judged.wrong)
    assert precision[0, 0] == right / (right + wrong)
    assert recall[0, 0] == right / np.sum(weights[0] * judged.positives_of_image)


def test_the_better_wording_comes_first_and_wins_the_resamples() -> None:
    truth, good = few_images()
    poor = simple_predictions([(image, 7, NOWHERE, 0.9) for image in range(1, 9)] + [(1, 7, BOX, 0.5)])
    rows = wording_scores(truth, {(1, "hole"): poor, (1, "pothole"): good}, resamples=100)
    assert [(row.wording, row.name, row.boxes, row.best_in) for row in rows] == [
        ("pothole", "class 1", 8, 1.0),
        ("hole", "class 1", 8, 0.0),
    ]
    assert rows[0].ap == pytest.approx(1)
    assert rows[0].threshold == 0.45
    assert rows[1].ap50.value < 0.05
    assert rows[1].ap50.high is not None
    assert rows[0].ap50.low is not None
    assert rows[1].ap50.high < rows[0].ap50.low


def test_wordings_that_find_the_same_share_the_resamples_and_one_that_finds_nothing_has_no_threshold() -> None:
    truth, found = few_images()
    rows = wording_scores(truth, {(1, "a"): found, (1, "b"): found, (1, "c"): Predictions.none()}, resamples=20)
    assert [(row.wording, row.best_in) for row in rows] == [("a", 0.5), ("b", 0.5), ("c", 0.0)]
    assert (rows[2].ap, rows[2].f1, rows[2].threshold) == (0, 0, None)


def test_resamples_without_a_box_of_the_class_are_not_counted() -> None:
    truth = simple_truth([(1, 1, BOX)], images=3)
    good = simple_predictions([(1, 1, BOX, 0.9)])
    rows = wording_scores(truth, {(1, "a"): good, (1, "b"): Predictions.none()}, resamples=50)
    assert [(row.wording, row.best_in) for row in rows] == [("a", 1.0), ("b", 0.0)]


def test_a_negative_number_of_resamples_is_refused() -> None:
    truth, found = few_images()
    with pytest.raises(InputError, match="resamples is -3"):
        class_thresholds(truth, found, resamples=-3)
