"""The model inside the package: whole, small, and open to all commands without a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glip.errors import InputError
from glip.model.config import GLIP_NANO
from glip.weights.checkpoint import convert_checkpoint, open_model, pull
from glip.weights.convert import Conversion
from glip.weights.folder import verify_model_folder
from glip.weights.zoo import EMBEDDED, EMBEDDED_FOLDER, UnknownCheckpoint, architecture_name


def test_it_opens_offline_and_is_what_was_written() -> None:
    folder = open_model(EMBEDDED, offline=True)
    assert pull(EMBEDDED, offline=True).path == folder.path == EMBEDDED_FOLDER
    assert architecture_name(folder.config) == "nano"
    assert folder.config.deep_fusion
    assert verify_model_folder(folder.path) == []


def test_it_is_small_and_comes_in_float32() -> None:
    folder = open_model(EMBEDDED)
    assert (folder.path / "model.safetensors").stat().st_size <= 12_000_000
    assert {value.dtype for value in folder.state_dict().values()} == {torch.float32}


def test_its_card_and_its_log_lie_beside_it() -> None:
    assert "python -m benchmarks.nano nano" in (EMBEDDED_FOLDER / "README.md").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (EMBEDDED_FOLDER / "metrics.jsonl").read_text().splitlines()]
    places = [(row["phase"], row["step"]) for row in rows]
    assert places == sorted(set(places))
    assert places[-1][1] == open_model(EMBEDDED).source["origin"]["steps"]


def test_half_precision_keeps_three_digits(tiny: Conversion, tmp_path: Path) -> None:
    from glip.weights.folder import save_model_folder
    from glip.weights.tokenizer import letter_vocabulary

    whole = save_model_folder(tmp_path / "whole", tiny.config, tiny.state, letter_vocabulary(), origin={})
    convert_checkpoint(whole.path, tmp_path / "half", half=True)
    half = open_model(tmp_path / "half")
    assert (half.path / "model.safetensors").stat().st_size < 0.6 * (whole.path / "model.safetensors").stat().st_size
    for name, value in half.state_dict().items():
        assert torch.allclose(value, tiny.state[name], rtol=1e-3, atol=1e-6), name
    with pytest.raises(InputError, match=r"half.*microsoft"):
        convert_checkpoint(whole.path, tmp_path / "other.pth", to="microsoft", half=True)


def test_a_threshold_and_a_size_of_its_own_travel_with_the_folder(tiny: Conversion, tmp_path: Path) -> None:
    from glip.weights.folder import save_model_folder
    from glip.weights.tokenizer import letter_vocabulary

    before = save_model_folder(tmp_path / "a", tiny.config, tiny.state, letter_vocabulary(), origin={})
    convert_checkpoint(before.path, tmp_path / "b", conf=0.55)
    assert open_model(tmp_path / "b").config == replace(before.config, conf=0.55)
    convert_checkpoint(tmp_path / "b", tmp_path / "c", imgsz=96)
    assert open_model(tmp_path / "c").config == replace(before.config, conf=0.55, imgsz=96)
    assert architecture_name(replace(GLIP_NANO, conf=0.55, imgsz=96)) == "nano"
    for told in ({"conf": 0.5}, {"imgsz": 96}):
        with pytest.raises(InputError, match=f"^{next(iter(told))}.*microsoft"):
            convert_checkpoint(before.path, tmp_path / "other.pth", to="microsoft", **told)
    with pytest.raises(InputError, match=r"conf.*1\.5"):
        convert_checkpoint(before.path, tmp_path / "d", conf=1.5)
    with pytest.raises(InputError, match=r"imgsz.*\b20\b"):
        convert_checkpoint(before.path, tmp_path / "d", imgsz=20)


def test_a_slip_of_its_name_is_helped() -> None:
    with pytest.raises(UnknownCheckpoint, match="'nano'"):
        open_model("nanoo")
