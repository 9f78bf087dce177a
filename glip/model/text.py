"""The text encoder: transformers' BERT, as GLIP uses it.

Source: arXiv:1810.04805 and `docs/model.md`, "Text encoder". Knows token ids, not words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer, BertModel

from glip.model.config import TextConfig


@dataclass(frozen=True)
class TextFeatures:
    """A batch of encoded prompts.

    Attributes:
        hidden: (B, T, D) last layer of the encoder.
        mask: (B, T) True at real tokens; None if all are. Without padding is faster: the original always pads to 256
            tokens and masks them, which changes nothing that is read later.
    """

    hidden: Tensor
    mask: Tensor | None = None

    def expand(self, batch: int) -> TextFeatures:
        """Repeats one prompt for every image of a batch, without a copy."""
        mask = None if self.mask is None else self.mask.expand(batch, -1)
        return TextFeatures(self.hidden.expand(batch, -1, -1), mask)

    def repeat(self, times: int) -> TextFeatures:
        """Repeats the whole sequence of prompts, once for each of `times` images."""
        mask = None if self.mask is None else self.mask.repeat(times, 1)
        return TextFeatures(self.hidden.repeat(times, 1, 1), mask)

    def shifted(self, offset: Tensor) -> TextFeatures:
        """Adds row j of (at least T, D) `offset` to token j, padding included. Prompt tuning learns the offset."""
        return TextFeatures(self.hidden + offset[: self.hidden.shape[1]], self.mask)


def stack_prompts(prompts: Sequence[TextFeatures]) -> TextFeatures:
    """Stacks prompts of one row and without padding into a batch; shorter ones are padded and masked."""
    lengths = [prompt.hidden.shape[1] for prompt in prompts]
    longest = max(lengths)
    hidden = torch.cat([F.pad(prompt.hidden, (0, 0, 0, longest - prompt.hidden.shape[1])) for prompt in prompts])
    if min(lengths) == longest:
        return TextFeatures(hidden)
    positions = torch.arange(longest, device=hidden.device)
    return TextFeatures(hidden, positions < torch.tensor(lengths, device=hidden.device)[:, None])


class TextEncoder(nn.Module):
    """BERT without its pooler; `hidden` is the output of the last layer."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.bert = BertModel(bert_config(config), add_pooling_layer=False)

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> TextFeatures:
        """Encodes prompts.

        Args:
            input_ids: (B, T) token ids, [CLS] and [SEP] included; T is at most 256 (longer prompts come in chunks).
            mask: (B, T) True at real tokens, or None if there is no padding.
        """
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        hidden = self.bert(
            input_ids, attention_mask=mask, position_ids=positions, token_type_ids=torch.zeros_like(input_ids)
        ).last_hidden_state
        return TextFeatures(hidden, mask)


class TextLayer(BertLayer):
    """One more BERT layer, applied to the text after every image-text attention."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__(bert_config(config))

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps (B, T, D) to (B, T, D); `mask` (B, T) is True at real tokens, None if there is no padding."""
        # The original clamps scores and outputs to ±50000 here; LayerNorm keeps both far below that.
        return super().forward(hidden, None if mask is None else mask[:, None, None, :])


def bert_config(config: TextConfig) -> BertConfig:
    """Returns the configuration that transformers' BERT is built from."""
    return BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_positions,
        attn_implementation="sdpa",
    )
