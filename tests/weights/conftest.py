"""A small model, a cache of one's own, and a web server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from glip import fetch as download
from glip.weights.convert import Conversion, State
from glip.weights.random_weights import random_state
from glip.weights.tokenizer import letter_vocabulary
from glip.weights.zoo import TINY
from tests.website import Page, Site, site

__all__ = ["Page", "Site", "site"]

VOCABULARY = letter_vocabulary()
CONFIG = replace(TINY, text=replace(TINY.text, vocab_size=len(VOCABULARY)))
assert CONFIG.swin is not None
SWIN_OF_CONFIG = CONFIG.swin


@pytest.fixture(scope="session")
def tiny_state() -> State:
    """A small native state dict with deep fusion; not to be changed."""
    return random_state(CONFIG)


@pytest.fixture
def tiny(tiny_state: State) -> Conversion:
    """The same as a checkpoint."""
    return Conversion(CONFIG, dict(tiny_state), "native")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; no test of this room reads or writes the user's."""
    home = tmp_path / "cache"
    monkeypatch.setenv("GLIP_HOME", str(home))
    for variable in ("HF_HUB_OFFLINE", "GLIP_MIRROR", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(download, "DELAY_S", 0.0)
    return home
