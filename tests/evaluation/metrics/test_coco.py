"""COCO's scores equal pycocotools' to the last digit, on random splits that are meant to be hard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask

from glip.boxes import box_iou_xywh
from glip.evaluation.metrics.coco import coco_scores
from glip.evaluation.predictions import Predictions
from tests.evaluation.cases import (
    Case,
    equals_reference,
    large_case,
    pycocotools_run,
    random_boxes,
    random_case,
    simple_predictions,
    simple_truth,
)

LIMITS = ((1, 10, 100), (1, 2, 4), (1, 10, 300), (1, 10, 1000))


@pytest.mark.parametrize("seed", range(60))
def test_everything_equals_the_reference(seed: int) -> None:
    case, limits = random_case(seed), LIMITS[seed % len(LIMITS)]
    ours = coco_scores(case.truth, case.predictions, limits)
    assert equals_reference(ours, pycocotools_run(case, limits))


def test_a_larger_split_equals_the_reference() -> None:
    case = large_case(15)
    assert equals_reference(coco_scores(case.truth, case.predictions), pycocotools_run(case, (1, 10, 100)))


def test_the_random_splits_are_worth_comparing() -> None:
    cases = [random_case(seed) for seed in range(60)]
    scores = [coco_scores(case.truth, case.predictions).ap() for case in cases]
    assert sum(0 < score < 1 for score in scores) > 30
    assert any(score == -1 for score in scores)
    assert any(len(case.predictions) == 0 < len(case.truth.bbox) for case in cases)
    assert any(0 in case.truth.annotation_id for case in cases)
    assert any(case.truth.iscrowd.any() for case in cases)


def test_iou_equals_the_reference_to_the_last_bit() -> None:
    random = np.random.default_rng(1)
    found, annotated = random_boxes(random, 80, coarse=False), random_boxes(random, 80, coarse=True)
    crowd = random.random(80) < 0.5
    expected = mask.iou(found, annotated, crowd.astype(np.uint8).tolist())
    one, other = np.indices(expected.shape).reshape(2, -1)
    assert np.array_equal(box_iou_xywh(found[one], annotated[other], crowd[other]), expected.ravel())


def test_matching_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = large_case(10)
    whole = coco_scores(case.truth, case.predictions)
    monkeypatch.setattr("glip.evaluation.metrics.matching._PAIRS_AT_A_TIME", 3)
    pieces = coco_scores(case.truth, case.predictions)
    assert np.array_equal(whole.precision, pieces.precision)


def test_the_names_of_the_numbers_contain_max_dets() -> None:
    case = random_case(1)
    assert list(coco_scores(case.truth, case.predictions, (300, 1, 10)).numbers()) == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AR1", "AR10", "AR300", "ARs", "ARm", "ARl"),
    ]


def test_a_box_on_an_annotation_with_the_id_0_is_wrong_as_in_the_reference() -> None:
    truth = simple_truth([(1, 1, (0, 0, 10, 10))])
    found = Predictions(truth.image_id, truth.category_id, truth.bbox, np.array([0.9]))
    assert coco_scores(truth, found).ap() == pytest.approx(1)
    from_zero = replace(truth, annotation_id=np.array([0]))
    assert coco_scores(from_zero, found).ap() == 0
    assert equals_reference(coco_scores(from_zero, found), pycocotools_run(Case(from_zero, found), (1, 10, 100)))


def test_of_two_equal_overlaps_the_later_annotation_is_matched_as_in_the_reference() -> None:
    truth = simple_truth([(1, 1, (0, 0, 10, 10)), (1, 1, (4, 0, 10, 10))])
    between = simple_predictions([(1, 1, (2, 0, 10, 10), 0.9), (1, 1, (4, 0, 10, 10), 0.8)])
    scores = coco_scores(truth, between)
    assert scores.ar() < 0.75  # the second box finds its own already taken
    assert equals_reference(scores, pycocotools_run(Case(truth, between), (1, 10, 100)))


def test_rows_of_classes_average_to_the_whole() -> None:
    case = large_case(20)
    scores = coco_scores(case.truth, case.predictions)
    rows = [row for row in scores.per_class() if row.boxes]
    assert np.mean([row.ap for row in rows]) == pytest.approx(scores.ap())
    assert np.mean([row.ap50 for row in rows]) == pytest.approx(scores.ap(0.5))
    assert np.mean([row.ar for row in rows]) == pytest.approx(scores.ar())
    assert sum(row.boxes for row in rows) == len(case.truth.bbox)


def test_a_class_without_boxes_has_no_score() -> None:
    truth = simple_truth([(1, 1, (0, 0, 10, 10))], classes=2)
    rows = coco_scores(truth, Predictions.none()).per_class()
    assert [(row.name, row.boxes, row.ap, row.ar) for row in rows] == [("class 1", 1, 0, 0), ("class 2", 0, -1, -1)]
