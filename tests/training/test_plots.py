"""Plots of a run: what the axes say and what is drawn on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glip.detections import Detections
from glip.training import plots
from glip.training.plots import (
    Comparison,
    best_threshold,
    draw_comparisons,
    draw_curve,
    right_boxes,
    shots_figure,
)

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
    above, below = figures[0].axes
    assert figures[0].get_suptitle() == "Squares"
    assert (above.get_xlabel(), below.get_xlabel()) == ("", "epoch")
    assert "loss" in below.get_ylabel() and "AP" in above.get_ylabel()
    assert lines_of(below)["training loss"] == ([1, 2, 3], [2.0, 1.0, 0.5])
    labels = [text.get_text() for text in above.get_legend().get_texts()]
    assert labels == ["validation AP", "best epoch, AP 50.0", "zero-shot, AP 12.5"]
    drawn = lines_of(above)
    assert drawn["validation AP"] == ([1, 2, 3], [20.0, 50.0, 50.0])
    assert drawn["best epoch, AP 50.0"] == ([3], [50.0])  # of equal scores the later one
    assert drawn["zero-shot, AP 12.5"][1] == [12.5, 12.5]
    with Image.open(tmp_path / "curve.png") as image:
        assert image.format == "PNG"


def test_a_curve_without_validation_counts_steps(tmp_path: Path, figures: list[Any]) -> None:
    draw_curve(tmp_path / "curve.png", [row for row in ROWS if "loss" in row], "nano")
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == "step"
    assert lines_of(axes)["training loss"][0] == [10, 20, 30]


def row(mode: str, shots: str, source: str = "", **cells: float) -> dict[str, Any]:
    values = {name: {"mean": mean, "sd": 1.0} for name, mean in cells.items()}
    return {"model": "nano", "mode": mode, "shots": shots, "seeds": [3], "source": source, "cells": values}


def test_ap_over_shots_has_a_line_per_mode_and_one_without_training() -> None:
    table = [
        row("zero-shot", "0", Fruit=5.0),
        row("linear", "1", Fruit=10.0),
        row("linear", "10", Fruit=30.0),
        row("full", "1", Fruit=8.0),
        row("full", "all", Fruit=60.0),
        row("full", "1", "a paper", Fruit=99.0),
    ]
    figure = shots_figure(table)
    assert figure is not None
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "10", "all"]
    assert "shots" in axes.get_xlabel() and "AP" in axes.get_ylabel()
    lines = {bars.get_label(): list(bars[0].get_ydata()) for bars in axes.containers}
    assert lines == {"Fruit, linear": [10.0, 30.0], "Fruit, full": [8.0, 60.0]}
    assert lines_of(axes)["Fruit, zero-shot: AP 5.0"][1] == [5.0, 5.0]


def test_ap_over_one_number_of_shots_is_not_drawn() -> None:
    assert shots_figure([row("zero-shot", "0", Fruit=5.0), row("linear", "1", Fruit=10.0)]) is None


def found(*rows: tuple[float, float, int]) -> Detections:
    """Boxes, from (left, score, label)."""
    return Detections(
        np.array([[left, 10, left + 20, 30] for left, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([label for _, _, label in rows], np.int64),
        ("red", "blue"),
    )


TRUTH = found((10, 1, 0), (60, 1, 1))


def test_a_box_is_right_once_on_an_annotated_box_of_its_class() -> None:
    boxes = found((11, 0.9, 0), (10, 0.8, 0), (60, 0.7, 0), (62, 0.6, 1), (90, 0.5, 1))
    assert right_boxes(boxes, TRUTH).tolist() == [True, False, False, True, False]
    assert right_boxes(found(), TRUTH).tolist() == []
    assert right_boxes(boxes, found()).tolist() == [False] * 5


def test_the_threshold_has_the_highest_f1() -> None:
    boxes = found((11, 0.9, 0), (62, 0.6, 1), (90, 0.5, 1), (90, 0.4, 1))
    assert best_threshold([boxes], [TRUTH]) == pytest.approx(0.6)
    # Equal scores are shown together: 0.5 would bring three wrong boxes.
    tied = found((11, 0.9, 0), (62, 0.5, 1), (90, 0.5, 1), (30, 0.5, 1), (40, 0.5, 1), (80, 0.5, 0))
    assert best_threshold([tied], [TRUTH]) == pytest.approx(0.9)
    wrong = found((90, 0.5, 1), (90, 0.4, 1), (90, 0.3, 1))
    assert best_threshold([wrong], [TRUTH]) == pytest.approx(0.4)  # as many as annotated
    assert best_threshold([found()], [TRUTH]) == 0


def test_a_comparison_shows_each_model_from_its_own_threshold(tmp_path: Path, figures: list[Any]) -> None:
    image = Image.new("RGB", (120, 80), "white")
    before = found((11, 0.2, 0), (90, 0.1, 1))
    after = found((11, 0.9, 0), (62, 0.8, 1), (90, 0.7, 1))
    draw_comparisons(tmp_path / "c.jpg", [Comparison(image, TRUTH, before, after)] * 2)
    titles = [axes.get_title() for axes in figures[0].axes]
    assert titles[0] == "Truth\n2 annotated boxes"
    assert titles[1].startswith("Before, score ≥ 0.20") and "1 right, 0 wrong, 1 missed" in titles[1]
    assert titles[2].startswith("After, score ≥ 0.80") and "2 right, 0 wrong, 0 missed" in titles[2]
    colors = [set(map(tuple, axes.get_images()[0].get_array().reshape(-1, 3).tolist())) for axes in figures[0].axes]
    truth, right, wrong = (tuple(bytes.fromhex(color[1:])) for color in ("#1f6fd6", "#178a3c", "#d62728"))
    assert truth in colors[0] and right in colors[1] and right in colors[2]
    assert not any(wrong in seen for seen in colors)


def test_wrong_boxes_are_red(tmp_path: Path, figures: list[Any]) -> None:
    image = Image.new("RGB", (120, 80), "white")
    draw_comparisons(tmp_path / "c.jpg", [Comparison(image, TRUTH, found(), found((90, 0.5, 1)))])
    seen = figures[0].axes[2].get_images()[0].get_array().reshape(-1, 3)
    assert (seen == (0xD6, 0x27, 0x28)).all(axis=1).any()
    assert "0 right, 1 wrong, 2 missed" in figures[0].axes[2].get_title()
