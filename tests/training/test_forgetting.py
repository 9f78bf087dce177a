"""The score on synthetic scenes: what is asked, and what counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from glip.data.synthetic import SceneMaker, load_pool
from glip.detections import Detections
from glip.errors import InputError
from glip.prompts import Prompt
from glip.training import forgetting
from glip.training.forgetting import NAMES, SEED, SHAPES, SIDES, scene_score
from tests.tiny import letters_tokenizer, tiny_model

SCENES = 3


class Knowing:
    """Finds what is there, and with `inventive` one more box of every name, more surely than all."""

    def __init__(self, inventive: bool = False, blind: bool = False) -> None:
        self.maker = SceneMaker.of_split(load_pool().simplest(NAMES), "seen", SEED, SHAPES)
        self.inventive, self.blind = inventive, blind
        self.asked: list[Prompt] = []

    def detect(self, batch: Any, prompts: Sequence[Prompt]) -> list[Detections]:
        index = len(self.asked)
        self.asked.append(prompts[0])
        scene = self.maker.scene(index, self.maker.size_wh(index, *SIDES))
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

    monkeypatch.setattr(forgetting, "borrowed", borrowed)
    monkeypatch.setattr(forgetting, "tokenize", lambda prompt, tokenizer: None)  # letter by letter lists are too long
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

    monkeypatch.setattr(forgetting, "tokenize", refuse)
    assert scene_score(tiny_model(), letters_tokenizer(), 64, SCENES) is None
