"""A model small enough for every test, with random weights that still find something."""

from __future__ import annotations

import string
from functools import lru_cache

import torch
from tokenizers import Tokenizer
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from glip.model.config import GLIPConfig, SwinConfig, TextConfig
from glip.model.glip import GLIP, build_glip

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,-'/()"]
PIECES += [start + letter for start in ("", "##") for letter in string.ascii_lowercase + string.digits]

TINY = GLIPConfig(
    swin=SwinConfig(24, (1, 2, 2, 1), (1, 2, 4, 8), window_size=7),
    text=TextConfig(vocab_size=len(PIECES), hidden_size=48, num_layers=2, num_heads=4, intermediate_size=96),
    channels=32,
    num_fusion_blocks=2,
    fusion_dim=64,
    fusion_heads=4,
)


@lru_cache(maxsize=1)
def letters_tokenizer() -> Tokenizer:
    """Spells every word letter by letter."""
    pieces = {piece: index for index, piece in enumerate(PIECES)}
    return Tokenizer.from_str(BertWordPieceTokenizer(pieces, lowercase=True).to_str())


def tiny_model() -> GLIP:
    """Every layer kind, the same random weights each time; scores vary around a half."""
    torch.manual_seed(0)
    model = build_glip(TINY).eval()
    with torch.no_grad():
        model.head.bias.zero_()
        torch.nn.init.normal_(model.head.text.weight, std=0.5)
        torch.nn.init.normal_(model.head.box.weight, std=0.2)
    return model
