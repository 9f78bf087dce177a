"""Models and adapters are found without torch."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from glip.errors import InputError, JobFailed
from glip.weights.adapter import Adapter, save_adapter
from glip.weights.locate import ADAPTER_FILE, check_model, find_adapter, model_of_adapter
from glip.weights.zoo import UnknownCheckpoint


def write_run(folder: Path, validation: float, base: str = "nano") -> Path:
    folder.mkdir(parents=True)
    save_adapter(folder / ADAPTER_FILE, Adapter("linear", "0" * 64, base, ("cat",), {"head.bias": torch.zeros(1)}))
    (folder / "metrics.json").write_text(json.dumps({"validation": validation}))
    return folder / ADAPTER_FILE


def test_a_run_folder_gives_its_best_adapter(tmp_path: Path) -> None:
    write_run(tmp_path / "Fruit/linear/1-shot/seed-3", 10.0)
    best = write_run(tmp_path / "Fruit/linear/1-shot/seed-30", 20.0)
    assert find_adapter(tmp_path) == best
    assert find_adapter(best) == best
    assert model_of_adapter(best) == "nano"


def test_what_is_no_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=ADAPTER_FILE):
        find_adapter(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        find_adapter(tmp_path / "nowhere")
    (tmp_path / "text").write_text("no adapter")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "text"))):
        model_of_adapter(tmp_path / "text")
    with pytest.raises(InputError, match="somewhere-else"):
        model_of_adapter(write_run(tmp_path / "run", 1.0, base="somewhere-else"))


def test_offline_the_embedded_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIP_HOME", str(tmp_path))
    with pytest.raises(JobFailed, match="nano"):
        check_model("glip-t", offline=True)
    check_model("glip-t")
    check_model("nano", offline=True)
    with pytest.raises(UnknownCheckpoint, match="glip-x"):
        check_model("glip-x")
