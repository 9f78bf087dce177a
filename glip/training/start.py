"""Starts pre-training from a model folder whose backbone or vocabulary may differ."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from glip.model.config import GLIPConfig
from glip.model.glip import GLIP
from glip.training.initial_weights import fresh_model
from glip.weights.convert import State, some
from glip.weights.folder import ModelFolder
from glip.weights.lite0 import lite0_start
from glip.weights.tokenizer import build_tokenizer, read_vocabulary

_WORDS = "text_encoder.bert.embeddings.word_embeddings.weight"

logger = logging.getLogger(__name__)


def start_from_folder(
    folder: ModelFolder, config: GLIPConfig, words: Iterable[str], seed: int
) -> tuple[GLIPConfig, list[str], GLIP]:
    """Returns a network that starts with the fitting weights of a model folder.

    Args:
        folder: tensors with a matching name and shape are taken from it. If it has the same backbone as `config`, its
            architecture is kept.
        config: the architecture to train.
        words: added to the vocabulary if it would spell them letter by letter.
        seed: of the random weights.

    Returns:
        The architecture, the vocabulary (first the words of the folder) and the network.

    Raises:
        InputError: the ImageNet weights of the backbone are needed, but not installed.
    """
    before = read_vocabulary(folder.path)
    vocabulary = extended_vocabulary(before, words)
    if folder.config.backbone == config.backbone:
        config = folder.config
    config = replace(config, text=replace(config.text, vocab_size=len(vocabulary)))
    model = fresh_model(config, seed)
    wanted = model.state_dict()
    state = {name: value.float() for name, value in folder.state_dict().items() if name in wanted}
    if state[_WORDS].shape[1] == wanted[_WORDS].shape[1]:
        table = wanted[_WORDS].clone()
        table[: len(before)] = state[_WORDS]
        state[_WORDS] = table
    state = {name: value for name, value in state.items() if value.shape == wanted[name].shape}
    if config.conv is not None and not any(name.startswith("backbone.") for name in state):
        state |= lite0_start()
    fresh = sorted(wanted.keys() - state.keys())
    if fresh:
        logger.info(
            "%s has no fitting values for these tensors, which start with random ones: %s (%d in all).",
            folder.path,
            some(fresh),
            len(fresh),
        )
    model.load_state_dict(state, strict=False)
    return config, vocabulary, model


def extended_vocabulary(vocabulary: Sequence[str], words: Iterable[str]) -> list[str]:
    """Returns a vocabulary with the words appended that it spells letter by letter."""
    tokenizer = build_tokenizer(vocabulary)

    def is_spelled(word: str) -> bool:
        pieces = tokenizer.encode(word, add_special_tokens=False).tokens
        return any(len(piece.removeprefix("##")) == 1 for piece in pieces)

    return [*vocabulary, *sorted({word for word in words if len(word) > 1 and is_spelled(word)})]


def lent_words(state: State, vocabulary: Sequence[str], lenders: Mapping[str, str]) -> State:
    """Returns the state with the embeddings of trained words copied to untrained ones.

    Args:
        state: of the network; it is not modified.
        vocabulary: the words, in the order of the table's rows.
        lenders: untrained word to the trained word whose row it gets; both are in the vocabulary.
    """
    rows = {word: row for row, word in enumerate(vocabulary)}
    table = state[_WORDS].clone()
    for word, lender in lenders.items():
        table[rows[word]] = state[_WORDS][rows[lender]]
    return {**state, _WORDS: table}
