"""Groups, schedule and average, against the published rules written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from glip.model.config import GLIP_T
from glip.training.optimizer import MovingAverage, Plateau, group_of, make_optimizer, set_rates
from glip.training.settings import Rates, Schedule
from glip.weights.tensor_names import PartCounts, spell
from tests.tiny import tiny_model


def test_published_groups_are_those_of_the_published_names() -> None:
    """The rule speaks of names: ours must contain 'bias', and begin with the text encoder, where the original's do."""
    rates = Rates()
    for names in spell(PartCounts.of_config(GLIP_T)):
        rate = 1e-5 if "language_backbone" in names.microsoft else 1e-4
        expected = (2 * rate, 0.0) if "bias" in names.microsoft else (rate, 1e-4)
        assert group_of(names.native, torch.ones(3, 3), rates) == expected, names
    for odd in ("backbone.stages.0.blocks.0.attn.relative_position_bias_table", "head.bias_text", "head.bias"):
        assert group_of(odd, torch.ones(3, 3), rates) == (2e-4, 0.0)
    assert group_of("backbone.norms.0.weight", torch.ones(3), rates) == (1e-4, 1e-4)


def test_clean_groups_spare_norms_biases_and_tables_of_positions() -> None:
    rates = Rates(base=1e-3, text=1e-4, weight_decay=0.1, groups="clean")
    assert group_of("neck.p6.weight", torch.ones(2, 2, 3, 3), rates) == (1e-3, 0.1)
    assert group_of("neck.p6.bias", torch.ones(2), rates) == (1e-3, 0.0)
    assert group_of("text_encoder.bert.embeddings.word_embeddings.weight", torch.ones(3, 2), rates) == (1e-4, 0.1)
    assert group_of("backbone.stages.0.blocks.0.attn.relative_position_bias_table", torch.ones(9, 2), rates)[1] == 0


def test_the_backbone_may_learn_at_a_rate_of_its_own() -> None:
    rates = Rates(base=1e-3, weight_decay=0.1, groups="clean", backbone=2e-4)
    assert group_of("backbone.stride16.0.0.project.weight", torch.ones(2, 2, 1, 1), rates) == (2e-4, 0.1)
    assert group_of("neck.p6.weight", torch.ones(2, 2, 3, 3), rates) == (1e-3, 0.1)


def test_every_parameter_that_learns_is_in_one_group() -> None:
    model = tiny_model()
    model.neck.requires_grad_(False)
    grouped = [p for group in make_optimizer(model, Rates()).param_groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped})
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters() if p.requires_grad}


def test_factors_act_on_each_groups_own_rate_and_decay() -> None:
    optimizer = make_optimizer(tiny_model(), Rates())
    for _ in range(2):  # not on what was set before
        set_rates(optimizer, 0.5, 0.1)
    found = {(round(g["lr"], 9), round(g["weight_decay"], 9)) for g in optimizer.param_groups}
    assert found == {(5e-5, 1e-5), (1e-4, 0.0), (5e-6, 1e-5), (1e-5, 0.0)}


def test_the_published_schedule() -> None:
    schedule = Schedule(steps=10_000)
    assert schedule.at(0) == 0.001
    assert schedule.at(1000) == pytest.approx(0.001 + 0.999 / 2)
    assert schedule.at(2000) == schedule.at(6699) == 1
    assert schedule.at(6700) == pytest.approx(0.1)
    assert schedule.at(8900) == pytest.approx(0.01)


def test_cosine_begins_at_one_and_ends_at_the_least() -> None:
    schedule = Schedule(steps=1100, decay="cosine", warmup=100, minimum=0.02)
    assert schedule.at(100) == 1
    assert schedule.at(600) == pytest.approx(0.51)
    assert schedule.at(1100) == pytest.approx(0.02)


def test_the_plateau_acts_as_torchs_own() -> None:
    scores = [0.3, 0.35, 0.35, 0.34, 0.0, 0.35, 0.35, 0.36, 0.1, 0.1, 0.1, 0.1, 0.1]
    schedule = Schedule(steps=99, decay="plateau", warmup=0, patience=3, minimum=1e-6)
    plateau = Plateau(schedule)
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=3, min_lr=1e-6)
    for score in scores:
        plateau.update(score)
        if score:  # a score of exactly 0 is not looked at, as published
            theirs.step(score)
        assert plateau.factor == pytest.approx(optimizer.param_groups[0]["lr"])
    assert plateau.factor == pytest.approx(0.01)


def test_a_restored_plateau_goes_on_as_if_nothing_had_happened() -> None:
    schedule = Schedule(steps=9, decay="plateau", patience=1)
    one = Plateau(schedule)
    one.update(0.5)
    one.update(0.4)
    other = Plateau(schedule)
    other.restore(one.state())
    for plateau in (one, other):
        plateau.update(0.4)
        assert plateau.factor == pytest.approx(0.1)
    fresh = Plateau(schedule)
    fresh.restore(Plateau(schedule).state())
    assert fresh.best == -math.inf


def test_the_average_follows_its_formula() -> None:
    weight = nn.Parameter(torch.zeros(2))
    average = MovingAverage([("weight", weight)], 0.9)
    with torch.no_grad():
        weight.fill_(1.0)
    average.update(0)
    assert torch.allclose(average.tensors["weight"], torch.full((2,), 0.1))
    ramped = MovingAverage([("weight", weight)], 0.9, ramp=True)
    with torch.no_grad():
        weight.fill_(2.0)
    ramped.update(0)  # forgets nine tenths of the first value
    assert torch.allclose(ramped.tensors["weight"], torch.full((2,), 1.9))
