"""Model folders: written whole, read strictly."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.errors import InputError, JobFailed
from glip.weights import folder as module
from glip.weights.convert import State
from glip.weights.folder import ModelFolder, load_model_folder, save_model_folder, verify_model_folder
from tests.weights.conftest import CONFIG, VOCABULARY

FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "source.json",
}


def save(out: Path, state: State, **more: Any) -> ModelFolder:
    return save_model_folder(out, CONFIG, state, VOCABULARY, origin={"file": "x.pth"}, **more)


@pytest.fixture(scope="session")
def saved(tiny_state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good folder; not to be changed."""
    return save(tmp_path_factory.mktemp("good") / "model", tiny_state).path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """One to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_what_is_saved_is_loaded(saved: Path, tiny_state: State) -> None:
    folder = load_model_folder(saved)
    assert {path.name for path in saved.iterdir()} == FILES
    assert folder.config == CONFIG
    assert folder.name == "model"
    assert folder.source["origin"] == {"file": "x.pth"}
    assert folder.prompt() is None
    assert folder.tokenizer().get_vocab_size() == len(VOCABULARY)
    loaded = folder.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in tiny_state.items())
    assert len(loaded) == len(tiny_state)


def test_the_network_is_built_from_it(saved: Path) -> None:
    from glip.model.glip import build_glip

    folder = load_model_folder(saved)
    model = build_glip(folder.config, folder.state_dict())
    assert all(not parameter.is_meta for parameter in model.parameters())


def test_equal_weights_give_equal_bytes_in_any_order(saved: Path, tmp_path: Path, tiny_state: State) -> None:
    other = save(tmp_path / "other", dict(reversed(tiny_state.items()))).path
    for name in FILES - {"source.json"}:
        assert (other / name).read_bytes() == (saved / name).read_bytes(), name


def test_a_tuned_prompt_is_a_file_of_its_own(saved: Path, tmp_path: Path, tiny_state: State) -> None:
    prompt = torch.randn(1000, 128)
    folder = save(tmp_path / "tuned", tiny_state, prompt=prompt)
    kept = folder.prompt()
    assert kept is not None
    assert torch.equal(kept, prompt)
    assert folder.sha256 == load_model_folder(saved).sha256
    assert verify_model_folder(folder.path) == []


def test_a_tuned_prompt_changes_who_the_model_is(saved: Path, tmp_path: Path, tiny_state: State) -> None:
    plain = load_model_folder(saved)
    tuned = [save(tmp_path / f"{seed}", tiny_state, prompt=torch.full((1000, 128), float(seed))) for seed in (1, 2)]
    assert plain.identity == plain.sha256 == tuned[0].sha256 == tuned[1].sha256
    assert len({plain.identity, tuned[0].identity, tuned[1].identity}) == 3


def test_a_tuned_prompt_that_does_not_fit_is_refused(tmp_path: Path, tiny_state: State) -> None:
    with pytest.raises(InputError, match=r"\(1000, 5\).*128"):
        save(tmp_path / "tuned", tiny_state, prompt=torch.zeros(1000, 5))
    folder = save(tmp_path / "good", tiny_state, prompt=torch.zeros(256, 128))
    (folder.path / "prompt.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match=r"prompt\.safetensors"):
        load_model_folder(folder.path)


# Writing


def test_a_folder_that_is_there_is_replaced_only_on_demand(copy: Path, tiny_state: State) -> None:
    with pytest.raises(InputError, match="overwrite"):
        save(copy, tiny_state)
    changed = {name: value + 1 for name, value in tiny_state.items()}
    before = load_model_folder(copy).sha256
    assert save(copy, changed, overwrite=True).sha256 != before
    assert [path.name for path in copy.parent.iterdir()] == ["model"]


def test_a_folder_with_other_things_in_it_is_never_replaced(tmp_path: Path, tiny_state: State) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="home"):
        save(tmp_path / "home", tiny_state, overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").exists()


def test_an_empty_folder_is_filled(tmp_path: Path, tiny_state: State) -> None:
    (tmp_path / "empty").mkdir()
    assert save(tmp_path / "empty", tiny_state).config == CONFIG


@pytest.mark.parametrize("step", ["save_tensors", "save_tokenizer", "_records"])
def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, tiny_state: State, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, step, full)
    with pytest.raises(JobFailed, match="No space left"):
        save(tmp_path / "model", tiny_state)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_folder(copy: Path, tiny_state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_tokenizer", full)
    with pytest.raises(JobFailed):
        save(copy, tiny_state, overwrite=True)
    assert verify_model_folder(copy) == []


def test_a_vocabulary_of_another_size_is_refused_with_both_numbers(tmp_path: Path, tiny_state: State) -> None:
    with pytest.raises(InputError, match=rf"\b{len(VOCABULARY) + 1}\b.*\b{len(VOCABULARY)}\b"):
        save_model_folder(tmp_path / "x", CONFIG, tiny_state, [*VOCABULARY, "more"], origin={})
    assert not (tmp_path / "x").exists()


# Reading


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(InputError, match=name):
        load_model_folder(copy)


def test_a_folder_with_a_checkpoint_file_points_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "glip.pth").touch()
    with pytest.raises(InputError, match=r"glip\.pth"):
        load_model_folder(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("kept", [0, 20, -1])
def test_a_cut_off_file_is_one_sentence(copy: Path, name: str, kept: int) -> None:
    content = (copy / name).read_bytes().rstrip()
    (copy / name).write_bytes(content[:kept])
    with pytest.raises(InputError, match=name) as caught:
        load_model_folder(copy)
    assert "\n" not in str(caught.value)


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=2), r"\b2\b.*\b1\b"),
        (lambda c: c.pop("model"), "format"),
        (lambda c: c["model"]["swin"].update(embed_dim="wide"), "swin.embed_dim"),
        (lambda c: c["model"]["text"].update(colour=3), "colour"),
        (lambda c: c["model"]["swin"].pop("depths"), "depths"),
        (lambda c: c["model"]["swin"].update(depths=[1, 1]), r"swin\.depths"),
        (lambda c: c["model"].update(channels=63), r"config\.json|network"),
        (lambda c: c["model"].update(num_fusion_blocks=3), r"fusion\.blocks\.2"),
        (lambda c: c["model"].update(deep_fusion=False), r"fusion\.blocks\.0"),
        (lambda c: c["model"].update(fusion_dim=256), r"\(64, 128\).*\(64, 256\)"),
    ],
)
def test_a_config_that_does_not_fit_is_one_sentence(copy: Path, change: Any, message: str) -> None:
    edit(copy / "config.json", change)
    with pytest.raises(InputError, match=message) as caught:
        load_model_folder(copy)
    assert str(copy) in str(caught.value)


def test_a_tokenizer_of_another_size_is_refused(copy: Path) -> None:
    from glip.weights.tokenizer import save_tokenizer

    save_tokenizer(copy, VOCABULARY[:-1])
    with pytest.raises(InputError, match=rf"\b{len(VOCABULARY) - 1}\b"):
        load_model_folder(copy)


# Hashes


def flip_a_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        byte = file.read(1)
        file.seek(-3, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))


def test_changed_weights_are_noticed_before_they_are_used(copy: Path) -> None:
    flip_a_bit(copy / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors.*sha256"):
        _ = load_model_folder(copy).sha256


def test_a_copied_folder_has_the_same_hash(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy", copy_function=shutil.copy)
    assert load_model_folder(tmp_path / "copy").sha256 == load_model_folder(saved).sha256


def test_without_a_record_the_hash_is_that_of_the_file(copy: Path, saved: Path) -> None:
    expected = load_model_folder(saved).sha256
    (copy / "source.json").unlink()
    assert load_model_folder(copy).sha256 == expected


def test_an_untouched_folder_is_not_read_twice(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "hash_file", lambda _: pytest.fail("the file was read"))
    assert len(load_model_folder(saved).sha256) == 64


@pytest.mark.parametrize("name", sorted(FILES - {"source.json"}))
def test_verifying_finds_every_changed_file(copy: Path, name: str) -> None:
    assert verify_model_folder(copy) == []
    status = (copy / name).stat()
    flip_a_bit(copy / name)
    os.utime(copy / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    (problem,) = verify_model_folder(copy)
    assert f"{name} has changed" in problem


def test_verifying_finds_a_missing_file_and_a_missing_record(copy: Path) -> None:
    (copy / "vocab.txt").unlink()
    assert verify_model_folder(copy) == [f"{copy / 'vocab.txt'} is missing"]
    (copy / "source.json").unlink()
    assert "no record" in verify_model_folder(copy)[0]


def test_another_config_gives_another_folder(saved: Path, tmp_path: Path, tiny_state: State) -> None:
    config = replace(CONFIG, fusion_heads=4)
    folder = save_model_folder(tmp_path / "x", config, tiny_state, VOCABULARY, origin={})
    assert folder.config.fusion_heads == 4
