"""Box arithmetic: formats, clipping, overlap (IoU) and non-maximum suppression (NMS).

Two sections: numpy arrays, for files and people, and torch tensors, for the model. A box is xyxy (two corners) in
absolute pixels unless a name says otherwise, and continuous: its width is x2 - x1. `glip.model.anchors` holds the
original's inclusive boxes, whose width is x2 - x1 + 1. Importing this module loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_Float = TypeVar("_Float", bound="np.floating[Any]")

# Pairs of boxes compared at a time, so that memory stays bounded however many boxes overlap.
_PAIRS_AT_A_TIME = 1 << 20


# Numpy arrays ---------------------------------------------------------------------------------------------------------


def xywh_to_xyxy(boxes: NDArray[_Float]) -> NDArray[_Float]:
    """Returns (..., 4) xyxy boxes of the same precision, given (..., 4) left, top, width, height."""
    corners = boxes.copy()
    corners[..., 2:] += corners[..., :2]
    return corners


def xyxy_to_xywh(boxes: NDArray[_Float]) -> NDArray[_Float]:
    """Returns (..., 4) left, top, width, height of the same precision, given (..., 4) xyxy boxes."""
    sides = boxes.copy()
    sides[..., 2:] -= sides[..., :2]
    return sides


def xyxy_to_cxcywh(boxes: NDArray[_Float]) -> NDArray[_Float]:
    """Returns (..., 4) centre x, centre y, width, height of the same precision, given (..., 4) xyxy boxes."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    return np.concatenate((centre, boxes[..., 2:] - boxes[..., :2]), axis=-1)


def clip_boxes(boxes: NDArray[_Float], sizes_wh: NDArray[Any]) -> NDArray[_Float]:
    """Returns (..., 4) boxes whose corners are moved into [0, width] × [0, height].

    Args:
        boxes: (..., 4) xyxy.
        sizes_wh: (..., 2) width and height of the image of each box, or (2,) of all.
    """
    limits = np.concatenate((sizes_wh, sizes_wh), axis=-1)
    return np.clip(boxes, 0, limits).astype(boxes.dtype, copy=False)


def box_area(boxes: NDArray[_Float]) -> NDArray[_Float]:
    """Returns the (...) areas of (..., 4) xyxy boxes."""
    area: NDArray[_Float] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return area


def intersection(one: NDArray[_Float], other: NDArray[_Float]) -> NDArray[_Float]:
    """Returns the (...) areas shared by xyxy boxes, pair by pair; the two shapes are broadcast."""
    return _shared_area(one[..., :2], one[..., 2:], other[..., :2], other[..., 2:])


def box_iou(one: NDArray[_Float], other: NDArray[_Float]) -> NDArray[_Float]:
    """Returns the (...) intersection over union of xyxy boxes, pair by pair; 0 where neither box has an area.

    The two shapes are broadcast: `box_iou(a[:, None], b[None])` is the (N, M) matrix of (N, 4) and (M, 4) boxes.
    """
    shared = intersection(one, other)
    return _ratio(shared, box_area(one) + box_area(other) - shared)


def box_iou_xywh(
    found: NDArray[_Float], annotated: NDArray[_Float], crowd: NDArray[np.bool_] | bool = False
) -> NDArray[_Float]:
    """Returns the (...) intersection over union of left, top, width, height boxes, to the last bit as pycocotools does.

    It differs from `box_iou` in the last bits: an area is width × height as written in the file.

    Args:
        found: (..., 4) detected boxes.
        annotated: (..., 4) annotated boxes; the two shapes are broadcast.
        crowd: (...) whether the annotated box covers a crowd. Then the overlap is the share of the found box inside it.
    """
    shared = _shared_area(
        found[..., :2], found[..., :2] + found[..., 2:], annotated[..., :2], annotated[..., :2] + annotated[..., 2:]
    )
    area = found[..., 2] * found[..., 3]
    union = np.where(crowd, area, area + annotated[..., 2] * annotated[..., 3] - shared)
    return _ratio(shared, union)


def grouped_nms(
    boxes: NDArray[_Float], groups: NDArray[np.int64], iou: float, exempt: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Returns the (K,) indices, ascending, of the boxes that greedy suppression (NMS) inside groups keeps.

    It decides as `torchvision.ops.nms` does: the overlap is computed in the precision of the boxes.

    Args:
        boxes: (N, 4) xyxy, best first.
        groups: (N,) group of each box, such as its class. Boxes of different groups never drop each other.
        iou: a box is dropped if it overlaps a better one that is kept by more than this.
        exempt: (N,) boxes with equal values here never drop each other either; None if there is no such exemption.
    """
    better, worse = _overlapping_pairs(boxes, groups, exempt)
    if not len(better):
        return np.arange(len(boxes))
    pieces = max(1, len(better) // _PAIRS_AT_A_TIME)
    drops = [
        box_iou(boxes[one], boxes[other]) > np.float64(iou)
        for one, other in zip(np.array_split(better, pieces), np.array_split(worse, pieces), strict=True)
    ]
    dropping = np.flatnonzero(np.concatenate(drops))
    better, worse = better[dropping], worse[dropping]
    order = np.argsort(better, kind="stable")
    better, worse = better[order], worse[order]
    keep = np.ones(len(boxes), bool)
    boxes_that_drop, starts = np.unique(better, return_index=True)
    for index, dropped in zip(boxes_that_drop.tolist(), np.split(worse, starts[1:]), strict=False):
        if keep[index]:
            keep[dropped] = False
    return np.flatnonzero(keep)


def _shared_area(
    start: NDArray[_Float], end: NDArray[_Float], other_start: NDArray[_Float], other_end: NDArray[_Float]
) -> NDArray[_Float]:
    sides = np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start), 0)
    shared: NDArray[_Float] = sides[..., 0] * sides[..., 1]
    return shared


def _ratio(shared: NDArray[_Float], union: NDArray[_Float]) -> NDArray[_Float]:
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _overlapping_pairs(
    boxes: NDArray[_Float], groups: NDArray[np.int64], exempt: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns index pairs (lower, higher) of boxes of one group that overlap.

    It compares few of the N² pairs: with the boxes of a group sorted by their left side, a box can only overlap those
    that begin before it ends.
    """
    order = np.lexsort((boxes[:, 0], groups))
    left, right, group = boxes[order, 0], boxes[order, 2], groups[order]
    count = len(order)
    # For each box the first index of its group that begins at or after its right side.
    bounds = np.flatnonzero(np.diff(group, prepend=group[:1] - 1, append=group[-1:] + 1))
    ends = np.empty(count, np.int64)
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        ends[start:end] = start + np.searchsorted(left[start:end], right[start:end], side="left")
    candidates = np.maximum(ends - np.arange(count) - 1, 0)
    lower, higher = [], []
    for piece in np.array_split(np.arange(count), max(1, int(candidates.sum()) // _PAIRS_AT_A_TIME)):
        first = np.repeat(piece, candidates[piece])
        begins = np.repeat(candidates[piece].cumsum() - candidates[piece], candidates[piece])
        one, other = order[first], order[first + 1 + np.arange(len(first)) - begins]
        overlap = (boxes[one, 1] < boxes[other, 3]) & (boxes[other, 1] < boxes[one, 3])
        if exempt is not None:
            overlap &= exempt[one] != exempt[other]
        lower.append(np.minimum(one, other)[overlap])
        higher.append(np.maximum(one, other)[overlap])
    return np.concatenate(lower), np.concatenate(higher)


# Torch tensors --------------------------------------------------------------------------------------------------------


def clip_boxes_tensor(boxes: Tensor, sizes_hw: Tensor) -> Tensor:
    """Returns (N, 4) boxes whose corners are moved into [0, width] × [0, height].

    Args:
        boxes: (N, 4) xyxy.
        sizes_hw: (N, 2) height and width of the image of each box, or (2,) of all.
    """
    import torch

    corner = sizes_hw.to(boxes).flip(-1)
    return boxes.clamp(min=0).minimum(torch.cat((corner, corner), dim=-1))


def class_wise_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Returns the (K,) indices, best score first, of the boxes that greedy suppression (NMS) inside classes keeps.

    It makes one pass per class. The usual single pass over boxes shifted apart by class costs float32 digits, and
    rounding would then decide about a box whose overlap is near the threshold.

    Args:
        boxes: (N, 4) xyxy, continuous.
        scores: (N,).
        labels: (N,) integers.
        iou_threshold: a box is dropped if it overlaps a better one of its class by more than this.
    """
    import torch
    from torchvision.ops import nms

    if labels.numel() == 0:
        return labels.new_zeros(0)
    # The published kernel compares in the boxes' own precision: an overlap of exactly 0.6 in float32 is not above 0.6.
    threshold = boxes.new_tensor(iou_threshold).item()
    order = labels.argsort(stable=True)
    _, counts = labels[order].unique_consecutive(return_counts=True)
    kept = [group[nms(boxes[group], scores[group], threshold)] for group in order.split(counts.tolist())]
    keep = torch.cat(kept)
    return keep[scores[keep].argsort(descending=True, stable=True)]
