"""A model that learns, without chance in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
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
def one_thread() -> Iterator[None]:
    """Small products are not worth a second thread, which on a busy machine makes them ten times as slow; and sums made
    by two threads differ in the last digit from those of one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_glip() -> GLIP:
    """Every layer kind, small numbers, random weights, in train mode."""
    model = tiny_model().train()
    switch_off_chance(model)
    return model
