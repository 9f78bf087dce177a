"""Merges the boxes that several views of an image (the whole image and its tiles) give for one object.

An object on an inner border of a tile is cut there. Three rules, in this order, make one box of one object:

    1. A cut box is dropped if another view shows the same object whole.
    2. Cut boxes of several views that agree on the part that all of them show become one box around them.
    3. The rest is merged by non-maximum suppression or weighted box fusion, class by class.

Arrays in, arrays out, in numpy. Knows nothing of pixels, models or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glip.boxes import box_area, box_iou, grouped_nms
from glip.detections import Detections
from glip.labeling.tiling import Merge, ViewBox

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NMS_IOU = 0.5  # boxes of one object differ more between two views than within one
WBF_IOU = 0.55  # as in Solovyev et al. 2021

# A box that ends this close to an inner border counts as cut there: this many pixels, or this fraction of the side.
_TOUCH_PIXELS, _TOUCH = 2.0, 0.01
# Two boxes of two views are one object if they overlap by this much in the zone that both views show. A difference of
# two pixels on each axis is ignored, so that the slivers of an object beyond a border are recognised.
_AGREE, _SLACK = 0.5, 2.0
# Side in pixels of the resized view below which detectors find almost nothing. A view that shows an object smaller than
# this says nothing about whether it is there.
_VISIBLE_SIDE = 16.0


def merge_views(
    views: Sequence[ViewBox],
    found: Sequence[Detections],
    *,
    merge: Merge = "nms",
    scales: Sequence[float] | None = None,
    max_detections: int | None = None,
) -> Detections:
    """Returns the merged boxes of the views of an image.

    Args:
        views: (M) xyxy in pixels of the image; together they cover it.
        found: (M) boxes of each view, in pixels of that view, all with the same names.
        merge: see `Tiling`.
        scales: (M) factor by which each view was resized. `wbf` lowers a score only for views that show the object
            large enough; None means that all of them do.
        max_detections: maximum number of boxes in the result; None for all.

    Returns:
        Boxes in pixels of the image, best first. The boxes of a single view are returned unchanged.
    """
    assert len(views) == len(found), f"{len(found)} results for {len(views)} views"
    if len(views) == 1:
        return found[0].filter(np.arange(len(found[0]))[:max_detections])
    boxes = _Boxes.of(views, found)
    kept = boxes.without_cut_doubles().joined()
    merged = (
        kept.by_nms() if merge == "nms" else kept.by_fusion(None if scales is None else np.asarray(scales, np.float64))
    )
    order = np.argsort(-merged.scores, kind="stable")[:max_detections]
    return Detections(
        merged.xyxy[order].astype(np.float32),
        merged.scores[order].astype(np.float32),
        merged.labels[order],
        found[0].names,
    )


def fuse(xyxy: Floats, scores: Floats, iou: float) -> tuple[Floats, Floats, list[list[int]]]:
    """Fuses the boxes of one class by weighted box fusion (Solovyev et al. 2021), without its last step.

    Boxes are taken one by one, best first. Each joins the fused box that it overlaps most, if by more than `iou`, or
    begins a new one. A fused box is the mean of its members weighted by their scores; its score is their plain mean.

    Args:
        xyxy: (N, 4).
        scores: (N,).
        iou: minimum overlap.

    Returns:
        (K, 4) fused boxes, (K,) their scores, and for each the indices of its members among the N. The last step, a
        lower score for boxes that few views found, is left to the caller, which knows how many could have found them.
    """
    members: list[list[int]] = []
    sums, weights = np.zeros((len(xyxy), 4)), np.maximum(scores, 1e-9)
    fused = np.zeros((len(xyxy), 4))  # the first len(members) rows count
    for index in np.argsort(-scores, kind="stable").tolist():
        overlaps = box_iou(xyxy[index], fused[: len(members)])
        best = int(overlaps.argmax()) if len(members) else -1
        if best < 0 or overlaps[best] <= iou:
            best = len(members)
            members.append([])
        members[best].append(index)
        sums[best] += weights[index] * xyxy[index]
        fused[best] = sums[best] / weights[members[best]].sum()
    means = np.array([scores[mine].mean() for mine in members], np.float64)
    return fused[: len(members)], means, members


@dataclass(frozen=True, eq=False)
class _Boxes:
    """The boxes of all views.

    Attributes:
        xyxy: (N, 4) in pixels of the image.
        scores: (N,).
        labels: (N,).
        view: (N,) the view that found the box: a row of `views`, or a larger number for a box made from several views.
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

    def take(self, indices: Integers) -> _Boxes:
        return _Boxes(self.xyxy[indices], self.scores[indices], self.labels[indices], self.view[indices], self.views)

    def without_cut_doubles(self) -> _Boxes:
        """Applies rule 1: drops cut boxes if a view that contains them shows the same object whole.

        The whole box keeps its position and takes the better score: a part seen at a larger scale can score higher.
        """
        seams = _Seams(self)
        scores = self.scores.copy()
        successor = np.full(len(scores), -1)
        agreed = np.zeros(len(scores))
        for one, other in seams.neighbours():
            cut = seams.held_by(one, other)
            whole = np.flatnonzero((self.view == other) & ~seams.is_cut)
            for part, box, agreement in seams.same(cut, whole):
                if agreement > agreed[part]:
                    successor[part], agreed[part] = box, agreement
        dropped = np.flatnonzero(successor >= 0)
        np.maximum.at(scores, successor[dropped], self.scores[dropped])
        return _Boxes(self.xyxy, scores, self.labels, self.view, self.views).take(np.flatnonzero(successor < 0))

    def joined(self) -> _Boxes:
        """Applies rule 2: joins cut boxes of several views that agree; the score is their mean, weighted by area."""
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
        scores = [np.average(self.scores[p], weights=box_area(self.xyxy[p]) + 1e-9) for p in parts]
        return _Boxes(
            np.concatenate([alone.xyxy, corners]),
            np.concatenate([alone.scores, scores]),
            np.concatenate([alone.labels, self.labels[[p[0] for p in parts]]]),
            np.concatenate([alone.view, len(self.views) + np.arange(len(parts))]),
            self.views,
        )

    def by_nms(self) -> _Boxes:
        """Applies rule 3 by suppression: keeps the best of overlapping boxes of different views.

        Boxes of one view are different objects and never suppress each other.
        """
        ranked = self.take(np.argsort(-self.scores, kind="stable"))
        return ranked.take(grouped_nms(ranked.xyxy, ranked.labels, NMS_IOU, ranked.view))

    def by_fusion(self, scale: Floats | None) -> _Boxes:
        """Applies rule 3 by fusion: takes the mean of overlapping boxes, scored lower if views missed the object."""
        fused_boxes, fused_scores, fused_labels = [np.zeros((0, 4))], [np.zeros(0)], [np.zeros(0, np.int64)]
        for label in np.unique(self.labels):
            mine = self.take(np.flatnonzero(self.labels == label))
            xyxy, scores, members = fuse(mine.xyxy, mine.scores, WBF_IOU)
            for index, group in enumerate(members):
                views = set(self._showing(xyxy[index], scale)) | set(mine.view[group].tolist())
                scores[index] *= min(len(group), len(views)) / len(views)
            fused_boxes.append(xyxy)
            fused_scores.append(scores)
            fused_labels.append(np.full(len(scores), label))
        fused = np.concatenate(fused_boxes), np.concatenate(fused_scores), np.concatenate(fused_labels)
        each = np.arange(len(fused[1]))
        ranked = _Boxes(*fused, each, self.views).take(np.argsort(-fused[1], kind="stable"))
        # Two means can overlap.
        return ranked.take(grouped_nms(ranked.xyxy, ranked.labels, WBF_IOU, ranked.view))

    def _showing(self, box: Floats, scale: Floats | None) -> list[int]:
        """Returns the views that contain a box, and show it large enough to be found."""
        holds = _holds(self.views, box)
        if scale is not None:
            holds &= np.sqrt(box_area(box[None])) * scale >= _VISIBLE_SIDE
        return np.flatnonzero(holds).tolist()


class _Seams:
    """The borders where views meet: which boxes are cut there, and which are the same object."""

    def __init__(self, boxes: _Boxes) -> None:
        self._boxes = boxes
        # Boxes made from several views are never compared here, so any row serves for them.
        self._own = boxes.views[np.minimum(boxes.view, len(boxes.views) - 1)]
        frame = np.concatenate([boxes.views[:, :2].min(0), boxes.views[:, 2:].max(0)])
        touch = np.maximum(_TOUCH_PIXELS, _TOUCH * (self._own[:, 2:] - self._own[:, :2]))
        near_start = boxes.xyxy[:, :2] <= self._own[:, :2] + touch
        near_end = boxes.xyxy[:, 2:] >= self._own[:, 2:] - touch
        cut = np.concatenate([near_start, near_end], axis=1) & (self._own != frame)
        self.is_cut: NDArray[np.bool_] = cut.any(axis=1)
        # A cut box continues to the border, wherever the detector ended it.
        self._shown = np.where(cut, self._own, boxes.xyxy)

    def neighbours(self) -> list[tuple[int, int]]:
        """Returns ordered pairs of views that share more than a corner: the first has cut boxes, the second any."""
        cut, filled = np.unique(self._boxes.view[self.is_cut]), np.unique(self._boxes.view)
        ours, theirs = self._boxes.views[cut][:, None], self._boxes.views[filled][None]
        shared = np.minimum(ours[..., 2:], theirs[..., 2:]) - np.maximum(ours[..., :2], theirs[..., :2])
        meet = (shared.min(axis=-1) >= 0) & (shared.max(axis=-1) > 0)
        pairs = zip(cut[meet.nonzero()[0]].tolist(), filled[meet.nonzero()[1]].tolist(), strict=True)
        return [(one, other) for one, other in pairs if one != other]

    def held_by(self, view: int, other: int) -> Integers:
        """Returns the cut boxes of one view that lie entirely in another."""
        mine = np.flatnonzero((self._boxes.view == view) & self.is_cut)
        return mine[_holds(self._boxes.views[other], self._boxes.xyxy[mine])]

    def same(self, mine: Integers, theirs: Integers) -> Iterator[tuple[int, int, float]]:
        """Yields pairs of boxes of two views that show the same object: they agree, and each is the other's best match.

        Two boxes of one view are two objects, so each has at most one partner.

        Yields:
            The indices of both, and their agreement in the zone that both views show.
        """
        if not len(mine) or not len(theirs):
            return
        alike = self._agreement(mine, theirs)
        best_of_theirs, best_of_mine = alike.argmax(axis=1), alike.argmax(axis=0)
        for row, column in enumerate(best_of_theirs.tolist()):
            if best_of_mine[column] == row and alike[row, column] >= _AGREE:
                yield int(mine[row]), int(theirs[column]), float(alike[row, column])

    def _agreement(self, mine: Integers, theirs: Integers) -> Floats:
        """Returns the (I, J) overlap inside the zone that both views show; 0 for different classes."""
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
    """Returns whether boxes (..., 4) lie in views (..., 4), up to two pixels."""
    inside = (boxes[..., :2] >= views[..., :2] - _TOUCH_PIXELS) & (boxes[..., 2:] <= views[..., 2:] + _TOUCH_PIXELS)
    return np.asarray(inside.all(axis=-1))
