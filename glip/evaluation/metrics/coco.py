"""Computes average precision and recall of boxes as COCO defines them.

All numbers equal those of pycocotools to the last digit, in a fraction of its time, because `matching.py` matches all
classes together. Annotations with the id 0 are part of that: the reference reads a match with such an annotation as no
match, so the predicted box counts as wrong. Published numbers of data sets that count ids from 0 contain this.

Letters: `T` IoU thresholds, `R` recall levels, `K` classes, `A` area ranges, `M` values of `max_dets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glip.data.annotations import Bools, Floats, Integers, Truth
from glip.evaluation.metrics.matching import AREA_RANGES, IOU_THRESHOLDS, Matches, match
from glip.evaluation.predictions import Predictions

RECALLS: Floats = np.linspace(0.0, 1.0, 101)
# The letters of published names such as APs.
AREA_LETTERS = {"small": "s", "medium": "m", "large": "l"}


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class, 0 to 1; -1 if no annotated box of it counts.

    Attributes:
        category_id: as in the truth.
        name: of the class.
        boxes: number of annotated boxes that count.
        ap: mean over ten IoU thresholds.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        ar: maximum recall, mean over ten IoU thresholds.
    """

    category_id: int
    name: str
    boxes: int
    ap: float
    ap50: float
    ap75: float
    ar: float


@dataclass(frozen=True, eq=False)
class CocoScores:
    """The arrays that COCO's numbers are averages of; -1 for a class without an annotated box that counts.

    Attributes:
        category_ids: (K,)
        names: (K)
        max_dets: (M) maximum numbers of boxes per class and image, ascending.
        positives: (K, A) number of annotated boxes that count.
        precision: (T, R, K, A) under the highest of `max_dets`.
        score: (T, R, K, A) score threshold that gives that precision.
        recall: (T, K, A, M)
    """

    category_ids: Integers
    names: tuple[str, ...]
    max_dets: tuple[int, ...]
    positives: Integers
    precision: Floats
    score: Floats
    recall: Floats

    def numbers(self) -> dict[str, float]:
        """Returns the twelve published numbers, 0 to 1; -1 where nothing can be scored.

        Their names are AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl; the numbers behind AR are
        `max_dets`.
        """
        last = len(self.max_dets) - 1
        ap = {"AP": self.ap(), "AP50": self.ap(0.5), "AP75": self.ap(0.75)}
        ap |= {f"AP{letter}": self.ap(area=area) for area, letter in AREA_LETTERS.items()}
        ar = {f"AR{limit}": self.ar(limit=index) for index, limit in enumerate(self.max_dets)}
        ar |= {f"AR{letter}": self.ar(area, last) for area, letter in AREA_LETTERS.items()}
        return ap | ar

    def ap(self, iou: float | None = None, area: str = "all", categories: Integers | None = None) -> float:
        """Returns the mean precision over recall levels and classes.

        Args:
            iou: one of 0.5, 0.55, … 0.95; None for the mean over them.
            area: all, small, medium or large.
            categories: class indices; None for all.
        """
        values = self.precision[:, :, :, list(AREA_RANGES).index(area)]
        if iou is not None:
            values = values[[threshold_index(iou)]]
        return mean_of_known(values if categories is None else values[:, :, categories])

    def ar(self, area: str = "all", limit: int = -1, categories: Integers | None = None) -> float:
        """Returns the maximum recall, mean over IoU thresholds and classes.

        Args:
            area: all, small, medium or large.
            limit: index into `max_dets`.
            categories: class indices; None for all.
        """
        values = self.recall[:, :, list(AREA_RANGES).index(area), limit]
        return mean_of_known(values if categories is None else values[:, categories])

    def per_class(self) -> list[ClassScore]:
        """Returns one row per class, in the order of the ids."""
        rows = []
        for index, (id, name) in enumerate(zip(self.category_ids.tolist(), self.names, strict=True)):
            one = np.array([index])
            ap, ap50, ap75 = (self.ap(iou, categories=one) for iou in (None, 0.5, 0.75))
            boxes = int(self.positives[index, 0])
            rows.append(ClassScore(id, name, boxes, ap, ap50, ap75, ar=self.ar(categories=one)))
        return rows


def coco_scores(truth: Truth, predictions: Predictions, max_dets: Sequence[int] = (1, 10, 100)) -> CocoScores:
    """Scores boxes as COCO's evaluator does.

    Args:
        truth: annotated boxes. Crowds count neither as found nor as missed; `ignore` is not read.
        predictions: predicted boxes, checked with `check_predictions`.
        max_dets: maximum numbers of boxes per class and image; precision is computed under the highest.
    """
    limits = tuple(sorted(max_dets))
    matches = match(truth, predictions, ignored=truth.iscrowd, max_dets=limits[-1])
    precision, score = precision_at_recalls(truth, matches)
    return CocoScores(
        truth.category_ids,
        truth.names,
        limits,
        matches.positives,
        precision,
        score,
        max_recall(truth, matches, limits),
    )


def mean_of_known(values: Floats) -> float:
    """Returns the mean of all values except -1; -1 if there is none. Sums in array order, as the reference does."""
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else -1.0


def threshold_index(iou: float) -> int:
    """Returns the index of an IoU threshold among the ten."""
    return int(np.argmin(np.abs(IOU_THRESHOLDS - iou)))


def right_and_wrong(truth: Truth, matches: Matches, category: int) -> tuple[Bools, Bools]:
    """Returns which boxes of one class are right and which are wrong, in descending order of score.

    Args:
        truth: the truth that was matched.
        matches: of all classes.
        category: index of the class.

    Returns:
        (T, A, D) right and (T, A, D) wrong. An ignored box is neither.
    """
    rows = matches.slice_of(category)
    ignored_if_unmatched = matches.ignored_if_unmatched[:, rows]
    shape = (matches.annotation.shape[1], *ignored_if_unmatched.shape)
    right = np.zeros(shape, bool)
    wrong = np.broadcast_to(~ignored_if_unmatched, shape).copy()
    first, last = np.searchsorted(matches.candidates, [rows.start, rows.stop])
    indices = matches.candidates[first:last] - rows.start
    matched = matches.annotation[first:last]
    ignored = matches.ignored[matched, np.arange(matched.shape[2])] & (matched >= 0)
    counts = _is_match(truth, matched)
    right[:, :, indices] = np.moveaxis(counts & ~ignored, 0, -1)
    wrong[:, :, indices] &= np.moveaxis(~counts & ~ignored, 0, -1)
    return right, wrong


def precision_at_recalls(truth: Truth, matches: Matches) -> tuple[Floats, Floats]:
    """Returns precision at the 101 recall levels, and the score thresholds that give it.

    Returns:
        (T, R, K, A) maximum precision at or beyond each recall level, and (T, R, K, A) the score at that recall; both
        0 for a recall that is not reached and -1 for a class without annotated boxes that count.
    """
    thresholds = matches.annotation.shape[1]
    shape = (thresholds, len(RECALLS), *matches.positives.shape)
    precision, score = np.full(shape, -1.0), np.full(shape, -1.0)
    for category in np.flatnonzero(matches.positives.any(axis=1)).tolist():
        right, wrong = right_and_wrong(truth, matches, category)
        found = np.cumsum(right, axis=2)
        curve = found / (np.cumsum(wrong, axis=2).astype(float) + found + np.spacing(1))
        curve = np.maximum.accumulate(curve[:, :, ::-1], axis=2)[:, :, ::-1]
        # The value after the last box stands for a recall that is not reached.
        curve = np.concatenate([curve, np.zeros((*curve.shape[:2], 1))], axis=2)
        scores = np.append(matches.score[matches.slice_of(category)], 0.0)
        for area in np.flatnonzero(matches.positives[category]).tolist():
            positives = matches.positives[category, area]
            # The number of right boxes that each level needs, computed with the same division as the recall itself.
            needed = np.searchsorted(np.arange(positives + 1) / positives, RECALLS, "left")
            for threshold in range(thresholds):
                box = np.searchsorted(found[threshold, area], needed, "left")
                precision[threshold, :, category, area] = curve[threshold, area, box]
                score[threshold, :, category, area] = scores[box]
    return precision, score


def max_recall(truth: Truth, matches: Matches, max_dets: Sequence[int]) -> Floats:
    """Returns (T, K, A, M) the share of the annotated boxes that is found at all, under each of `max_dets`."""
    matched = matches.annotation
    counts = _is_match(truth, matched)
    counts &= ~matches.ignored[matched, np.arange(matched.shape[2])]
    # Candidates are sorted by class, so differences of running counts are the counts of the classes.
    category = matches.category[matches.candidates]
    ends = np.searchsorted(category, np.arange(len(matches.positives) + 1))
    positives = matches.positives[:, None, :]
    recall = np.full((*matched.shape[1:2], *matches.positives.shape, len(max_dets)), -1.0)
    for index, limit in enumerate(max_dets):
        within = matches.rank[matches.candidates] < limit
        running = np.cumsum(counts & within[:, None, None], axis=0)
        found = np.diff(np.concatenate([np.zeros((1, *running.shape[1:]), np.int64), running])[ends], axis=0)
        ratio = np.divide(found, positives, out=np.full(found.shape, -1.0), where=positives > 0)
        recall[..., index] = np.moveaxis(ratio, 0, 1)
    return recall


def _is_match(truth: Truth, matched: Integers) -> Bools:
    # The reference marks a match by the id of the annotation, where 0 means none.
    return (matched >= 0) & (truth.annotation_id[matched] != 0)
