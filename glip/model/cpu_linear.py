"""Linear layers on a CPU by the faster of PyTorch's two libraries, with GELU folded in.

PyTorch computes `nn.Linear` in float32 by MKL, which is slower than oneDNN on processors that are not Intel's. oneDNN
also applies bias and GELU while the values are in the processor; PyTorch needs a pass over the output for each.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glip.model.tiling import predicts_on_cpu

MINIMUM_ROWS = 256  # with fewer rows the call costs more than it saves


class Linear(nn.Linear):
    """nn.Linear that is fast for many rows."""

    plain_form = False  # see `reference_mode`

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., in) to (..., out)."""
        return F.linear(x, self.weight, self.bias) if self.plain_form else Product(self.weight, self.bias)(x)


class Product:
    """`F.linear` with one weight for rows that come in parts, followed by `F.gelu` if wanted. Equal up to rounding.

    oneDNN reads a weight in its own memory order: here the weight is reordered once, not in every product.

    Args:
        weight: (out, in).
        bias: (out,) or None.
        gelu: whether GELU follows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        self.weight, self.bias, self.gelu = weight, bias, gelu
        self._ordered: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Maps (..., in) to (..., out)."""
        rows = x.numel() // x.shape[-1]
        # Training keeps PyTorch's choice: the calls below have no gradients.
        if rows >= MINIMUM_ROWS and predicts_on_cpu(x):
            dtype = self.weight.dtype
            if torch.is_autocast_enabled("cpu"):
                dtype = torch.get_autocast_dtype("cpu")
                x = x.to(dtype)
            if x.dtype == dtype and _by_onednn(dtype):
                bias = None if self.bias is None else self.bias.to(dtype)
                return _onednn_linear(x.contiguous(), self._in_order(dtype, rows), bias, self.gelu)
        product = F.linear(x, self.weight, self.bias)
        return F.gelu(product) if self.gelu else product

    def _in_order(self, dtype: torch.dtype, rows: int) -> Tensor:
        if self._ordered is None or self._ordered.dtype != dtype:
            self._ordered = torch.ops.mkldnn._reorder_linear_weight(self.weight.to(dtype), rows)
        return self._ordered


def use_linear(network: nn.Module) -> None:
    """Replaces every nn.Linear below `network` by a `Linear` of the same parameters."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                with torch.device("meta"):
                    exchanged = Linear(child.in_features, child.out_features, bias=child.bias is not None)
                exchanged.weight, exchanged.bias = child.weight, child.bias
                setattr(parent, name, exchanged)


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    attribute, algorithm = ("gelu", "none") if gelu else ("none", "")
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, attribute, [], algorithm)
    return out


@cache
def _by_onednn(dtype: torch.dtype) -> bool:
    # These calls are private; `torch.compile` makes them of a linear layer on a CPU. Without them PyTorch chooses.
    calls = ("_linear_pointwise", "_reorder_linear_weight")
    if not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in calls)):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32 and mkl_is_slow()


@cache
def mkl_is_slow() -> bool:
    """Returns whether PyTorch multiplies by MKL on a processor that MKL is slow on."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
