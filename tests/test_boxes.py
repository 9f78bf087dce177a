"""Box arithmetic."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from glip.boxes import class_wise_nms, clip_boxes, xywh_to_xyxy, xyxy_to_xywh


def test_formats_undo_each_other() -> None:
    boxes = torch.tensor([[1.0, 2.0, 5.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    assert xyxy_to_xywh(boxes).tolist() == [[1, 2, 4, 7], [0, 0, 0, 0]]
    assert torch.equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)


def test_clipping_moves_corners_into_the_image() -> None:
    boxes = torch.tensor([[-5.0, -5.0, 50.0, 50.0]])
    assert clip_boxes(boxes, torch.tensor([20, 30])).tolist() == [[0, 0, 30, 20]]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(1, 5), st.floats(0, 1), st.integers(0, 10_000))
def test_suppression_equals_torchvisions(count: int, classes: int, threshold: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 20
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 20), dim=1).double()
    scores = torch.rand(count, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    ours = class_wise_nms(boxes, scores.double(), labels, threshold)
    assert ours.tolist() == batched_nms(boxes, scores.double(), labels, threshold).tolist()
