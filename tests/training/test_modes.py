"""What learns and what rests in each tuning mode, against the lists of the original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.errors import InputError
from glip.model.config import GLIP_T
from glip.model.glip import GLIP, build_glip
from glip.training.modes import enter_train_mode, select_trainable
from glip.training.settings import TUNING_MODES
from glip.weights.tensor_names import PartCounts, spell
from tests.golden.weights import FOLDER
from tests.tiny import TINY, tiny_model

PUBLISHED = {
    "full": "full",
    "linear_prob": "linear",
    "language_prompt_v1": "language",
    "language_prompt_v2": "prompt",
    "language_prompt_v3": "language",
    "language_prompt_v4": "prompt",
}
CONSTANTS = ("relative_position_index", "position_ids", *(f"cell_anchors.{level}" for level in range(5)))
ROOMS = ["backbone", "neck", "text_encoder", "fusion", "head"]
NATIVE_NAMES = {row.microsoft: row.native for row in spell(PartCounts.of_config(GLIP_T))}
NATIVE_NAMES |= {f"rpn.head.scales.{level}.scale": "head.scales" for level in range(5)}
NATIVE_NAMES["rpn.tunable_linear.weight"] = "prompt_offset"


def published_list(truth: dict[str, Any]) -> set[str]:
    """The trainable tensors under the original's names, spelled from their groups."""
    names = [name for name, _, _ in json.loads((FOLDER / "names_T.json").read_text())]
    names = [name for name in names if not name.endswith(CONSTANTS)]
    found: set[str] = set()
    for group, count in truth["trainable_groups"].items():
        members = {name for name in [*names, "rpn.tunable_linear.weight"] if f"{name}.".startswith(f"{group}.")}
        assert len(members) == count
        found |= members
    assert found >= set(truth.get("trainable", ()))
    assert len(found) == truth["num_trainable_tensors"]
    return found


@pytest.mark.parametrize("published", PUBLISHED)
def test_the_same_tensors_learn_as_in_the_original(published: str, parity: Path) -> None:
    truth = json.loads((parity / "cases" / "tuning_modes_T.json").read_text())[published]
    with torch.device("meta"):
        model = build_glip(GLIP_T)
    if PUBLISHED[published] == "prompt":
        model.set_prompt_offset(torch.empty(1000, 768))
    select_trainable(model, PUBLISHED[published])
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert set(learning) == {NATIVE_NAMES[name] for name in published_list(truth)}
    assert sum(p.numel() for p in learning.values()) == truth["num_trainable_values"]


def test_everything_learns_in_pre_training() -> None:
    model = tiny_model().requires_grad_(False)
    select_trainable(model, "all")
    assert all(p.requires_grad for p in model.parameters())
    enter_train_mode(model, "all")
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("mode", "resting"),
    [
        ("full", ["backbone.patch_embed", "backbone.stages.0"]),
        # The frozen tower keeps its dropout, as published.
        ("linear", ["backbone", "neck", "text_encoder"]),
        ("language", ["backbone", "neck", "fusion", "head"]),
        ("prompt", ROOMS),
    ],
)
def test_frozen_parts_rest_while_others_train(mode: str, resting: list[str]) -> None:
    model = tiny_model()
    enter_train_mode(model, mode)
    for name, module in model.named_modules():
        if name in ROOMS or not list(module.children()):
            assert module.training is not any(f"{name}.".startswith(f"{room}.") for room in resting), name


def test_rest_ends_where_the_next_mode_does_not_want_it() -> None:
    model = tiny_model()
    enter_train_mode(model, "prompt")
    enter_train_mode(model, "all")
    assert all(module.training for module in model.modules())


def test_a_prompt_starts_as_zeros_and_goes_on_from_what_it_was() -> None:
    model = tiny_model()
    select_trainable(model, "prompt")
    assert model.prompt_offset is not None
    assert model.prompt_offset.shape == (256, TINY.text.hidden_size)
    assert not model.prompt_offset.any()
    tuned = torch.ones(20, TINY.text.hidden_size)
    model.set_prompt_offset(tuned)
    select_trainable(model, "prompt")
    assert torch.equal(model.prompt_offset, tuned)
    assert model.prompt_offset.requires_grad


@pytest.mark.parametrize("mode", sorted(set(TUNING_MODES) - {"prompt"}))
def test_other_modes_add_no_parameter(mode: str) -> None:
    model = tiny_model()
    before = list(model.state_dict())
    select_trainable(model, mode)
    assert list(model.state_dict()) == before


@pytest.mark.parametrize("use", [select_trainable, enter_train_mode])
def test_an_unknown_mode_is_named_with_the_known_ones(use: Any) -> None:
    model: GLIP = tiny_model()
    with pytest.raises(InputError, match=r"'adapter'.*all, full, linear, language, prompt"):
        use(model, "adapter")
