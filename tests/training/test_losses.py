"""Raw outputs and targets to losses: the published formulas and their edges."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from glip.model.anchors import decode, encode
from glip.model.glip import RawOutputs
from glip.training.assigner import assign
from glip.training.losses import Criterion, Losses, Targets, centerness_targets, token_targets
from tests.training.scenes import ANCHORS, LEVEL_SIZES, ODD_BOXES, random_boxes, random_outputs

TOKENS = 6


def random_targets(count: int, seed: int = 0, tokens: int = TOKENS) -> Targets:
    """Boxes, each spelled by one or two neighbouring tokens."""
    first = torch.randint(1, tokens - 1, (count,), generator=torch.Generator().manual_seed(seed))
    positive_map = torch.zeros(count, tokens)
    positive_map[torch.arange(count), first] = 1
    positive_map[::2, -1] = 1
    return Targets(random_boxes(count, seed), positive_map)


def gradients(losses: Losses, outputs: RawOutputs) -> list[Tensor]:
    """Of the total, by alignment, deltas and centerness."""
    return list(torch.autograd.grad(losses.total, [outputs.alignment, outputs.deltas, outputs.centerness]))


def assert_finite(losses: Losses, outputs: RawOutputs) -> None:
    assert all(torch.isfinite(loss) for loss in losses), losses
    assert all(torch.isfinite(gradient).all() for gradient in gradients(losses, outputs))


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def formulas(outputs: RawOutputs, targets: list[Targets], mask: Tensor) -> tuple[float, float, float]:
    """The published losses number by number: alignment, box, centerness."""
    positives, focal, giou_sum, centered_sum, entropy = 0, 0.0, 0.0, 0.0, 0.0
    for image, target in enumerate(targets):
        owner = assign(target.boxes, ANCHORS, LEVEL_SIZES)
        for anchor, box in enumerate(owner.tolist()):
            for token in mask[image].nonzero()[:, 0].tolist():
                wanted = box >= 0 and target.positive_map[box, token] > 0
                p = sigmoid(outputs.alignment[image, anchor, token].item())
                right, alpha = (p, 0.25) if wanted else (1 - p, 0.75)
                focal -= alpha * (1 - right) ** 2 * math.log(right)
            if box < 0:
                continue
            positives += 1
            x1, y1, x2, y2 = target.boxes[box].tolist()
            x, y = ((ANCHORS[anchor, :2] + ANCHORS[anchor, 2:]) / 2).tolist()
            across, down = sorted((x - x1, x2 - x)), sorted((y - y1, y2 - y))
            centered = math.sqrt(across[0] / across[1] * down[0] / down[1])
            u1, v1, u2, v2 = decode(outputs.deltas[image, anchor], ANCHORS[anchor]).tolist()
            u2, v2 = max(u1, u2), max(v1, v2)
            shared = max(0.0, min(u2, x2) - max(u1, x1)) * max(0.0, min(v2, y2) - max(v1, y1))
            union = (u2 - u1) * (v2 - v1) + (x2 - x1) * (y2 - y1) - shared
            hull = (max(u2, x2) - min(u1, x1)) * (max(v2, y2) - min(v1, y1))
            giou_sum += centered * (1 - (shared / union - (hull - union) / hull))
            centered_sum += centered
            p = sigmoid(outputs.centerness[image, anchor].item())
            entropy -= centered * math.log(p) + (1 - centered) * math.log(1 - p)
    return focal / positives, 2 * giou_sum / centered_sum, entropy / positives


@pytest.mark.parametrize("spread", [1.0, 20.0])
def test_losses_are_the_published_formulas(spread: float) -> None:
    """Widely spread deltas make boxes of less than a pixel, which are inside out, as a width is x2 - x1 + 1."""
    outputs, targets = random_outputs(2, TOKENS), [random_targets(3, 1), random_targets(7, 2)]
    outputs = replace(outputs, deltas=outputs.deltas * spread)
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[0, 4:] = False
    losses = Criterion()(outputs, targets, mask)
    alignment, box, centerness = formulas(outputs, targets, mask)
    assert losses.alignment.item() == pytest.approx(alignment, rel=1e-4)
    assert losses.box.item() == pytest.approx(box, rel=1e-4)
    assert losses.centerness.item() == pytest.approx(centerness, rel=1e-4)
    assert losses.total.item() == pytest.approx(alignment + box + centerness, rel=1e-4)


def test_a_perfect_prediction_loses_nothing_but_the_entropy_of_centerness() -> None:
    target = random_targets(4, 3)
    owner = assign(target.boxes, ANCHORS, LEVEL_SIZES)
    positive = owner >= 0
    deltas = torch.zeros(1, len(ANCHORS), 4)
    deltas[0, positive] = encode(target.boxes[owner[positive]], ANCHORS[positive])
    alignment = (token_targets(owner, target.positive_map, TOKENS) * 2 - 1)[None] * 20
    outputs = replace(random_outputs(1, TOKENS), alignment=alignment, deltas=deltas)
    losses = Criterion()(outputs, [target])
    assert losses.alignment < 1e-6
    assert losses.box < 1e-4
    assert losses.centerness > 0.1


def test_an_unclaimed_anchor_says_no_object_at_the_last_of_256_positions() -> None:
    owner = torch.tensor([1, -1])
    positive_map = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    full = token_targets(owner, positive_map, 256)
    assert full[0].nonzero()[:, 0].tolist() == [1, 2]
    assert full[1].nonzero()[:, 0].tolist() == [255]
    assert token_targets(owner, positive_map, 255)[1].sum() == 0


def test_no_object_counts_only_if_the_caption_fills_all_positions() -> None:
    outputs, target = random_outputs(1, 256), random_targets(0, tokens=256)
    mask = torch.ones(1, 256, dtype=torch.bool)
    last = torch.nn.functional.one_hot(torch.tensor(255), 256)
    raised = replace(outputs, alignment=outputs.alignment + 9 * last)
    assert Criterion()(raised, [target], mask).total < Criterion()(outputs, [target], mask).total - 1
    mask[0, 255] = False
    assert torch.equal(Criterion()(raised, [target], mask).total, Criterion()(outputs, [target], mask).total)


def test_padding_of_the_text_is_outside_the_loss_whatever_it_holds() -> None:
    outputs, targets = random_outputs(2, TOKENS), [random_targets(3, 1, 5), random_targets(4, 2, 5)]
    alignment = torch.nn.functional.pad(outputs.alignment, (0, 3), value=torch.nan)
    mask = (torch.arange(TOKENS + 3) < TOKENS).expand(2, -1)
    trimmed, padded = Criterion()(outputs, targets), Criterion()(replace(outputs, alignment=alignment), targets, mask)
    assert torch.equal(trimmed.total, padded.total)
    for ours, other in zip(gradients(trimmed, outputs), gradients(padded, outputs), strict=True):
        assert torch.allclose(ours, other, atol=1e-9)


def test_the_positive_map_counts_as_zero_and_one() -> None:
    """Elsewhere its rows are normalised to a sum of 1."""
    outputs, target = random_outputs(1, TOKENS), random_targets(4)
    normalised = Targets(target.boxes, target.positive_map / target.positive_map.sum(1, keepdim=True))
    as_bool = Targets(target.boxes, target.positive_map > 0)
    for other in (normalised, as_bool):
        assert torch.equal(Criterion()(outputs, [other]).total, Criterion()(outputs, [target]).total)


def test_two_processes_learn_what_one_large_batch_would_teach() -> None:
    outputs, targets = random_outputs(2, TOKENS), [random_targets(2, 1), random_targets(9, 2)]
    parts = [
        replace(outputs, alignment=alignment[None], deltas=deltas[None], centerness=centerness[None])
        for alignment, deltas, centerness in zip(outputs.alignment, outputs.deltas, outputs.centerness, strict=True)
    ]
    asked: list[Tensor] = []

    def ask(values: Tensor) -> Tensor:
        asked.append(values)
        return values

    for part, target in zip(parts, targets, strict=True):
        Criterion(ask)(part, [target])
    assert len(asked) == 2
    both = Criterion(lambda _: torch.stack(asked).mean(0))
    mean = [sum(pair) / 2 for pair in zip(*(both(p, [t]) for p, t in zip(parts, targets, strict=True)), strict=True)]
    for ours, whole in zip(mean, Criterion()(outputs, targets), strict=True):
        assert torch.allclose(torch.as_tensor(ours), whole, rtol=1e-5)


def test_every_process_takes_part_in_the_mean_even_without_boxes() -> None:
    calls = []
    outputs = random_outputs(1, TOKENS)

    def ask(values: Tensor) -> Tensor:
        calls.append(values)
        return values + 3

    losses = Criterion(ask)(outputs, [random_targets(0)])
    assert [call.tolist() for call in calls] == [[0.0, 0.0]]
    assert_finite(losses, outputs)


@pytest.mark.parametrize("count", [0, 1, 500])
def test_any_number_of_boxes_gives_finite_losses(count: int) -> None:
    outputs = random_outputs(2, TOKENS)
    assert_finite(Criterion()(outputs, [random_targets(count, 1), random_targets(count, 2)]), outputs)


def test_a_batch_without_boxes_learns_to_say_nothing() -> None:
    outputs = random_outputs(2, TOKENS)
    losses = Criterion()(outputs, [random_targets(0)] * 2)
    assert losses.box == losses.centerness == 0
    by_alignment, by_deltas, by_centerness = gradients(losses, outputs)
    assert (by_alignment > 0).all()
    assert not by_deltas.any()
    assert not by_centerness.any()


@pytest.mark.parametrize("kind", ODD_BOXES)
def test_odd_boxes_give_finite_losses(kind: str) -> None:
    outputs, boxes = random_outputs(1, TOKENS), ODD_BOXES[kind]
    assert_finite(Criterion()(outputs, [Targets(boxes, torch.ones(len(boxes), TOKENS))]), outputs)


def test_a_text_of_padding_alone_gives_finite_losses() -> None:
    outputs = random_outputs(1, TOKENS)
    losses = Criterion()(outputs, [random_targets(3)], torch.zeros(1, TOKENS, dtype=torch.bool))
    assert losses.alignment == 0
    assert losses.box > 0
    assert_finite(losses, outputs)


@pytest.mark.parametrize("delta", [-1e4, -50.0, 50.0, 1e4])
def test_absurd_predictions_give_finite_losses(delta: float) -> None:
    plain = random_outputs(1, TOKENS)
    deltas = torch.full_like(plain.deltas, delta, requires_grad=True)
    alignment = torch.full_like(plain.alignment, delta, requires_grad=True)
    outputs = replace(plain, deltas=deltas, alignment=alignment)
    assert_finite(Criterion()(outputs, [random_targets(5)]), outputs)


def test_autocast_changes_nothing() -> None:
    outputs, targets = random_outputs(1, TOKENS), [random_targets(5)]
    plain = Criterion()(outputs, targets)
    with torch.autocast("cpu", torch.bfloat16):
        inside = Criterion()(outputs, targets)
    assert all(torch.equal(ours, other) for ours, other in zip(inside, plain, strict=True))


def test_half_precision_outputs_are_summed_in_float32() -> None:
    half, targets = random_outputs(1, TOKENS, dtype=torch.bfloat16), [random_targets(5)]
    same = RawOutputs(half.alignment.float(), half.deltas.float(), half.centerness.float(), ANCHORS, LEVEL_SIZES)
    for ours, other in zip(Criterion()(half, targets), Criterion()(same, targets), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, other)


def test_centerness_is_one_in_the_middle_and_falls_to_the_sides() -> None:
    anchors = torch.tensor([[-4.0, -4.0, 4.0, 4.0]]).expand(3, 4)
    boxes = torch.tensor([[-10.0, -20.0, 10.0, 20.0], [-5.0, -20.0, 15.0, 20.0], [0.0, -20.0, 20.0, 20.0]])
    assert torch.allclose(centerness_targets(anchors, boxes), torch.tensor([1.0, math.sqrt(1 / 3), 0.0]))


def test_centerness_is_zero_outside_the_box() -> None:
    anchor, box = torch.tensor([[-4.0, -4.0, 4.0, 4.0]]), torch.tensor([[5.0, -20.0, 25.0, 20.0]])
    assert centerness_targets(anchor, box).tolist() == [0.0]


def test_a_box_larger_than_deltas_can_say_is_learned_as_far_as_they_reach() -> None:
    box = ODD_BOXES["far larger than the image"]
    owner = assign(box, ANCHORS, LEVEL_SIZES)
    assert (owner >= 0).any()
    outputs = replace(random_outputs(1, TOKENS), deltas=encode(box, ANCHORS)[None])
    assert Criterion()(outputs, [Targets(box, torch.ones(1, TOKENS))]).box < 1e-4


def test_targets_whose_parts_do_not_fit_are_refused() -> None:
    with pytest.raises(AssertionError, match="2 boxes have 3 rows"):
        Targets(torch.zeros(2, 4), torch.zeros(3, 5))
    with pytest.raises(AssertionError, match="1 images, 2 targets"):
        Criterion()(random_outputs(1, TOKENS), [random_targets(1)] * 2)
