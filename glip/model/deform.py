"""Modulated deformable convolution: one call for all maps of a pyramid, the fastest exact form on each device.

torchvision's operator is the plain form; on CPUs its sampling is single-threaded and lacks bfloat16. Here
`embedding_bag` computes the same sums: every kernel tap is a bag of four weighted neighbours, and the columns of all
maps and images are multiplied together, in parts that stay near the cache.
Source: arXiv:1811.11168 and `docs/model.md`, "DyHead block".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from glip.model.cpu_linear import Product
from glip.model.precision import at_least_float32

# Values in the columns of one product (24 MiB in float32). Larger parts leave the cache, and from 32 MiB on the system
# allocates memory each time; smaller parts multiply slowly.
VALUES_PER_PRODUCT = 6 * 2**20

SizeHW = tuple[int, int]


class Cells(NamedTuple):
    """The cells of all maps of a pyramid in one table.

    Attributes:
        values: (N, D), a row per cell: map by map, in a map image by image, row-major.
        batch: number of images.
        sizes_hw: height and width of each map.
    """

    values: Tensor
    batch: int
    sizes_hw: tuple[SizeHW, ...]


def can_gather(x: Tensor) -> bool:
    """Returns whether `deform_convs` is the faster form for maps on this device, else `published_deform_conv` is.

    On GPUs it is only for prediction: the gradient of a bag sorts its indices there, torchvision's does not.
    """
    return x.device.type == "cpu" or (x.device.type == "cuda" and not torch.is_grad_enabled())


def groups(maps: Sequence[Tensor]) -> Iterator[range]:
    """Yields the index ranges of maps (B, D, h, w) that are best convolved together.

    On a CPU, as many small neighbours as fill one product; more would only use more memory. On a GPU, all at once.
    """
    first, values = 0, 0
    for last, x in enumerate(maps):
        values += 9 * x.numel()
        if values > VALUES_PER_PRODUCT and last > first and x.device.type == "cpu":
            yield range(first, last)
            first, values = last, 9 * x.numel()
    yield range(first, len(maps))


def cells_of(maps: Sequence[Tensor]) -> Cells:
    """Puts maps (B, D, h, w), each of its own size, into one table."""
    rows = [x.permute(0, 2, 3, 1).flatten(0, 2) for x in maps]
    return Cells(_joined(rows), len(maps[0]), tuple((x.shape[2], x.shape[3]) for x in maps))


def deform_convs(
    cells: Cells,
    sampled: Sequence[int],
    offsets: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    stride: int,
) -> list[Tensor]:
    """Computes 3x3 deformable convolutions with padding 1 of several maps, with one weight.

    Args:
        cells: the maps (B, D, H, W) that may be sampled.
        sampled: indices of the maps that are.
        offsets: for each of these (B, 18, h, w) shifts (dy, dx) of the nine taps, row-major. Where h × w is larger
            than the output, its memory is read with the output's strides, see `reread`.
        masks: for each of these (B, 9, h, w) weights of the taps.
        weight: (O, D, 3, 3).
        bias: (O,).
        stride: 1 or 2.

    Returns:
        (B, O, ceil(H / stride), ceil(W / stride)) for each sampled map.
    """
    outputs_hw = [_output_hw(cells.sizes_hw[index], stride) for index in sampled]
    taps = _taps(cells.batch, cells.sizes_hw, tuple(sampled), stride, cells.values.device)
    shifts = _joined([_by_cell(reread(o, size)) for o, size in zip(offsets, outputs_hw, strict=True)])
    shares = _joined([_by_cell(reread(m, size)) for m, size in zip(masks, outputs_hw, strict=True)])
    index, share = _bilinear_neighbours(at_least_float32(shifts), at_least_float32(shares), taps)
    flat = weight.permute(0, 2, 3, 1).flatten(1).to(cells.values.dtype)
    out = _gather(index, share, cells.values, flat, bias)
    parts = out.split([cells.batch * height * width for height, width in outputs_hw])
    return [part.view(cells.batch, *size, -1).permute(0, 3, 1, 2) for part, size in zip(parts, outputs_hw, strict=True)]


def published_deform_conv(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Computes `deform_convs` of one map (B, D, H, W) by torchvision's operator, on every device."""
    out_hw = _output_hw((x.shape[2], x.shape[3]), stride)
    return deform_conv_plain(x, reread(offset, out_hw), reread(mask, out_hw), weight, bias, stride)


def _output_hw(size_hw: SizeHW, stride: int) -> SizeHW:
    return -(-size_hw[0] // stride), -(-size_hw[1] // stride)


def reread(values: Tensor, out_hw: SizeHW) -> Tensor:
    """Reads a map that is larger than the output as the published kernel does.

    The kernel reads an image's memory as (channels, *out_hw) and ignores its real height and width: that is neither a
    crop nor a resize. The released weights were trained that way.

    Args:
        values: (B, D, H, W) with H * W at least as large as the output.
        out_hw: height and width of the convolution's output.

    Returns:
        (B, D, *out_hw).
    """
    batch, channels, *size_hw = values.shape
    if tuple(size_hw) == out_hw:
        return values
    flat = values.reshape(batch, -1)[:, : channels * out_hw[0] * out_hw[1]]
    return flat.view(batch, channels, *out_hw)


def deform_conv_plain(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Computes what `published_deform_conv` does, from an offset and a mask that already have the output's size."""
    # torchvision has kernels for float32 and, on GPUs, float16; the published model runs this part in float32.
    with torch.autocast(x.device.type, enabled=False):
        x, offset, mask, weight, bias = (at_least_float32(t) for t in (x, offset, mask, weight, bias))
        return deform_conv2d(x, offset, weight, bias, stride=stride, padding=1, mask=mask)


def _by_cell(values: Tensor) -> Tensor:
    """Flattens (B, C, h, w) to (B * h * w, C)."""
    return values.permute(0, 2, 3, 1).flatten(0, 2)


def _gather(index: Tensor, share: Tensor, cells: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """Returns the convolution's output (P, O) from the neighbours of the nine taps of each cell, (P * 9, 4) each."""
    outputs, multiply = [], Product(taps, bias)
    at_once = max(1, VALUES_PER_PRODUCT // taps.shape[1]) * 9
    for rows, shares in zip(index.split(at_once), share.to(cells.dtype).split(at_once), strict=True):
        columns = F.embedding_bag(rows, cells, per_sample_weights=shares, mode="sum")
        outputs.append(multiply(columns.view(-1, taps.shape[1])))
    return _joined(outputs)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)  # torch.cat would copy a single part


class _Taps(NamedTuple):
    """Positions of the taps of every output cell before they are shifted: (P, 1) each, int32 as cell indices must be.

    Attributes:
        top, left: row and column of the first tap.
        height, width: size of the map that is sampled.
        first: index of the first cell of this image's map.
        down, right: (9,) steps from the first tap to each tap.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    first: Tensor
    down: Tensor
    right: Tensor


@lru_cache(maxsize=64)  # at most eight for each image size; 20 bytes per cell
@torch.inference_mode(False)  # built in a prediction, it may be needed in training
def _taps(
    batch: int, sizes_hw: tuple[SizeHW, ...], sampled: tuple[int, ...], stride: int, device: torch.device
) -> _Taps:
    maps: list[Tensor] = []
    firsts = [0]
    for height, width in sizes_hw:
        firsts.append(firsts[-1] + batch * height * width)
    for index in sampled:
        height, width = sizes_hw[index]
        out_h, out_w = _output_hw((height, width), stride)
        image, row, column = torch.meshgrid(*map(torch.arange, (batch, out_h, out_w)), indexing="ij")
        size = torch.tensor([height, width]).expand(batch, out_h, out_w, 2).unbind(-1)
        where = (row * stride - 1, column * stride - 1, *size, firsts[index] + image * (height * width))
        maps.append(torch.stack(where).flatten(1))
    top, left, height_of, width_of, first = torch.cat(maps, dim=1).int().to(device)[:, :, None]
    step = torch.arange(3, dtype=torch.int32, device=device)
    return _Taps(top, left, height_of, width_of, first, step.repeat_interleave(3), step.repeat(3))


def _bilinear_neighbours(shifts: Tensor, weights: Tensor, taps: _Taps) -> tuple[Tensor, Tensor]:
    """Returns the four cells that each tap of each output cell blends, and their shares.

    Args:
        shifts: (P, 18) float32, (dy, dx) of each tap.
        weights: (P, 9) float32.
        taps: positions of the taps of the P output cells.

    Returns:
        (P * 9, 4) int32 cell indices, and (P * 9, 4) shares, which are 0 outside the map.
    """
    height, width = taps.height, taps.width
    dy, dx = shifts.unflatten(1, (9, 2)).unbind(2)
    y, x = dy + (taps.top + taps.down), dx + (taps.left + taps.right)
    top, left = y.floor(), x.floor()
    low, right = y - top, x - left
    # A neighbour only counts inside the map.
    share_top = (1 - low) * ((top >= 0) & (top < height)) * weights
    share_bottom = low * ((top >= -1) & (top < height - 1)) * weights
    share_left = (1 - right) * ((left >= 0) & (left < width))
    share_right = right * ((left >= -1) & (left < width - 1))
    row_top, row_bottom = _inside(top, height) * width, _inside(top + 1, height) * width
    column_left, column_right = _inside(left, width), _inside(left + 1, width)
    index = torch.stack(
        (row_top + column_left, row_top + column_right, row_bottom + column_left, row_bottom + column_right), dim=-1
    )
    share = torch.stack(
        (share_top * share_left, share_top * share_right, share_bottom * share_left, share_bottom * share_right), dim=-1
    )
    # Only NaN lies outside here. Its share is NaN, and so is the output, as with torchvision's operator.
    cell = _inside(index.int(), (height * width)[:, :, None])
    return (cell + taps.first[:, :, None]).view(-1, 4), share.view(-1, 4)


def _inside(values: Tensor, size: Tensor) -> Tensor:
    return values.clamp(torch.zeros_like(size), size - 1)
