"""Which anchors answer for which box."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from glip.training.assigner import UNASSIGNED, assign
from tests.training.scenes import ANCHORS, LEVEL_SIZES, ODD_BOXES, random_boxes

Box = Sequence[float]


def iou(a: Box, b: Box) -> float:
    def area(box: Box) -> float:
        return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)

    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    return width * height / (area(a) + area(b) - width * height)


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def claims_of(box: Box, anchors: list[Box], level_sizes: Sequence[int]) -> dict[int, float]:
    """The published rule word by word, for one box: anchor → overlap."""
    candidates, start = [], 0
    for size in level_sizes:
        level = range(start, start + size)
        candidates += sorted(level, key=lambda anchor: math.dist(centre(anchors[anchor]), centre(box)))[:9]
        start += size
    overlaps = {anchor: iou(anchors[anchor], box) for anchor in candidates}
    threshold = statistics.mean(overlaps.values()) + statistics.stdev(overlaps.values())
    claims = {}
    for anchor, overlap in overlaps.items():
        x, y = centre(anchors[anchor])
        if overlap >= threshold and min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01:
            claims[anchor] = overlap
    return claims


def owners(boxes: Tensor, anchors: Tensor, level_sizes: Sequence[int]) -> list[int]:
    """The published rule word by word, for an image."""
    owner, best = [UNASSIGNED] * len(anchors), [-1.0] * len(anchors)
    for number, box in enumerate(boxes.tolist()):
        for anchor, overlap in claims_of(box, anchors.tolist(), level_sizes).items():
            if overlap > best[anchor]:
                owner[anchor], best[anchor] = number, overlap
    assert max(owner) >= 0
    return owner


@pytest.mark.parametrize(("count", "seed"), [(1, 1), (2, 2), (12, 3), (60, 4)])
def test_the_rule_is_followed_word_by_word(count: int, seed: int) -> None:
    boxes = random_boxes(count, seed)
    assert assign(boxes, ANCHORS, LEVEL_SIZES).tolist() == owners(boxes, ANCHORS, LEVEL_SIZES)


def test_anchors_may_lie_anywhere() -> None:
    """Unlike on a grid, some of the nearest then do not touch the box at all."""
    middles = torch.rand(60, 2, generator=torch.Generator().manual_seed(5)) * 60
    squares = torch.cat((middles - 10, middles + 10), dim=1)
    boxes, anchors, sizes = squares[:15] + 0.3, squares[15:], [25, 15, 5]
    assert assign(boxes, anchors, sizes).tolist() == owners(boxes, anchors, sizes)


def test_without_boxes_no_anchor_is_claimed() -> None:
    owner = assign(torch.zeros(0, 4), ANCHORS, LEVEL_SIZES)
    assert owner.dtype == torch.int64
    assert owner.tolist() == [UNASSIGNED] * len(ANCHORS)


def test_an_anchor_claimed_twice_takes_the_box_it_overlaps_most() -> None:
    anchor = ANCHORS[300]
    looser, closer = anchor + torch.tensor([-8.0, -8.0, 8.0, 8.0]), anchor + torch.tensor([-1.0, -1.0, 1.0, 1.0])
    alone = assign(looser[None], ANCHORS, LEVEL_SIZES)
    assert alone[300] == 0
    assert assign(torch.stack((looser, closer)), ANCHORS, LEVEL_SIZES)[300] == 1
    assert assign(torch.stack((closer, looser)), ANCHORS, LEVEL_SIZES)[300] == 0


def test_the_first_of_two_equal_boxes_is_answered_for() -> None:
    box = random_boxes(1, 1)
    once, twice = assign(box, ANCHORS, LEVEL_SIZES), assign(box.repeat(2, 1), ANCHORS, LEVEL_SIZES)
    assert (once == 0).any()
    assert torch.equal(once, twice)


@pytest.mark.parametrize("kind", ["outside", "without area", "turned inside out"])
def test_what_no_anchor_can_lie_in_claims_nothing(kind: str) -> None:
    assert (assign(ODD_BOXES[kind], ANCHORS, LEVEL_SIZES) == UNASSIGNED).all()


@pytest.mark.parametrize("kind", ODD_BOXES)
def test_an_odd_box_takes_nothing_from_the_others(kind: str) -> None:
    good, odd = random_boxes(5, 7), ODD_BOXES[kind]
    owner = assign(torch.cat((good, odd)), ANCHORS, LEVEL_SIZES)
    alone = assign(good, ANCHORS, LEVEL_SIZES)
    assert torch.equal(owner[owner < 5], alone[owner < 5])
    for number in range(5):
        assert (owner == number).sum() >= (alone == number).sum() - (owner >= 5).sum()


def test_a_partly_visible_box_is_answered_for() -> None:
    owner = assign(ODD_BOXES["partly outside"], ANCHORS, LEVEL_SIZES)
    assert (owner == 0).any()


def test_five_hundred_boxes_are_assigned_as_each_box_claims() -> None:
    boxes = random_boxes(500, 9)
    owner = assign(boxes, ANCHORS, LEVEL_SIZES)
    assert (owner >= 0).sum() > 200
    anchors = ANCHORS.tolist()
    for number in owner[owner >= 0].unique()[:20].tolist():
        mine = set((owner == number).nonzero()[:, 0].tolist())
        assert mine <= set(claims_of(boxes[number].tolist(), anchors, LEVEL_SIZES))


def test_a_level_with_fewer_than_nine_anchors_gives_all_it_has() -> None:
    anchors = torch.tensor([[0.0, 0.0, 9.0, 9.0], [4.0, 4.0, 13.0, 13.0], [-9.0, -9.0, 22.0, 22.0]])
    assert assign(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), anchors, [2, 1]).tolist() == [0, UNASSIGNED, UNASSIGNED]
