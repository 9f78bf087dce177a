"""Scores during training: on a split, and on synthetic scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glip.data.lookup import find_training_splits
from glip.data.synthetic import SceneMaker, load_pool
from glip.detections import Detections
from glip.errors import InputError
from glip.prompts import Prompt
from glip.training import validation
from glip.training.feature_cache import FeatureStore
from glip.training.finetune import load_base
from glip.training.finetune_data import open_examples
from glip.training.validation import SCENE_NAMES, SCENE_SEED, SCENE_SHAPES, SCENE_SIDES, Scorer, borrowed, scene_score
from glip.weights.folder import load_model_folder
from tests.tiny import letters_tokenizer, tiny_model

SCENES = 3


class Knowing:
    """Finds what is there, and with `inventive` one more box of every name, more surely than all."""

    def __init__(self, inventive: bool = False, blind: bool = False) -> None:
        self.maker = SceneMaker.of_split(load_pool().simplest(SCENE_NAMES), "seen", SCENE_SEED, SCENE_SHAPES)
        self.inventive, self.blind = inventive, blind
        self.asked: list[Prompt] = []

    def detect_batch(self, batch: Any, prompts: Sequence[Prompt]) -> list[Detections]:
        index = len(self.asked)
        self.asked.append(prompts[0])
        scene = self.maker.scene(index, self.maker.size_wh(index, *SCENE_SIDES))
        asked = self.maker.names(index, scene)
        boxes, labels, scores = [], [], []
        for label, name in enumerate(asked):
            found = [] if self.blind else [scene.objects[thing].box_xywh for thing in name.objects]
            boxes += [(left, top, left + width, top + height) for left, top, width, height in found]
            labels += [label] * len(found)
            scores += [0.5] * len(found)
            if self.inventive:
                boxes.append((0, 0, 3, 3))
                labels.append(label)
                scores.append(0.9)
        names = tuple(name.name for name in asked)
        found_boxes = np.array(boxes, np.float32).reshape(-1, 4)
        return [Detections(found_boxes, np.array(scores, np.float32), np.array(labels, np.int64), names)]


def score(monkeypatch: pytest.MonkeyPatch, detector: Knowing) -> float | None:
    @contextmanager
    def borrowed(*_: Any) -> Iterator[Knowing]:
        yield detector

    monkeypatch.setattr(validation, "borrowed", borrowed)
    monkeypatch.setattr(validation, "tokenize", lambda prompt, tokenizer: None)  # letter by letter lists are too long
    return scene_score(tiny_model(), letters_tokenizer(), 64, SCENES)


def test_all_found_is_a_hundred_and_nothing_found_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    knowing = Knowing()
    assert score(monkeypatch, knowing) == pytest.approx(100)
    assert len(knowing.asked) == SCENES
    assert all(len(prompt.phrases) >= 2 for prompt in knowing.asked)
    assert score(monkeypatch, Knowing(blind=True)) == 0


def test_what_is_not_there_must_not_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = score(monkeypatch, Knowing(inventive=True))
    assert found is not None
    assert 0 < found < 70


def test_a_vocabulary_that_cannot_ask_gives_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(prompt: Prompt, tokenizer: Any) -> None:
        raise InputError("too long")

    monkeypatch.setattr(validation, "tokenize", refuse)
    assert scene_score(tiny_model(), letters_tokenizer(), 64, SCENES) is None


def test_validation_in_half_precision_leaves_the_learning_weights_as_they_are(folders: Path) -> None:
    folder = load_model_folder(folders / "base")
    model = load_base(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with borrowed(model, folder.tokenizer(), 64, "bf16") as detector:
        detector.predict(Image.new("RGB", (80, 60)), "red . blue .")
    after = model.state_dict()
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())
    assert all(value.requires_grad for value in model.parameters())


def test_validation_leaves_a_model_as_it_learns(folders: Path) -> None:
    folder = load_model_folder(folders / "base")
    model = load_base(folder)
    model.requires_grad_(False)
    model.head.box.requires_grad_(True)
    sources, _ = find_training_splits(str(folders / "Squares"), Path())
    data = open_examples(sources[0], "all", 3)
    scorer = Scorer(data.val, folder.tokenizer(), 64)
    scorer.score(model)
    assert [name for name, value in model.named_parameters() if value.requires_grad] == [
        "head.box.weight",
        "head.box.bias",
    ]


def test_kept_maps_score_the_same_and_follow_what_learns(folders: Path) -> None:
    folder = load_model_folder(folders / "base")
    sources, _ = find_training_splits(str(folders / "Squares"), Path())
    data = open_examples(sources[0], "all", 3)
    store = FeatureStore()
    kept, plain = (Scorer(data.val, folder.tokenizer(), 64, store=one) for one in (store, None))
    model = load_base(folder)
    for offset in (0.0, 0.5):
        model.set_prompt_offset(torch.full((256, 48), offset))
        one, other = kept.predict(model), plain.predict(model)
        assert one.keys() == other.keys()
        for id, found in one.items():
            assert np.array_equal(found.boxes, other[id].boxes)
            assert np.array_equal(found.scores, other[id].scores)
    assert store.hits == len(data.val.truth.image_ids)
