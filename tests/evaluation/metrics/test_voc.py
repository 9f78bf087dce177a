"""VOC's average precision equals a plain reading of its rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glip.evaluation.metrics.voc import voc_scores
from glip.evaluation.predictions import Predictions
from tests.evaluation.cases import Case, random_case, simple_predictions, simple_truth
from tests.evaluation.reference import plain_iou

BOX = (0.0, 0.0, 10.0, 10.0)


def plain_voc(case: Case, category: int) -> tuple[float, float] | None:
    """AP of a class by area and by eleven points; None without boxes that count."""
    truth, found = case.truth, case.predictions
    rows = np.flatnonzero(truth.category_id == category).tolist()
    positives = sum(not truth.ignore[row] for row in rows)
    if not positives:
        return None
    taken: set[int] = set()
    right = wrong = 0
    curve = [(0.0, 0.0)]
    mine = np.flatnonzero(found.category_id == category).tolist()
    for index in sorted(mine, key=lambda row: (-found.score[row], found.image_id[row])):
        here = [row for row in rows if truth.image_id[row] == found.image_id[index]]
        overlaps = [plain_iou(found.bbox[index].tolist(), truth.bbox[row].tolist()) for row in here]
        if overlaps and max(overlaps) >= 0.5:
            best = here[overlaps.index(max(overlaps))]
            if not truth.ignore[best]:
                right += best not in taken
                wrong += best in taken
                taken.add(best)
        else:
            wrong += 1
        curve.append((right / positives, right / max(right + wrong, 1)))
    beyond = [max(precision for _, precision in curve[place:]) for place in range(len(curve))]
    area = sum((curve[place][0] - curve[place - 1][0]) * beyond[place] for place in range(1, len(curve)))
    levels = [max((p for r, p in curve if r >= level), default=0.0) for level in np.arange(0, 1.1, 0.1)]
    return area, sum(levels) / 11


@pytest.mark.parametrize("seed", range(25))
def test_scores_equal_a_plain_reading_of_the_rules(seed: int) -> None:
    case = random_case(seed)
    difficult = np.random.default_rng(seed).random(len(case.truth.bbox)) < 0.2
    case = Case(replace(case.truth, ignore=difficult), case.predictions)
    scores = voc_scores(case.truth, case.predictions)
    for index, category in enumerate(case.truth.category_ids.tolist()):
        expected = plain_voc(case, category) or (-1, -1)
        assert (scores.area[index], scores.eleven_points[index]) == pytest.approx(expected)


def test_a_box_on_a_difficult_one_is_neither_right_nor_wrong() -> None:
    truth = replace(simple_truth([(1, 1, BOX), (1, 1, (50, 50, 10, 10))]), ignore=np.array([True, False]))
    found = simple_predictions([(1, 1, BOX, 0.9), (1, 1, BOX, 0.8), (1, 1, (50, 50, 10, 10), 0.7)])
    scores = voc_scores(truth, found)
    assert scores.boxes.tolist() == [1]
    assert scores.numbers() == pytest.approx({"AP50": 1, "AP50-11": 1})


def test_a_second_box_is_wrong() -> None:
    truth = simple_truth([(1, 1, BOX), (1, 1, (50, 50, 10, 10))])
    found = simple_predictions([(1, 1, BOX, 0.9), (1, 1, BOX, 0.8), (1, 1, (50, 50, 10, 10), 0.7)])
    assert voc_scores(truth, found).numbers()["AP50"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_of_two_equal_overlaps_the_first_annotation_is_matched() -> None:
    truth = simple_truth([(1, 1, BOX), (1, 1, (4, 0, 10, 10))])
    between = simple_predictions([(1, 1, (2, 0, 10, 10), 0.9), (1, 1, (4, 0, 10, 10), 0.8)])
    assert voc_scores(truth, between).numbers()["AP50"] == pytest.approx(1)


def test_without_any_box_there_is_no_score() -> None:
    assert voc_scores(simple_truth([]), Predictions.none()).numbers() == {"AP50": -1, "AP50-11": -1}
