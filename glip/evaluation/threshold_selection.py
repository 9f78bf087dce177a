"""Which threshold to use for each class, and which wording of it works, from a handful of labelled images.

A threshold is chosen for the highest F1, or as the lowest that reaches a wanted precision. How far a handful of
images can be trusted is told by the bootstrap: the images are drawn anew many times, with repetition, and the
choice is made again; 95 of 100 choices lie in the interval. The same seed gives the same intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from glip.data.annotations import Floats, Integers, Truth
from glip.errors import InputError
from glip.evaluation.metrics.coco import coco_scores
from glip.evaluation.metrics.curves import IOU, Judged, judge, rates, steps
from glip.evaluation.predictions import Predictions

RESAMPLES = 1000
_EDGES = (2.5, 97.5)
# So many numbers of a resampled curve are held at once, which bounds memory.
_CELLS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A value and where it lies in 95 of 100 resamples; low and high are None if too few resamples have one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of one class.

    Attributes:
        category_id: of the class.
        name: likewise.
        boxes: annotated boxes that count.
        images: that have such boxes.
        threshold: lowest score that is kept; None if none can be chosen, then `why` says the reason.
        precision: at that threshold.
        recall: at that threshold.
        f1: at that threshold.
        why: empty where there is a threshold.
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
    """One wording of one class, scored alone.

    Attributes:
        category_id: of the class.
        name: of the class.
        wording: as it was asked.
        boxes: annotated boxes of the class that count.
        ap: COCO's AP of the class, 0 to 1.
        ap50: at an overlap of 0.5, with its interval.
        f1: highest at an overlap of 0.5.
        threshold: that gives it; None if nothing right was found.
        best_in: part of the resamples with a box of the class in which this wording has the highest AP50.
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
    """Chooses a threshold for every class; one row a class, in the order of the ids.

    Args:
        truth: the labelled images; what is not annotated in them is not there.
        predictions: found boxes with all scores down to the floor of the records.
        precision: the wanted one, 0 to 1, at the most recall; None for the highest F1.
        resamples: how often the images are drawn anew; 0 for no intervals.
        seed: of the draws.
        iou: overlap at which a box counts as found.

    Raises:
        InputError: the wanted precision is not above 0 and up to 1, or there are fewer than 0 resamples.
    """
    if precision is not None and not 0 < precision <= 1:
        raise InputError(f"A wanted precision lies above 0 and up to 1; {precision} does not.")
    weights = _draws(len(truth.image_ids), resamples, seed)
    return [_choose(judged, weights, precision) for judged in judge(truth, predictions, iou)]


def wording_scores(
    truth: Truth,
    found: Mapping[tuple[int, str], Predictions],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[WordingScore]:
    """Scores each wording of each class as if it were the only one; the best of each class first.

    Args:
        truth: the labelled images.
        found: (category id, wording) to its boxes in those images; their own category ids are not looked at.
        resamples: how often the images are drawn anew; 0 for no intervals.
        seed: of the draws. All wordings are compared on the same draws.

    Raises:
        InputError: there are fewer than 0 resamples.
    """
    weights = _draws(len(truth.image_ids), resamples, seed)
    rows = []
    for category in dict.fromkeys(id for id, _ in found):
        alone = truth.of_categories([category])
        wordings = {wording: boxes for (id, wording), boxes in found.items() if id == category}
        scored = {wording: _score_wording(alone, category, boxes, weights) for wording, boxes in wordings.items()}
        wins = _wins([drawn for _, drawn in scored.values()])
        own = [
            replace(row, wording=wording, best_in=win)
            for (wording, (row, _)), win in zip(scored.items(), wins, strict=True)
        ]
        rows += sorted(own, key=lambda row: -row.ap)
    return rows


def _draws(images: int, resamples: int, seed: int) -> Integers:
    """(S, I) how often each image is drawn in each resample; the first row is the images as they are."""
    if resamples < 0:
        raise InputError(f"--resamples is {resamples}; it must be 0, for no intervals, or more.")
    if not images:
        return np.ones((1, 0), np.int64)
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    return np.concatenate([np.ones((1, images), np.int64), drawn])


def _choose(judged: Judged, weights: Integers, wanted: float | None) -> ClassThreshold:
    images = int(np.count_nonzero(judged.positives_of_image))
    none = ClassThreshold(judged.category_id, judged.name, judged.positives, images)
    if not judged.positives:
        return replace(none, why="no annotated box of this class")
    if not judged.right.any():
        return replace(none, why="nothing right was found of this class")
    last = steps(judged.score)
    cuts = _cuts(judged.score[last])
    place = np.concatenate([_best(curves, wanted) for curves in _resampled(judged, weights, last)])
    if place[0] < 0:
        most = float(next(_resampled(judged, weights[:1], last))[0].max())
        return replace(none, why=f"no threshold reaches a precision of {wanted:g}; the highest is {most:.2f}")
    # What the threshold that was chosen is worth in each resample.
    chosen = np.concatenate(
        [np.stack([rate[:, place[0]] for rate in curves]) for curves in _resampled(judged, weights, last)], axis=1
    )
    threshold = np.where(place >= 0, cuts[place], np.nan)
    precision, recall, f1 = (_interval(np.where(values >= 0, values, np.nan)) for values in chosen)
    return replace(none, threshold=_interval(threshold), precision=precision, recall=recall, f1=f1)


def _cuts(score: Floats) -> Floats:
    """(S,) for each distinct score a round number that keeps it and not the next lower one, near the middle.

    The lowest score stays as it is, because records may hold nothing below it.
    """
    cuts = []
    for high, low in zip(score.tolist(), [*score[1:].tolist(), score[-1]], strict=True):
        rounded = (round((high + low) / 2, digits) for digits in range(2, 8))
        cuts.append(next((cut for cut in rounded if low < cut <= high), high))
    return np.array(cuts)


def _best(curves: tuple[Floats, Floats, Floats], wanted: float | None) -> Integers:
    """(S,) place of the threshold that each resample would choose; -1 where it has none."""
    precision, _, f1 = curves
    if wanted is None:
        return np.where(f1.max(axis=1) > 0, np.argmax(f1, axis=1), -1)
    enough = precision >= wanted
    last = enough.shape[1] - 1 - np.argmax(enough[:, ::-1], axis=1)
    return np.where(enough.any(axis=1), last, -1)


def _resampled(judged: Judged, weights: Integers, last: Integers) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Precision, recall and F1, each (S, thresholds), of a bounded number of resamples at a time."""
    size = max(1, _CELLS // max(1, len(judged.score)))
    for start in range(0, len(weights), size):
        some = weights[start : start + size]
        of_box = some[:, judged.image]
        right = np.cumsum(of_box * judged.right, axis=1)[:, last].astype(np.float64)
        wrong = np.cumsum(of_box * judged.wrong, axis=1)[:, last].astype(np.float64)
        positives = (some @ judged.positives_of_image).astype(np.float64)
        yield rates(right, wrong, positives[:, None])


def _interval(values: Floats) -> Interval:
    """The first value, and the interval of all others that are numbers; at least half must be."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn) or len(drawn) < (len(values) - 1) / 2:
        return Interval(float(values[0]), None, None)
    low, high = np.percentile(drawn, _EDGES)
    return Interval(float(values[0]), float(low), float(high))


def _score_wording(truth: Truth, category: int, boxes: Predictions, weights: Integers) -> tuple[WordingScore, Floats]:
    boxes = replace(boxes, category_id=np.full(len(boxes), category))
    judged = judge(truth, boxes)[0]
    last = steps(judged.score)
    drawn = np.concatenate([_area(curves) for curves in _resampled(judged, weights, last)])
    # Also where nothing was found: a draw without a box of the class tells nothing.
    drawn = np.where(weights @ judged.positives_of_image > 0, drawn, -1.0)
    scores = coco_scores(truth, boxes)
    f1 = next(_resampled(judged, weights[:1], last))[2][0]
    found = f1.max(initial=0.0) > 0
    interval = _interval(np.where(drawn >= 0, drawn, np.nan))
    row = WordingScore(
        category_id=category,
        name=judged.name,
        wording="",
        boxes=judged.positives,
        ap=scores.ap(),
        ap50=replace(interval, value=scores.ap(0.5)),
        f1=float(f1.max(initial=0.0)),
        threshold=float(_cuts(judged.score[last])[np.argmax(f1)]) if found else None,
        best_in=0.0,
    )
    return row, drawn


def _area(curves: tuple[Floats, Floats, Floats]) -> Floats:
    """(S,) area under the curve of each resample, which is AP50 but for its 101 levels; -1 without positives."""
    precision, recall, _ = curves
    if not precision.shape[1]:
        return np.zeros(len(precision))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area = np.sum(np.diff(recall, axis=1, prepend=0.0) * envelope, axis=1)
    return np.where(recall[:, -1] < 0, -1.0, area)


def _wins(drawn: Sequence[Floats]) -> list[float]:
    """How often each wording is the best of the resamples that have a box of the class; ties are shared."""
    table = np.stack(drawn)[:, 1:]
    table = table[:, table.max(axis=0) >= 0]
    if not table.shape[1]:
        return [0.0] * len(drawn)
    best = table == table.max(axis=0)
    return [float(part) for part in np.mean(best / best.sum(axis=0), axis=1)]
