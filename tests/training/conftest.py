"""Models and data sets to train on, without randomness."""

from __future__ import annotations

from pathlib import Path

import pytest
from timm.layers import DropPath
from torch import nn

from glip.model.glip import GLIP
from glip.model.neck import DropBlock
from tests.tiny import tiny_model
from tests.training.sets import write_base, write_set


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


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/ and Squares/; tests must not change it."""
    folder = tmp_path_factory.mktemp("tuning")
    write_base(folder / "base")
    write_set(folder / "Squares", train=4, val=2, test=2)
    return folder
