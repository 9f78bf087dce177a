"""Matches predicted boxes with annotated boxes as COCO's evaluator does, for all classes at once.

In order of descending score, each predicted box takes the free annotated box of its image and class with the largest
overlap (IoU), if the IoU reaches the threshold. Ignored annotated boxes are taken only if no other is left. All IoU
thresholds and area ranges are matched in one pass. This module knows nothing of precision or of averages.

docs/evaluation.md lists the rules that are easily missed, and says why no library does this.

Letters: `D` predicted boxes, `N` annotated boxes, `T` IoU thresholds, `A` area ranges, `K` classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from glip.boxes import box_iou_xywh
from glip.data.annotations import Bools, Floats, Integers, Truth
from glip.evaluation.predictions import Predictions

# linspace, not arange: the reference compares with exactly these floats.
IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
# Minimum and maximum area in square pixels.
AREA_RANGES: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e5**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
# Pairs of boxes that are compared at a time; bounds memory.
_PAIRS_AT_A_TIME = 1 << 20
# The reference lowers a threshold of 1 to this.
_ALMOST_ONE = 1 - 1e-10


@dataclass(frozen=True, eq=False)
class Matches:
    """The match of every predicted box.

    Boxes are sorted by class, then by descending score; equal scores by image, then by their order in the file. Only
    boxes that overlap an annotated box enough can match. They are few, and `candidates` lists them.

    Attributes:
        rows: (D,) indices into the predictions.
        category: (D,) class index, ascending.
        score: (D,)
        rank: (D,) number of boxes of the same class and image with a higher score.
        ignored_if_unmatched: (A, D) the box is neither right nor wrong if it matches nothing.
        candidates: (C,) indices into `rows`, ascending.
        annotation: (C, T, A) row of the truth that the candidate matches; -1 for none.
        ignored: (N, A) annotated boxes that do not count: a predicted box on one is neither right nor wrong.
        positives: (K, A) number of annotated boxes that count.
    """

    rows: Integers
    category: Integers
    score: Floats
    rank: Integers
    ignored_if_unmatched: Bools
    candidates: Integers
    annotation: Integers
    ignored: Bools
    positives: Integers

    def slice_of(self, category: int) -> slice:
        """Returns the slice of the boxes of one class, given its index."""
        start, end = np.searchsorted(self.category, [category, category + 1])
        return slice(int(start), int(end))


def match(
    truth: Truth,
    predictions: Predictions,
    *,
    ignored: Bools,
    ignored_if_unmatched: Bools | None = None,
    max_dets: int | None = 100,
    iou_thresholds: Floats = IOU_THRESHOLDS,
    area_ranges: Mapping[str, tuple[float, float]] = AREA_RANGES,
) -> Matches:
    """Matches all predicted boxes with the annotated boxes of their image and class.

    Args:
        truth: annotated boxes. A crowd can be matched many times.
        predictions: predicted boxes; the truth must contain their images and classes.
        ignored: (N,) annotated boxes that do not count, whatever their area.
        ignored_if_unmatched: (D,) predicted boxes that are not wrong if they match nothing; None for none of them.
        max_dets: maximum number of boxes per class and image; None for no maximum.
        iou_thresholds: (T,) above 0.
        area_ranges: name to minimum and maximum area, both included. Boxes outside are ignored.
    """
    low, high = (np.array(side, np.float64)[:, None] for side in zip(*area_ranges.values(), strict=True))
    ignored_by_area = (ignored[None] | (truth.area < low) | (truth.area > high)).T
    category = truth.category_indices(predictions.category_id)
    image = truth.image_indices(predictions.image_id)
    group = category * len(truth.image_ids) + image
    rank = _rank_in_group(group, predictions.score)
    rows = np.lexsort((image, -predictions.score, category))
    if max_dets is not None:
        rows = rows[rank[rows] < max_dets]
    area = predictions.bbox[rows, 2] * predictions.bbox[rows, 3]
    outside = (area < low) | (area > high)
    if ignored_if_unmatched is not None:
        outside |= ignored_if_unmatched[rows]
    candidates, annotation = _match_candidates(
        _Pairs.of(truth, predictions.bbox[rows], group[rows], float(iou_thresholds.min())),
        group[rows],
        rank[rows],
        ignored_by_area,
        truth.iscrowd,
        np.minimum(iou_thresholds, _ALMOST_ONE),
    )
    positives = np.zeros((len(truth.category_ids), len(area_ranges)), np.int64)
    np.add.at(positives, truth.category_indices(truth.category_id), ~ignored_by_area)
    return Matches(
        rows=rows,
        category=category[rows],
        score=predictions.score[rows],
        rank=rank[rows],
        ignored_if_unmatched=outside,
        candidates=candidates,
        annotation=annotation,
        ignored=ignored_by_area,
        positives=positives,
    )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a predicted and an annotated box that overlap enough.

    They are sorted by predicted box, then by their order in the truth.

    Attributes:
        predicted: (P,) index of the predicted box.
        annotated: (P,) row of the truth.
        iou: (P,)
    """

    predicted: Integers
    annotated: Integers
    iou: Floats

    @classmethod
    def of(cls, truth: Truth, bbox: Floats, group: Integers, min_iou: float) -> _Pairs:
        """Finds the pairs of the same group whose IoU is `min_iou` or more."""
        pieces = [cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
        for predicted, annotated in pairs_of_same_group(truth, group):
            iou = box_iou_xywh(bbox[predicted], truth.bbox[annotated], truth.iscrowd[annotated])
            near = iou >= min(min_iou, _ALMOST_ONE)
            pieces.append(cls(predicted[near], annotated[near], iou[near]))
        return cls(
            *(np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("predicted", "annotated", "iou"))
        )


def pairs_of_same_group(truth: Truth, group: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Yields all pairs of a predicted and an annotated box of the same image and class, in pieces of bounded size.

    Args:
        truth: annotated boxes.
        group: (D,) class index × number of images + image index of every predicted box.

    Yields:
        (P,) indices of predicted boxes and (P,) rows of the truth.
    """
    group_of_truth = truth.category_indices(truth.category_id) * len(truth.image_ids) + truth.image_indices(
        truth.image_id
    )
    order = np.argsort(group_of_truth, kind="stable")
    start, end = (np.searchsorted(group_of_truth[order], group, side) for side in ("left", "right"))
    with_pairs = np.flatnonzero(end > start)
    count = (end - start)[with_pairs]
    total = np.cumsum(count)
    first = 0
    while first < len(with_pairs):
        done = total[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(total, done + _PAIRS_AT_A_TIME, "right")))
        counts = count[first:last]
        predicted = np.repeat(with_pairs[first:last], counts)
        offset = np.arange(len(predicted)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield predicted, order[start[predicted] + offset]
        first = last


def _rank_in_group(group: Integers, score: Floats) -> Integers:
    """Returns (D,) the number of boxes of the same group that come first: higher scores, or equal ones earlier."""
    order = np.lexsort((-score, group))
    rank = np.empty(len(group), np.int64)
    rank[order] = index_in_run(group[order])
    return rank


def index_in_run(values: Integers) -> Integers:
    """Returns (N,) for sorted values: 0, 1, 2, …, starting again at 0 for each new value."""
    return np.arange(len(values)) - np.searchsorted(values, values, "left")


def _match_candidates(
    pairs: _Pairs, group: Integers, rank: Integers, ignored: Bools, crowd: Bools, thresholds: Floats
) -> tuple[Integers, Integers]:
    """Matches the best candidate of every group in one step, then the second best of every group, and so on.

    Returns:
        (C,) indices of the candidates, ascending, and (C, T, A) the annotated rows that they match, or -1.
    """
    candidates, candidate_of_pair = np.unique(pairs.predicted, return_inverse=True)
    by_group = np.lexsort((rank[candidates], group[candidates]))
    turn = np.empty(len(candidates), np.int64)
    turn[by_group] = index_in_run(group[candidates][by_group])
    # Orders pairs by IoU; of equal IoUs the one that is later in the truth wins, as in the reference.
    strength = np.empty(len(pairs.iou), np.int64)
    strength[np.argsort(pairs.iou, kind="stable")] = np.arange(len(pairs.iou))
    pair_of_strength = np.argsort(strength)
    matched = np.full((len(candidates), len(thresholds), ignored.shape[1]), -1, np.int64)
    taken = np.zeros((len(ignored), *matched.shape[1:]), bool)
    turn_of_pair = turn[candidate_of_pair]
    order = np.argsort(turn_of_pair, kind="stable")
    bounds = np.searchsorted(turn_of_pair[order], np.arange(turn.max(initial=-1) + 2))
    for start, end in pairwise(bounds):
        current = order[start:end]
        annotated = pairs.annotated[current]
        free = ~taken[annotated] | crowd[annotated, None, None]
        free &= (pairs.iou[current, None] >= thresholds)[:, :, None]
        # Boxes that count come before all ignored ones.
        value = strength[current, None] + len(strength) * ~ignored[annotated]
        first = np.flatnonzero(np.diff(candidate_of_pair[current], prepend=-1))
        best = np.maximum.reduceat(np.where(free, value[:, None], -1), first, axis=0)
        winner, threshold, area = np.nonzero(best >= 0)
        row = pairs.annotated[pair_of_strength[best[winner, threshold, area] % len(strength)]]
        matched[candidate_of_pair[current][first][winner], threshold, area] = row
        taken[row, threshold, area] = True
    return candidates, matched
