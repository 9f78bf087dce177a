"""What the views of an image say, as one result: boxes that tiles have cut are put together again.

What lies on an inner border of a tile is cut there. Three rules, in this order, make one box of what the views say of
one object:

    1. A cut box goes where another view shows the same thing whole.
    2. Cut boxes of several views that agree on what they all show become one box around them.
    3. What is left is merged by non-maximum suppression or weighted box fusion, class by class.

Arrays in, arrays out, in numpy. Knows nothing of pixels, models or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glip.detections import Detections
from glip.images import resized_hw
from glip.labeling.tiling import Merge, ViewBox

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NMS_IOU = 0.5  # boxes of two views of one object are less alike than boxes of one view
WBF_IOU = 0.55  # of the paper

# A box that ends this near to an inner border is taken as cut there: this many pixels, or this part of the side.
_TOUCH_PIXELS, _TOUCH = 2.0, 0.01
# Two views mean the same thing if their boxes overlap by this much in what both show. Two pixels of difference are
# forgiven on each axis, so that the slivers that remain of an object beyond a border are recognised.
_AGREE, _SLACK = 0.5, 2.0
# Side in pixels of the resized view under which the model, whose finest cells are 8 pixels wide, sees next to nothing:
# a view that shows an object smaller than this has no say in whether it is there.
_SEEN_SIDE = 16.0


def merge_views(
    views: Sequence[ViewBox],
    found: Sequence[Detections],
    *,
    merge: Merge = "nms",
    imgsz: int = 800,
    max_detections: int | None = None,
) -> Detections:
    """One result from those of the views of an image.

    Args:
        views: xyxy in pixels of the image; together they cover it.
        found: what was found in each, in pixels of that view, all with the same names.
        merge: see `Tiling`.
        imgsz: short side that views were resized to; `wbf` asks only those views that show an object large enough.
        max_detections: most boxes of the result; None for all.

    Returns:
        Boxes in pixels of the image, best first. Of a single view: its own, unchanged.
    """
    assert len(views) == len(found), f"{len(found)} results of {len(views)} views"
    if len(views) == 1:
        return found[0].filter(np.arange(len(found[0]))[:max_detections])
    boxes = _Boxes.of(views, found)
    kept = boxes.without_cut_doubles().joined()
    merged = kept.by_nms() if merge == "nms" else kept.by_fusion(imgsz)
    order = np.argsort(-merged.scores, kind="stable")[:max_detections]
    return Detections(
        merged.xyxy[order].astype(np.float32),
        merged.scores[order].astype(np.float32),
        merged.labels[order],
        found[0].names,
    )


def fuse(xyxy: Floats, scores: Floats, iou: float) -> tuple[Floats, Floats, list[list[int]]]:
    """Weighted box fusion of boxes of one class, as defined by Solovyev et al. 2021, without its last step.

    Boxes come one by one, best first; each joins the fused box that it overlaps most, if by more than `iou`, or
    begins a new one. A fused box is the mean of its members weighted by their scores, its score their plain mean.

    Args:
        xyxy: (N, 4).
        scores: (N,).
        iou: least overlap.

    Returns:
        (K, 4) fused boxes, (K,) their scores, and for each the places of its members among the N. The last step, less
        score for what few saw, is the caller's, who knows how many could.
    """
    members: list[list[int]] = []
    sums, weights = np.zeros((len(xyxy), 4)), np.maximum(scores, 1e-9)
    fused = np.zeros((len(xyxy), 4))  # the first len(members) rows count
    for index in np.argsort(-scores, kind="stable").tolist():
        overlaps = _iou(xyxy[index], fused[: len(members)])
        place = int(overlaps.argmax()) if len(members) else -1
        if place < 0 or overlaps[place] <= iou:
            place = len(members)
            members.append([])
        members[place].append(index)
        sums[place] += weights[index] * xyxy[index]
        fused[place] = sums[place] / weights[members[place]].sum()
    means = np.array([scores[mine].mean() for mine in members], np.float64)
    return fused[: len(members)], means, members


def suppress(xyxy: Floats, labels: Integers, view: Integers, iou: float) -> Integers:
    """Greedy non-maximum suppression among boxes of one class and different views, for tens of thousands of boxes.

    Args:
        xyxy: (N, 4), best first.
        labels: (N,).
        view: (N,) who found it; boxes of one view never drop each other.
        iou: a box goes if it overlaps a better one that stays by more than this.

    Returns:
        (K,) places of the boxes that stay, in order.
    """
    better, worse = _overlapping(xyxy)
    rivals = (labels[better] == labels[worse]) & (view[better] != view[worse])
    better, worse = better[rivals], worse[rivals]
    rivals = _iou(xyxy[better], xyxy[worse]) > iou
    better, worse = better[rivals], worse[rivals]
    order = np.argsort(better, kind="stable")
    better, worse = better[order], worse[order]
    stays = np.ones(len(xyxy), bool)
    places, starts = np.unique(better, return_index=True)
    for place, losers in zip(places.tolist(), np.split(worse, starts[1:]), strict=False):
        if stays[place]:
            stays[losers] = False
    return np.flatnonzero(stays)


@dataclass(frozen=True, eq=False)
class _Boxes:
    """What all views found.

    Attributes:
        xyxy: (N, 4) in pixels of the image.
        scores: (N,).
        labels: (N,).
        view: (N,) who found it: a row of `views`, or a number beyond for a box made of several views' boxes.
        views: (M, 4) xyxy in pixels of the image.
    """

    xyxy: Floats
    scores: Floats
    labels: Integers
    view: Integers
    views: Floats

    @classmethod
    def of(cls, views: Sequence[ViewBox], found: Sequence[Detections]) -> _Boxes:
        counts = [len(part) for part in found]
        corners = np.asarray(views, np.float64)
        view = np.repeat(np.arange(len(views)), counts)
        local = np.concatenate([part.boxes for part in found]).astype(np.float64)
        return cls(
            local + corners[view][:, [0, 1, 0, 1]],
            np.concatenate([part.scores for part in found]).astype(np.float64),
            np.concatenate([part.labels for part in found]),
            view,
            corners,
        )

    def take(self, places: Integers) -> _Boxes:
        return _Boxes(self.xyxy[places], self.scores[places], self.labels[places], self.view[places], self.views)

    def without_cut_doubles(self) -> _Boxes:
        """Rule 1: cut boxes go where a view that holds all of them shows the same thing whole.

        The box that stays keeps its place and takes the better score: a part of a thing, seen larger, can be surer.
        """
        seams = _Seams(self)
        scores = self.scores.copy()
        heir = np.full(len(scores), -1)
        likeness = np.zeros(len(scores))
        for one, other in seams.neighbours():
            cut = seams.held_by(one, other)
            whole = np.flatnonzero((self.view == other) & ~seams.is_cut)
            for part, box, agreement in seams.same(cut, whole):
                if agreement > likeness[part]:
                    heir[part], likeness[part] = box, agreement
        gone = np.flatnonzero(heir >= 0)
        np.maximum.at(scores, heir[gone], self.scores[gone])
        return _Boxes(self.xyxy, scores, self.labels, self.view, self.views).take(np.flatnonzero(heir < 0))

    def joined(self) -> _Boxes:
        """Rule 2: cut boxes of several views that agree become one; its score is their mean, weighted by area."""
        seams = _Seams(self)
        group = np.arange(len(self.scores))
        for one, other in seams.neighbours():
            if one < other:
                mine, theirs = (np.flatnonzero((self.view == view) & seams.is_cut) for view in (one, other))
                for left, right, _ in seams.same(mine, theirs):
                    group[group == group[right]] = group[left]
        numbers, counts = np.unique(group, return_counts=True)
        several = numbers[counts > 1]
        parts = [np.flatnonzero(group == number) for number in several]
        if not parts:
            return self
        alone = self.take(np.flatnonzero(~np.isin(group, several)))
        corners = [np.concatenate([self.xyxy[p, :2].min(0), self.xyxy[p, 2:].max(0)]) for p in parts]
        scores = [np.average(self.scores[p], weights=_areas(self.xyxy[p]) + 1e-9) for p in parts]
        return _Boxes(
            np.concatenate([alone.xyxy, corners]),
            np.concatenate([alone.scores, scores]),
            np.concatenate([alone.labels, self.labels[[p[0] for p in parts]]]),
            np.concatenate([alone.view, len(self.views) + np.arange(len(parts))]),
            self.views,
        )

    def by_nms(self) -> _Boxes:
        """Rule 3: of boxes of different views that overlap, the best. Boxes of one view are different things."""
        ranked = self.take(np.argsort(-self.scores, kind="stable"))
        return ranked.take(suppress(ranked.xyxy, ranked.labels, ranked.view, NMS_IOU))

    def by_fusion(self, imgsz: int) -> _Boxes:
        """Rule 3: of boxes that overlap, the mean; less score where views that could see the thing did not."""
        scale = np.array(
            [resized_hw((int(y2 - y1), int(x2 - x1)), imgsz)[0] / (y2 - y1) for x1, y1, x2, y2 in self.views]
        )
        fused_boxes, fused_scores, fused_labels = [np.zeros((0, 4))], [np.zeros(0)], [np.zeros(0, np.int64)]
        for label in np.unique(self.labels):
            mine = self.take(np.flatnonzero(self.labels == label))
            xyxy, scores, members = fuse(mine.xyxy, mine.scores, WBF_IOU)
            for place, group in enumerate(members):
                asked = set(self._could_see(xyxy[place], scale)) | set(mine.view[group].tolist())
                scores[place] *= min(len(group), len(asked)) / len(asked)
            fused_boxes.append(xyxy)
            fused_scores.append(scores)
            fused_labels.append(np.full(len(scores), label))
        fused = np.concatenate(fused_boxes), np.concatenate(fused_scores), np.concatenate(fused_labels)
        each = np.arange(len(fused[1]))
        ranked = _Boxes(*fused, each, self.views).take(np.argsort(-fused[1], kind="stable"))
        # Means can move onto each other.
        return ranked.take(suppress(ranked.xyxy, ranked.labels, ranked.view, WBF_IOU))

    def _could_see(self, box: Floats, scale: Floats) -> list[int]:
        """Views that hold a box entirely, and show it large enough."""
        holds = _holds(self.views, box)
        return np.flatnonzero(holds & (np.sqrt(_areas(box[None])) * scale >= _SEEN_SIDE)).tolist()


class _Seams:
    """Where views meet: which boxes are cut there, and which mean the same thing."""

    def __init__(self, boxes: _Boxes) -> None:
        self._boxes = boxes
        # Boxes that are made of several views' boxes are never asked about; any row will do for them.
        self._own = boxes.views[np.minimum(boxes.view, len(boxes.views) - 1)]
        frame = np.concatenate([boxes.views[:, :2].min(0), boxes.views[:, 2:].max(0)])
        touch = np.maximum(_TOUCH_PIXELS, _TOUCH * (self._own[:, 2:] - self._own[:, :2]))
        near_start = boxes.xyxy[:, :2] <= self._own[:, :2] + touch
        near_end = boxes.xyxy[:, 2:] >= self._own[:, 2:] - touch
        cut = np.concatenate([near_start, near_end], axis=1) & (self._own != frame)
        self.is_cut: NDArray[np.bool_] = cut.any(axis=1)
        # What is cut goes on to the border, wherever the detector stopped drawing.
        self._shown = np.where(cut, self._own, boxes.xyxy)

    def neighbours(self) -> list[tuple[int, int]]:
        """Ordered pairs of views that share more than a corner: the first with cut boxes, the second with any."""
        cut, filled = np.unique(self._boxes.view[self.is_cut]), np.unique(self._boxes.view)
        ours, theirs = self._boxes.views[cut][:, None], self._boxes.views[filled][None]
        shared = np.minimum(ours[..., 2:], theirs[..., 2:]) - np.maximum(ours[..., :2], theirs[..., :2])
        meet = (shared.min(axis=-1) >= 0) & (shared.max(axis=-1) > 0)
        pairs = zip(cut[meet.nonzero()[0]].tolist(), filled[meet.nonzero()[1]].tolist(), strict=True)
        return [(one, other) for one, other in pairs if one != other]

    def held_by(self, view: int, other: int) -> Integers:
        """The cut boxes of one view that lie in another one entirely."""
        mine = np.flatnonzero((self._boxes.view == view) & self.is_cut)
        return mine[_holds(self._boxes.views[other], self._boxes.xyxy[mine])]

    def same(self, mine: Integers, theirs: Integers) -> Iterator[tuple[int, int, float]]:
        """Pairs of boxes of two views that mean the same thing: alike, and each the other's best.

        Two boxes of one view are two things, so each has one partner at most.

        Returns:
            places of both, and how alike they are in what both views show.
        """
        if not len(mine) or not len(theirs):
            return
        alike = self._agreement(mine, theirs)
        best_of_theirs, best_of_mine = alike.argmax(axis=1), alike.argmax(axis=0)
        for row, column in enumerate(best_of_theirs.tolist()):
            if best_of_mine[column] == row and alike[row, column] >= _AGREE:
                yield int(mine[row]), int(theirs[column]), float(alike[row, column])

    def _agreement(self, mine: Integers, theirs: Integers) -> Floats:
        """(I, J) overlap inside the zone that both views show; 0 for different classes."""
        one, other = self._own[mine[0]], self._own[theirs[0]]
        low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
        ours, others = self._shown[mine][:, None], self._shown[theirs][None]
        reach = [(boxes[..., :2] <= high) & (boxes[..., 2:] >= low) for boxes in (ours, others)]
        ours, others = (np.clip(boxes, np.tile(low, 2), np.tile(high, 2)) for boxes in (ours, others))
        inside = np.minimum(ours[..., 2:], others[..., 2:]) - np.maximum(ours[..., :2], others[..., :2])
        around = np.maximum(ours[..., 2:], others[..., 2:]) - np.minimum(ours[..., :2], others[..., :2])
        alike = ((inside + _SLACK) / (around + _SLACK)).prod(axis=-1)
        same_class = self._boxes.labels[mine][:, None] == self._boxes.labels[theirs][None]
        return np.where(same_class & (reach[0] & reach[1] & (inside >= 0)).all(axis=-1), alike, 0.0)


def _holds(views: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Whether boxes (..., 4) lie in views (..., 4), but for two pixels."""
    inside = (boxes[..., :2] >= views[..., :2] - _TOUCH_PIXELS) & (boxes[..., 2:] <= views[..., 2:] + _TOUCH_PIXELS)
    return np.asarray(inside.all(axis=-1))


def _areas(boxes: Floats) -> Floats:
    area: Floats = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return area


def _iou(ones: Floats, others: Floats) -> Floats:
    """(K,) overlaps of boxes with boxes, row by row; 0 where both have no area."""
    corner = np.maximum(ones[..., :2], others[..., :2])
    sides = np.maximum(np.minimum(ones[..., 2:], others[..., 2:]) - corner, 0)
    shared = sides[..., 0] * sides[..., 1]
    around = _areas(ones) + _areas(others) - shared
    overlaps: Floats = shared / np.where(around > 0, around, 1)
    return overlaps


def _overlapping(xyxy: Floats) -> tuple[Integers, Integers]:
    """Pairs of places (lower, higher) whose boxes overlap, without looking at every pair: from left to right, a box
    meets those that begin before it ends."""
    order = np.argsort(xyxy[:, 0], kind="stable")
    count = len(order)
    ends = np.searchsorted(xyxy[order, 0], xyxy[order, 2], side="left")
    met = np.maximum(ends - np.arange(count) - 1, 0)
    lower, higher = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    # In pieces, so that a few boxes as wide as the image do not fill the memory.
    for piece in np.array_split(np.arange(count), max(1, int(met.sum()) >> 20)):
        first = np.repeat(piece, met[piece])
        begins = np.repeat(met[piece].cumsum() - met[piece], met[piece])
        one, other = order[first], order[first + 1 + np.arange(len(first)) - begins]
        high = (xyxy[one, 1] < xyxy[other, 3]) & (xyxy[other, 1] < xyxy[one, 3])
        lower.append(np.minimum(one, other)[high])
        higher.append(np.maximum(one, other)[high])
    return np.concatenate(lower), np.concatenate(higher)
