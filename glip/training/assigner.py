"""ATSS: which anchors answer for which box. Source: SPEC 11.2, arXiv:1912.02424.

Boxes are those of `model.anchors`: xyxy in pixels of the network input, both ends inside, a width is x2 - x1 + 1.
Knows nothing of text or losses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CANDIDATES_PER_LEVEL = 9
# How far inside its box an anchor's centre lies at least, in pixels.
LEAST_MARGIN = 0.01
UNCLAIMED = -1


@torch.no_grad()
def assign(boxes: Tensor, anchors: Tensor, level_sizes: Sequence[int]) -> Tensor:
    """Gives every anchor of one image the box it answers for.

    A box claims those of its nearest anchors that overlap it unusually well (by more than the mean plus one standard
    deviation of all its candidates) and whose centre it holds. An anchor claimed twice takes the box it overlaps most.

    Args:
        boxes: (N, 4), any N. A box without area claims nothing; one outside the image at most what still reaches it.
        anchors: (A, 4).
        level_sizes: how many anchors each level has; they sum to A.

    Returns:
        (A,) int64 row in `boxes`, UNCLAIMED where no box claims the anchor.
    """
    if len(boxes) == 0:
        return torch.full((len(anchors),), UNCLAIMED, device=anchors.device)
    candidates = _nearest(boxes, anchors, level_sizes)
    near = anchors[candidates]
    overlap = _overlap(boxes[:, None], near)
    threshold = overlap.mean(1, keepdim=True) + overlap.std(1, keepdim=True)  # unbiased, as published
    claimed = (overlap >= threshold) & (distances_to_sides(near, boxes[:, None]).amin(-1) > LEAST_MARGIN)
    # One row a box over all anchors; a box's candidates are all different, so no cell is written twice.
    claims = overlap.new_full((len(boxes), len(anchors)), -1.0)
    claims.scatter_(1, candidates, torch.where(claimed, overlap, -1.0))
    most, box = claims.max(dim=0)  # the first box on ties
    return torch.where(most >= 0, box, UNCLAIMED)


def distances_to_sides(anchors: Tensor, boxes: Tensor) -> Tensor:
    """How far the centres of anchors (..., 4) are from the left, top, right and bottom of boxes (..., 4): (..., 4).

    Negative where the centre lies beyond that side.
    """
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2
    return torch.cat((centre - boxes[..., :2], boxes[..., 2:] - centre), dim=-1)


def _nearest(boxes: Tensor, anchors: Tensor, level_sizes: Sequence[int]) -> Tensor:
    """(N, K) numbers of the anchors whose centres are nearest to each box's: nine of each level, or all it has."""
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, :, None].unbind(1)
    found, start = [], 0
    for level in anchors.split(list(level_sizes)):
        anchor_x, anchor_y = ((level[:, :2] + level[:, 2:]) / 2).unbind(1)
        # The root is taken as published: without it float32 tells apart what the original sees as equally near.
        distance = ((anchor_x - x).square() + (anchor_y - y).square()).sqrt()
        count = min(CANDIDATES_PER_LEVEL, len(level))
        found.append(distance.topk(count, dim=1, largest=False).indices + start)
        start += len(level)
    return torch.cat(found, dim=1)


def _overlap(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Intersection over union of (N, 1, 4) boxes and (N, K, 4) anchors: (N, K); no use for boxes without area."""
    shared = torch.minimum(boxes[..., 2:], anchors[..., 2:]) - torch.maximum(boxes[..., :2], anchors[..., :2]) + 1
    intersection = shared.clamp(min=0).prod(-1)
    return intersection / (_area(boxes) + _area(anchors) - intersection)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2] + 1).prod(-1)
