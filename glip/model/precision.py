"""Half precision: where it would cost accuracy sums, softmax and sampling run in float32 or better."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def at_least_float32(x: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 (in tests) stay as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def lower_products(layers: nn.Module, dtype: torch.dtype) -> None:
    """Keeps the weights of linear layers and convolutions in half precision, for prediction only.

    Autocast lowers them anew in every call; the numbers are the same, the memory half, and the time is saved.

    Args:
        layers: all below it; what reads the weights in float32 must not be among them.
        dtype: bfloat16 or float16, as of autocast.
    """
    for layer in layers.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.to(dtype)
