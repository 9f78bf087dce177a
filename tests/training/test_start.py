"""Beginning with a model folder whose backbone or vocabulary differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glip.model.config import ConvConfig, GLIPConfig
from glip.training import start
from glip.training.start import extended_vocabulary, lent_words, start_from_folder
from glip.weights.convert import State, expected_shapes
from glip.weights.folder import ModelFolder, save_model_folder
from glip.weights.random_weights import random_state
from tests.tiny import PIECES, TINY

CONV = replace(TINY, swin=None, conv=ConvConfig())
WORDS = "text_encoder.bert.embeddings.word_embeddings.weight"


def lite0() -> State:
    """Every tensor of the backbone, filled with sevens."""
    names = {name: shape for name, shape in expected_shapes(CONV).items() if name.startswith("backbone.")}
    return {name: torch.full(shape, 7.0) for name, shape in names.items()}


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "lite0_start", lite0)


def folder_of(path: Path, config: GLIPConfig = TINY) -> ModelFolder:
    return save_model_folder(path, config, random_state(config), PIECES, origin={})


def test_a_vocabulary_grows_by_words_it_would_spell() -> None:
    assert extended_vocabulary(PIECES, ["dog", "a", "cat", "dog"]) == [*PIECES, "cat", "dog"]
    assert extended_vocabulary([*PIECES, "dog"], ["dog", "dogs"]) == [*PIECES, "dog", "dogs"]
    assert extended_vocabulary([*PIECES, "dog", "##house"], ["doghouse"]) == [*PIECES, "dog", "##house"]  # two words


def test_the_same_backbone_and_words_give_the_folder_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", replace(TINY, imgsz=96, conf=0.5))
    config, vocabulary, model = start_from_folder(folder, TINY, [], seed=0)
    assert config == folder.config
    assert vocabulary == PIECES
    state = folder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_new_words_get_rows_behind_the_old_ones(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    config, vocabulary, model = start_from_folder(folder, TINY, ["dog", "cat"], seed=0)
    assert vocabulary == [*PIECES, "cat", "dog"]
    assert config.text.vocab_size == len(vocabulary)
    table, before = model.state_dict()[WORDS], folder.state_dict()[WORDS]
    assert torch.equal(table[: len(PIECES)], before)
    assert not torch.equal(table[-1], table[-2])


def test_another_backbone_begins_with_imagenet_and_the_rest_with_the_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    config, _, model = start_from_folder(folder, CONV, [], seed=0)
    assert config == CONV
    state, before = model.state_dict(), folder.state_dict()
    assert all(bool((value == 7).all()) for name, value in state.items() if name.startswith("backbone."))
    for name in ("neck.output.0.weight", "fusion.blocks.0.dyhead.offset.weight", "head.box.weight", WORDS):
        assert torch.equal(state[name], before[name]), name
    # The lateral layers read other channels.
    assert not torch.equal(state["neck.lateral.0.bias"], before["neck.lateral.0.weight"][:, 0, 0, 0])
    assert state["neck.lateral.0.weight"].shape[1] == 40


def test_a_folder_with_the_wanted_backbone_keeps_what_it_has_learned(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", CONV)
    _, _, model = start_from_folder(folder, CONV, [], seed=0)
    assert torch.equal(model.state_dict()["backbone.stem.0.weight"], folder.state_dict()["backbone.stem.0.weight"])


def test_what_begins_fresh_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        start_from_folder(folder_of(tmp_path / "model"), CONV, [], seed=0)
    assert "neck.lateral.0.weight" in caplog.text
    assert "(3 in all)" in caplog.text


def test_a_word_that_was_never_trained_takes_the_row_of_one_that_was() -> None:
    state = {WORDS: torch.arange(6.0).view(3, 2), "other": torch.ones(1)}
    lent = lent_words(state, ["dog", "cat", "puppy"], {"puppy": "dog"})
    assert lent[WORDS].tolist() == [[0, 1], [2, 3], [0, 1]]
    assert state[WORDS].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert lent["other"] is state["other"]
