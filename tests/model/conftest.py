"""Models for the tests of this room: a tiny one, and the published architectures with the golden weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest
import torch

from glip.model.config import GLIP_L, GLIP_T, GLIP_T_A, GLIPConfig, SwinConfig, TextConfig
from glip.model.glip import GLIP, build_glip
from glip.weights.convert import to_native
from tests.golden.weights import make_state

ARCHITECTURES = {"A": GLIP_T_A, "B": GLIP_T, "T": GLIP_T, "L": GLIP_L}


@pytest.fixture(scope="session")
def golden_model() -> Callable[[str], GLIP]:
    """Gives the model of a variant with the golden weights; B and T share theirs."""

    # One at a time: GLIP-L alone holds 1.7 GB.
    @lru_cache(maxsize=1)
    def build(variant: str) -> GLIP:
        config = ARCHITECTURES[variant]
        return build_glip(config, to_native(make_state(variant)).state).eval()

    return lambda variant: build("T" if variant == "B" else variant)


TINY = GLIPConfig(
    swin=SwinConfig(24, (1, 2, 2, 1), (1, 2, 4, 8), window_size=7),
    text=TextConfig(vocab_size=100, hidden_size=48, num_layers=2, num_heads=4, intermediate_size=96),
    channels=32,
    num_fusion_blocks=2,
    fusion_dim=64,
    fusion_heads=4,
)


@pytest.fixture
def tiny_glip() -> GLIP:
    """Every layer kind, small numbers, random weights."""
    torch.manual_seed(0)
    return build_glip(TINY).eval()
