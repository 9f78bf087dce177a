"""One DyHead block: deformable convolutions across levels, scale attention, dynamic ReLU. Source: SPEC 7.3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glip.model.deform import deform_conv, published_deform_conv

COARSER, SAME, FINER = 0, 1, 2  # which neighbour a convolution reads; published order


class DeformConv(nn.Module):
    """Modulated deformable 3x3 convolution, then GroupNorm."""

    plain_form = False  # see `forms`

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        # Holds weight and bias only; its forward would be a plain convolution.
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)
        self.norm = nn.GroupNorm(16, channels)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """(B, D, H, W) with offset (B, 18, h, w) and mask (B, 9, h, w) to (B, D, H/stride, W/stride)."""
        assert self.conv.bias is not None
        convolve = published_deform_conv if self.plain_form else deform_conv
        return self.norm(convolve(x, offset, mask, self.conv.weight, self.conv.bias, self.conv.stride[0]))


class DynamicReLU(nn.Module):
    """max(a1 x + b1, a2 x + b2), the four coefficients made from the picture's mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, channels // 4)
        self.expand = nn.Linear(channels // 4, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) to (B, D, H, W)."""
        mean = x.mean((2, 3))
        coefficients = _hard_sigmoid(self.expand(F.relu(self.reduce(mean))))[:, :, None, None]
        slope1, shift1, slope2, shift2 = coefficients.chunk(4, dim=1)
        return torch.maximum(x * (2 * slope1) + (shift1 - 0.5), x * (2 * slope2 - 1) + (shift2 - 0.5))


class DyHeadBlock(nn.Module):
    """Every level becomes the attention-weighted mean of itself and its neighbours. All levels share the weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(DeformConv(channels, stride) for stride in (1, 1, 2))
        self.scale_attention = nn.Conv2d(channels, 1, 1)
        self.offset = nn.Conv2d(channels, 27, 3, padding=1)
        self.relu = DynamicReLU(channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Five maps (B, D, h, w), finest first, to five of the same sizes. All read the block's input."""
        return [self._level(maps, level) for level in range(len(maps))]

    def _level(self, maps: Sequence[Tensor], level: int) -> Tensor:
        x = maps[level]
        # Contiguous, because oneDNN's channels-last convolutions round two to four times more coarsely.
        sampling = self.offset(x.contiguous())
        offset, mask = sampling[:, :18], sampling[:, 18:].sigmoid()
        branches = [self.convs[SAME](x, offset, mask)]
        if level > 0:
            branches.append(self.convs[FINER](maps[level - 1], offset, mask))
        if level + 1 < len(maps):
            coarser = self.convs[COARSER](maps[level + 1], offset, mask)
            branches.append(F.interpolate(coarser, size=x.shape[2:], mode="bilinear", align_corners=True))
        mixed = sum(branch * self._weight(branch) for branch in branches)
        return self.relu(mixed / len(branches))

    def _weight(self, branch: Tensor) -> Tensor:
        """(B, D, H, W) to (B, 1, 1, 1) in [0, 1]."""
        return _hard_sigmoid(F.relu(self.scale_attention(branch.mean((2, 3), keepdim=True))))


def _hard_sigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6
