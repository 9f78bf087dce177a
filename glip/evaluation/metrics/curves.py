"""What becomes of the boxes as the threshold of the score moves: precision, recall and F1 by class, as arrays.

Boxes are matched by COCO's rule at one overlap, 0.5 unless told; crowds count neither as found nor as missed.
Draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from glip.data.annotations import Bools, Floats, Integers, Truth
from glip.evaluation.metrics.coco import RECALLS, CocoScores, right_and_wrong, threshold_place
from glip.evaluation.metrics.matching import AREAS, match
from glip.evaluation.predictions import Predictions

IOU = 0.5


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """A class's curve as COCO's AP averages it.

    Attributes:
        category_id: of the class.
        name: likewise.
        recall: (101,) levels from 0 to 1.
        precision: (101,) highest precision at or beyond each level; 0 where it is not reached.
        score: (101,) the threshold of the score that gives it; 0 where it is not reached.
        ap: their mean.
    """

    category_id: int
    name: str
    recall: Floats
    precision: Floats
    score: Floats
    ap: float


@dataclass(frozen=True, eq=False)
class Judged:
    """The found boxes of one class, best first, each right, wrong or neither.

    Attributes:
        category_id: of the class.
        name: likewise.
        positives: annotated boxes that count.
        score: (D,)
        right: (D,)
        wrong: (D,)
        image: (D,) places of the images in the truth.
        positives_of_image: (I,) annotated boxes that count, by image.
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
    """A class under every threshold that makes a difference.

    Attributes:
        category_id: of the class.
        name: likewise.
        positives: annotated boxes that count.
        score: (S,) the distinct scores, descending: boxes with this score or more are kept.
        precision: (S,)
        recall: (S,) -1 where there are no positives, then all F1 are -1 too.
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
        """Place of the highest F1, of equal ones that with the highest score; None if nothing right was found."""
        return int(np.argmax(self.f1)) if self.f1.max(initial=0.0) > 0 else None


def precision_recall(scores: CocoScores, iou: float = IOU) -> list[PrecisionRecall]:
    """The curves behind COCO's AP at one of its ten overlaps; classes without annotated boxes have none."""
    threshold = threshold_place(iou)
    curves = []
    for place in np.flatnonzero(scores.positives[:, 0]).tolist():
        precision = scores.precision[threshold, :, place, 0]
        score = scores.score[threshold, :, place, 0]
        id, name = int(scores.category_ids[place]), scores.names[place]
        curves.append(PrecisionRecall(id, name, RECALLS, precision, score, float(np.mean(precision))))
    return curves


def judge(truth: Truth, predictions: Predictions, iou: float = IOU) -> list[Judged]:
    """Matches all found boxes once; one result a class, in the order of the ids, classes without boxes too."""
    matches = match(
        truth,
        predictions,
        void=truth.iscrowd,
        max_dets=None,
        iou_thresholds=np.array([iou]),
        areas={"all": AREAS["all"]},
    )
    image = truth.image_indices(predictions.image_id[matches.rows])
    image_of_truth = truth.image_indices(truth.image_id)
    category_of_truth = truth.category_indices(truth.category_id)
    judged = []
    for place, (id, name) in enumerate(zip(truth.category_ids.tolist(), truth.names, strict=True)):
        rows = matches.slice_of(place)
        right, wrong = right_and_wrong(truth, matches, place)
        own = image_of_truth[(category_of_truth == place) & ~matches.void[:, 0]]
        judged.append(
            Judged(
                category_id=id,
                name=name,
                positives=int(matches.positives[place, 0]),
                score=matches.score[rows],
                right=right[0, 0],
                wrong=wrong[0, 0],
                image=image[rows],
                positives_of_image=np.bincount(own, minlength=len(truth.image_ids)),
            )
        )
    return judged


def threshold_curves(truth: Truth, predictions: Predictions, iou: float = IOU) -> list[ThresholdCurve]:
    """Precision, recall and F1 by class under every threshold; one curve a class, in the order of the ids."""
    return [threshold_curve(judged) for judged in judge(truth, predictions, iou)]


def threshold_curve(judged: Judged) -> ThresholdCurve:
    """The curve of one class."""
    last = steps(judged.score)
    right = np.cumsum(judged.right)[last].astype(np.float64)
    wrong = np.cumsum(judged.wrong)[last].astype(np.float64)
    precision, recall, f1 = rates(right, wrong, np.float64(judged.positives))
    return ThresholdCurve(judged.category_id, judged.name, judged.positives, judged.score[last], precision, recall, f1)


def best_f1_thresholds(truth: Truth, predictions: Predictions, iou: float = IOU) -> dict[int, float]:
    """Category id to the threshold of the highest F1; classes of which nothing right was found are not there."""
    curves = threshold_curves(truth, predictions, iou)
    return {curve.category_id: float(curve.score[curve.best]) for curve in curves if curve.best is not None}


def steps(score: Floats) -> Integers:
    """For descending scores, the last place of each distinct one: a threshold keeps all of them or none."""
    return np.flatnonzero(np.diff(score, append=-np.inf))


def rates(right: Floats, wrong: Floats, positives: Floats | np.float64) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of counts; -1 where there is nothing to divide by."""
    shape = np.broadcast_shapes(right.shape, np.shape(positives))
    none = np.full(shape, -1.0)
    precision = np.divide(right, right + wrong, out=none.copy(), where=right + wrong > 0)
    recall = np.divide(right, positives, out=none.copy(), where=np.broadcast_to(positives, shape) > 0)
    # 2 r / (2 r + w + missed), with r + missed = positives.
    f1 = np.divide(2 * right, right + wrong + positives, out=none.copy(), where=np.broadcast_to(positives, shape) > 0)
    return precision, recall, f1


def thresholds_by_place(truth: Truth, thresholds: float | Mapping[int, float]) -> Floats:
    """(K,) the threshold of each class; classes that a mapping leaves out keep nothing."""
    if isinstance(thresholds, Mapping):
        return np.array([thresholds.get(id, np.inf) for id in truth.category_ids.tolist()], np.float64)
    return np.full(len(truth.category_ids), float(thresholds))
