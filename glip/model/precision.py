"""Where half precision would cost accuracy: sums, softmax and sampling run in float32 or better."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 (in tests) stay as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
