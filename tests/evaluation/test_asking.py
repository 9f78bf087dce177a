"""What is asked of images: chunks, wordings, and several captions of one image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glip.errors import InputError
from glip.evaluation.asking import ask_captions, ask_lists, ask_names, ask_tuned
from glip.images import ImageFile
from glip.labeling.asking import in_one
from glip.prompts import Prompt, Wording
from glip.weights.adapter import Adapter, save_adapter
from tests.labeling.fake import word_tokenizer

A, B = ImageFile(Path("/a.png"), "a.png"), ImageFile(Path("/b.png"), "b.png")
DOG, PERSON = Prompt.from_names(["dog"]), Prompt.from_caption("a person", [[(2, 8)]])


def test_names_are_asked_in_chunks_of_so_many() -> None:
    asked = ask_names(["person", "dog", "car"], names_per_chunk=2)(word_tokenizer(), [A])
    assert [chunk.caption for chunk in asked.prompts.chunks] == ["person. dog", "car"]
    assert not asked.by_caption and asked.of("a.png") == asked.prompts.chunks


def test_worded_names_stand_in_the_caption_as_given() -> None:
    asked = ask_names(["hand"], [Wording("hat", " ", " of a person")])(word_tokenizer(), [A])
    (chunk,) = asked.prompts.chunks
    assert (chunk.caption, chunk.phrases, chunk.spans) == (" hat of a person", ("hand",), (((1, 4),),))


def an_adapter(path: Path, caption: str = "my dog. a car") -> Path:
    spans = (((3, 6),), ((10, 13),)) if caption else ()
    tensors = {"prompt_offset": torch.ones(256, 8)}
    save_adapter(path, Adapter("prompt", "0" * 64, "base", ("dog", "car"), tensors, caption, spans))
    return path


def test_what_was_tuned_is_asked_in_its_own_caption(tmp_path: Path) -> None:
    ask = ask_tuned(an_adapter(tmp_path / "a.safetensors"), ["dog", "car"], "Pets")
    (chunk,) = ask(word_tokenizer(), [A]).prompts.chunks
    assert (chunk.caption, chunk.phrases) == ("my dog. a car", ("dog", "car"))
    several = ask_tuned(an_adapter(tmp_path / "b.safetensors", caption=""), ["dog", "car"], "Pets")
    assert [chunk.caption for chunk in several(word_tokenizer(), [A]).prompts.chunks] == ["dog. car"]


def test_an_adapter_for_other_classes_is_refused_with_both_lists(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was tuned to find dog, car, but the classes of Farm are dog, cow"):
        ask_tuned(an_adapter(tmp_path / "a.safetensors"), ["dog", "cow"], "Farm")


def test_an_image_may_have_several_captions_and_another_one() -> None:
    asked = ask_captions({A.path: [DOG, PERSON], B.path: [PERSON]})(word_tokenizer(), [A, B])  # type: ignore[dict-item]
    assert asked.by_caption and asked.of("a.png") == (DOG, PERSON) and asked.of("b.png") == (PERSON,)
    assert asked.mark("a.png") != asked.mark("b.png")


def test_an_image_with_a_caption_that_cannot_be_read_is_not_asked() -> None:
    long = Prompt.from_caption("dog " * 300, [[(0, 3)]])
    asked = ask_captions({A.path: [DOG, long], B.path: [PERSON]})(word_tokenizer(), [A, B])  # type: ignore[dict-item]
    assert "tokens, but the text encoder reads at most 256" in str(asked.of("a.png"))
    assert asked.of("b.png") == (PERSON,)


def test_images_may_have_class_lists_of_their_own() -> None:
    asked = ask_lists({A.path: ["dog", "car"], B.path: ["person"]})(word_tokenizer(), [A, B])  # type: ignore[dict-item]
    assert [[prompt.caption for prompt in asked.of(name)] for name in ("a.png", "b.png")] == [["dog. car"], ["person"]]  # type: ignore[union-attr]


def test_several_captions_become_one_text_with_all_places() -> None:
    joined = in_one([PERSON, DOG])
    assert (joined.caption, joined.phrases) == ("a person\ndog", ("person", "dog"))
    assert [joined.caption[start:end] for ((start, end),) in joined.spans] == ["person", "dog"]
    assert in_one([PERSON]) == PERSON


def test_no_name_is_refused() -> None:
    with pytest.raises(InputError):
        ask_names([])(word_tokenizer(), [A])
