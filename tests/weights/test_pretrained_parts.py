"""ImageNet's Swin and BERT as starting points, fetched from a server on this machine."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save

from glip.errors import InputError, JobFailed
from glip.model.config import GLIP_T
from glip.weights import pretrained_parts as starts
from glip.weights.cache import Fetching
from glip.weights.convert import State, expected_shapes
from glip.weights.pretrained_parts import BERT, SWIN, from_timm, load_pretrained_parts
from glip.weights.zoo import PublishedVocabulary
from tests.website import Site
from tests.weights.conftest import CONFIG, SWIN_OF_CONFIG, VOCABULARY

_FILE = "resolve/main/model.safetensors"


def as_timm(state: State) -> State:
    """Returns our backbone in timm's names, with the parts that are not taken."""
    named = {"norm.weight": torch.ones(3), "head.fc.bias": torch.ones(3)}
    for name, value in state.items():
        if name.startswith(("backbone.stages", "backbone.patch_embed")):
            name = name.removeprefix("backbone.").replace("stages.", "layers.")
            name = re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name)
            named[name] = value
    return named


def as_bert(state: State) -> State:
    """Our text encoder in the names of the published file."""
    named = {"cls.predictions.bias": torch.ones(3), "bert.pooler.dense.bias": torch.ones(3)}
    for name, value in state.items():
        if name.startswith("text_encoder."):
            name = name.removeprefix("text_encoder.").replace("LayerNorm.weight", "LayerNorm.gamma")
            named[name.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    return named


@pytest.fixture
def hub(site: Site, tiny_state: State, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Serves small weights where the hub has the real ones."""
    swin = replace(SWIN[96], file_name="swin.safetensors")
    monkeypatch.setattr(starts, "SWIN", {SWIN_OF_CONFIG.embed_dim: swin})
    words = ("\n".join(VOCABULARY) + "\n").encode()
    vocabulary = PublishedVocabulary("words.txt", "/words.txt", sha256(words).hexdigest())
    monkeypatch.setattr(starts, "BERT_VOCABULARY", vocabulary)
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    site.put(f"/{swin.repository}/{_FILE}", save(as_timm(tiny_state)))
    site.put(f"/{BERT.repository}/{_FILE}", save(as_bert(tiny_state)))
    site.put("/words.txt", words)
    return site


def test_both_parts_come_under_our_names(hub: Site, tiny_state: State) -> None:
    state, vocabulary = load_pretrained_parts(CONFIG, Fetching())
    assert vocabulary == VOCABULARY
    expected = {
        name for name in tiny_state if name.startswith(("backbone.stages", "backbone.patch_embed", "text_encoder"))
    }
    assert state.keys() == expected
    assert all(torch.equal(state[name], tiny_state[name]) for name in expected)


def test_files_are_fetched_once(hub: Site) -> None:
    load_pretrained_parts(CONFIG, Fetching())
    before = len(hub.requests)
    load_pretrained_parts(CONFIG, Fetching(offline=True))
    assert len(hub.requests) == before


def test_offline_without_the_files_says_what_is_missing(hub: Site) -> None:
    with pytest.raises((InputError, JobFailed), match="Swin-T"):
        load_pretrained_parts(CONFIG, Fetching(offline=True))


def test_a_file_of_another_network_is_refused(hub: Site) -> None:
    with pytest.raises(JobFailed, match=r"backbone\.stages"):
        load_pretrained_parts(replace(CONFIG, swin=replace(SWIN_OF_CONFIG, depths=(1, 1, 1, 1))), Fetching())


def test_what_is_no_safetensors_file_is_refused(hub: Site) -> None:
    hub.put(f"/{BERT.repository}/{_FILE}", b"not found, but with a smile")
    with pytest.raises(JobFailed, match=_FILE):
        load_pretrained_parts(CONFIG, Fetching())


def test_an_architecture_without_published_parts_is_refused() -> None:
    with pytest.raises(InputError, match=r"\b32\b.*\b96\b"):
        load_pretrained_parts(CONFIG, Fetching())


def test_timms_own_network_has_the_names_that_are_read() -> None:
    with torch.device("meta"):
        ours = from_timm(timm.create_model("swin_tiny_patch4_window7_224").state_dict())
    shapes = expected_shapes(GLIP_T)
    assert {name: tuple(value.shape) for name, value in ours.items()} == {
        name: shape for name, shape in shapes.items() if name.startswith(("backbone.stages", "backbone.patch_embed"))
    }


def test_addresses_follow_the_hubs_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert BERT.url == "https://huggingface.co/google-bert/bert-base-uncased/resolve/main/model.safetensors"
