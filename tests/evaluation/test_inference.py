"""Records become the boxes that are scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glip.evaluation.inference import count_within, predictions_of
from glip.labeling.records import Record

A, B = Path("/a.png"), Path("/b.png")


def record(scores: list[float], labels: list[int]) -> Record:
    boxes = [(10.0 * index, 5.0, 10.0 * index + 7.5, 25.0) for index, _ in enumerate(scores)]
    return Record("p.png", "1-1", width=100, height=50, boxes=boxes, scores=scores, labels=labels)


def test_corners_become_sizes_and_labels_category_ids() -> None:
    found = predictions_of(iter([(A, record([0.5, 0.25], [1, 0]))]), {A: [7]}, lambda path: (11, 12), None)
    assert found.bbox.tolist() == [[0, 5, 7.5, 20], [10, 5, 7.5, 20]]
    assert (found.image_id.tolist(), found.category_id.tolist()) == ([7, 7], [12, 11])
    assert found.score.tolist() == [0.5, 0.25]


def test_an_image_that_is_listed_twice_has_its_boxes_twice() -> None:
    found = predictions_of(iter([(A, record([0.5], [0]))]), {A: [7, 9]}, lambda path: (1,), None)
    assert found.image_id.tolist() == [7, 9] and len(found) == 2


def test_every_image_may_have_labels_of_its_own() -> None:
    entries = [(A, record([0.5], [0])), (B, record([0.5], [0]))]
    found = predictions_of(iter(entries), {A: [1], B: [2]}, {A: (4,), B: (5,)}.__getitem__, None)
    assert found.category_id.tolist() == [4, 5]


def test_the_best_boxes_count_and_ties_of_the_last_one_stay() -> None:
    found = predictions_of(iter([(A, record([0.9, 0.5, 0.5, 0.1], [0] * 4))]), {A: [1]}, lambda path: (1,), 2)
    assert found.score.tolist() == pytest.approx([0.9, 0.5, 0.5])
    scores = np.array([0.9, 0.5, 0.5, 0.1], np.float32)
    assert [count_within(scores, maximum) for maximum in (None, 1, 2, 3, 4, 9)] == [4, 1, 3, 3, 4, 4]


def test_images_without_boxes_and_unreadable_ones_give_none() -> None:
    entries = [(A, record([], [])), (B, Record("b.png", "1-1", error="broken"))]
    assert len(predictions_of(iter(entries), {A: [1], B: [2]}, lambda path: (1,), 100)) == 0
