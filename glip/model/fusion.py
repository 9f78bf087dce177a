"""Image-text attention, and the tower of fusion + text layer + DyHead block. Source: SPEC 7, paper section 3.2."""

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

LOGIT_LIMIT = 50000.0  # published clamp; it only ever acts where half precision would overflow
ATTENTION_DROPOUT = 0.1


class ImageTextAttention(nn.Module):
    """Words look at places and places look at words, through one matrix of logits.

    Published detail that matters: the residual is taken after the norm, so out = norm(x) + gamma * delta.
    """

    plain_form = False  # see `forms`

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
        """Both directions at once.

        The projections of `plain` would make several (N, embed_dim) tensors out of 22 000 places. The text is short, so
        its side is multiplied into the weights first: (v Wq)(t Wk)ᵀ = v (Wq (t Wk)ᵀ), and likewise for the values.
        Equal to rounding, with fewer operations by 1 + 256 / T (PERF, section 2).

        Args:
            image: (B, N, C) places of all levels.
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
        # Heads lie side by side: one product each way over (H * T) columns.
        # In place: with a long prompt these are the largest numbers of all, and memory is what they cost.
        logits = at_least_float32(torch.matmul(image, to_logits)).add_(logit_bias)
        logits = logits.clamp_(-LOGIT_LIMIT, LOGIT_LIMIT)
        # Matches the published model: padded places take part here, so a result depends slightly on the padding.
        over_places = self.dropout(logits.softmax(dim=1))
        by_head = logits.unflatten(2, (self.num_heads, -1))
        if mask is not None:
            by_head = by_head.masked_fill(~mask[:, None, None, :], -torch.inf)
        over_tokens = self.dropout(by_head.softmax(dim=-1)).flatten(2)

        image_delta = torch.matmul(over_tokens, from_text) + self.image_out.bias
        gathered = torch.matmul(over_places.transpose(1, 2), image).unflatten(1, (self.num_heads, -1))
        text_delta = self.text_out(self._image_values(gathered, over_places.sum(1)))
        return image + self.gamma_image * image_delta, text + self.gamma_text * text_delta

    def _in_tiles(
        self, image: Tensor, sides: tuple[Tensor, Tensor, Tensor], mask: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """The new image and what is added to the text, without gradients; None if it cannot be done, see `fused`."""
        to_logits, logit_bias, from_text = sides
        # Shares of a head's tokens sum to 1, so that the bias may lie in every token's value.
        values = (from_text + self.image_out.bias / self.num_heads) * self.gamma_image
        precision = to_logits.dtype
        with torch.autocast("cpu", enabled=False):
            images = []
            for row, places in enumerate(image):
                found = attend_in_tiles(
                    places,
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
        places, gathered = (
            torch.stack(parts) if len(parts) > 1 else parts[0][None] for parts in zip(*images, strict=True)
        )
        return places, self.text_out(self._image_values(gathered, gathered.new_ones(len(image), to_logits.shape[2])))

    def _text_side(self, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the text contributes to both directions, for all heads.

        Returns:
            (B, C, H * T) that makes logits of places, (B, 1, H * T) their bias, (B, H * T, C) values brought to places.
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
        """Applies the value projection after the places have been summed.

        Args:
            gathered: (B, H, T, C) places summed with each token's attention.
            total: (B, H * T) that attention's sum: 1 but for dropout, hence the bias times it.

        Returns:
            (B, T, embed_dim).
        """
        heads = self.num_heads
        weight = self.image_value.weight.view(heads, -1, gathered.shape[-1]).transpose(1, 2)
        total = total.view(len(total), heads, -1, 1)
        values = torch.matmul(gathered, weight) + total * self.image_value.bias.view(heads, 1, -1)
        return values.transpose(1, 2).flatten(2)

    def plain(self, image: Tensor, text: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The published order of operations, kept for tests and benchmarks; arguments as in `forward`."""
        image, text = self.norm_image(at_least_float32(image)), self.norm_text(at_least_float32(text))

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        query, key = split(self.query(image)), split(self.key(text))
        image_value, text_value = split(self.image_value(image)), split(self.text_value(text))
        logits = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(2, 3)).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        over_places = self.dropout(logits.transpose(2, 3).softmax(-1))
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None, None, :], -torch.inf)
        over_tokens = self.dropout(logits.softmax(-1))
        image_delta = self.image_out(torch.matmul(over_tokens, text_value).transpose(1, 2).flatten(2))
        text_delta = self.text_out(torch.matmul(over_places, image_value).transpose(1, 2).flatten(2))
        return image + self.gamma_image * image_delta, text + self.gamma_text * text_delta


class FusionBlock(nn.Module):
    """Image-text attention, a text layer and a DyHead block; the DyHead block alone without deep fusion."""

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
        """Five maps (B, C, h, w) and the text; returns both renewed."""
        if self.deep_fusion:
            places, hidden = self.fuse(_flatten(maps), text.hidden, text.mask)
            text = TextFeatures(self.text(hidden, text.mask), text.mask)
            maps = _unflatten(places, maps)
        return self.dyhead(maps), text


class FusionTower(nn.Module):
    """The head's trunk: blocks in a row."""

    def __init__(self, config: GLIPConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FusionBlock(config) for _ in range(config.num_fusion_blocks))

    def forward(self, maps: Sequence[Tensor], text: TextFeatures) -> tuple[list[Tensor], TextFeatures]:
        """Five maps (B, C, h, w) and the text of the same batch; returns both as the head reads them."""
        pyramid = list(maps)
        for block in self.blocks:
            pyramid, text = block(pyramid, text)
        return pyramid, text


def _flatten(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, h, w) to one row of places (B, N, C), level after level, row-major."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in maps], dim=1)


def _unflatten(places: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """(B, N, C) back to maps (B, C, h, w) of the sizes of `like`; views, channels last in memory."""
    levels = places.split([x.shape[2] * x.shape[3] for x in like], dim=1)
    return [x.unflatten(1, y.shape[2:]).permute(0, 3, 1, 2) for x, y in zip(levels, like, strict=True)]
