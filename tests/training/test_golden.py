"""Learning against the original's numbers: the same anchors, losses and gradients on the same pseudo-random weights.

Limits: anchors and their boxes identical, losses within 1e-4, gradients (relative L2) and their norm within 1e-3.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glip.model.anchors import STRIDES, decode, encode, make_anchors
from glip.model.glip import GLIP, build_glip
from glip.training.assigner import assign
from glip.training.losses import Criterion, Losses, Targets, centerness_targets
from glip.training.modes import enter_train_mode, select_trainable
from glip.weights.convert import to_native
from glip.weights.tensor_names import PartCounts, spell
from tests.golden.cases import Case
from tests.golden.models import ARCHITECTURES
from tests.golden.weights import FOLDER, make_state, make_tensor
from tests.training.conftest import switch_off_chance

CASES = ("train_A_full", "train_T_full", "train_T_language_prompt_v2")
OFFSET = "rpn.tunable_linear.weight"
# The gradient of the prompt is computed in float64: it is then 9.7e-4 from the golden one, which is float32 and has 11
# samples other than zero. Our own float32 adds 2e-4 to 1.9e-3, depending on the processor.
# Swin's table of positions is a sum of many terms that cancel: in float64 ours is 9e-5 from the golden one, in float32
# 5e-4 to 1.15e-3 (a Zen 4, torch 2.14.1), as the number of threads and the order of operations have it.
POSITIONS = "backbone.body.layers.2.blocks.3.attn.relative_position_bias_table"
LIMITS = {POSITIONS: 1.5e-3}


@dataclass(frozen=True)
class Learned:
    """What one step of learning gave."""

    case: Case
    losses: Losses
    norm: float  # of all gradients together
    gradients: dict[str, Tensor]  # under the original's names, those that the case has


def read(parity: Path, name: str) -> Case:
    return Case.read(parity / "cases", f"{name}_chelsea+astronaut")


def input_ids(case: Case) -> Tensor:
    """(1, T) token ids: every image of these cases has the caption of a committed case."""
    known: dict[str, Any] = json.loads((FOLDER / "A_formula_six.json").read_text())
    assert set(case.meta["captions"]) == {known["caption"]}
    return torch.tensor([known["input_ids"]])


def targets(case: Case) -> list[Targets]:
    tokens = input_ids(case).shape[1]
    arrays = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    return [
        Targets(arrays[f"gt_boxes{image}"], arrays[f"positive_map{image}"][:, :tokens])
        for image in range(len(case.meta["images"]))
    ]


@pytest.fixture(scope="module")
def learning_model() -> Callable[[str], GLIP]:
    """Gives the model of a variant with the golden weights and no chance in it; one at a time."""

    @lru_cache(maxsize=1)
    def build(variant: str) -> GLIP:
        model = build_glip(ARCHITECTURES[variant], to_native(make_state(variant)).state)
        switch_off_chance(model)
        return model

    return build


# T's two cases stand together: they share a model. A's is the same code without the fusion.
@pytest.fixture(scope="module", params=[pytest.param(CASES[0], marks=pytest.mark.full), *CASES[1:]])
def learned(request: pytest.FixtureRequest, parity: Path, learning_model: Callable[[str], GLIP]) -> Learned:
    case = read(parity, request.param)
    model = learning_model(case.meta["variant"])
    prompt_tuning = case.meta["mode"] == "language_prompt_v2"
    if prompt_tuning:
        model.set_prompt_offset(make_tensor(OFFSET, (1000, 768)))
    mode = "prompt" if prompt_tuning else "all"
    select_trainable(model, mode)
    enter_train_mode(model, mode)
    precision = torch.float64 if prompt_tuning else torch.float32
    losses = Criterion()(model.to(precision)(case.batch().pixels.to(precision), input_ids(case)), targets(case))
    losses.total.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    model.float()
    norm = torch.stack([gradient.double().norm() for gradient in found.values()]).norm().item()
    return Learned(case, losses, norm, {name: under(name, case, found) for name in case.meta["grads"]})


def under(name: str, case: Case, gradients: dict[str, Tensor]) -> Tensor:
    """The gradient that the original calls `name`."""
    if name == OFFSET:
        return gradients["prompt_offset"]
    if name.startswith("rpn.head.scales."):
        return gradients["head.scales"][int(name.split(".")[3])]
    counts = PartCounts.of_config(ARCHITECTURES[case.meta["variant"]])
    return gradients[next(row.native for row in spell(counts) if row.microsoft == name)]


@pytest.mark.parametrize("name", CASES)
def test_anchors_answer_for_the_same_boxes_with_the_same_targets(name: str, parity: Path) -> None:
    case = read(parity, name)
    height, width = case.meta["padded_hw"]
    sizes_hw = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    anchors = make_anchors(sizes_hw, torch.device("cpu"))
    for image, target in enumerate(targets(case)):
        owner = assign(target.boxes, anchors, [h * w for h, w in sizes_hw])
        positive = (owner >= 0).nonzero()[:, 0]
        np.testing.assert_array_equal(positive, case.arrays[f"positive_anchors{image}"])
        np.testing.assert_array_equal(owner[positive], case.arrays[f"matched_gt{image}"])
        deltas = encode(target.boxes[owner[positive]], anchors[positive])
        np.testing.assert_allclose(deltas, case.arrays[f"reg_targets{image}"], rtol=1e-6, atol=1e-6)
        centered = centerness_targets(anchors[positive], decode(deltas, anchors[positive]))
        np.testing.assert_allclose(centered, case.arrays[f"centerness_targets{image}"], rtol=1e-5)


def test_losses_equal_the_original(learned: Learned) -> None:
    golden = learned.case.meta["losses"]
    assert learned.losses.alignment.item() == pytest.approx(golden["loss_dot_product_token"], rel=1e-4)
    assert learned.losses.box.item() == pytest.approx(golden["loss_reg"], rel=1e-4)
    assert learned.losses.centerness.item() == pytest.approx(golden["loss_centerness"], rel=1e-4)
    assert learned.losses.total.item() == pytest.approx(learned.case.meta["total_loss"], rel=1e-4)


def test_gradients_equal_the_original(learned: Learned) -> None:
    assert learned.norm == pytest.approx(learned.case.meta["total_grad_norm"], rel=1e-3)
    far = {}
    for name, info in learned.case.meta["grads"].items():
        gradient = learned.gradients[name]
        assert gradient.double().norm().item() == pytest.approx(info["l2"], rel=1e-3), name
        if name == OFFSET:
            assert (gradient != 0).any(1).sum() == learned.case.meta["rows_with_gradient"]
        golden = learned.case.arrays[f"grad/{name}"].astype(np.float64)
        error = np.linalg.norm(gradient.flatten()[:: info["stride"]].double().numpy() - golden)
        # Not divided: of the word embeddings only rows without gradient were sampled.
        if not error <= LIMITS.get(name, 1e-3) * np.linalg.norm(golden):
            far[name] = float(error)
    assert not far
