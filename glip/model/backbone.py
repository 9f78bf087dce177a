"""Swin Transformer as GLIP runs it: timm's parts in GLIP's order.

timm's own block rolls before it pads and drops the shift on small maps, which is another function at sizes
that are no multiple of the window; so the block is written here, its parts are timm's.
Source: SPEC 5. Knows nothing of text or boxes.
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

# Numbers in the widest layer of one tile: 16 MiB in float32. More leaves the cache, less starves the products.
NUMBERS_AT_ONCE = 2**22


class SwinBlock(nn.Module):
    """Window attention and an MLP, each with a residual."""

    plain_form = False  # see `forms`

    def __init__(self, dim: int, num_heads: int, window_size: int, *, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift = window_size // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window_size=window_size)
        # timm has it behind a flag. Equal to rounding, and the scores are never written to memory.
        self.attn.fused_attn = True
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) to (B, H, W, D)."""
        if predicts_on_cpu(x) and not (self.plain_form or self.training):
            return self._in_tiles(x)
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        window, shift = self.window_size, self.shift
        # Padded after the norm and not masked: the padding takes part in attention, as published.
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        rows, columns = x.shape[1] // window, x.shape[2] // window
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        x = x.view(batch, rows, window, columns, window, dim).transpose(2, 3).reshape(-1, window * window, dim)
        # A compiled network makes its masks itself: it cannot look at what is kept.
        shift_mask = _make_shift_mask if torch.compiler.is_compiling() else _shift_mask
        mask = shift_mask(rows, columns, window, x.device) if shift else None
        x = self.attn(x, mask if mask is None else mask.to(x.dtype))
        x = x.view(batch, rows, columns, window, window, dim).transpose(2, 3)
        x = x.reshape(batch, rows * window, columns * window, dim)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, :height, :width]

    def _in_tiles(self, x: Tensor) -> Tensor:
        """`forward` for prediction on a CPU: some windows, then some rows at a time.

        What a block holds in between is many times the map. In tiles it stays in the cache, and no memory is asked of
        the system. Cells are fetched straight to their place in a window and back: nothing is padded, rolled or cut.
        """
        batch, height, width, dim = x.shape
        plan = _window_plan(batch, height, width, self.window_size, self.shift)
        rows = x.reshape(-1, dim)
        found = torch.cat(list(self._windows_in_tiles(rows, plan.inner, plan.outer)))
        out = torch.empty_like(rows)
        hidden = self.mlp.fc1.out_features
        widen = Product(self.mlp.fc1.weight, self.mlp.fc1.bias, gelu=True)
        narrow = Product(self.mlp.fc2.weight, self.mlp.fc2.bias)
        for some in tiles(len(rows), hidden, NUMBERS_AT_ONCE):
            mixed = rows[some] + found.index_select(0, plan.back[some]).to(x.dtype)
            # Two passes, because PyTorch adds numbers of different types one by one.
            out[some] = narrow(widen(self.norm2(mixed)))
            out[some] += mixed
        return out.view_as(x)

    def _windows_in_tiles(self, rows: Tensor, *kinds: _Windows) -> Iterator[Tensor]:
        """(M, D) for the cells of some windows of each kind, in parts."""
        area = self.window_size**2
        project = Product(self.attn.qkv.weight, self.attn.qkv.bias)
        join = Product(self.attn.proj.weight, self.attn.proj.bias)
        bias = self._position_bias()
        for windows in kinds:
            wide = 3 * rows.shape[1] * (1 if windows.places is None else 2)  # with padding they lie in memory twice
            for some in tiles(len(windows.starts) - 1, wide * area, NUMBERS_AT_ONCE):
                cells = slice(windows.starts[some.start], windows.starts[some.stop])
                projected = project(self.norm1(rows.index_select(0, windows.cells[cells])))
                places = None if windows.places is None else windows.places[cells] - some.start * area
                if places is not None:
                    # Padding is zero after the norm, so that its projection is the bias: it need not be multiplied.
                    padded = self.attn.qkv.bias.to(projected.dtype).repeat((some.stop - some.start) * area, 1)
                    projected = padded.index_copy_(0, places, projected)
                mask = bias if windows.mask is None else bias + windows.mask[some, None]
                attended = self._attend_inside(projected.view(-1, area, projected.shape[1]), mask).flatten(0, 1)
                yield join(attended if places is None else attended.index_select(0, places))

    def _attend_inside(self, projected: Tensor, mask: Tensor) -> Tensor:
        """Attention of windows (M, area, 3 D), mask (1 or M, heads, area, area) added to the scores: (M, area, D)."""
        query, key, value = projected.unflatten(2, (3, self.attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        return found.transpose(1, 2).flatten(2)

    def _position_bias(self) -> Tensor:
        """(1, heads, area, area) added to the scores of every window."""
        index = self.attn.relative_position_index
        return self.attn.relative_position_bias_table[index].permute(2, 0, 1).contiguous()[None]


@dataclass(frozen=True, eq=False)
class _Windows:
    """Some windows of a batch, one after the other.

    Attributes:
        cells: (M,) row of each of their cells in the batch's maps; padding is none.
        starts: how many cells come before each window, and in all.
        places: (M,) where each cell lies in the windows' places, window² each; None if there is no padding.
        mask: (windows, window², window²) as of `_shift_mask`; None where it would be 0.
    """

    cells: Tensor
    starts: tuple[int, ...]
    places: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class _WindowPlan:
    """Where the cells of a batch's maps lie in windows.

    Attributes:
        inner: windows without padding or mask; they are most.
        outer: the others.
        back: (B * H * W) place of each cell among the cells of `inner` and then `outer`.
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
    """Of the cells (windows, window²) of each; -1 is padding."""
    real = cells >= 0
    counts = real.sum(1)
    starts = (0, *counts.cumsum(0).tolist())
    places = None if real.all() else real.flatten().nonzero()[:, 0]
    return _Windows(cells[real], starts, places, mask)


@lru_cache(maxsize=32)
def _shift_mask(rows: int, columns: int, window: int, device: torch.device) -> Tensor:
    """`_make_shift_mask`, kept."""
    # Built outside inference mode, so that a mask first made while predicting serves training too.
    with torch.inference_mode(mode=False), torch.no_grad():
        return _make_shift_mask(rows, columns, window, device)


def _make_shift_mask(rows: int, columns: int, window: int, device: torch.device) -> Tensor:
    """Keeps cells apart that a roll has brought into one window.

    Returns:
        (rows * columns, window², window²): 0 inside a region, -100 between regions.
    """
    region = [torch.zeros(count * window, dtype=torch.long, device=device) for count in (rows, columns)]
    for side in region:
        side[-window:] = 1
        side[-(window // 2) :] = 2
    cells = region[0][:, None] * 3 + region[1]
    cells = cells.view(rows, window, columns, window).transpose(1, 2).reshape(-1, window * window)
    return torch.where(cells[:, None, :] == cells[:, :, None], 0.0, -100.0)


class SwinStage(nn.Module):
    """Blocks at one resolution, then (but for the last stage) patch merging."""

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
        """(B, H, W, D) to the stage's output (B, H, W, D) and the next stage's input (B, H/2, W/2, 2D)."""
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
        """Pyramid of one batch.

        Args:
            pixels: (B, 3, H, W) normalised, any size.

        Returns:
            C3, C4, C5: (B, 2D, H/8, W/8), (B, 4D, H/16, W/16), (B, 8D, H/32, W/32), each through its norm; the
            un-normalised map feeds the next stage.
        """
        x = self.patch_embed(pixels)
        _, x = self.stages[0](x)
        outputs = []
        for stage, norm in zip(list(self.stages)[1:], self.norms, strict=True):
            out, x = stage(x)
            # Contiguous: oneDNN's channels-last convolutions round two to four times more coarsely.
            outputs.append(norm(out).permute(0, 3, 1, 2).contiguous())
        return outputs[0], outputs[1], outputs[2]
