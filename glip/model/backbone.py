"""Swin Transformer as GLIP runs it: timm's parts in GLIP's order of operations.

timm's own block rolls before it pads, and drops the shift on small maps. At sizes that are not a multiple of the
window, that is another function, so the block is written here from timm's parts.
Source: arXiv:2103.14030, section 3, and `docs/model.md`, "Backbone". Knows nothing of text or boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, PatchEmbed
from timm.models.swin_transformer import PatchMerging, WindowAttention
from torch import Tensor, nn

from glip.model.config import SwinConfig
from glip.model.cpu_linear import Product, use_linear
from glip.model.tiling import predicts_on_cpu, tiles

# Values in the widest layer of one tile: 16 MiB in float32. Larger tiles leave the cache, smaller ones multiply slowly.
VALUES_PER_TILE = 2**22


class SwinBlock(nn.Module):
    """Window attention and an MLP, each with a residual."""

    plain_form = False  # see `reference_mode`

    def __init__(self, dim: int, num_heads: int, window_size: int, *, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift = window_size // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window_size=window_size)
        # timm hides it behind a flag. It is equal up to rounding and never writes the scores to memory.
        self.attn.fused_attn = True
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, D) to (B, H, W, D)."""
        if predicts_on_cpu(x) and not (self.plain_form or self.training):
            return self._in_tiles(x)
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        window, shift = self.window_size, self.shift
        # Matches the published model: padded after the norm and not masked, so padding takes part in attention.
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        rows, columns = x.shape[1] // window, x.shape[2] // window
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        x = x.view(batch, rows, window, columns, window, dim).transpose(2, 3).reshape(-1, window * window, dim)
        # A compiled network builds its masks itself: it cannot read a cache.
        shift_mask = _make_shift_mask if torch.compiler.is_compiling() else _shift_mask
        mask = shift_mask(rows, columns, window, x.device) if shift else None
        x = self.attn(x, mask if mask is None else mask.to(x.dtype))
        x = x.view(batch, rows, columns, window, window, dim).transpose(2, 3)
        x = x.reshape(batch, rows * window, columns * window, dim)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, :height, :width]

    def _in_tiles(self, x: Tensor) -> Tensor:
        """Computes `forward` for prediction on a CPU: a few windows, then a few rows at a time.

        The intermediate values of a block are many times as large as the map. In tiles they stay in the cache and no
        memory is allocated. Cells are gathered straight into their windows and back: nothing is padded, rolled or cut.
        """
        batch, height, width, dim = x.shape
        plan = _window_plan(batch, height, width, self.window_size, self.shift)
        rows = x.reshape(-1, dim)
        found = torch.cat(list(self._windows_in_tiles(rows, plan.inner, plan.outer)))
        out = torch.empty_like(rows)
        hidden = self.mlp.fc1.out_features
        widen = Product(self.mlp.fc1.weight, self.mlp.fc1.bias, gelu=True)
        narrow = Product(self.mlp.fc2.weight, self.mlp.fc2.bias)
        for some in tiles(len(rows), hidden, VALUES_PER_TILE):
            mixed = rows[some] + found.index_select(0, plan.back[some]).to(x.dtype)
            # In two passes, because PyTorch adds values of different types one by one.
            out[some] = narrow(widen(self.norm2(mixed)))
            out[some] += mixed
        return out.view_as(x)

    def _windows_in_tiles(self, rows: Tensor, *kinds: _Windows) -> Iterator[Tensor]:
        """Yields the attended (M, D) cells of the windows of each kind, a few windows at a time."""
        area = self.window_size**2
        project = Product(self.attn.qkv.weight, self.attn.qkv.bias)
        join = Product(self.attn.proj.weight, self.attn.proj.bias)
        bias = self._position_bias()
        for windows in kinds:
            wide = 3 * rows.shape[1] * (1 if windows.slots is None else 2)  # with padding they are in memory twice
            for some in tiles(len(windows.starts) - 1, wide * area, VALUES_PER_TILE):
                cells = slice(windows.starts[some.start], windows.starts[some.stop])
                projected = project(self.norm1(rows.index_select(0, windows.cells[cells])))
                slots = None if windows.slots is None else windows.slots[cells] - some.start * area
                if slots is not None:
                    # Padding is zero after the norm, so its projection is the bias and needs no multiplication.
                    padded = self.attn.qkv.bias.to(projected.dtype).repeat((some.stop - some.start) * area, 1)
                    projected = padded.index_copy_(0, slots, projected)
                mask = bias if windows.mask is None else bias + windows.mask[some, None]
                attended = self._attend_inside(projected.view(-1, area, projected.shape[1]), mask).flatten(0, 1)
                yield join(attended if slots is None else attended.index_select(0, slots))

    def _attend_inside(self, projected: Tensor, mask: Tensor) -> Tensor:
        """Returns the attention (M, area, D) inside windows.

        Args:
            projected: (M, area, 3 D) queries, keys and values.
            mask: (1 or M, heads, area, area) added to the scores.
        """
        query, key, value = projected.unflatten(2, (3, self.attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        return found.transpose(1, 2).flatten(2)

    def _position_bias(self) -> Tensor:
        """Returns the (1, heads, area, area) bias that is added to the scores of every window."""
        index = self.attn.relative_position_index
        return self.attn.relative_position_bias_table[index].permute(2, 0, 1).contiguous()[None]


@dataclass(frozen=True, eq=False)
class _Windows:
    """Some windows of a batch, one after the other.

    Attributes:
        cells: (M,) row of each of their cells in the batch's maps, without padding.
        starts: (windows + 1) number of cells before each window, and in all.
        slots: (M,) slot of each cell; a window has window² slots, padding included. None if there is no padding.
        mask: (windows, window², window²) as from `_shift_mask`; None where it would be 0.
    """

    cells: Tensor
    starts: tuple[int, ...]
    slots: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class _WindowPlan:
    """The windows of a batch's maps.

    Attributes:
        inner: windows without padding or mask; most are.
        outer: the other windows.
        back: (B * H * W) index of each cell among the cells of `inner` followed by `outer`.
    """

    inner: _Windows
    outer: _Windows
    back: Tensor


@lru_cache(maxsize=64)
def _window_plan(batch: int, height: int, width: int, window: int, shift: int) -> _WindowPlan:
    device = torch.device("cpu")
    number = torch.arange(batch * height * width).view(batch, height, width)
    number = F.pad(number, (0, -width % window, 0, -height % window), value=-1)
    if shift:
        number = number.roll((-shift, -shift), dims=(1, 2))
    rows, columns = number.shape[1] // window, number.shape[2] // window
    cells = number.view(batch, rows, window, columns, window).transpose(2, 3).reshape(-1, window * window)
    outside = (cells < 0).any(1)
    mask = _shift_mask(rows, columns, window, device).repeat(batch, 1, 1) if shift else None
    if mask is not None:
        outside |= (mask != 0).flatten(1).any(1)
    inner, outer = _windows(cells[~outside], None), _windows(cells[outside], None if mask is None else mask[outside])
    order = torch.cat([inner.cells, outer.cells])
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return _WindowPlan(inner, outer, back)


def _windows(cells: Tensor, mask: Tensor | None) -> _Windows:
    """Makes windows of their (windows, window²) cells, where -1 is padding."""
    real = cells >= 0
    counts = real.sum(1)
    starts = (0, *counts.cumsum(0).tolist())
    slots = None if real.all() else real.flatten().nonzero()[:, 0]
    return _Windows(cells[real], starts, slots, mask)


@lru_cache(maxsize=32)
def _shift_mask(rows: int, columns: int, window: int, device: torch.device) -> Tensor:
    """Returns `_make_shift_mask`, cached."""
    # Built outside inference mode, so that a mask first built for a prediction also serves training.
    with torch.inference_mode(mode=False), torch.no_grad():
        return _make_shift_mask(rows, columns, window, device)


def _make_shift_mask(rows: int, columns: int, window: int, device: torch.device) -> Tensor:
    """Returns a mask that separates cells which a roll has brought into one window.

    Returns:
        (rows * columns, window², window²) added to the scores: 0 inside a region, -100 between regions.
    """
    region = [torch.zeros(count * window, dtype=torch.long, device=device) for count in (rows, columns)]
    for side in region:
        side[-window:] = 1
        side[-(window // 2) :] = 2
    cells = region[0][:, None] * 3 + region[1]
    cells = cells.view(rows, window, columns, window).transpose(1, 2).reshape(-1, window * window)
    return torch.where(cells[:, None, :] == cells[:, :, None], 0.0, -100.0)


class SwinStage(nn.Module):
    """Blocks at one resolution, followed by patch merging in all stages but the last."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, drop_paths: tuple[float, ...], *, downsample: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                SwinBlock(dim, num_heads, window_size, shifted=index % 2 == 1, drop_path=rate)
                for index, rate in enumerate(drop_paths)
            )
        )
        self.downsample = PatchMerging(dim) if downsample else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, H, W, D) to the stage's output (B, H, W, D) and the next stage's input (B, H/2, W/2, 2D)."""
        out = self.blocks(x)
        return out, out if self.downsample is None else self.downsample(out)


class Backbone(nn.Module):
    """Swin with the three outputs that the neck reads."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        dim, window = config.embed_dim, config.window_size
        self.patch_embed = PatchEmbed(
            img_size=None, patch_size=4, embed_dim=dim, norm_layer=nn.LayerNorm, output_fmt="NHWC", dynamic_img_pad=True
        )
        num_blocks = sum(config.depths)
        rates = tuple(config.drop_path * index / max(num_blocks - 1, 1) for index in range(num_blocks))
        starts = [sum(config.depths[:stage]) for stage in range(5)]
        self.stages = nn.ModuleList(
            SwinStage(dim * 2**i, heads, window, rates[starts[i] : starts[i + 1]], downsample=i < 3)
            for i, heads in enumerate(config.num_heads)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in config.out_channels)
        use_linear(self.stages)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the feature maps of one batch.

        Args:
            pixels: (B, 3, H, W) normalised, any size.

        Returns:
            C3, C4, C5: (B, 2D, H/8, W/8), (B, 4D, H/16, W/16), (B, 8D, H/32, W/32), each after its own norm. The next
            stage reads the map before that norm.
        """
        x = self.patch_embed(pixels)
        _, x = self.stages[0](x)
        outputs = []
        for stage, norm in zip(list(self.stages)[1:], self.norms, strict=True):
            out, x = stage(x)
            # Contiguous, because oneDNN's channels-last convolutions round two to four times more coarsely.
            outputs.append(norm(out).permute(0, 3, 1, 2).contiguous())
        return outputs[0], outputs[1], outputs[2]
