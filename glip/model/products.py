"""Large float32 products by the faster of PyTorch's two libraries. Source: PERF, section 4.

On processors that are not Intel's, MKL runs at about half of what oneDNN reaches (1.6 times for a whole Swin, 2.5 times
for DyHead's product). PyTorch sends every `nn.Linear` to MKL and every convolution to oneDNN; a product is a 1x1
convolution.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST_ROWS = 256  # below, handing over costs more than it saves


class Linear(nn.Linear):
    """nn.Linear of many rows."""

    plain_form = False  # see `forms`

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return F.linear(x, self.weight, self.bias) if self.plain_form else linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`, equal to rounding: (..., in), (out, in), (out,) to (..., out)."""
    rows = x.numel() // x.shape[-1]
    served = (
        x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    )
    # Training stays with MKL: its backward products would be made to convolutions too, which nobody has timed.
    if not served or rows < LEAST_ROWS or torch.is_grad_enabled() or not mkl_is_slow():
        return F.linear(x, weight, bias)
    picture = x.reshape(1, 1, rows, -1).contiguous().permute(0, 3, 1, 2)  # channels last, as it lies in memory
    out = F.conv2d(picture, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def use_linear(network: nn.Module) -> None:
    """Exchanges every nn.Linear below `network` for a `Linear` of the same parameters."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                with torch.device("meta"):
                    exchanged = Linear(child.in_features, child.out_features, bias=child.bias is not None)
                exchanged.weight, exchanged.bias = child.weight, child.bias
                setattr(parent, name, exchanged)


@cache
def mkl_is_slow() -> bool:
    """Whether PyTorch multiplies by MKL on a processor that MKL was not made for."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
