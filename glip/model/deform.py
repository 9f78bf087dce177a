"""Modulated deformable convolution: one call for all maps of a pyramid, the fastest exact form on each device.

Source: SPEC 7.3, PERF section 3. torchvision's operator is the plain form; on CPUs its sampling is single-threaded and
does not know bfloat16. Here the same sums are done by `embedding_bag`: every kernel tap is a bag of four weighted
neighbours, and the columns of all maps and images go through one product, in parts that stay near the cache.
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

# Numbers in the columns of one product (24 MiB in float32): more leaves the cache, and what passes 32 MiB is asked of
# the system each time; less starves the product.
COLUMNS_AT_ONCE = 6 * 2**20

SizeHW = tuple[int, int]


class Cells(NamedTuple):
    """The maps of a pyramid as one table.

    Attributes:
        values: (N, D), a row for every place: map by map, in it image by image, row-major.
        batch: images.
        sizes_hw: height and width of each map.
    """

    values: Tensor
    batch: int
    sizes_hw: tuple[SizeHW, ...]


def can_gather(x: Tensor) -> bool:
    """Whether `deform_convs` is the form for maps on this device; else it is `published_deform_conv`.

    On GPUs only to predict: the gradient of a bag sorts its indices there, torchvision's does not.
    """
    return x.device.type == "cpu" or (x.device.type == "cuda" and not torch.is_grad_enabled())


def groups(maps: Sequence[Tensor]) -> Iterator[range]:
    """Numbers of maps (B, D, h, w) that are best convolved together: neighbours, small ones.

    On a CPU as many as fill one product: more would only keep more memory. A GPU is given everything at once.
    """
    first, numbers = 0, 0
    for last, x in enumerate(maps):
        numbers += 9 * x.numel()
        if numbers > COLUMNS_AT_ONCE and last > first and x.device.type == "cpu":
            yield range(first, last)
            first, numbers = last, 9 * x.numel()
    yield range(first, len(maps))


def cells_of(maps: Sequence[Tensor]) -> Cells:
    """Maps (B, D, h, w), each of its own size, as one table."""
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
    """3x3 deformable convolutions with padding 1 of several maps, with one weight.

    Args:
        cells: the maps (B, D, H, W) that may be sampled.
        sampled: numbers of those that are.
        offsets: for each of them (B, 18, h, w) shifts (dy, dx) of the nine taps, row-major. May be larger than the
            output: then its memory is read with the output's strides, see `reread`.
        masks: for each (B, 9, h, w), weight of each tap.
        weight: (O, D, 3, 3).
        bias: (O,).
        stride: 1 or 2.

    Returns:
        For each map (B, O, ceil(H / stride), ceil(W / stride)).
    """
    outputs_hw = [_output_hw(cells.sizes_hw[number], stride) for number in sampled]
    taps = _taps(cells.batch, cells.sizes_hw, tuple(sampled), stride, cells.values.device)
    shifts = _joined([_by_place(reread(o, size)) for o, size in zip(offsets, outputs_hw, strict=True)])
    shares = _joined([_by_place(reread(m, size)) for m, size in zip(masks, outputs_hw, strict=True)])
    index, share = _bilinear_neighbours(at_least_float32(shifts), at_least_float32(shares), taps)
    flat = weight.permute(0, 2, 3, 1).flatten(1).to(cells.values.dtype)
    out = _gather(index, share, cells.values, flat, bias)
    parts = out.split([cells.batch * height * width for height, width in outputs_hw])
    return [part.view(cells.batch, *size, -1).permute(0, 3, 1, 2) for part, size in zip(parts, outputs_hw, strict=True)]


def published_deform_conv(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """`deform_convs` of one map (B, D, H, W) by torchvision's operator, on every device."""
    out_hw = _output_hw((x.shape[2], x.shape[3]), stride)
    return deform_conv_plain(x, reread(offset, out_hw), reread(mask, out_hw), weight, bias, stride)


def _output_hw(size_hw: SizeHW, stride: int) -> SizeHW:
    return -(-size_hw[0] // stride), -(-size_hw[1] // stride)


def reread(values: Tensor, out_hw: SizeHW) -> Tensor:
    """Reads a map that is larger than the output as the published kernel does.

    The kernel takes an image's memory as (channels, *out_hw) without looking at its real height and width: neither a
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
    """torchvision's operator; arguments as in `published_deform_conv`, with offset and mask of the output's size."""
    # torchvision has kernels for float32 and, on GPUs, float16; the published model runs this part in float32.
    with torch.autocast(x.device.type, enabled=False):
        x, offset, mask, weight, bias = (at_least_float32(t) for t in (x, offset, mask, weight, bias))
        return deform_conv2d(x, offset, weight, bias, stride=stride, padding=1, mask=mask)


def _by_place(values: Tensor) -> Tensor:
    """(B, C, h, w) to (B * h * w, C)."""
    return values.permute(0, 2, 3, 1).flatten(0, 2)


def _gather(index: Tensor, share: Tensor, cells: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """The convolution's output (places, O) from the neighbours of every place's nine taps, (places * 9, 4) each."""
    outputs, multiply = [], Product(taps, bias)
    at_once = max(1, COLUMNS_AT_ONCE // taps.shape[1]) * 9
    for rows, shares in zip(index.split(at_once), share.to(cells.dtype).split(at_once), strict=True):
        columns = F.embedding_bag(rows, cells, per_sample_weights=shares, mode="sum")
        outputs.append(multiply(columns.view(-1, taps.shape[1])))
    return _joined(outputs)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)  # one part would be copied


class _Taps(NamedTuple):
    """Where the taps of every output place lie before they are shifted, and in which map: (P, 1) each.

    Attributes:
        top, left: row and column of the first tap. All are int32: so are the numbers of the cells then.
        height, width: of the map that is sampled.
        first: number of the cell that this image's map begins with.
        down, right: (9,) steps from the first tap to each.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    first: Tensor
    down: Tensor
    right: Tensor


@lru_cache(maxsize=64)  # at most eight for each size of images; 20 bytes a place
@torch.inference_mode(False)  # made while predicting, it may be needed in training
def _taps(
    batch: int, sizes_hw: tuple[SizeHW, ...], sampled: tuple[int, ...], stride: int, device: torch.device
) -> _Taps:
    places: list[Tensor] = []
    firsts = [0]
    for height, width in sizes_hw:
        firsts.append(firsts[-1] + batch * height * width)
    for number in sampled:
        height, width = sizes_hw[number]
        out_h, out_w = _output_hw((height, width), stride)
        image, row, column = torch.meshgrid(*map(torch.arange, (batch, out_h, out_w)), indexing="ij")
        size = torch.tensor([height, width]).expand(batch, out_h, out_w, 2).unbind(-1)
        where = (row * stride - 1, column * stride - 1, *size, firsts[number] + image * (height * width))
        places.append(torch.stack(where).flatten(1))
    top, left, height_of, width_of, first = torch.cat(places, dim=1).int().to(device)[:, :, None]
    step = torch.arange(3, dtype=torch.int32, device=device)
    return _Taps(top, left, height_of, width_of, first, step.repeat_interleave(3), step.repeat(3))


def _bilinear_neighbours(shifts: Tensor, weights: Tensor, taps: _Taps) -> tuple[Tensor, Tensor]:
    """The four cells that each tap of each output place blends, and their shares.

    Args:
        shifts: (P, 18) float32, (dy, dx) of each tap.
        weights: (P, 9) float32.
        taps: of the P places.

    Returns:
        (P * 9, 4) int32 cell numbers, and (P * 9, 4) shares; outside is zero.
    """
    height, width = taps.height, taps.width
    dy, dx = shifts.unflatten(1, (9, 2)).unbind(2)
    y, x = dy + (taps.top + taps.down), dx + (taps.left + taps.right)
    top, left = y.floor(), x.floor()
    low, right = y - top, x - left
    # Each neighbour counts only if it lies inside the map.
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
    # Only what is not a number lies outside: its share is no number either, and so is the output, as of the operator.
    number = _inside(index.int(), (height * width)[:, :, None])
    return (number + taps.first[:, :, None]).view(-1, 4), share.view(-1, 4)


def _inside(values: Tensor, size: Tensor) -> Tensor:
    return values.clamp(torch.zeros_like(size), size - 1)
