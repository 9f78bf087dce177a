"""A model that learns, without chance in it."""

from __future__ import annotations

import pytest
from timm.layers import DropPath
from torch import nn

from glip.model.glip import GLIP
from glip.model.neck import DropBlock
from tests.tiny import tiny_model


def switch_off_chance(model: nn.Module) -> None:
    """Sets every dropout, drop path and DropBlock to probability 0, and nothing else."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, DropPath):
            module.drop_prob = 0.0
        elif isinstance(module, DropBlock):
            module.probability = 0.0


@pytest.fixture(autouse=True, scope="module")
def every_test_uses_one_thread(one_thread: None) -> None:
    """Applies `one_thread` to every test of this folder."""


@pytest.fixture
def tiny_glip() -> GLIP:
    """Every layer kind, small numbers, random weights, in train mode."""
    model = tiny_model().train()
    switch_off_chance(model)
    return model
