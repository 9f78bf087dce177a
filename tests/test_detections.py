"""The result type refuses what does not fit together."""

from __future__ import annotations

import numpy as np
import pytest

from glip.detections import Detections


def make(count: int = 2, label: int = 0) -> Detections:
    boxes = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
    return Detections(boxes, np.linspace(1, 0, count, dtype=np.float32), np.full(count, label), ("cat",))


def test_filtering_keeps_the_rows_together() -> None:
    found = make(3).filter(np.array([True, False, True]))
    assert found.boxes[:, 0].tolist() == [0, 8]
    assert found.scores.tolist() == [1, 0]
    assert len(found) == 2


def test_empty_has_the_right_shapes() -> None:
    assert Detections.empty(("cat",)).boxes.shape == (0, 4)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="boxes"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(3, np.float32), np.zeros(3, np.int64), ("cat",))


def test_a_label_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="Labels"):
        make(label=1)
