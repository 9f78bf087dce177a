"""The neck: five maps, and DropBlock in training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glip.model.neck import FPN, DropBlock


def test_outside_training_nothing_is_dropped() -> None:
    x = torch.randn(2, 4, 8, 8)
    assert DropBlock().eval()(x) is x
    assert DropBlock(probability=0.0).train()(x) is x


def test_dropped_cells_are_blocks_of_three_and_the_same_in_all_channels() -> None:
    torch.manual_seed(0)
    dropped = DropBlock().train()(torch.ones(4, 3, 40, 40)) == 0
    assert (dropped == dropped[:, :1]).all()
    # Opened by 3 x 3: every dropped cell lies in a whole square of dropped cells (the border counts as dropped).
    kept = F.pad((~dropped[:, :1]).float(), (1, 1, 1, 1))
    middles = 1 - F.max_pool2d(kept, 3, stride=1)
    assert torch.equal(F.max_pool2d(F.pad(middles, (1, 1, 1, 1)), 3, stride=1) > 0, dropped[:, :1])


def test_the_published_share_is_dropped() -> None:
    """A block starts at a cell with probability 0.3 / 9; a cell stays if none of nine starts."""
    torch.manual_seed(0)
    out = DropBlock().train()(torch.ones(8, 1, 200, 200))
    assert (out > 0).float().mean().item() == pytest.approx((1 - 0.3 / 9) ** 9, abs=0.01)


def test_what_stays_makes_up_for_what_goes_over_the_whole_batch() -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 2, 30, 30) + 0.5
    out = DropBlock().train()(x)
    kept = out != 0
    assert torch.allclose(out[kept], (x * (kept.numel() / kept.sum()))[kept])
    assert len({int(image.sum()) for image in kept}) > 1


def test_a_map_that_is_dropped_whole_stays_finite() -> None:
    assert torch.equal(DropBlock(probability=9.0).train()(torch.ones(1, 2, 2, 2)), torch.zeros(1, 2, 2, 2))


def test_training_drops_from_the_two_finest_maps_only_and_hands_down_whole_ones() -> None:
    torch.manual_seed(0)
    neck = FPN((8, 16, 32), 16)
    maps = (torch.randn(1, 8, 24, 24), torch.randn(1, 16, 12, 12), torch.randn(1, 32, 6, 6))
    merged: list[Tensor] = []
    neck.drop_block.register_forward_hook(lambda _module, inputs, _out: merged.append(inputs[0]))
    whole, dropped = neck.eval()(maps), neck.train()(maps)
    assert [torch.equal(a, b) for a, b in zip(whole, dropped, strict=True)] == [False, False, True, True, True]
    assert torch.equal(merged[0], merged[2])
    assert torch.equal(merged[1], merged[3])
