"""Model and criterion together: an image can be learned, in every mode, and edges stay finite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glip.model.glip import GLIP
from glip.training.losses import Criterion, Losses, Targets
from glip.training.modes import enter_train_mode, select_trainable

IDS = torch.tensor([[2, 20, 5, 30, 31, 3]])
BOXES = torch.tensor([[8.0, 8.0, 47.0, 55.0], [60.0, 20.0, 115.0, 80.0]])
POSITIVE_MAP = torch.tensor([[0.0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]])


def image() -> Tensor:
    """(1, 3, 96, 128): two rectangles of different brightness where the boxes are."""
    pixels = torch.zeros(1, 3, 96, 128)
    for (x1, y1, x2, y2), value in zip(BOXES.int().tolist(), (2.0, -2.0), strict=True):
        pixels[:, :, y1 : y2 + 1, x1 : x2 + 1] = value
    return pixels


def learn(model: GLIP, steps: int, rate: float) -> list[Losses]:
    """Shows one image again and again."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    seen = []
    for _ in range(steps):
        losses = Criterion()(model(image(), IDS), [Targets(BOXES, POSITIVE_MAP)])
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen.append(losses)
    return seen


def test_one_image_is_learned_by_heart(tiny_glip: GLIP) -> None:
    select_trainable(tiny_glip, "all")
    seen = learn(tiny_glip, 60, 2e-3)
    first, last = seen[0], seen[-1]
    assert last.alignment < first.alignment / 100
    assert last.box < first.box / 4
    assert last.centerness < first.centerness


@pytest.mark.parametrize(("mode", "rate"), [("full", 2e-3), ("linear", 1e-2), ("language", 2e-3), ("prompt", 5e-2)])
def test_each_mode_learns_and_leaves_the_rest_as_it_was(tiny_glip: GLIP, mode: str, rate: float) -> None:
    select_trainable(tiny_glip, mode)
    enter_train_mode(tiny_glip, mode)
    before = {name: p.detach().clone() for name, p in tiny_glip.named_parameters()}
    seen = learn(tiny_glip, 12, rate)
    assert seen[-1].total < 0.95 * seen[0].total
    for name, parameter in tiny_glip.named_parameters():
        assert torch.equal(parameter, before[name]) is not parameter.requires_grad, name


@pytest.mark.parametrize("count", [0, 1, 500])
def test_any_number_of_boxes_gives_finite_gradients(tiny_glip: GLIP, count: int) -> None:
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 90
    boxes = torch.cat((corner, corner + 4 + corner.flip(1) / 3), dim=1)
    targets = Targets(boxes, torch.ones(count, IDS.shape[1]))
    Criterion()(tiny_glip(image(), IDS), [targets]).total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in tiny_glip.parameters())


def test_an_image_without_names_gives_finite_gradients(tiny_glip: GLIP) -> None:
    """A batch of a full prompt and one that is padding but for its first and last token."""
    ids, mask = IDS.repeat(2, 1), torch.ones(2, 6, dtype=torch.bool)
    ids[1], mask[1, 2:] = torch.tensor([2, 3, 0, 0, 0, 0]), False
    targets = [Targets(BOXES, POSITIVE_MAP), Targets(torch.zeros(0, 4), torch.zeros(0, 2))]
    losses = Criterion()(tiny_glip(image().repeat(2, 1, 1, 1), ids, mask), targets, mask)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in tiny_glip.parameters())


def test_text_padded_to_256_tokens_teaches_the_same_as_trimmed(tiny_glip: GLIP) -> None:
    """The original always pads; we trim."""
    targets = [Targets(BOXES, POSITIVE_MAP)]
    padded_ids = torch.nn.functional.pad(IDS, (0, 250))
    mask = torch.arange(256)[None] < IDS.shape[1]
    found = []
    for ids, known in ((IDS, None), (padded_ids, mask)):
        tiny_glip.zero_grad()
        losses = Criterion()(tiny_glip(image(), ids, known), targets, known)
        losses.total.backward()
        gradients = torch.cat([p.grad.flatten() for p in tiny_glip.parameters() if p.grad is not None])
        found.append((losses.total.detach(), gradients))
    (trimmed, by_trimmed), (padded, by_padded) = found
    assert torch.allclose(trimmed, padded, rtol=1e-5)
    assert (by_trimmed - by_padded).norm() < 1e-4 * by_trimmed.norm()
