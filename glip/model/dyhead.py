"""One DyHead block: deformable convolutions across levels, scale attention, dynamic ReLU.

Source: arXiv:2106.08322 (DyHead), arXiv:2003.10027 (dynamic ReLU), and `docs/model.md`, "DyHead block".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glip.model.deform import Cells, can_gather, cells_of, deform_convs, groups, published_deform_conv
from glip.model.tiling import predicts_on_cpu, tiles

VALUES_PER_TILE = 2**20  # of a map that is combined: 4 MiB in float32
COARSER, SAME, FINER = 0, 1, 2  # the level that a convolution reads; published order


class DeformConv(nn.Module):
    """Modulated deformable 3x3 convolution followed by GroupNorm."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        # Only holds weight and bias; its forward would be an ordinary convolution.
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)
        self.norm = nn.GroupNorm(16, channels)

    def forward(
        self, cells: Cells, sampled: Sequence[int], offsets: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> list[Tensor]:
        """Returns a map (B, D, h, w) for each of several maps; arguments as for `deform_convs`."""
        assert self.conv.bias is not None
        convolved = deform_convs(cells, sampled, offsets, masks, self.conv.weight, self.conv.bias, self.conv.stride[0])
        return [self.norm(x) for x in convolved]

    def plain(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Maps (B, D, H, W) with offset (B, 18, h, w) and mask (B, 9, h, w) to (B, D, H/stride, W/stride)."""
        assert self.conv.bias is not None
        return self.norm(published_deform_conv(x, offset, mask, self.conv.weight, self.conv.bias, self.conv.stride[0]))


class DynamicReLU(nn.Module):
    """max(a1 x + b1, a2 x + b2), with four coefficients per channel computed from the mean of the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, channels // 4)
        self.expand = nn.Linear(channels // 4, 4 * channels)

    def forward(self, x: Tensor, mean: Tensor) -> Tensor:
        """Maps (B, D, H, W) and its mean (B, D, 1, 1) over all locations to (B, D, H, W)."""
        slope1, shift1, slope2, shift2 = self._coefficients(mean)
        return torch.maximum(torch.addcmul(shift1 - 0.5, x, 2 * slope1), torch.addcmul(shift2 - 0.5, x, 2 * slope2 - 1))

    def plain(self, x: Tensor) -> Tensor:
        """Computes `forward` in the published order of operations."""
        slope1, shift1, slope2, shift2 = self._coefficients(x.mean((2, 3), keepdim=True))
        return torch.maximum(x * (2 * slope1) + (shift1 - 0.5), x * (2 * slope2 - 1) + (shift2 - 0.5))

    def _coefficients(self, mean: Tensor) -> tuple[Tensor, ...]:
        coefficients = _hard_sigmoid(self.expand(F.relu(self.reduce(mean.flatten(1)))))
        return coefficients[:, :, None, None].chunk(4, dim=1)


class DyHeadBlock(nn.Module):
    """Replaces every level by the weighted mean of itself and its neighbours. All levels share the weights."""

    plain_form = False  # see `reference_mode`

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(DeformConv(channels, stride) for stride in (1, 1, 2))
        self.scale_attention = nn.Conv2d(channels, 1, 1)
        self.offset = nn.Conv2d(channels, 27, 3, padding=1)
        self.relu = DynamicReLU(channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps five maps (B, D, h, w), finest first, to five of the same sizes. All levels read the block's input."""
        maps = [self._lowered(x) for x in maps]
        offsets, masks = zip(*map(self._sampling, maps), strict=True)
        if self.plain_form or not can_gather(maps[0]):
            branches = [self._level_plain(maps, level, offsets[level], masks[level]) for level in range(len(maps))]
            return [self._mix_plain(some) if self.plain_form else self._mix(some) for some in branches]
        cells, mixed = cells_of(maps), []
        for levels in groups(maps):
            mixed += [self._mix(some) for some in self._levels(cells, levels, offsets, masks)]
        return mixed

    def _conv(self, which: int) -> DeformConv:
        conv = self.convs[which]
        assert isinstance(conv, DeformConv)
        return conv

    def _sampling(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns offset (B, 18, h, w) and mask (B, 9, h, w) of a map (B, D, h, w)."""
        # Contiguous, because oneDNN's channels-last convolutions round float32 two to four times more coarsely.
        sampling = self.offset(x if x.dtype.itemsize == 2 else x.contiguous())
        return sampling[:, :18], sampling[:, 18:].sigmoid()

    def _levels(
        self, cells: Cells, levels: range, offsets: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> list[list[Tensor]]:
        """Returns the branches of each of some levels: convolutions of its own map, the finer and the coarser one."""
        branches: dict[int, list[Tensor]] = {level: [] for level in levels}
        for which, step in ((SAME, 0), (FINER, -1), (COARSER, 1)):
            own = [level for level in levels if 0 <= level + step < len(cells.sizes_hw)]
            if not own:
                continue
            read = [level + step for level in own]
            found = self._conv(which)(cells, read, [offsets[level] for level in own], [masks[level] for level in own])
            for level, x in zip(own, found, strict=True):
                branches[level].append(_enlarged(x, branches[level][0]) if which == COARSER else x)
        return list(branches.values())

    def _level_plain(self, maps: Sequence[Tensor], level: int, offset: Tensor, mask: Tensor) -> list[Tensor]:
        """Computes `_levels` of one level by torchvision's operator."""
        branches = [self._conv(SAME).plain(maps[level], offset, mask)]
        if level > 0:
            branches.append(self._conv(FINER).plain(maps[level - 1], offset, mask))
        if level + 1 < len(maps):
            branches.append(_enlarged(self._conv(COARSER).plain(maps[level + 1], offset, mask), maps[level]))
        return branches

    def _lowered(self, x: Tensor) -> Tensor:
        """Converts a map to half precision once where autocast would convert it for each of three convolutions.

        Only for prediction: half precision is too coarse to sum the gradients of sampled values.
        """
        kind = x.device.type
        served = torch.is_autocast_enabled(kind) and can_gather(x) and not torch.is_grad_enabled()
        return x.to(torch.get_autocast_dtype(kind)) if served and not self.plain_form else x

    def _mix(self, branches: Sequence[Tensor]) -> Tensor:
        """Returns the weighted mean of the branches (B, D, H, W) after the dynamic ReLU.

        The maps are large and memory limits the speed, so no pass is made twice: the mean that the ReLU needs follows
        from the means that the weights were computed from.
        """
        means = [_mean(branch) for branch in branches]
        weights = [_hard_sigmoid(F.relu(self.scale_attention(mean))) / len(branches) for mean in means]
        mean = _weighted_sum(means, weights)
        if not predicts_on_cpu(branches[0]):
            return self.relu(_weighted_sum(branches, weights), mean)
        # For prediction a few rows at a time, so that intermediate values never leave the cache. The result overwrites
        # the first branch, which is not read again.
        own = branches[0]
        for rows in tiles(own.shape[2], own[:, :, 0].numel(), VALUES_PER_TILE):
            own[:, :, rows] = self.relu(_weighted_sum([branch[:, :, rows] for branch in branches], weights), mean)
        return own

    def _mix_plain(self, branches: Sequence[Tensor]) -> Tensor:
        """Computes `_mix` in the published order of operations."""
        means = [branch.mean((2, 3), keepdim=True) for branch in branches]
        weighted = [
            branch * _hard_sigmoid(F.relu(self.scale_attention(mean)))
            for branch, mean in zip(branches, means, strict=True)
        ]
        mixed = torch.stack(weighted).mean(0)
        return self.relu.plain(mixed)


def _weighted_sum(parts: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    total = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total = torch.addcmul(total, part, weight)
    return total


def _mean(x: Tensor) -> Tensor:
    """Returns the mean (B, D, 1, 1) of a map (B, D, H, W)."""
    if x.device.type == "cpu" and x.dtype == torch.bfloat16:
        return F.avg_pool2d(x, (x.shape[2], x.shape[3]))  # equal up to rounding, and faster
    return x.mean((2, 3), keepdim=True)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


def _hard_sigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6
