"""Prediction on a CPU in tiles, so that a layer's intermediate values stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def predicts_on_cpu(x: Tensor) -> bool:
    """Returns whether `x` is on a CPU and gradients are off, so that forms without gradients may be used."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def tiles(count: int, values: int, per_tile: int) -> Iterator[slice]:
    """Yields slices of `count` items of `values` values each, with at most `per_tile` values but at least one item."""
    step = max(1, per_tile // values)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
