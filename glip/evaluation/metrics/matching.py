"""Which found box answers for which annotated box, decided as COCO's evaluator decides, for all classes at once.

Best score first, each found box takes the annotated box of its image and class that it overlaps most and that is
still free, if the overlap reaches the threshold; annotated boxes that do not count are taken only if no other is left.
Ten thresholds and four ranges of areas are decided in one go. Knows nothing of precision or of what is averaged.

Letters: `D` found boxes, `N` annotated boxes, `T` thresholds, `A` ranges of areas, `K` classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from glip.data.annotations import Bools, Floats, Integers, Truth
from glip.evaluation.predictions import Predictions

# linspace, not arange: the reference compares with exactly these floats.
IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
AREAS: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e5**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
# So many pairs of a found and an annotated box are compared at once, which bounds memory.
_PAIRS = 1 << 20
# The reference's threshold for a match never quite reaches 1.
_ALMOST_ONE = 1 - 1e-10


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of every found box. Boxes stand by class, then best first; equal scores by image, then file.

    Only the rows that overlap an annotated box enough can match, and they are few: `candidate` says which they are.

    Attributes:
        rows: (D,) places in the predictions.
        category: (D,) place of the class, ascending.
        score: (D,)
        rank: (D,) how many better boxes of its class there are in its image.
        excused: (A, D) counts neither as right nor as wrong where it matches nothing.
        candidate: (C,) places in `rows`, ascending.
        annotation: (C, T, A) row of the truth that the box matched; -1 where none.
        void: (N, A) annotated boxes that do not count: a find of them is neither right nor wrong.
        positives: (K, A) annotated boxes that count.
    """

    rows: Integers
    category: Integers
    score: Floats
    rank: Integers
    excused: Bools
    candidate: Integers
    annotation: Integers
    void: Bools
    positives: Integers

    def slice_of(self, category: int) -> slice:
        """The boxes of one class, by its place."""
        start, end = np.searchsorted(self.category, [category, category + 1])
        return slice(int(start), int(end))


def match(
    truth: Truth,
    predictions: Predictions,
    *,
    void: Bools,
    excused: Bools | None = None,
    max_dets: int | None = 100,
    iou_thresholds: Floats = IOU_THRESHOLDS,
    areas: Mapping[str, tuple[float, float]] = AREAS,
) -> Matches:
    """Matches all found boxes with the annotated boxes of their image and class.

    Args:
        truth: annotated boxes; crowds may be matched many times.
        predictions: found boxes; images and classes must be known to the truth.
        void: (N,) annotated boxes that do not count, whatever their area.
        excused: (D,) found boxes that are not wrong if they match nothing; None if every one is.
        max_dets: most boxes of a class in an image; None for no limit.
        iou_thresholds: (T,) above 0.
        areas: name to lowest and highest area, both included.
    """
    low, high = (np.array(side, np.float64)[:, None] for side in zip(*areas.values(), strict=True))
    truth_void = (void[None] | (truth.area < low) | (truth.area > high)).T
    category = truth.category_indices(predictions.category_id)
    image = truth.image_indices(predictions.image_id)
    group = category * len(truth.image_ids) + image
    rank = _rank_in_group(group, predictions.score)
    rows = np.lexsort((image, -predictions.score, category))
    if max_dets is not None:
        rows = rows[rank[rows] < max_dets]
    area = predictions.bbox[rows, 2] * predictions.bbox[rows, 3]
    out = (area < low) | (area > high)
    if excused is not None:
        out |= excused[rows]
    category_of_truth = truth.category_indices(truth.category_id)
    candidate, annotation = _match_candidates(
        _Pairs.of(truth, predictions.bbox[rows], group[rows], float(iou_thresholds.min())),
        group[rows],
        rank[rows],
        truth_void,
        truth.iscrowd,
        np.minimum(iou_thresholds, _ALMOST_ONE),
    )
    positives = np.zeros((len(truth.category_ids), len(areas)), np.int64)
    np.add.at(positives, category_of_truth, ~truth_void)
    return Matches(
        rows, category[rows], predictions.score[rows], rank[rows], out, candidate, annotation, truth_void, positives
    )


def pair_iou(found: Floats, annotated: Floats, crowd: Bools) -> Floats:
    """(P,) overlaps of (P, 4) with (P, 4) left, top, width, height boxes, to the last digit as pycocotools computes.

    With a crowd the overlap is the part of the found box that lies in it.
    """
    end = np.minimum(found[:, :2] + found[:, 2:], annotated[:, :2] + annotated[:, 2:])
    sides = end - np.maximum(found[:, :2], annotated[:, :2])
    shared = sides[:, 0] * sides[:, 1]
    area = found[:, 2] * found[:, 3]
    union = np.where(crowd, area, area + annotated[:, 2] * annotated[:, 3] - shared)
    overlaps = np.all(sides > 0, axis=1)
    return np.divide(shared, union, out=np.zeros(len(found)), where=overlaps)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a found and an annotated box that overlap enough, by found box, then in the order of the truth.

    Attributes:
        found: (P,) place among the found boxes.
        annotated: (P,) row of the truth.
        iou: (P,)
    """

    found: Integers
    annotated: Integers
    iou: Floats

    @classmethod
    def of(cls, truth: Truth, found: Floats, group: Integers, least: float) -> _Pairs:
        pieces = [cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
        for one, other in pairs_of_same_group(truth, group):
            iou = pair_iou(found[one], truth.bbox[other], truth.iscrowd[other])
            near = iou >= min(least, _ALMOST_ONE)
            pieces.append(cls(one[near], other[near], iou[near]))
        return cls(
            *(np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("found", "annotated", "iou"))
        )


def pairs_of_same_group(truth: Truth, group: Integers) -> Iterator[tuple[Integers, Integers]]:
    """All pairs of a found box and an annotated box of the same image and class, a bounded number at a time."""
    own = truth.category_indices(truth.category_id) * len(truth.image_ids) + truth.image_indices(truth.image_id)
    order = np.argsort(own, kind="stable")
    start, end = (np.searchsorted(own[order], group, side) for side in ("left", "right"))
    busy = np.flatnonzero(end > start)
    count = (end - start)[busy]
    total = np.cumsum(count)
    first = 0
    while first < len(busy):
        done = total[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(total, done + _PAIRS, "right")))
        counts = count[first:last]
        found = np.repeat(busy[first:last], counts)
        within = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield found, order[start[found] + within]
        first = last


def _rank_in_group(group: Integers, score: Floats) -> Integers:
    """(D,) how many boxes of the same group go before: higher scores, or equal ones earlier in the file."""
    order = np.lexsort((-score, group))
    rank = np.empty(len(group), np.int64)
    rank[order] = _place_in_run(group[order])
    return rank


def _place_in_run(values: Integers) -> Integers:
    """(N,) for sorted values: 0, 1, 2, … anew for each value."""
    return np.arange(len(values)) - np.searchsorted(values, values, "left")


def _match_candidates(
    pairs: _Pairs, group: Integers, rank: Integers, void: Bools, crowd: Bools, thresholds: Floats
) -> tuple[Integers, Integers]:
    """Goes through the candidates, the best of every group at once, then the second best of every group, and so on.

    Returns:
        (C,) places of the candidates, ascending, and (C, T, A) the annotated rows that they matched, or -1.
    """
    candidate, of_pair = np.unique(pairs.found, return_inverse=True)
    by_group = np.lexsort((rank[candidate], group[candidate]))
    turn = np.empty(len(candidate), np.int64)
    turn[by_group] = _place_in_run(group[candidate][by_group])
    # A pair's strength: larger overlap first, and of equal overlaps the later in the truth, as the reference has it.
    strength = np.empty(len(pairs.iou), np.int64)
    strength[np.argsort(pairs.iou, kind="stable")] = np.arange(len(pairs.iou))
    pair_of_strength = np.argsort(strength)
    matched = np.full((len(candidate), len(thresholds), void.shape[1]), -1, np.int64)
    taken = np.zeros((len(void), *matched.shape[1:]), bool)
    pair_turn = turn[of_pair]
    order = np.argsort(pair_turn, kind="stable")
    bounds = np.searchsorted(pair_turn[order], np.arange(turn.max(initial=-1) + 2))
    for start, end in pairwise(bounds):
        now = order[start:end]
        other = pairs.annotated[now]
        free = ~taken[other] | crowd[other, None, None]
        free &= (pairs.iou[now, None] >= thresholds)[:, :, None]
        # Boxes that count outrank all that do not.
        value = strength[now, None] + len(strength) * ~void[other]
        first = np.flatnonzero(np.diff(of_pair[now], prepend=-1))
        best = np.maximum.reduceat(np.where(free, value[:, None], -1), first, axis=0)
        who, threshold, area = np.nonzero(best >= 0)
        row = pairs.annotated[pair_of_strength[best[who, threshold, area] % len(strength)]]
        matched[of_pair[now][first][who], threshold, area] = row
        taken[row, threshold, area] = True
    return candidate, matched
