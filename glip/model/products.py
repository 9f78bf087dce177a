"""Products of many rows by the faster of PyTorch's two libraries, GELU folded in. Source: PERF, section 4.

PyTorch sends `nn.Linear` in float32 to MKL, which on processors that are not Intel's is slower than oneDNN. oneDNN also
applies bias and GELU while the numbers are still in the processor: a bias costs PyTorch a pass over the output, GELU
one more.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glip.model.tiling import predicts_on_cpu

LEAST_ROWS = 256  # below, handing over costs more than it saves


class Linear(nn.Linear):
    """nn.Linear of many rows."""

    plain_form = False  # see `forms`

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return F.linear(x, self.weight, self.bias) if self.plain_form else linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """`F.linear`, with `gelu` followed by `F.gelu`, equal to rounding: (..., in), (out, in), (out,) to (..., out)."""
    rows = x.numel() // x.shape[-1]
    # Training stays with PyTorch's choice: what this calls has no gradients.
    if rows >= LEAST_ROWS and predicts_on_cpu(x):
        if torch.is_autocast_enabled("cpu"):
            lowered = torch.get_autocast_dtype("cpu")
            x, weight = x.to(lowered), weight.to(lowered)
            bias = bias if bias is None else bias.to(lowered)
        if x.dtype == weight.dtype and _by_onednn(x.dtype):
            return _onednn_linear(x.contiguous(), weight, bias, gelu)
    product = F.linear(x, weight, bias)
    return F.gelu(product) if gelu else product


def use_linear(network: nn.Module) -> None:
    """Exchanges every nn.Linear below `network` for a `Linear` of the same parameters."""
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
    # No public call: it is what `torch.compile` makes of a linear layer on a CPU. Where it is gone, PyTorch chooses.
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32 and mkl_is_slow()


@cache
def mkl_is_slow() -> bool:
    """Whether PyTorch multiplies by MKL on a processor that MKL was not made for."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
