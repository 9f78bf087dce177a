"""Selects a score threshold for each class, and compares its wordings, from a few labelled images.

A threshold is selected for the highest F1, or as the lowest one that reaches a wanted precision. The bootstrap says how
far a few images can be trusted: the images are resampled many times with replacement, the selection is repeated on
each resample, and 95 % of the results lie in the interval. The same seed gives the same intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from glip.data.annotations import Floats, Integers, Truth
from glip.errors import InputError
from glip.evaluation.metrics.coco import coco_scores
from glip.evaluation.metrics.curves import IOU, JudgedBoxes, judge, last_of_each_score, rates
from glip.evaluation.predictions import Predictions

RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)
# Values of resampled curves that are held at a time; bounds memory.
_VALUES_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; low and high are None if fewer than half of the resamples have a value."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of one class.

    Attributes:
        category_id: of the class.
        name: of the class.
        boxes: number of annotated boxes that count.
        images: number of images with such boxes.
        threshold: minimum score of boxes that are kept; None if none can be selected, then `why` says the reason.
        precision: at that threshold.
        recall: at that threshold.
        f1: at that threshold.
        why: empty if there is a threshold.
    """

    category_id: int
    name: str
    boxes: int
    images: int
    threshold: Interval | None = None
    precision: Interval | None = None
    recall: Interval | None = None
    f1: Interval | None = None
    why: str = ""


@dataclass(frozen=True)
class WordingScore:
    """The scores of one wording of one class, evaluated alone.

    Attributes:
        category_id: of the class.
        name: of the class.
        wording: text of the prompt.
        boxes: number of annotated boxes of the class that count.
        ap: COCO's AP of the class, 0 to 1.
        ap50: AP at IoU 0.5, with its interval.
        f1: highest F1 at IoU 0.5.
        threshold: score threshold of that F1; None if no box is right.
        best_in: share of the resamples with a box of the class in which this wording has the highest AP50.
    """

    category_id: int
    name: str
    wording: str
    boxes: int
    ap: float
    ap50: Interval
    f1: float
    threshold: float | None
    best_in: float


def class_thresholds(
    truth: Truth,
    predictions: Predictions,
    *,
    precision: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    iou: float = IOU,
) -> list[ClassThreshold]:
    """Selects a threshold for every class; returns one row per class, in the order of the ids.

    Args:
        truth: the labelled images. They are annotated completely: a box on nothing is wrong.
        predictions: predicted boxes with all scores down to the minimum of the records.
        precision: wanted precision, 0 to 1, at the highest possible recall; None for the highest F1.
        resamples: number of resamples of the images; 0 for no intervals.
        seed: of the resamples.
        iou: minimum IoU of a right box.

    Raises:
        InputError: `precision` does not lie in (0, 1], or `resamples` is negative.
    """
    if precision is not None and not 0 < precision <= 1:
        raise InputError(f"precision is {precision}; it must be above 0 and at most 1.")
    weights = _resample(len(truth.image_ids), resamples, seed)
    return [_select(judged, weights, precision) for judged in judge(truth, predictions, iou)]


def wording_scores(
    truth: Truth,
    predictions: Mapping[tuple[int, str], Predictions],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[WordingScore]:
    """Scores each wording of each class as if it were the only one; the best of each class comes first.

    Args:
        truth: the labelled images.
        predictions: the boxes of each (category id, wording) in those images; their own category ids are not read.
        resamples: number of resamples of the images; 0 for no intervals.
        seed: of the resamples. All wordings are compared on the same ones.

    Raises:
        InputError: `resamples` is negative.
    """
    weights = _resample(len(truth.image_ids), resamples, seed)
    rows = []
    for category in dict.fromkeys(id for id, _ in predictions):
        one_class = truth.of_categories([category])
        wordings = {wording: boxes for (id, wording), boxes in predictions.items() if id == category}
        scored = {wording: _score_wording(one_class, category, boxes, weights) for wording, boxes in wordings.items()}
        wins = _wins([resampled for _, resampled in scored.values()])
        own = [
            replace(row, wording=wording, best_in=win)
            for (wording, (row, _)), win in zip(scored.items(), wins, strict=True)
        ]
        rows += sorted(own, key=lambda row: -row.ap)
    return rows


def _resample(images: int, resamples: int, seed: int) -> Integers:
    """Returns (S, I) how often each image occurs in each resample. The first row is all images once."""
    if resamples < 0:
        raise InputError(f"resamples is {resamples}; it must be 0 (no intervals) or more.")
    if not images:
        return np.ones((1, 0), np.int64)
    counts = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    return np.concatenate([np.ones((1, images), np.int64), counts])


def _select(judged: JudgedBoxes, weights: Integers, wanted: float | None) -> ClassThreshold:
    images = int(np.count_nonzero(judged.positives_of_image))
    none = ClassThreshold(judged.category_id, judged.name, judged.positives, images)
    if not judged.positives:
        return replace(none, why="no annotated box of this class")
    if not judged.right.any():
        return replace(none, why="no predicted box of this class is right")
    last = last_of_each_score(judged.score)
    cuts = _round_thresholds(judged.score[last])
    index = np.concatenate([_best(curves, wanted) for curves in _resampled(judged, weights, last)])
    if index[0] < 0:
        maximum = float(next(_resampled(judged, weights[:1], last))[0].max())
        return replace(none, why=f"no threshold reaches a precision of {wanted:g}; the highest is {maximum:.2f}")
    # The rates of the selected threshold in each resample.
    selected = np.concatenate(
        [np.stack([rate[:, index[0]] for rate in curves]) for curves in _resampled(judged, weights, last)], axis=1
    )
    threshold = np.where(index >= 0, cuts[index], np.nan)
    precision, recall, f1 = (_interval(np.where(values >= 0, values, np.nan)) for values in selected)
    return replace(none, threshold=_interval(threshold), precision=precision, recall=recall, f1=f1)


def _round_thresholds(score: Floats) -> Floats:
    """Returns (S,) for each distinct score, descending, a round threshold that keeps it and not the next lower one.

    It lies near the middle of the two. The lowest score is kept as it is, because records may hold nothing below it.
    """
    cuts = []
    for high, low in zip(score.tolist(), [*score[1:].tolist(), score[-1]], strict=True):
        rounded = (round((high + low) / 2, digits) for digits in range(2, 8))
        cuts.append(next((cut for cut in rounded if low < cut <= high), high))
    return np.array(cuts)


def _best(curves: tuple[Floats, Floats, Floats], wanted: float | None) -> Integers:
    """Returns (S,) the index of the threshold that each resample selects; -1 where it has none."""
    precision, _, f1 = curves
    if wanted is None:
        return np.where(f1.max(axis=1) > 0, np.argmax(f1, axis=1), -1)
    enough = precision >= wanted
    last = enough.shape[1] - 1 - np.argmax(enough[:, ::-1], axis=1)
    return np.where(enough.any(axis=1), last, -1)


def _resampled(judged: JudgedBoxes, weights: Integers, last: Integers) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Yields precision, recall and F1, each (S, thresholds), of a bounded number of resamples at a time."""
    size = max(1, _VALUES_AT_A_TIME // max(1, len(judged.score)))
    for start in range(0, len(weights), size):
        some = weights[start : start + size]
        of_box = some[:, judged.image]
        right = np.cumsum(of_box * judged.right, axis=1)[:, last].astype(np.float64)
        wrong = np.cumsum(of_box * judged.wrong, axis=1)[:, last].astype(np.float64)
        positives = (some @ judged.positives_of_image).astype(np.float64)
        yield rates(right, wrong, positives[:, None])


def _interval(values: Floats) -> Interval:
    """Returns the first value with the interval of all others that are finite; at least half of them must be."""
    resampled = values[1:][np.isfinite(values[1:])]
    if not len(resampled) or len(resampled) < (len(values) - 1) / 2:
        return Interval(float(values[0]), None, None)
    low, high = np.percentile(resampled, _PERCENTILES)
    return Interval(float(values[0]), float(low), float(high))


def _score_wording(truth: Truth, category: int, boxes: Predictions, weights: Integers) -> tuple[WordingScore, Floats]:
    """Returns the row of one wording and (S,) its AP50 in each resample."""
    boxes = replace(boxes, category_id=np.full(len(boxes), category))
    judged = judge(truth, boxes)[0]
    last = last_of_each_score(judged.score)
    resampled = np.concatenate([_area(curves) for curves in _resampled(judged, weights, last)])
    # A resample without a box of the class says nothing, even if there is no predicted box.
    resampled = np.where(weights @ judged.positives_of_image > 0, resampled, -1.0)
    scores = coco_scores(truth, boxes)
    f1 = next(_resampled(judged, weights[:1], last))[2][0]
    found = f1.max(initial=0.0) > 0
    interval = _interval(np.where(resampled >= 0, resampled, np.nan))
    row = WordingScore(
        category_id=category,
        name=judged.name,
        wording="",
        boxes=judged.positives,
        ap=scores.ap(),
        ap50=replace(interval, value=scores.ap(0.5)),
        f1=float(f1.max(initial=0.0)),
        threshold=float(_round_thresholds(judged.score[last])[np.argmax(f1)]) if found else None,
        best_in=0.0,
    )
    return row, resampled


def _area(curves: tuple[Floats, Floats, Floats]) -> Floats:
    """Returns (S,) the area under each curve, which is AP50 without its 101 levels; -1 without positives."""
    precision, recall, _ = curves
    if not precision.shape[1]:
        return np.zeros(len(precision))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area = np.sum(np.diff(recall, axis=1, prepend=0.0) * envelope, axis=1)
    return np.where(recall[:, -1] < 0, -1.0, area)


def _wins(resampled: Sequence[Floats]) -> list[float]:
    """Returns the share of the resamples with a box of the class in which each wording is best; ties are shared."""
    table = np.stack(resampled)[:, 1:]
    table = table[:, table.max(axis=0) >= 0]
    if not table.shape[1]:
        return [0.0] * len(resampled)
    best = table == table.max(axis=0)
    return [float(part) for part in np.mean(best / best.sum(axis=0), axis=1)]
