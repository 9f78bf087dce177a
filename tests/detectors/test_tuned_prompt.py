"""A detector with a tuned prompt reads the caption of its tuning, and no other."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glip.detectors.glip import Detector
from glip.errors import InputError
from glip.images import ImageFile, collate, prepare
from glip.labeling.image_prompts import PromptsByImage, resolve_prompts
from glip.names import name_key
from glip.prompts import Prompt, Wording
from tests.tiny import TINY, letters_tokenizer, tiny_model

TUNED = Prompt.from_names(["zorp", "blip blop", "bow_(tie)"])


@pytest.fixture(scope="module")
def detector() -> Detector:
    model = tiny_model()
    generator = torch.Generator().manual_seed(1)
    model.set_prompt_offset(torch.randn(256, TINY.text.hidden_size, generator=generator))
    return Detector(model, letters_tokenizer(), name="tiny", sha256="", device="cpu", imgsz=64, tuned_for=TUNED)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8))


def boxes_by_name(
    detector: Detector, image: Image.Image, prompt: str | Sequence[str] | Prompt
) -> dict[str, list[float]]:
    found = detector.predict(image, prompt)[0]
    return {name: found.scores[found.labels == label].tolist() for label, name in enumerate(found.names)}


@pytest.mark.parametrize(
    "names",
    [
        ["blip blop", "zorp", "bow_(tie)"],
        ["bow_(tie)", "blip blop", "zorp"],
        ["Blip_Blop", "BOW", " zorp "],
    ],
)
def test_its_names_in_another_order_or_spelling_keep_their_boxes(
    detector: Detector, image: Image.Image, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    own = boxes_by_name(detector, image, TUNED)
    assert all(own.values())
    assert len({tuple(scores) for scores in own.values()}) == len(own)
    tuned_name = {name_key(name): name for name in TUNED.phrases}
    with caplog.at_level(logging.WARNING, logger="glip"):
        found = boxes_by_name(detector, image, names)
    assert list(found) == names
    for name, scores in found.items():
        assert scores == own[tuned_name[name_key(name)]]
    assert "zorp, blip blop, bow_(tie)" in caplog.text


def test_its_own_order_is_not_worth_a_message(detector: Detector, caplog: pytest.LogCaptureFixture) -> None:
    assert detector.prompts_for(TUNED.phrases) == (TUNED,)
    assert not caplog.records


def test_it_has_one_caption_whatever_the_wording_or_the_size_of_chunks(detector: Detector) -> None:
    wordings = [Wording(name, "a ") for name in TUNED.phrases]
    assert detector.prompts_for(TUNED.phrases, wordings=wordings, names_per_prompt=1) == (TUNED,)


@pytest.mark.parametrize(
    "names",
    [
        ["zorp"],
        ["zorp", "blip blop"],
        ["zorp", "blip blop", "bow_(tie)", "cat"],
        ["zorp", "blip blop", "cat"],
        ["zorp", "zorp", "blip blop"],
        ["zorp", "blip blop", "bow_(tie)", "zorp"],
        [],
    ],
)
def test_other_names_are_refused(detector: Detector, image: Image.Image, names: list[str]) -> None:
    for ask in (lambda: detector.prompts_for(names), lambda: detector.predict(image, names)):
        with pytest.raises(InputError, match=re.escape(TUNED.caption)):
            ask()


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt.from_names(["blip blop", "zorp", "bow_(tie)"]),
        Prompt.from_caption("a zorp", [[(2, 6)]]),
        Prompt.from_caption(TUNED.caption + ".", [[(0, 4)]]),
        # the caption of the tuning, but with the names of each other's words
        Prompt(TUNED.caption, TUNED.phrases[::-1], TUNED.spans),
        Prompt(TUNED.caption, ("Zorp",), (TUNED.spans[1],)),
    ],
)
def test_other_captions_are_refused_on_every_way_in(detector: Detector, image: Image.Image, prompt: Prompt) -> None:
    batch = collate([prepare(image, 64)])
    for ask in (
        lambda: detector.count_tokens(prompt),
        lambda: detector.predict(image, prompt),
        lambda: detector.detect_batch(batch, [TUNED, prompt]),
        lambda: resolve_prompts(prompt, detector, []),
    ):
        with pytest.raises(InputError, match=re.escape(TUNED.caption)):
            ask()


def test_words_of_its_caption_may_be_asked_alone(detector: Detector, image: Image.Image) -> None:
    own = boxes_by_name(detector, image, TUNED)
    some = Prompt.from_caption(TUNED.caption, [[(6, 15)], [(0, 4)]])
    assert boxes_by_name(detector, image, some) == {name: own[name] for name in ("blip blop", "zorp")}


def test_captions_of_images_are_refused(detector: Detector, tmp_path: Path) -> None:
    images = [ImageFile(tmp_path / name, name) for name in ("a.png", "b.png")]
    by_image = PromptsByImage({Path(str(one.path)): (Prompt.from_names(["zorp"]),) for one in images})
    with pytest.raises(InputError, match=re.escape(TUNED.caption)):
        resolve_prompts(by_image, detector, images)


def test_a_model_without_a_tuned_prompt_reads_anything() -> None:
    detector = Detector(tiny_model(), letters_tokenizer(), name="tiny", sha256="", device="cpu", imgsz=64)
    assert detector.prompts_for(["cat"]) == (Prompt.from_names(["cat"]),)
    assert detector.count_tokens(Prompt.from_names(["zorp"])) > 2
