"""Anchors and the box code."""

from __future__ import annotations

import math

import pytest
import torch

from glip.model.anchors import decode, encode, make_anchors

CPU = torch.device("cpu")


def test_anchors_lie_level_after_level_and_row_after_row() -> None:
    anchors = make_anchors([(2, 3), (1, 2), (1, 1), (1, 1), (1, 1)], CPU)
    assert anchors.shape == (6 + 2 + 3, 4)
    assert anchors[0].tolist() == [-28, -28, 35, 35]
    assert anchors[1].tolist() == [-20, -28, 43, 35]
    assert anchors[3].tolist() == [-28, -20, 35, 43]
    assert anchors[6].tolist() == [-56, -56, 71, 71]
    assert anchors[-1].tolist() == [-448, -448, 575, 575]


def test_decoding_undoes_encoding() -> None:
    torch.manual_seed(0)
    anchors = make_anchors([(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)], CPU).double()
    corner = torch.rand(len(anchors), 2, dtype=torch.float64) * 100
    boxes = torch.cat((corner, corner + torch.rand(len(anchors), 2, dtype=torch.float64) * 200), dim=1)
    assert torch.allclose(decode(encode(boxes, anchors), anchors), boxes, atol=1e-9)


def test_widths_count_both_ends() -> None:
    anchor = torch.tensor([[0.0, 0.0, 63.0, 63.0]])
    assert decode(torch.zeros(1, 4), anchor).tolist() == anchor.tolist()
    one_pixel = torch.tensor([[10.0, 10.0, 10.0, 10.0]])
    assert encode(one_pixel, anchor)[0, 2].item() == pytest.approx(5 * math.log(1 / 64))


def test_growth_is_limited_and_shrinking_is_not() -> None:
    anchor = torch.tensor([[0.0, 0.0, 63.0, 63.0]])
    huge = decode(torch.tensor([[0.0, 0.0, 500.0, -50.0]]), anchor)[0]
    assert (huge[2] - huge[0] + 1).item() == pytest.approx(64 * 1000 / 16, rel=1e-5)
    assert (huge[3] - huge[1] + 1).item() == pytest.approx(64 * math.exp(-10), rel=1e-3)
