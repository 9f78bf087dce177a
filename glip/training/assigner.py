"""ATSS: assigns boxes to anchors. Source: arXiv:1912.02424; docs/training.md, "Assignment".

Boxes follow the convention of `model.anchors`: xyxy in pixels of the network input, both ends inside the box, so a
width is x2 - x1 + 1. Knows nothing of text or losses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CANDIDATES_PER_LEVEL = 9
MINIMUM_MARGIN = 0.01  # pixels between the anchor's centre and the nearest side of its box
UNASSIGNED = -1


@torch.no_grad()
def assign(boxes: Tensor, anchors: Tensor, level_sizes: Sequence[int]) -> Tensor:
    """Assigns at most one box of an image to every anchor.

    The candidates of a box are its nearest anchors on each level. A candidate is positive if its IoU with the box is
    at least the mean plus one standard deviation over all candidates, and if its centre lies inside the box. An anchor
    that is positive for several boxes gets the box with the largest IoU, the first one on ties.

    Args:
        boxes: (N, 4), N may be 0. A box without area, or one that no anchor centre lies in, is assigned to no anchor.
        anchors: (A, 4).
        level_sizes: number of anchors of each level; they sum to A.

    Returns:
        (A,) int64 row index in `boxes`; UNASSIGNED where the anchor has no box.
    """
    if len(boxes) == 0:
        return torch.full((len(anchors),), UNASSIGNED, device=anchors.device)
    candidates = _nearest(boxes, anchors, level_sizes)
    near = anchors[candidates]
    iou = _pixel_iou(boxes[:, None], near)
    threshold = iou.mean(1, keepdim=True) + iou.std(1, keepdim=True)  # unbiased, as published
    positive = (iou >= threshold) & (distances_to_sides(near, boxes[:, None]).amin(-1) > MINIMUM_MARGIN)
    # The candidates of one box are distinct, so the scatter writes every entry at most once.
    positive_iou = iou.new_full((len(boxes), len(anchors)), -1.0)
    positive_iou.scatter_(1, candidates, torch.where(positive, iou, -1.0))
    largest, box = positive_iou.max(dim=0)  # the first box on ties
    return torch.where(largest >= 0, box, UNASSIGNED)


def distances_to_sides(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Returns the distances of anchor centres to the four sides of boxes, in pixels.

    Args:
        anchors: (..., 4).
        boxes: (..., 4).

    Returns:
        (..., 4) left, top, right, bottom; negative where the centre lies beyond that side.
    """
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2
    return torch.cat((centre - boxes[..., :2], boxes[..., 2:] - centre), dim=-1)


def _nearest(boxes: Tensor, anchors: Tensor, level_sizes: Sequence[int]) -> Tensor:
    """Returns (N, K) indices of the anchors nearest to each box's centre: nine per level, or all if it has fewer."""
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, :, None].unbind(1)
    found, start = [], 0
    for level in anchors.split(list(level_sizes)):
        anchor_x, anchor_y = ((level[:, :2] + level[:, 2:]) / 2).unbind(1)
        # The square root is kept because the original takes it: it makes some distances equal in float32, and ties
        # decide which anchors are candidates.
        distance = ((anchor_x - x).square() + (anchor_y - y).square()).sqrt()
        count = min(CANDIDATES_PER_LEVEL, len(level))
        found.append(distance.topk(count, dim=1, largest=False).indices + start)
        start += len(level)
    return torch.cat(found, dim=1)


def _pixel_iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Returns (N, K) IoU of (N, 1, 4) boxes and (N, K, 4) anchors, with widths of x2 - x1 + 1 as published."""
    shared = torch.minimum(boxes[..., 2:], anchors[..., 2:]) - torch.maximum(boxes[..., :2], anchors[..., :2]) + 1
    intersection = shared.clamp(min=0).prod(-1)
    return intersection / (_area(boxes) + _area(anchors) - intersection)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2] + 1).prod(-1)
