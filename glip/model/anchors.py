"""One square anchor per location and level, and the conversion between deltas and boxes.

Boxes here are inclusive, as in the original: xyxy in pixels of the network input with both ends inside the box, so a
width is x2 - x1 + 1. Source: arXiv:1912.02424 (ATSS) and `docs/model.md`, "Anchors and boxes".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)
ANCHOR_STRIDES = 8  # an anchor's side, in strides of its level
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
MAX_LOG_SIZE = math.log(1000 / 16)  # a decoded side is at most 1000/16 times that of its anchor


def make_anchors(sizes_hw: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """Returns the anchors of all levels, level after level, row-major.

    Args:
        sizes_hw: height and width of each level's map, finest first.
        device: device of the result.

    Returns:
        (A, 4); a cached tensor, not to be changed.
    """
    return _make_anchors(tuple(sizes_hw), device)


@lru_cache(maxsize=64)
def _make_anchors(sizes_hw: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    # Outside inference mode, because training shares these constants.
    with torch.inference_mode(mode=False), torch.no_grad():
        levels = []
        for (height, width), stride in zip(sizes_hw, STRIDES, strict=True):
            half = (ANCHOR_STRIDES * stride - 1) / 2
            y = torch.arange(height, device=device, dtype=torch.float32) * stride + (stride - 1) / 2
            x = torch.arange(width, device=device, dtype=torch.float32) * stride + (stride - 1) / 2
            y, x = torch.meshgrid(y, x, indexing="ij")
            levels.append(torch.stack((x - half, y - half, x + half, y + half), dim=-1).view(-1, 4))
        return torch.cat(levels)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Returns the deltas (..., 4) from anchors (..., 4) to boxes (..., 4)."""
    size = boxes[..., 2:] - boxes[..., :2] + 1
    anchor_size = anchors[..., 2:] - anchors[..., :2] + 1
    shift = (_centre(boxes) - _centre(anchors)) / anchor_size
    return torch.cat((shift, (size / anchor_size).log()), dim=-1) * boxes.new_tensor(DELTA_WEIGHTS)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Returns the boxes (..., 4) at deltas (..., 4) from anchors (..., 4)."""
    shift, log_size = (deltas / deltas.new_tensor(DELTA_WEIGHTS)).split(2, dim=-1)
    anchor_size = anchors[..., 2:] - anchors[..., :2] + 1
    centre = shift * anchor_size + _centre(anchors)
    half = (log_size.clamp(max=MAX_LOG_SIZE).exp() * anchor_size - 1) / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def _centre(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2
