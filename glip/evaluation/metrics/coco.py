"""Average precision and recall as COCO defines them, for boxes.

All numbers equal those of pycocotools to the last digit, at a fraction of its time, because all classes are matched
together in `matching.py`. Annotations with the id 0 are part of that: the reference takes a match with one for none,
so that the find counts as wrong, and published numbers of sets that count from 0 contain this.

Letters: `T` overlap thresholds, `R` recall levels, `K` classes, `A` ranges of areas, `M` limits of boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glip.data.annotations import Bools, Floats, Integers, Truth
from glip.evaluation.metrics.matching import AREAS, IOU_THRESHOLDS, Matches, match
from glip.evaluation.predictions import Predictions

RECALLS: Floats = np.linspace(0.0, 1.0, 101)
_AREA_LETTER = {"small": "s", "medium": "m", "large": "l"}


@dataclass(frozen=True)
class ClassScore:
    """One class. A score is -1 where no annotated box counts.

    Attributes:
        category_id: as in the truth.
        name: of the class.
        boxes: annotated boxes that count.
        ap: mean over ten overlap thresholds.
        ap50: at an overlap of 0.5.
        ap75: at an overlap of 0.75.
        ar: mean highest recall over ten overlap thresholds.
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
    """Everything that COCO's numbers are made of; -1 where a class has no annotated box that counts.

    Attributes:
        category_ids: (K,)
        names: (K)
        max_dets: (M) limits of boxes per class and image, ascending.
        positives: (K, A) annotated boxes that count.
        precision: (T, R, K, A) under the highest limit.
        score: (T, R, K, A) the threshold of the score that gives that precision.
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
        """The twelve published numbers, 0 to 1: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl.

        The limits in the names are `max_dets`. Where nothing can be scored the number is -1.
        """
        most = len(self.max_dets) - 1
        ap = {"AP": self.ap(), "AP50": self.ap(0.5), "AP75": self.ap(0.75)}
        ap |= {f"AP{letter}": self.ap(area=area) for area, letter in _AREA_LETTER.items()}
        ar = {f"AR{limit}": self.ar(limit=place) for place, limit in enumerate(self.max_dets)}
        ar |= {f"AR{letter}": self.ar(area, most) for area, letter in _AREA_LETTER.items()}
        return ap | ar

    def ap(self, iou: float | None = None, area: str = "all", categories: Integers | None = None) -> float:
        """Mean precision over recall levels and classes, at one overlap threshold or over all ten.

        Args:
            iou: one of 0.5, 0.55, … 0.95; None for the mean over them.
            area: all, small, medium or large.
            categories: places of the classes; None for all.
        """
        values = self.precision[:, :, :, list(AREAS).index(area)]
        if iou is not None:
            values = values[[threshold_place(iou)]]
        return mean_of_known(values if categories is None else values[:, :, categories])

    def ar(self, area: str = "all", limit: int = -1, categories: Integers | None = None) -> float:
        """Mean of the highest recall over overlap thresholds and classes, under the limit of that place."""
        values = self.recall[:, :, list(AREAS).index(area), limit]
        return mean_of_known(values if categories is None else values[:, categories])

    def per_class(self) -> list[ClassScore]:
        """One row a class, in the order of the ids."""
        rows = []
        for place, (id, name) in enumerate(zip(self.category_ids.tolist(), self.names, strict=True)):
            one = np.array([place])
            ap, ap50, ap75 = (self.ap(iou, categories=one) for iou in (None, 0.5, 0.75))
            boxes = int(self.positives[place, 0])
            rows.append(ClassScore(id, name, boxes, ap, ap50, ap75, ar=self.ar(categories=one)))
        return rows


def coco_scores(truth: Truth, predictions: Predictions, max_dets: Sequence[int] = (1, 10, 100)) -> CocoScores:
    """Scores boxes as COCO's evaluator does.

    Args:
        truth: annotated boxes. Crowds count neither as found nor as missed; `ignore` is not looked at.
        predictions: found boxes, checked with `check_predictions`.
        max_dets: limits of boxes per class and image; precision is that under the highest.
    """
    limits = tuple(sorted(max_dets))
    matches = match(truth, predictions, void=truth.iscrowd, max_dets=limits[-1])
    precision, score = precision_at_recalls(truth, matches)
    return CocoScores(
        truth.category_ids,
        truth.names,
        limits,
        matches.positives,
        precision,
        score,
        highest_recall(truth, matches, limits),
    )


def mean_of_known(values: Floats) -> float:
    """Mean of all that are not -1; -1 if none is. Sums in the order of the array, as the reference does."""
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else -1.0


def threshold_place(iou: float) -> int:
    """Place of an overlap threshold among the ten."""
    return int(np.argmin(np.abs(IOU_THRESHOLDS - iou)))


def right_and_wrong(truth: Truth, matches: Matches, category: int) -> tuple[Bools, Bools]:
    """What the boxes of one class count for, best first.

    Args:
        truth: that was matched.
        matches: of all classes.
        category: place of the class.

    Returns:
        (T, A, D) right and (T, A, D) wrong; a box can be neither.
    """
    rows = matches.slice_of(category)
    excused = matches.excused[:, rows]
    shape = (matches.annotation.shape[1], *excused.shape)
    right = np.zeros(shape, bool)
    wrong = np.broadcast_to(~excused, shape).copy()
    first, last = np.searchsorted(matches.candidate, [rows.start, rows.stop])
    places = matches.candidate[first:last] - rows.start
    matched = matches.annotation[first:last]
    void = matches.void[matched, np.arange(matched.shape[2])] & (matched >= 0)
    # The reference marks a match by the id of the annotation, where 0 means none.
    counts = (matched >= 0) & (truth.annotation_id[matched] != 0)
    right[:, :, places] = np.moveaxis(counts & ~void, 0, -1)
    wrong[:, :, places] &= np.moveaxis(~counts & ~void, 0, -1)
    return right, wrong


def precision_at_recalls(truth: Truth, matches: Matches) -> tuple[Floats, Floats]:
    """(T, R, K, A) highest precision at or beyond each recall level, and (T, R, K, A) the score where that begins."""
    thresholds = matches.annotation.shape[1]
    shape = (thresholds, len(RECALLS), *matches.positives.shape)
    precision, score = np.full(shape, -1.0), np.full(shape, -1.0)
    for category in np.flatnonzero(matches.positives.any(axis=1)).tolist():
        right, wrong = right_and_wrong(truth, matches, category)
        found = np.cumsum(right, axis=2)
        curve = found / (np.cumsum(wrong, axis=2).astype(float) + found + np.spacing(1))
        curve = np.maximum.accumulate(curve[:, :, ::-1], axis=2)[:, :, ::-1]
        # What stands behind the last box is the value of a recall that is not reached.
        curve = np.concatenate([curve, np.zeros((*curve.shape[:2], 1))], axis=2)
        scores = np.append(matches.score[matches.slice_of(category)], 0.0)
        for area in np.flatnonzero(matches.positives[category]).tolist():
            positives = matches.positives[category, area]
            # So many must be found for each level; computed with the same division as the recall itself.
            needed = np.searchsorted(np.arange(positives + 1) / positives, RECALLS, "left")
            for threshold in range(thresholds):
                place = np.searchsorted(found[threshold, area], needed, "left")
                precision[threshold, :, category, area] = curve[threshold, area, place]
                score[threshold, :, category, area] = scores[place]
    return precision, score


def highest_recall(truth: Truth, matches: Matches, limits: Sequence[int]) -> Floats:
    """(T, K, A, M) the part of the annotated boxes that is found at all."""
    matched = matches.annotation
    counts = (matched >= 0) & (truth.annotation_id[matched] != 0)
    counts &= ~matches.void[matched, np.arange(matched.shape[2])]
    # Candidates stand by class, so that differences of running counts are the counts of the classes.
    category = matches.category[matches.candidate]
    ends = np.searchsorted(category, np.arange(len(matches.positives) + 1))
    positives = matches.positives[:, None, :]
    recall = np.full((*matched.shape[1:2], *matches.positives.shape, len(limits)), -1.0)
    for place, limit in enumerate(limits):
        few = matches.rank[matches.candidate] < limit
        running = np.cumsum(counts & few[:, None, None], axis=0)
        found = np.diff(np.concatenate([np.zeros((1, *running.shape[1:]), np.int64), running])[ends], axis=0)
        ratio = np.divide(found, positives, out=np.full(found.shape, -1.0), where=positives > 0)
        recall[..., place] = np.moveaxis(ratio, 0, 1)
    return recall
