"""Swin as GLIP runs it: any size, padding after the norm, the shift kept on small maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glip.model import backbone
from glip.model.backbone import Backbone, SwinBlock
from glip.model.config import SwinConfig
from glip.model.reference_mode import use_plain_forms


def literal_attention(block: SwinBlock, x: Tensor) -> Tensor:
    """Window attention of one image (H, W, D), cell pair by cell pair, without windows as tensors."""
    window, shift = block.window_size, block.shift
    height, width, dim = x.shape
    padded = F.pad(block.norm1(x), (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = padded.shape[:2]
    heads, attn = block.attn.num_heads, block.attn
    query, key, value = attn.qkv(padded).view(rows, columns, 3, heads, dim // heads).unbind(2)
    out = torch.zeros_like(padded)
    for y in range(rows):
        for x_ in range(columns):
            partners = [
                (v, u)
                for v in range(rows)
                for u in range(columns)
                if place(v, rows, window, shift) == place(y, rows, window, shift)
                and place(u, columns, window, shift) == place(x_, columns, window, shift)
            ]
            logits = torch.stack(
                [
                    (query[y, x_] * key[v, u]).sum(-1) * (dim // heads) ** -0.5
                    + attn.relative_position_bias_table[(y - v + window - 1) * (2 * window - 1) + (x_ - u + window - 1)]
                    for v, u in partners
                ]
            )
            values = torch.stack([value[v, u] for v, u in partners])
            out[y, x_] = (logits.softmax(0)[..., None] * values).sum(0).flatten()
    return attn.proj(out)[:height, :width]


def place(index: int, count: int, window: int, shift: int) -> tuple[int, bool]:
    """The window of a cell after the roll, and whether the cell came round from the other side."""
    rolled = (index - shift) % count
    return rolled // window, index < shift


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size_hw", [(4, 4), (5, 7), (3, 8), (2, 3), (1, 1)])
def test_a_block_equals_attention_written_cell_by_cell(size_hw: tuple[int, int], shifted: bool) -> None:
    torch.manual_seed(0)
    block = SwinBlock(8, 2, 4, shifted=shifted, drop_path=0.0).eval().double()
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(*size_hw, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = x + literal_attention(block, x)
        expected = expected + block.mlp(block.norm2(expected))
        assert torch.allclose(block(x[None])[0], expected, atol=1e-10)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("numbers", [1, 2000, 2**22])
def test_tiles_of_any_size_and_several_images_give_the_plain_block(
    numbers: int, shifted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "VALUES_PER_TILE", numbers)
    torch.manual_seed(0)
    block = SwinBlock(8, 2, 4, shifted=shifted, drop_path=0.0).eval().double()
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(3, 9, 14, 8, dtype=torch.float64)
    with torch.no_grad():
        tiles = block(x)
        use_plain_forms(block)
        assert torch.allclose(tiles, block(x), atol=1e-12)


def test_most_windows_need_neither_padding_nor_mask() -> None:
    plan = backbone._window_plan(2, 17, 16, 4, 2)
    assert len(plan.inner.cells) == 2 * 9 * 16 and plan.inner.mask is None and plan.inner.slots is None
    assert plan.outer.mask is not None and len(plan.outer.mask) == 2 * 11
    assert plan.outer.slots is not None and len(plan.outer.slots) == len(plan.outer.cells)


def test_padding_is_not_multiplied() -> None:
    plan = backbone._window_plan(2, 17, 16, 4, 2)
    cells = torch.cat([plan.inner.cells, plan.outer.cells])
    assert torch.equal(cells.sort().values, torch.arange(2 * 17 * 16))
    assert plan.outer.starts[-1] == len(plan.outer.cells) == 2 * (17 * 16 - 9 * 16)


@pytest.mark.parametrize("size_hw", [(32, 32), (33, 70), (64, 31), (1, 1), (7, 200)])
def test_any_image_size_gives_maps_of_the_rounded_up_size(size_hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = Backbone(SwinConfig(8, (1, 1, 1, 1), (1, 2, 2, 2), window_size=4)).eval()
    maps = network(torch.randn(1, 3, *size_hw))
    sizes = [tuple(-(-side // stride) for side in size_hw) for stride in (8, 16, 32)]
    assert [tuple(x.shape[2:]) for x in maps] == sizes
    assert [x.shape[1] for x in maps] == [16, 32, 64]


def test_stochastic_depth_grows_linearly_and_rests_in_evaluation() -> None:
    network = Backbone(SwinConfig(8, (1, 1, 2, 1), (1, 2, 2, 2), window_size=4, drop_path=0.4))
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in network.modules() if isinstance(block, SwinBlock)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    pixels = torch.randn(1, 3, 32, 32)
    network.eval()
    assert torch.equal(network(pixels)[0], network(pixels)[0])
    network.train()
    torch.manual_seed(0)
    assert not torch.equal(network(pixels)[2], network(pixels)[2])
