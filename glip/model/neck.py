"""The neck: a feature pyramid with two extra levels.

Source: arXiv:1612.03144 (FPN), arXiv:1810.12890 (DropBlock), and `docs/model.md`, "Neck".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DropBlock(nn.Module):
    """Sets squares of a map to zero in all channels at once and scales up the rest. Training only."""

    def __init__(self, probability: float = 0.3, block: int = 3) -> None:
        super().__init__()
        self.probability = probability
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, D, H, W) to (B, D, H, W)."""
        if not self.training or not self.probability:
            return x
        batch, _, height, width = x.shape
        seeds = torch.rand(batch, 1, height, width, device=x.device) < self.probability / self.block**2
        dropped = F.max_pool2d(seeds.float(), self.block, stride=1, padding=self.block // 2)
        kept = 1 - dropped
        # Published: one scale for the whole batch. On a tiny map nothing may be left, hence the minimum of 1.
        scale = kept.numel() / kept.sum().clamp(min=1)
        return x * (kept * scale).to(x.dtype)


class FPN(nn.Module):
    """Feature pyramid: C3, C4, C5 to P3 ... P7, all with the same number of channels."""

    def __init__(self, in_channels: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.drop_block = DropBlock()

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """Maps C3, C4, C5 (B, *, h, w) to five maps (B, D, h, w) whose sizes halve, rounded up."""
        merged = self.lateral[2](maps[2])
        pyramid = [self.output[2](merged)]
        for level in (1, 0):
            lateral = self.lateral[level](maps[level])
            merged = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            # Only the output is dropped: the map passed to the finer level stays whole, and so does P5.
            pyramid.insert(0, self.output[level](self.drop_block(merged)))
        # Published: P6 reads P5, the pyramid's own output, and not C5.
        p6 = self.p6(pyramid[-1])
        return [*pyramid, p6, self.p7(F.relu(p6))]
