"""Prediction on a CPU in tiles: what lies between a layer's input and its output stays in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def predicts_on_cpu(x: Tensor) -> bool:
    """Whether the forms for CPUs that leave no gradients behind may be taken for what is computed of `x`."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def tiles(count: int, numbers: int, at_once: int) -> Iterator[slice]:
    """`count` things of so many numbers each in parts of at most `at_once` numbers, but one thing at least."""
    step = max(1, at_once // numbers)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
