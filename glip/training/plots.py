"""Plots of a training run: its learning curve, and boxes before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from glip.detections import Detections
from glip.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN_SCORE = 0.3  # minimum score of a box that is drawn


@dataclass(frozen=True, eq=False)
class Comparison:
    """An image with its annotated boxes, and the boxes found before and after fine-tuning."""

    image: Image.Image
    annotated: Detections
    before: Detections
    after: Detections


def draw_curve(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    title: str,
    steps_per_epoch: float | None = None,
    zero_shot: float | None = None,
) -> None:
    """Plots the training loss and the validation AP over the run, as a PNG.

    Args:
        path: of the file.
        rows: as `fit` logs them, with 'loss' or with 'score'.
        title: of the figure.
        steps_per_epoch: unit of the horizontal axis; None: it counts steps.
        zero_shot: validation AP before training, drawn as a horizontal line; None: unknown.

    Raises:
        JobFailed: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    losses = [row for row in rows if "loss" in row]
    scores = [row for row in rows if "score" in row]
    unit = steps_per_epoch or 1
    axes.plot([row["step"] / unit for row in losses], [row["loss"] for row in losses], color="tab:gray", label="loss")
    axes.set(xlabel="epoch" if steps_per_epoch else "step", ylabel="training loss", title=title)
    axes.set_ylim(bottom=0)
    lines = axes.get_lines()
    if scores:
        right = axes.twinx()
        steps = [row["step"] / unit for row in scores]
        right.plot(steps, [row["score"] for row in scores], color="tab:blue", marker=".", label="validation AP")
        # Of equal scores the later one is kept, see `fit`.
        best = max(range(len(scores)), key=lambda index: (scores[index]["score"], index))
        label = f"best epoch, AP {scores[best]['score']:.1f}"
        right.plot(steps[best], scores[best]["score"], color="tab:red", marker="o", linestyle="none", label=label)
        if zero_shot is not None:
            right.axhline(zero_shot, color="tab:green", linestyle="--", label=f"zero-shot, AP {zero_shot:.1f}")
        right.set(ylabel="AP on validation images (%)", ylim=(0, 100))
        lines = [*lines, *right.get_lines()]
        right.legend(handles=lines, loc="best")
    _save(path, figure, "png")


def draw_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Draws one row per image, with its annotated boxes and those found before and after fine-tuning, as a JPEG.

    Raises:
        JobFailed: the file cannot be written.
    """
    from matplotlib.figure import Figure

    ratios = [comparison.image.height / comparison.image.width for comparison in comparisons]
    figure = Figure(figsize=(12, 4 * sum(ratios) + 0.5), layout="constrained")
    grid = figure.subplots(len(comparisons), 3, squeeze=False, height_ratios=ratios)
    for row, comparison in zip(grid, comparisons, strict=True):
        annotated = comparison.annotated
        names = [annotated.names[label] for label in annotated.labels]
        strong = [found.filter(found.scores >= DRAWN_SCORE) for found in (comparison.before, comparison.after)]
        drawn = [found.draw(comparison.image) for found in strong]
        for axes, image in zip(row, (annotated.draw(comparison.image, tags=names), *drawn), strict=True):
            axes.imshow(image)
            axes.set_axis_off()
    titles = ("annotated", f"before, score ≥ {DRAWN_SCORE}", f"after, score ≥ {DRAWN_SCORE}")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    _save(path, figure, "jpeg")


def _save(path: Path, figure: Figure, kind: str) -> None:
    content = BytesIO()
    figure.savefig(content, format=kind, dpi=120)
    with whole_file(path) as file:
        file.write(content.getvalue())
