"""Modulated deformable convolution: one call, the fastest exact form on each device.

Source: SPEC 7.3. torchvision's operator is the plain form; on CPUs its sampling is single-threaded and does not know
bfloat16, so there the same sums are done by `embedding_bag`: every kernel tap is a bag of four weighted neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from glip.model.precision import at_least_float32
from glip.model.products import linear

# Numbers in the columns of one product (32 MiB in float32): more leaves the cache, less starves the product.
COLUMNS_AT_ONCE = 2**23


def deform_conv(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """A 3x3 deformable convolution with padding 1.

    Args:
        x: (B, D, H, W).
        offset: (B, 18, h, w) shifts (dy, dx) of the nine taps, row-major. May be larger than the output: then its
            memory is read with the output's strides, see `reread`.
        mask: (B, 9, h, w) weight of each tap.
        weight: (O, D, 3, 3).
        bias: (O,).
        stride: 1 or 2.

    Returns:
        (B, O, ceil(H / stride), ceil(W / stride)).
    """
    if x.device.type != "cpu":
        return published_deform_conv(x, offset, mask, weight, bias, stride)
    out_hw = _output_hw(x, stride)
    return _deform_conv_bags(x, reread(offset, out_hw), reread(mask, out_hw), weight, bias, stride)


def published_deform_conv(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """`deform_conv` by torchvision's operator, on every device."""
    out_hw = _output_hw(x, stride)
    return deform_conv_plain(x, reread(offset, out_hw), reread(mask, out_hw), weight, bias, stride)


def _output_hw(x: Tensor, stride: int) -> tuple[int, int]:
    return -(-x.shape[2] // stride), -(-x.shape[3] // stride)


def reread(values: Tensor, out_hw: tuple[int, int]) -> Tensor:
    """Reads a map that is larger than the output as the published kernel does.

    The kernel takes a picture's memory as (channels, *out_hw) without looking at its real height and width: neither a
    crop nor a resize. The released weights were trained that way.

    Args:
        values: (B, D, H, W) with H * W at least as large as the output.
        out_hw: size of the convolution's output.

    Returns:
        (B, D, *out_hw).
    """
    batch, channels, *size_hw = values.shape
    if tuple(size_hw) == out_hw:
        return values
    flat = values.reshape(batch, -1)[:, : channels * out_hw[0] * out_hw[1]]
    return flat.view(batch, channels, *out_hw)


def deform_conv_plain(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """torchvision's operator; arguments as in `deform_conv`, with offset and mask of the output's size."""
    # torchvision has kernels for float32 and, on GPUs, float16; the published model runs this part in float32.
    with torch.autocast(x.device.type, enabled=False):
        x, offset, mask, weight, bias = (at_least_float32(t) for t in (x, offset, mask, weight, bias))
        return deform_conv2d(x, offset, weight, bias, stride=stride, padding=1, mask=mask)


def _deform_conv_bags(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    height, width = x.shape[2:]
    out_hw = offset.shape[2:]
    taps = weight.permute(0, 2, 3, 1).flatten(1)
    cells = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H * W, D)
    # Small maps of several pictures go together: in training the number of calls is what costs.
    together = max(1, COLUMNS_AT_ONCE // (mask[0].numel() * x.shape[1]))
    outputs = []
    for start in range(0, len(x), together):
        some = slice(start, start + together)
        shifts, weights = at_least_float32(offset[some]), at_least_float32(mask[some])
        index, share = _bilinear_neighbours(shifts, weights, (height, width), stride)
        outputs.append(_gather(index, share, cells[some].flatten(0, 1), taps, bias).view(-1, *out_hw, len(bias)))
    return _joined(outputs).permute(0, 3, 1, 2)


def _gather(index: Tensor, share: Tensor, cells: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """The convolution's output (places, O) from the neighbours of every place's nine taps, (places * 9, 4) each."""
    outputs = []
    at_once = max(1, COLUMNS_AT_ONCE // taps.shape[1]) * 9
    for rows, shares in zip(index.split(at_once), share.to(cells.dtype).split(at_once), strict=True):
        columns = F.embedding_bag(rows, cells, per_sample_weights=shares, mode="sum")
        outputs.append(linear(columns.view(-1, taps.shape[1]), taps, bias))
    return _joined(outputs)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)  # one part would be copied


def _bilinear_neighbours(
    shifts: Tensor, weights: Tensor, size_hw: tuple[int, int], stride: int
) -> tuple[Tensor, Tensor]:
    """The four cells that each tap of each output position blends, and their shares.

    Args:
        shifts: (B, 18, h, w) float32.
        weights: (B, 9, h, w) float32.
        size_hw: height and width of the maps that are sampled.
        stride: of the convolution.

    Returns:
        (B * h * w * 9, 4) int32 cell numbers, row-major in the sampled maps, which lie one after the other, and
        (B * h * w * 9, 4) shares; outside is zero.
    """
    height, width = size_hw
    batch, _, out_h, out_w = shifts.shape
    step = torch.arange(3, device=shifts.device)
    rows = torch.arange(out_h, device=shifts.device) * stride - 1
    columns = torch.arange(out_w, device=shifts.device) * stride - 1
    dy, dx = shifts.view(batch, 9, 2, out_h, out_w).unbind(2)
    y = (dy + (rows[None, :] + step.repeat_interleave(3)[:, None])[:, :, None]).flatten(2).transpose(1, 2)
    x = (dx + (columns[None, :] + step.repeat(3)[:, None])[:, None, :]).flatten(2).transpose(1, 2)
    weights = weights.flatten(2).transpose(1, 2)
    top, left = y.floor(), x.floor()
    low, right = y - top, x - left
    # Each neighbour counts only if it lies inside the map.
    share_top = (1 - low) * ((top >= 0) & (top < height)) * weights
    share_bottom = low * ((top >= -1) & (top < height - 1)) * weights
    share_left = (1 - right) * ((left >= 0) & (left < width))
    share_right = right * ((left >= -1) & (left < width - 1))
    row_top, row_bottom = top.clamp(0, height - 1) * width, (top + 1).clamp(0, height - 1) * width
    column_left, column_right = left.clamp(0, width - 1), (left + 1).clamp(0, width - 1)
    index = torch.stack(
        (row_top + column_left, row_top + column_right, row_bottom + column_left, row_bottom + column_right), dim=-1
    )
    share = torch.stack(
        (share_top * share_left, share_top * share_right, share_bottom * share_left, share_bottom * share_right), dim=-1
    )
    first = torch.arange(batch, dtype=torch.int32, device=shifts.device) * (height * width)
    # Only what is not a number lies outside: its share is no number either, and so is the output, as of the operator.
    return (index.int().clamp_(0, height * width - 1) + first[:, None, None, None]).view(-1, 4), share.view(-1, 4)
