"""Which boxes deserve a person's look first: near their threshold, likely missed, likely found twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glip.labeling.filtering import box_iou

MISS = "likely miss"
DUPLICATE = "likely duplicate"

# A box below its threshold is worth a look from this share of the threshold on: below that, nearly all are wrong.
MISS_SHARE = 0.5
# Boxes that overlap by more than this show one thing, or one in front of another; a person sees which.
SAME_PLACE = 0.5
# A box of the same class with so much of its area inside a better one is mostly a part of that one.
INSIDE = 0.9

Floats = NDArray[np.float32]


def entropy(scores: Floats) -> Floats:
    """(N,) bits of doubt in (N,) scores taken as probabilities: 1 at a score of 0.5, 0 at 0 and 1."""
    sure = np.clip(scores.astype(np.float64), 1e-12, 1 - 1e-12)
    bits = -(sure * np.log2(sure) + (1 - sure) * np.log2(1 - sure))
    return bits.astype(np.float32)


def hints(
    boxes: Floats,
    scores: Floats,
    labels: NDArray[np.int64],
    kept: NDArray[np.bool_],
    thresholds: Floats,
) -> list[str]:
    """Says of each box of an image whether it is likely to be missing, or likely to be there twice.

    Args:
        boxes: (N, 4) xyxy, best first.
        scores: (N,).
        labels: (N,) class of each box.
        kept: (N,) which boxes count.
        thresholds: (N,) of each box's class.

    Returns:
        For each box `MISS`, `DUPLICATE` or "".
    """
    count = len(scores)
    overlap = np.nan_to_num(box_iou(boxes, boxes)) > SAME_PLACE
    better = np.tri(count, k=-1, dtype=bool)  # the row's box is worse than the column's
    twice = overlap | (_share_inside(boxes) > INSIDE) & (labels[:, None] == labels)
    duplicate = kept & (twice & better & kept).any(axis=1)
    near = ~kept & (scores >= thresholds * MISS_SHARE)
    alone = ~(overlap & kept).any(axis=1)
    return [DUPLICATE if double else MISS if miss else "" for double, miss in zip(duplicate, near & alone, strict=True)]


def _share_inside(boxes: Floats) -> Floats:
    """(N, N) share of the row's box that lies inside the column's; 0 for boxes without area."""
    corner = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    sides = np.maximum(np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - corner, 0)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)[:, None]
    shared: Floats = sides[..., 0] * sides[..., 1]
    return np.divide(shared, area, out=np.zeros_like(shared), where=area > 0)
