"""Swin Transformer as GLIP runs it: timm's parts in GLIP's order.

timm's own block rolls before it pads and drops the shift on small maps, which is another function at sizes
that are no multiple of the window; so the block is written here, its parts are timm's.
Source: SPEC 5. Knows nothing of text or boxes.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, PatchEmbed
from timm.models.swin_transformer import PatchMerging, WindowAttention
from torch import Tensor, nn

from glip.model.config import SwinConfig
from glip.model.products import use_linear


class SwinBlock(nn.Module):
    """Window attention and an MLP, each with a residual."""

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
        mask = _shift_mask(rows, columns, window, x.device) if shift else None
        x = self.attn(x, mask if mask is None else mask.to(x.dtype))
        x = x.view(batch, rows, columns, window, window, dim).transpose(2, 3)
        x = x.reshape(batch, rows * window, columns * window, dim)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, :height, :width]


@lru_cache(maxsize=32)
def _shift_mask(rows: int, columns: int, window: int, device: torch.device) -> Tensor:
    """Keeps cells apart that a roll has brought into one window.

    Returns:
        (rows * columns, window², window²): 0 inside a region, -100 between regions.
    """
    # Built outside inference mode, so that a mask first made while predicting serves training too.
    with torch.inference_mode(mode=False), torch.no_grad():
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
