"""Pseudo-random checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from glip.errors import InputError
from glip.weights.random_weights import random_model, random_state
from glip.weights.zoo import ARCHITECTURES, RANDOM_ARCHITECTURES
from tests.weights.conftest import CONFIG


def test_the_same_seed_makes_the_same_file(tmp_path: Path) -> None:
    hashes = [random_model(tmp_path / str(i), "tiny", seed=seed).sha256 for i, seed in enumerate((0, 0, 1))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_tensor_depends_on_its_name() -> None:
    state = random_state(CONFIG)
    one, two = (state[f"text_encoder.bert.encoder.layer.{n}.output.dense.weight"] for n in (0, 1))
    assert not torch.equal(one, two)


def test_a_bare_machine_gets_a_model_that_finds_something_in_any_prompt(tmp_path: Path) -> None:
    from glip.detectors.spec import load_detector

    detector = load_detector(random_model(tmp_path / "m", "tiny").path, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for prompt in ("person . dog .", "hard hat, Café №5"):
        (found,) = detector.predict([image], prompt, imgsz=160)
        assert len(found) > 0
        assert found.scores[0] > 0.3


def test_a_given_vocabulary_sets_the_number_of_word_embeddings(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "person"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    folder = random_model(tmp_path / "m", "tiny", tokenizer=tmp_path / "vocab.txt")
    assert folder.config.text.vocab_size == 6
    assert folder.tokenizer().encode("Person").tokens == ["[CLS]", "person", "[SEP]"]


def test_every_architecture_can_be_had_and_others_are_refused(tmp_path: Path) -> None:
    assert set(RANDOM_ARCHITECTURES) == {"tiny", *ARCHITECTURES}
    with pytest.raises(InputError, match=r"'huge'.*tiny, glip-t-a"):
        random_model(tmp_path / "m", "huge")


def test_it_says_of_itself_that_it_means_nothing(tmp_path: Path) -> None:
    origin = random_model(tmp_path / "m", "tiny").source["origin"]
    assert origin == {"random": "tiny", "seed": 0, "notes": ["pseudo-random numbers: the boxes mean nothing"]}
