"""Plots of a run: what the axes say and what is drawn on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glip.detections import Detections
from glip.training import plots
from glip.training.plots import DRAWN_SCORE, Comparison, draw_comparisons, draw_curve

ROWS = [
    {"step": 10, "loss": 2.0},
    {"step": 10, "score": 20.0},
    {"step": 20, "loss": 1.0},
    {"step": 20, "score": 50.0},
    {"step": 30, "loss": 0.5},
    {"step": 30, "score": 50.0},
]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved."""
    saved: list[Any] = []
    whole = plots._save

    def save(path: Path, figure: Any, kind: str) -> None:
        saved.append(figure)
        whole(path, figure, kind)

    monkeypatch.setattr(plots, "_save", save)
    return saved


def lines_of(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def test_a_curve_has_losses_validations_and_the_zero_shot_line(tmp_path: Path, figures: list[Any]) -> None:
    draw_curve(tmp_path / "curve.png", ROWS, "Squares", 10, 12.5)
    left, right = figures[0].axes
    assert (left.get_title(), left.get_xlabel()) == ("Squares", "epoch")
    assert "loss" in left.get_ylabel() and "AP" in right.get_ylabel()
    assert lines_of(left)["loss"] == ([1, 2, 3], [2.0, 1.0, 0.5])
    drawn = lines_of(right)
    assert drawn["validation AP"] == ([1, 2, 3], [20.0, 50.0, 50.0])
    assert drawn["best epoch, AP 50.0"] == ([3], [50.0])  # of equal scores the later one
    assert drawn["zero-shot, AP 12.5"][1] == [12.5, 12.5]
    with Image.open(tmp_path / "curve.png") as image:
        assert image.format == "PNG"


def test_a_curve_without_validation_counts_steps(tmp_path: Path, figures: list[Any]) -> None:
    draw_curve(tmp_path / "curve.png", [row for row in ROWS if "loss" in row], "nano")
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == "step"
    assert lines_of(axes)["loss"][0] == [10, 20, 30]


def boxes(*scores: float) -> Detections:
    box = np.array([[10, 10, 40, 30]] * len(scores), np.float32).reshape(-1, 4)
    return Detections(box, np.array(scores, np.float32), np.zeros(len(scores), np.int64), ("red",))


def test_a_comparison_shows_annotated_boxes_and_strong_ones(tmp_path: Path, figures: list[Any]) -> None:
    image = Image.new("RGB", (120, 80), "white")
    draw_comparisons(tmp_path / "c.jpg", [Comparison(image, boxes(1.0), boxes(DRAWN_SCORE - 0.1), boxes(0.9))] * 2)
    shown = [axes.get_images()[0].get_array() for axes in figures[0].axes]
    assert len(shown) == 6
    plain = np.asarray(image)
    assert [bool((np.asarray(drawn) != plain).any()) for drawn in shown] == [True, False, True] * 2
