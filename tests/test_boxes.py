"""Box arithmetic."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask

from glip.boxes import (
    box_area,
    box_iou,
    box_iou_xywh,
    class_wise_nms,
    clip_boxes,
    clip_boxes_tensor,
    grouped_nms,
    intersection,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)


def random_boxes(count: int, seed: int, precision: Any = np.float32) -> NDArray[Any]:
    """Boxes on a coarse grid, so that some are equal, touch or have no area."""
    random = np.random.default_rng(seed)
    corner = random.integers(0, 40, (count, 2)) / 2
    return np.concatenate((corner, corner + random.integers(0, 40, (count, 2)) / 2), axis=1).astype(precision)


def test_importing_the_module_loads_no_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, glip.boxes; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_formats_undo_each_other_and_keep_their_precision(precision: Any) -> None:
    boxes = np.array([[1, 2, 5, 9], [0, 0, 0, 0]], precision)
    assert xyxy_to_xywh(boxes).tolist() == [[1, 2, 4, 7], [0, 0, 0, 0]]
    assert xyxy_to_cxcywh(boxes).tolist() == [[3, 5.5, 4, 7], [0, 0, 0, 0]]
    assert xywh_to_xyxy(xyxy_to_xywh(boxes)).tolist() == boxes.tolist() == [[1, 2, 5, 9], [0, 0, 0, 0]]
    converters = (xyxy_to_xywh, xywh_to_xyxy, xyxy_to_cxcywh)
    assert {convert(boxes).dtype for convert in converters} == {np.dtype(precision)}


def test_clipping_moves_corners_into_the_image() -> None:
    assert clip_boxes(np.array([[-5.0, -5, 50, 50]]), np.array([30, 20])).tolist() == [[0, 0, 30, 20]]
    boxes = np.array([[1, 1, 9, 9], [1, 1, 9, 9]], np.float32)
    clipped = clip_boxes(boxes, np.array([[5, 8], [20, 3]]))
    assert clipped.tolist() == [[1, 1, 5, 8], [1, 1, 9, 3]]
    assert clipped.dtype == np.float32


def test_clipping_tensors_equals_clipping_arrays() -> None:
    boxes = random_boxes(50, seed=0) - 5
    clipped = clip_boxes_tensor(torch.from_numpy(boxes), torch.tensor([9, 12]))
    assert clipped.tolist() == clip_boxes(boxes, np.array([12, 9])).tolist()


def test_overlap_equals_torchvisions() -> None:
    one, other = random_boxes(60, seed=1), random_boxes(40, seed=2)
    with np.errstate(invalid="ignore"):
        expected = torchvision.ops.box_iou(torch.from_numpy(one), torch.from_numpy(other)).nan_to_num().numpy()
    assert np.array_equal(box_iou(one[:, None], other[None]), expected)
    assert np.array_equal(box_iou(one[:40], other), np.diag(expected[:40]))


def test_overlap_of_boxes_without_area_is_zero() -> None:
    point = np.zeros((1, 4))
    assert box_area(point) == box_iou(point, point) == box_iou_xywh(point, point) == intersection(point, point) == 0


def test_overlap_of_xywh_boxes_equals_pycocotools_to_the_last_bit() -> None:
    random = np.random.default_rng(3)
    found, annotated = random.uniform(0, 100, (50, 4)), random.uniform(0, 100, (30, 4))
    crowd = random.integers(0, 2, 30)
    expected = mask.iou(found, annotated, crowd)
    assert np.array_equal(box_iou_xywh(found[:, None], annotated[None], crowd.astype(bool)), expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(1, 5), st.sampled_from([0.0, 0.3, 0.5, 0.6, 1.0]), st.integers(0, 10_000))
def test_suppression_equals_torchvisions(count: int, classes: int, threshold: float, seed: int) -> None:
    boxes = random_boxes(count, seed, np.float64)
    labels = np.random.default_rng(seed).integers(0, classes, count)
    scores = torch.linspace(1, 0, count, dtype=torch.float64)  # best first
    expected = torchvision.ops.batched_nms(torch.from_numpy(boxes), scores, torch.from_numpy(labels), threshold)
    assert class_wise_nms(torch.from_numpy(boxes), scores, torch.from_numpy(labels), threshold).tolist() == (
        expected.tolist()
    )
    assert grouped_nms(boxes, labels, threshold).tolist() == expected.tolist()


def test_suppression_orders_tensors_by_score() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    kept = class_wise_nms(boxes, torch.tensor([0.2, 0.9, 0.5]), torch.zeros(3, dtype=torch.int64), 0.5)
    assert kept.tolist() == [1, 2]


def test_exempt_boxes_never_drop_each_other() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    same = np.zeros(3, np.int64)
    assert grouped_nms(boxes, same, 0.5).tolist() == [0]
    assert grouped_nms(boxes, same, 0.5, exempt=np.array([7, 7, 8])).tolist() == [0, 1]


def test_a_dropped_box_drops_no_other() -> None:
    chain = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    assert grouped_nms(chain, np.zeros(3, np.int64), 0.4).tolist() == [0, 2]


def test_suppression_in_several_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, groups = random_boxes(200, seed=4), np.random.default_rng(4).integers(0, 2, 200)
    whole = grouped_nms(boxes, groups, 0.3)
    monkeypatch.setattr("glip.boxes._PAIRS_AT_A_TIME", 50)
    assert grouped_nms(boxes, groups, 0.3).tolist() == whole.tolist()
    assert 2 < len(whole) < 150
