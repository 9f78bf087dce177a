"""Makes checkpoints of pseudo-random weights, for tests and for trying things out: all runs, the boxes mean nothing.

Every tensor follows from its name, its shape and one seed, so the same command makes the same file everywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glip.model.config import GLIPConfig
from glip.weights.convert import State, expected_shapes
from glip.weights.folder import ModelFolder, save_model_folder
from glip.weights.tokenizer import letter_vocabulary, read_vocabulary
from glip.weights.zoo import RANDOM_ARCHITECTURES, check_architecture

# Pattern of the name, mean, standard deviation, and whether the deviation is that of a sum over the inputs, so that it
# shrinks with their number. The first matching row counts. Usual initial values would give every location the same
# score; with these the scores differ, some pass the threshold and most do not.
_RULES: tuple[tuple[str, float, float, bool], ...] = (
    (r"^head\.bias$", -2.0, 0.0, False),
    (r"^head\.(log_scale|bias_text)$", 0.0, 0.2, False),
    (r"^head\.scales$", 1.0, 0.1, False),
    (r"^head\.text\.weight$", 0.0, 12.0, True),
    (r"^head\.(box|centerness)\.weight$", 0.0, 3.0, True),
    (r"\.gamma_(image|text)$", 0.5, 0.1, False),
    (r"\.gain$", 1.4, 0.1, False),
    (r"_bias_table$", 0.0, 0.3, False),
    (r"_embeddings\.weight$", 0.0, 0.4, False),
    (r"(norm\w*|norms\.\d|LayerNorm)\.weight$", 1.0, 0.1, False),
    (r"\.(scale_attention|relu\.\w+)\.weight$", 0.0, 3.0, True),
    (r"\.output\.dense\.weight$", 0.0, 0.3, True),
    (r"bias$", 0.0, 0.1, False),
    (r"", 0.0, 1.0, True),
)


def random_state(config: GLIPConfig, seed: int = 0) -> State:
    """Returns a pseudo-random tensor for every name of the network."""
    return {name: _tensor(name, shape, seed) for name, shape in expected_shapes(config).items()}


def random_model(
    out: Path, architecture: str, *, tokenizer: Path | None = None, seed: int = 0, overwrite: bool = False
) -> ModelFolder:
    """Writes a model folder of pseudo-random weights.

    Args:
        out: the folder to write.
        architecture: a key of `RANDOM_ARCHITECTURES`.
        tokenizer: file or folder of a vocabulary, see `read_vocabulary`; None: one that spells words letter by letter.
        seed: determines the weights.
        overwrite: whether to replace a model folder at `out`.

    Raises:
        InputError: no architecture has that name, or `out` exists.
    """
    check_architecture(architecture)
    vocabulary = letter_vocabulary() if tokenizer is None else read_vocabulary(tokenizer.expanduser())
    config = RANDOM_ARCHITECTURES[architecture]
    config = replace(config, text=replace(config.text, vocab_size=len(vocabulary)))
    origin = {"random": architecture, "seed": seed, "notes": ["pseudo-random numbers: the boxes mean nothing"]}
    return save_model_folder(out, config, random_state(config, seed), vocabulary, origin=origin, overwrite=overwrite)


def _tensor(name: str, shape: Sequence[int], seed: int) -> Tensor:
    _, mean, deviation, is_sum = next(rule for rule in _RULES if re.search(rule[0], name))
    if is_sum:
        deviation /= max(prod(shape[1:]), 1) ** 0.5
    start = hashlib.sha256(f"{seed} {name}".encode()).digest()
    numbers = np.random.default_rng(list(start)).standard_normal(tuple(shape), dtype=np.float32)
    return torch.from_numpy(numbers * np.float32(deviation) + np.float32(mean))
