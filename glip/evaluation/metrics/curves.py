"""Computes precision, recall and F1 of each class over all score thresholds, as arrays.

Boxes are matched by COCO's rule at one IoU, 0.5 by default. Crowds count neither as found nor as missed. Draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from glip.data.annotations import Bools, Floats, Integers, Truth
from glip.evaluation.metrics.coco import right_and_wrong
from glip.evaluation.metrics.matching import AREA_RANGES, match
from glip.evaluation.predictions import Predictions

IOU = 0.5


@dataclass(frozen=True, eq=False)
class JudgedBoxes:
    """The predicted boxes of one class in descending order of score; each is right, wrong or neither.

    Attributes:
        category_id: of the class.
        name: of the class.
        positives: number of annotated boxes that count.
        score: (D,)
        right: (D,)
        wrong: (D,)
        image: (D,) index of the image in the truth.
        positives_of_image: (I,) number of annotated boxes that count, by image.
    """

    category_id: int
    name: str
    positives: int
    score: Floats
    right: Bools
    wrong: Bools
    image: Integers
    positives_of_image: Integers


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """The rates of one class at every score threshold that makes a difference.

    Attributes:
        category_id: of the class.
        name: of the class.
        positives: number of annotated boxes that count.
        score: (S,) the distinct scores, descending. Boxes with this score or more are kept.
        precision: (S,)
        recall: (S,) -1 if there are no positives; then F1 is -1 too.
        f1: (S,)
    """

    category_id: int
    name: str
    positives: int
    score: Floats
    precision: Floats
    recall: Floats
    f1: Floats

    @property
    def best(self) -> int | None:
        """Returns the index of the highest F1, of equal ones the highest score; None if no box is right."""
        return int(np.argmax(self.f1)) if self.f1.max(initial=0.0) > 0 else None


def judge(truth: Truth, predictions: Predictions, iou: float = IOU) -> list[JudgedBoxes]:
    """Returns one result per class, in the order of the ids; classes without boxes are included."""
    matches = match(
        truth,
        predictions,
        ignored=truth.iscrowd,
        max_dets=None,
        iou_thresholds=np.array([iou]),
        area_ranges={"all": AREA_RANGES["all"]},
    )
    image = truth.image_indices(predictions.image_id[matches.rows])
    image_of_truth = truth.image_indices(truth.image_id)
    category_of_truth = truth.category_indices(truth.category_id)
    judged = []
    for index, (id, name) in enumerate(zip(truth.category_ids.tolist(), truth.names, strict=True)):
        rows = matches.slice_of(index)
        right, wrong = right_and_wrong(truth, matches, index)
        own = image_of_truth[(category_of_truth == index) & ~matches.ignored[:, 0]]
        judged.append(
            JudgedBoxes(
                category_id=id,
                name=name,
                positives=int(matches.positives[index, 0]),
                score=matches.score[rows],
                right=right[0, 0],
                wrong=wrong[0, 0],
                image=image[rows],
                positives_of_image=np.bincount(own, minlength=len(truth.image_ids)),
            )
        )
    return judged


def threshold_curves(truth: Truth, predictions: Predictions, iou: float = IOU) -> list[ThresholdCurve]:
    """Returns precision, recall and F1 at every threshold, one curve per class in the order of the ids."""
    return [_threshold_curve(judged) for judged in judge(truth, predictions, iou)]


def _threshold_curve(judged: JudgedBoxes) -> ThresholdCurve:
    last = last_of_each_score(judged.score)
    right = np.cumsum(judged.right)[last].astype(np.float64)
    wrong = np.cumsum(judged.wrong)[last].astype(np.float64)
    precision, recall, f1 = rates(right, wrong, np.float64(judged.positives))
    return ThresholdCurve(judged.category_id, judged.name, judged.positives, judged.score[last], precision, recall, f1)


def best_f1_thresholds(truth: Truth, predictions: Predictions, iou: float = IOU) -> dict[int, float]:
    """Returns the score threshold with the highest F1 by category id; classes without a right box are left out."""
    curves = threshold_curves(truth, predictions, iou)
    return {curve.category_id: float(curve.score[curve.best]) for curve in curves if curve.best is not None}


def last_of_each_score(score: Floats) -> Integers:
    """Returns for descending scores the last index of each distinct one: a threshold keeps all of them or none."""
    return np.flatnonzero(np.diff(score, append=-np.inf))


def rates(right: Floats, wrong: Floats, positives: Floats | np.float64) -> tuple[Floats, Floats, Floats]:
    """Returns precision, recall and F1 of counts; -1 where the divisor is 0."""
    shape = np.broadcast_shapes(right.shape, np.shape(positives))
    none = np.full(shape, -1.0)
    precision = np.divide(right, right + wrong, out=none.copy(), where=right + wrong > 0)
    recall = np.divide(right, positives, out=none.copy(), where=np.broadcast_to(positives, shape) > 0)
    # 2 r / (2 r + w + missed), with r + missed = positives.
    f1 = np.divide(2 * right, right + wrong + positives, out=none.copy(), where=np.broadcast_to(positives, shape) > 0)
    return precision, recall, f1


def thresholds_by_class(truth: Truth, thresholds: float | Mapping[int, float]) -> Floats:
    """Returns (K,) the score threshold of each class; infinite for classes that a mapping leaves out."""
    if isinstance(thresholds, Mapping):
        return np.array([thresholds.get(id, np.inf) for id in truth.category_ids.tolist()], np.float64)
    return np.full(len(truth.category_ids), float(thresholds))
