"""Image-text attention, and the tower of fusion, text layer and DyHead block.

Source: the paper (arXiv:2112.03857), section 3.2, and `docs/model.md`, "Fusion tower".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glip.model.config import GLIPConfig
from glip.model.dyhead import DyHeadBlock
from glip.model.fusion_tiles import attend_in_tiles
from glip.model.precision import at_least_float32
from glip.model.text import TextFeatures, TextLayer
from glip.model.tiling import predicts_on_cpu

LOGIT_LIMIT = 50000.0  # published clamp; it only acts where half precision would overflow
ATTENTION_DROPOUT = 0.1


class ImageTextAttention(nn.Module):
    """Attention of tokens over locations and of locations over tokens, from one matrix of logits.

    Matches the published model: the residual is taken after the norm, so out = norm(x) + gamma * delta.
    """

    plain_form = False  # see `reference_mode`

    def __init__(self, channels: int, text_dim: int, embed_dim: int, num_heads: int, num_blocks: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_image = nn.LayerNorm(channels)
        self.norm_text = nn.LayerNorm(text_dim)
        self.query = nn.Linear(channels, embed_dim)
        self.key = nn.Linear(text_dim, embed_dim)
        self.image_value = nn.Linear(channels, embed_dim)
        self.text_value = nn.Linear(text_dim, embed_dim)
        self.image_out = nn.Linear(embed_dim, channels)
        self.text_out = nn.Linear(embed_dim, text_dim)
        self.gamma_image = nn.Parameter(torch.full((channels,), 1 / num_blocks))
        self.gamma_text = nn.Parameter(torch.full((text_dim,), 1 / num_blocks))
        self.dropout = nn.Dropout(ATTENTION_DROPOUT)

    def forward(self, image: Tensor, text: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns image and text after attention in both directions.

        The projections of `plain` make several (N, embed_dim) tensors for N = 22 000 locations. The text is short, so
        its side is multiplied into the weights first: (v Wq)(t Wk)ᵀ = v (Wq (t Wk)ᵀ), and likewise for the values.
        That is equal up to rounding and needs 1 + 256 / T times fewer operations.

        Args:
            image: (B, N, C) locations of all levels.
            text: (B, T, D) tokens.
            mask: (B, T) True at real tokens, None if all are.

        Returns:
            The new image (B, N, C) and text (B, T, D).
        """
        if self.plain_form:
            return self.plain(image, text, mask)
        image, text = self.norm_image(at_least_float32(image)), self.norm_text(at_least_float32(text))
        sides = self._text_side(text)
        if predicts_on_cpu(image) and not self.training:
            found = self._in_tiles(image, sides, mask)
            if found is not None:
                return found[0], text + self.gamma_text * found[1]
        to_logits, logit_bias, from_text = sides
        # The heads lie side by side: one product in each direction over (H * T) columns.
        # In place, because with a long prompt these are the largest tensors of all.
        logits = at_least_float32(torch.matmul(image, to_logits)).add_(logit_bias)
        logits = logits.clamp_(-LOGIT_LIMIT, LOGIT_LIMIT)
        # Matches the published model: padded locations take part, so results depend slightly on the padding.
        over_locations = self.dropout(logits.softmax(dim=1))
        by_head = logits.unflatten(2, (self.num_heads, -1))
        if mask is not None:
            by_head = by_head.masked_fill(~mask[:, None, None, :], -torch.inf)
        over_tokens = self.dropout(by_head.softmax(dim=-1)).flatten(2)

        image_delta = torch.matmul(over_tokens, from_text) + self.image_out.bias
        gathered = torch.matmul(over_locations.transpose(1, 2), image).unflatten(1, (self.num_heads, -1))
        text_delta = self.text_out(self._image_values(gathered, over_locations.sum(1)))
        return image + self.gamma_image * image_delta, text + self.gamma_text * text_delta

    def _in_tiles(
        self, image: Tensor, sides: tuple[Tensor, Tensor, Tensor], mask: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """Returns the new image and the text's delta, without gradients.

        None if the logits are too far apart, see `attend_in_tiles`.
        """
        to_logits, logit_bias, from_text = sides
        # The attention of a head over its tokens sums to 1, so the bias can be part of every token's value.
        values = (from_text + self.image_out.bias / self.num_heads) * self.gamma_image
        precision = to_logits.dtype
        with torch.autocast("cpu", enabled=False):
            images = []
            for row, locations in enumerate(image):
                found = attend_in_tiles(
                    locations,
                    to_logits[row],
                    logit_bias[row, 0].to(precision),
                    values[row].to(precision),
                    None if mask is None else mask[row],
                    self.num_heads,
                    LOGIT_LIMIT,
                )
                if found is None:
                    return None
                images.append(found)
        locations, gathered = (
            torch.stack(parts) if len(parts) > 1 else parts[0][None] for parts in zip(*images, strict=True)
        )
        return locations, self.text_out(self._image_values(gathered, gathered.new_ones(len(image), to_logits.shape[2])))

    def _text_side(self, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the text's part of both directions, for all heads.

        Returns:
            (B, C, H * T) matrix from locations to logits, (B, 1, H * T) bias of the logits, (B, H * T, C) values that
            locations receive.
        """
        batch, tokens, _ = text.shape
        heads = self.num_heads
        key = self.key(text).view(batch, tokens, heads, -1).transpose(1, 2)
        value = self.text_value(text).view(batch, tokens, heads, -1).transpose(1, 2)
        scale = key.shape[-1] ** -0.5
        query_weight = self.query.weight.view(heads, key.shape[-1], -1) * scale
        query_bias = self.query.bias.view(heads, -1, 1) * scale
        out_weight = self.image_out.weight.view(-1, heads, value.shape[-1]).permute(1, 2, 0)
        to_logits = torch.matmul(key, query_weight).flatten(1, 2).transpose(1, 2)
        logit_bias = torch.matmul(key, query_bias).flatten(1)[:, None]
        return to_logits, logit_bias, torch.matmul(value, out_weight).flatten(1, 2)

    def _image_values(self, gathered: Tensor, total: Tensor) -> Tensor:
        """Applies the value projection after the locations have been summed.

        Args:
            gathered: (B, H, T, C) locations summed with each token's attention.
            total: (B, H * T) sum of that attention: 1 without dropout. The bias is multiplied by it.

        Returns:
            (B, T, embed_dim).
        """
        heads = self.num_heads
        weight = self.image_value.weight.view(heads, -1, gathered.shape[-1]).transpose(1, 2)
        total = total.view(len(total), heads, -1, 1)
        values = torch.matmul(gathered, weight) + total * self.image_value.bias.view(heads, 1, -1)
        return values.transpose(1, 2).flatten(2)

    def plain(self, image: Tensor, text: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Computes `forward` in the published order of operations, for tests and benchmarks."""
        image, text = self.norm_image(at_least_float32(image)), self.norm_text(at_least_float32(text))

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        query, key = split(self.query(image)), split(self.key(text))
        image_value, text_value = split(self.image_value(image)), split(self.text_value(text))
        logits = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(2, 3)).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        over_locations = self.dropout(logits.transpose(2, 3).softmax(-1))
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None, None, :], -torch.inf)
        over_tokens = self.dropout(logits.softmax(-1))
        image_delta = self.image_out(torch.matmul(over_tokens, text_value).transpose(1, 2).flatten(2))
        text_delta = self.text_out(torch.matmul(over_locations, image_value).transpose(1, 2).flatten(2))
        return image + self.gamma_image * image_delta, text + self.gamma_text * text_delta


class FusionBlock(nn.Module):
    """Image-text attention, a text layer and a DyHead block; without deep fusion the DyHead block alone."""

    def __init__(self, config: GLIPConfig) -> None:
        super().__init__()
        if config.deep_fusion:
            self.fuse = ImageTextAttention(
                config.channels,
                config.text.hidden_size,
                config.fusion_dim,
                config.fusion_heads,
                config.num_fusion_blocks,
            )
            self.text = TextLayer(config.text)
        self.deep_fusion = config.deep_fusion
        self.dyhead = DyHeadBlock(config.channels)

    def forward(self, maps: Sequence[Tensor], text: TextFeatures) -> tuple[list[Tensor], TextFeatures]:
        """Returns five new maps (B, C, h, w) and the new text."""
        if self.deep_fusion:
            locations, hidden = self.fuse(_flatten(maps), text.hidden, text.mask)
            text = TextFeatures(self.text(hidden, text.mask), text.mask)
            maps = _unflatten(locations, maps)
        return self.dyhead(maps), text


class FusionTower(nn.Module):
    """The trunk of the head: fusion blocks in sequence."""

    def __init__(self, config: GLIPConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FusionBlock(config) for _ in range(config.num_fusion_blocks))

    def forward(self, maps: Sequence[Tensor], text: TextFeatures) -> tuple[list[Tensor], TextFeatures]:
        """Returns five maps (B, C, h, w) and the text of the same batch, as the head reads them."""
        pyramid = list(maps)
        for block in self.blocks:
            pyramid, text = block(pyramid, text)
        return pyramid, text


def _flatten(maps: Sequence[Tensor]) -> Tensor:
    """Joins maps (B, C, h, w) to locations (B, N, C), level after level, row-major."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in maps], dim=1)


def _unflatten(locations: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Splits locations (B, N, C) into maps (B, C, h, w) of the sizes of `like`; views, channels last in memory."""
    levels = locations.split([x.shape[2] * x.shape[3] for x in like], dim=1)
    return [x.unflatten(1, y.shape[2:]).permute(0, 3, 1, 2) for x, y in zip(levels, like, strict=True)]
