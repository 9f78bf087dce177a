"""Half precision. Sums, softmax and sampling, where it would cost accuracy, run in float32 or better."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def at_least_float32(x: Tensor) -> Tensor:
    """Converts float16 and bfloat16 to float32; float32 and float64 (in tests) stay as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def lower_products(layers: nn.Module, dtype: torch.dtype) -> None:
    """Converts the weights of linear layers and convolutions to half precision, for prediction only.

    Autocast converts them in every call: results are the same, memory is halved and the time is saved.

    Args:
        layers: its layers are converted; none may have its weights read in float32.
        dtype: bfloat16 or float16, the same as autocast's.
    """
    for layer in layers.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.to(dtype)
