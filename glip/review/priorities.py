"""Marks the boxes that a person should check first: near their threshold, likely missed, likely duplicates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glip.boxes import box_area, box_iou, intersection

MISS = "likely miss"
DUPLICATE = "likely duplicate"

# A box below its threshold is worth a check if its score is at least this share of the threshold. Below that, nearly
# all boxes are wrong.
MISS_SHARE = 0.5
# Two boxes with a higher IoU show one object, or one object in front of another.
SAME_PLACE_IOU = 0.5
# A box that has a higher share of its area inside a better box of the same class is usually a part of that object.
INSIDE_SHARE = 0.9

Floats = NDArray[np.float32]


def entropy(scores: Floats) -> Floats:
    """Returns the (N,) entropy, in bits, of (N,) scores taken as probabilities: 1 at 0.5, 0 at 0 and 1."""
    p = np.clip(scores.astype(np.float64), 1e-12, 1 - 1e-12)
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return bits.astype(np.float32)


def hints(
    boxes: Floats,
    scores: Floats,
    labels: NDArray[np.int64],
    kept: NDArray[np.bool_],
    thresholds: Floats,
) -> list[str]:
    """Marks the boxes of an image that are likely misses or likely duplicates.

    Args:
        boxes: (N, 4) xyxy, best score first.
        scores: (N,).
        labels: (N,) class index of each box.
        kept: (N,) whether the box is a label.
        thresholds: (N,) threshold of each box's class.

    Returns:
        For each box `MISS`, `DUPLICATE` or "".
    """
    count = len(scores)
    overlap = box_iou(boxes[:, None], boxes[None]) > SAME_PLACE_IOU
    better = np.tri(count, k=-1, dtype=bool)  # [i, j]: box j has a better score than box i
    same = overlap | (_share_inside(boxes) > INSIDE_SHARE) & (labels[:, None] == labels)
    duplicate = kept & (same & better & kept).any(axis=1)
    near = ~kept & (scores >= thresholds * MISS_SHARE)
    alone = ~(overlap & kept).any(axis=1)
    return [DUPLICATE if double else MISS if miss else "" for double, miss in zip(duplicate, near & alone, strict=True)]


def _share_inside(boxes: Floats) -> Floats:
    """Returns the (N, N) share of box i that lies inside box j; 0 for boxes without an area."""
    shared = intersection(boxes[:, None], boxes[None])
    area = box_area(boxes)[:, None]
    return np.divide(shared, area, out=np.zeros_like(shared), where=area > 0)
