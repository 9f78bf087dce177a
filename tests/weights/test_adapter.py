"""Adapters: small files that belong to one base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glip.errors import InputError
from glip.model.config import GLIP_T
from glip.weights.adapter import Adapter, check_base, load_adapter, save_adapter
from tests.tiny import TINY, tiny_model

WIDTH = TINY.text.hidden_size


def prompt_adapter(number: float = 1.0) -> Adapter:
    return Adapter(
        "prompt",
        "b" * 64,
        "tiny",
        ("raccoon",),
        {"prompt_offset": torch.full((256, WIDTH), number)},
        caption="raccoon",
        spans=(((0, 7),),),
        category_ids=(1,),
        imgsz=64,
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    adapter = prompt_adapter()
    save_adapter(tmp_path / "a.safetensors", adapter)
    read = load_adapter(tmp_path / "a.safetensors")
    assert torch.equal(read.tensors["prompt_offset"], adapter.tensors["prompt_offset"])
    assert replace(read, tensors={}, sha256="").__dict__ == replace(adapter, tensors={}).__dict__
    prompt = read.prompt
    assert prompt is not None
    assert (prompt.caption, prompt.phrases, prompt.spans) == ("raccoon", ("raccoon",), (((0, 7),),))


def test_equal_adapters_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_adapter(tmp_path / name, prompt_adapter())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("mode", ["prompt", "linear"])
def test_adapters_of_the_published_size_stay_under_a_megabyte(tmp_path: Path, mode: str) -> None:
    hidden, channels = GLIP_T.text.hidden_size, GLIP_T.channels
    tensors = {"prompt_offset": torch.zeros(256, hidden)}
    if mode == "linear":
        tensors = {"head.text.weight": torch.zeros(channels, hidden), "head.box.weight": torch.zeros(4, channels, 1, 1)}
    save_adapter(tmp_path / "a", replace(prompt_adapter(), mode=mode, tensors=tensors))
    assert (tmp_path / "a").stat().st_size < 1_000_000


def test_it_changes_its_own_tensors_and_no_other() -> None:
    model, untouched = tiny_model(), tiny_model()
    adapter = replace(prompt_adapter(), mode="linear", tensors={"head.box.bias": torch.full((4,), 2.0)})
    adapter.put_on(model)
    for name, value in untouched.state_dict().items():
        expected = torch.full((4,), 2.0) if name == "head.box.bias" else value
        assert torch.equal(model.state_dict()[name], expected), name
    prompt_adapter(3.0).put_on(model)
    assert model.prompt_offset is not None
    assert torch.equal(model.prompt_offset, torch.full((256, WIDTH), 3.0))


def test_results_with_it_are_other_results(tmp_path: Path) -> None:
    for number in (1, 2):
        save_adapter(tmp_path / str(number), prompt_adapter(float(number)))
    one, two = (load_adapter(tmp_path / str(number)) for number in (1, 2))
    identities = {one.identity("b"), two.identity("b"), one.identity("c")}
    assert len(identities) == 3
    assert all(len(identity) == 64 for identity in identities)
    assert load_adapter(tmp_path / "1").identity("b") == one.identity("b")


def test_another_base_is_refused_in_one_sentence() -> None:
    check_base(prompt_adapter(), "b" * 64, "tiny")
    with pytest.raises(InputError, match=r"\btiny\b.*bbbbbbbbbbbb.*glip-t\b.*cccccccccccc"):
        check_base(prompt_adapter(), "c" * 64, "glip-t")


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("head.box.bias", (5,), r"\(5,\).*\(4,\)"),
        ("head.nothing", (5,), "head.nothing"),
        ("prompt_offset", (256, WIDTH + 1), "prompt_offset"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...], words: str) -> None:
    adapter = replace(prompt_adapter(), tensors={name: torch.zeros(shape)})
    with pytest.raises(InputError, match=words):
        adapter.put_on(tiny_model())


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing"):
        load_adapter(tmp_path / "nothing")
    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        load_adapter(tmp_path / "weights.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "odd", metadata={"glip": '{"format": 1}'})
    with pytest.raises(InputError, match="odd"):
        load_adapter(tmp_path / "odd")
    save_adapter(tmp_path / "a", prompt_adapter())
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cut"):
        load_adapter(tmp_path / "cut")
    (tmp_path / "newer").write_bytes(content.replace(b'\\"format\\":1', b'\\"format\\":2'))
    with pytest.raises(InputError, match=r"\b2\b.*\b1\b"):
        load_adapter(tmp_path / "newer")
