"""A model for the tests of this room."""

from __future__ import annotations

import pytest

from glip.model.glip import GLIP
from tests.tiny import tiny_model


@pytest.fixture
def tiny_glip() -> GLIP:
    """Every layer kind, small numbers, random weights."""
    return tiny_model()
