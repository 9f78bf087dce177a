"""Deformable convolution against a literal, loop-by-loop reading of the published rule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from glip.model import deform, dyhead
from glip.model.cpu_linear import Product
from glip.model.deform import cells_of, deform_conv_plain, deform_convs, groups, reread
from glip.model.dyhead import DyHeadBlock


def literal(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """One output at a time, reading the offsets' memory with the output's strides."""
    batch, _, height, width = x.shape
    out_h, out_w = -(-height // stride), -(-width // stride)
    out = bias.view(1, -1, 1, 1).repeat(batch, 1, out_h, out_w)
    for b in range(batch):
        shifts, shares = offset[b].flatten(), mask[b].flatten()
        for i in range(out_h):
            for j in range(out_w):
                for tap in range(9):
                    at = (tap * out_h + i) * out_w + j
                    dy = shifts[(2 * tap * out_h + i) * out_w + j]
                    dx = shifts[((2 * tap + 1) * out_h + i) * out_w + j]
                    y = float(i * stride - 1 + tap // 3 + dy)
                    x_ = float(j * stride - 1 + tap % 3 + dx)
                    out[b, :, i, j] += weight[:, :, tap // 3, tap % 3] @ bilinear(x[b], y, x_) * shares[at]
    return out


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    result = torch.zeros(image.shape[0], dtype=image.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                result += image[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return result


def deform_conv(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    return deform_convs(cells_of([x]), [0], [offset], [mask], weight, bias, stride)[0]


def make(
    size_hw: tuple[int, int], stride: int, offset_hw: tuple[int, int] | None = None, spread: float = 2.0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    height, width = offset_hw or (-(-size_hw[0] // stride), -(-size_hw[1] // stride))
    return (
        torch.randn(2, 4, *size_hw, dtype=torch.float64),
        torch.randn(2, 18, height, width, dtype=torch.float64) * spread,
        torch.rand(2, 9, height, width, dtype=torch.float64),
        torch.randn(5, 4, 3, 3, dtype=torch.float64),
        torch.randn(5, dtype=torch.float64),
    )


@pytest.mark.parametrize(
    ("size_hw", "stride", "offset_hw"),
    [
        ((5, 7), 1, None),
        ((6, 9), 2, None),
        ((7, 5), 2, None),
        ((1, 1), 1, None),
        ((3, 4), 1, (6, 8)),  # the level above: offsets of twice the size, re-read
        ((3, 4), 1, (5, 7)),
    ],
)
@pytest.mark.parametrize("spread", [0.0, 2.0, 50.0])
def test_both_forms_equal_the_literal_kernel(
    size_hw: tuple[int, int], stride: int, offset_hw: tuple[int, int] | None, spread: float
) -> None:
    x, offset, mask, weight, bias = make(size_hw, stride, offset_hw, spread)
    expected = literal(x, offset, mask, weight, bias, stride)
    out_hw = (expected.shape[2], expected.shape[3])
    assert torch.allclose(deform_conv(x, offset, mask, weight, bias, stride), expected, atol=1e-10)
    plain = deform_conv_plain(x, reread(offset, out_hw), reread(mask, out_hw), weight, bias, stride)
    assert torch.allclose(plain, expected, atol=1e-10)


@pytest.mark.parametrize("at_once", [1, 36, 400, 36 * 35])
def test_the_size_of_a_product_changes_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, offset, mask, weight, bias = make((5, 7), 1)
    expected = deform_conv(x, offset, mask, weight, bias, 1)
    sizes: list[int] = []

    class Counted(Product):
        def __call__(self, columns: Tensor) -> Tensor:
            sizes.append(columns.numel())
            return super().__call__(columns)

    monkeypatch.setattr(deform, "VALUES_PER_PRODUCT", at_once)
    monkeypatch.setattr(deform, "Product", Counted)
    assert torch.allclose(deform_conv(x, offset, mask, weight, bias, 1), expected, atol=1e-12)
    assert max(sizes) <= max(36, at_once)
    assert sum(sizes) == 2 * 35 * 36


def test_offsets_exactly_on_the_border_follow_the_strict_rule() -> None:
    """A tap counts if -1 < y < height: at exactly -1 and at exactly the height it is nothing."""
    x, offset, mask, weight, bias = make((4, 4), 1)
    for whole in (-2.0, -1.0, 1.0, 2.0, 4.0):
        offset = torch.full_like(offset, whole)
        expected = deform_conv_plain(x, offset, mask, weight, bias, 1)
        assert torch.allclose(deform_conv(x, offset, mask, weight, bias, 1), expected, atol=1e-10)


def test_gradients_equal_torchvisions() -> None:
    found = []
    for form in (deform_conv, deform_conv_plain):
        tensors = [t.requires_grad_() for t in make((5, 6), 1)]
        x, offset, mask, weight, bias = tensors
        loss = (form(x, offset, mask, weight, bias, 1) ** 2).sum()
        found.append(torch.autograd.grad(loss, tensors))
    for ours, plain in zip(*found, strict=True):
        assert torch.allclose(ours, plain, atol=1e-8)


def test_rereading_is_neither_a_crop_nor_a_resize() -> None:
    values = torch.arange(2 * 4 * 4).view(1, 2, 4, 4)
    assert reread(values, (2, 2)).flatten().tolist() == list(range(8))
    assert reread(values, (4, 4)) is values


def test_what_is_not_a_number_stays_so_and_reads_nothing_outside() -> None:
    x, offset, mask, weight, bias = make((6, 8), 1)
    offset[0, 4, 2, 3] = math.nan
    offset[1, 5, 1, 1] = math.inf
    out = deform_conv(x, offset, mask, weight, bias, 1)
    assert out[0, :, 2, 3].isnan().all()
    finite = out.isfinite().all(dim=1)
    assert finite.sum() >= finite.numel() - 2


@pytest.mark.parametrize("at_once", [1, 9 * 16 * 60, 2**23])
@pytest.mark.parametrize("sizes_hw", [[(9, 13), (5, 7), (3, 4), (2, 2), (1, 1)], [(4, 6), (2, 3)], [(3, 3)]])
def test_levels_convolved_together_equal_the_published_order(
    at_once: int, sizes_hw: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deform, "VALUES_PER_PRODUCT", at_once)
    torch.manual_seed(1)
    block = DyHeadBlock(16).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    maps = [torch.randn(2, 16, *size, dtype=torch.float64, requires_grad=True) for size in sizes_hw]
    assert [level for some in groups(maps) for level in some] == list(range(len(maps)))
    results = []
    for plain in (False, True):
        block.plain_form = plain
        out = block(maps)
        gradients = torch.autograd.grad(
            sum((x**2).sum() for x in out), [*maps, *block.parameters()], allow_unused=True, materialize_grads=True
        )
        results.append([*out, *gradients])
    for ours, published in zip(*results, strict=True):
        assert torch.allclose(ours, published, rtol=1e-9, atol=1e-9)


def test_small_neighbours_go_together_up_to_one_product() -> None:
    sizes = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))
    maps = [torch.empty(1, 256, *size) for size in sizes]
    assert list(groups(maps)) == [range(1), range(1, 2), range(2, 5)]
    assert list(groups([x[:, :8] for x in maps])) == [range(5)]


@pytest.mark.parametrize("numbers", [1, 2 * 16 * 7 * 3, 2**20])
def test_branches_mixed_in_tiles_equal_the_published_order(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dyhead, "VALUES_PER_TILE", numbers)
    torch.manual_seed(0)
    block = DyHeadBlock(16).eval().double()
    branches = [torch.randn(2, 16, 10, 7, dtype=torch.float64) for _ in range(3)]
    with torch.no_grad():
        expected = block._mix_plain(branches)
        assert torch.allclose(block._mix(branches), expected, atol=1e-12)


def test_cells_are_numbered_in_half_the_bytes() -> None:
    x, offset, mask, *_ = make((3, 5), 1)
    taps = deform._taps(2, ((3, 5),), (0,), 1, x.device)
    index, share = deform._bilinear_neighbours(deform._by_cell(offset), deform._by_cell(mask), taps)
    assert index.dtype == torch.int32
    assert index.shape == share.shape == (2 * 3 * 5 * 9, 4)
    assert index.min() >= 0 and index[: 15 * 9].max() < 15 <= index[15 * 9 :].min() and index.max() < 30


def test_what_is_made_while_predicting_serves_training() -> None:
    x, offset, mask, weight, bias = make((3, 5), 1)
    deform._taps.cache_clear()
    with torch.inference_mode():
        deform_conv(x, offset, mask, weight, bias, 1)
    deform_conv(x.requires_grad_(), offset.requires_grad_(), mask, weight, bias, 1).sum().backward()
    assert offset.grad is not None
    assert offset.grad.any()
