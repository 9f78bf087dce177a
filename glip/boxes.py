"""Box arithmetic on tensors: formats, overlaps, clipping, non-maximum suppression.

A box is xyxy in absolute pixels unless a name says otherwise. Knows nothing of images or models.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou, generalized_box_iou, nms

__all__ = [
    "box_area",
    "box_iou",
    "class_wise_nms",
    "clip_boxes",
    "generalized_box_iou",
    "xywh_to_xyxy",
    "xyxy_to_xywh",
]


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy to (..., 4) left, top, width, height."""
    return torch.cat((boxes[..., :2], boxes[..., 2:] - boxes[..., :2]), dim=-1)


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) left, top, width, height to (..., 4) xyxy."""
    return torch.cat((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), dim=-1)


def clip_boxes(boxes: Tensor, size_hw: Tensor) -> Tensor:
    """Moves the corners of (N, 4) xyxy boxes into [0, width] x [0, height], (N, 2) of each box or (2,) of all."""
    corner = size_hw.to(boxes).flip(-1)
    return boxes.clamp(min=0).minimum(torch.cat((corner, corner), dim=-1))


def class_wise_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression inside each class.

    One pass a class, instead of one pass over boxes shifted apart by class: shifting costs float32
    digits, and a box whose overlap is near the threshold would then be decided by rounding.

    Args:
        boxes: (N, 4) xyxy, continuous.
        scores: (N,).
        labels: (N,) integers.
        iou_threshold: a box is dropped if it overlaps a better one of its class by more than this.

    Returns:
        (K,) indices of the boxes that stay, best score first.
    """
    if labels.numel() == 0:
        return labels.new_zeros(0)
    # The published kernel compares in the boxes' own precision: an overlap of exactly 0.6 in float32 is not above 0.6.
    threshold = boxes.new_tensor(iou_threshold).item()
    order = labels.argsort(stable=True)
    _, counts = labels[order].unique_consecutive(return_counts=True)
    kept = [group[nms(boxes[group], scores[group], threshold)] for group in order.split(counts.tolist())]
    keep = torch.cat(kept)
    return keep[scores[keep].argsort(descending=True, stable=True)]
