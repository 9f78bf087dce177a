"""Plots of training runs: the learning curve, AP over the number of examples, and boxes before and after tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glip.boxes import box_iou
from glip.detections import Detections
from glip.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOUND_IOU = 0.5  # minimum overlap with an annotated box of the same class
TRUTH_COLOR, RIGHT_COLOR, WRONG_COLOR = "#1f6fd6", "#178a3c", "#d62728"
_AP_COLOR, _LOSS_COLOR, _ZERO_SHOT_COLOR = "#1f6fd6", "#6b6b66", "#178a3c"


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
    """Plots the validation AP above the training loss over the run, as a PNG.

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

    losses = [row for row in rows if "loss" in row]
    scores = [row for row in rows if "score" in row]
    unit = steps_per_epoch or 1
    count = 2 if scores else 1
    figure = Figure(figsize=(7, 2.4 + 1.9 * count), layout="constrained")
    panels = figure.subplots(count, 1, sharex=True, squeeze=False, height_ratios=(3, 2)[-count:])[:, 0]
    if scores:
        _draw_scores(panels[0], [row["step"] / unit for row in scores], [row["score"] for row in scores], zero_shot)
    below = panels[-1]
    below.plot(
        [row["step"] / unit for row in losses],
        [row["loss"] for row in losses],
        color=_LOSS_COLOR,
        marker="." if len(losses) < 30 else "",
        label="training loss",
    )
    below.set(xlabel="epoch" if steps_per_epoch else "step", ylabel="training loss")
    below.set_ylim(0, 1.1 * max((row["loss"] for row in losses), default=1.0) or 1.0)
    below.set_xlim(left=0)
    for axes in panels:
        _tidy(axes)
    figure.suptitle(title, fontsize=12, parse_math=False)
    _save(path, figure, "png")


def _draw_scores(axes: Axes, steps: Sequence[float], scores: Sequence[float], zero_shot: float | None) -> None:
    axes.plot(steps, scores, color=_AP_COLOR, marker="o", markersize=4, label="validation AP")
    # Of equal scores the later one is kept, see `fit`.
    best = max(range(len(scores)), key=lambda index: (scores[index], index))
    label = f"best epoch, AP {scores[best]:.1f}"
    axes.plot(steps[best], scores[best], color=WRONG_COLOR, marker="o", markersize=8, linestyle="none", label=label)
    top = max(scores)
    if zero_shot is not None:
        label = f"zero-shot, AP {zero_shot:.1f}"
        axes.axhline(zero_shot, color=_ZERO_SHOT_COLOR, linestyle="--", label=label)
        top = max(top, zero_shot)
    axes.set(ylabel="AP on validation images (%)", ylim=(0, min(100.0, max(5.0, 1.15 * top))))
    axes.legend(loc="best", framealpha=0.85)


def shots_figure(table: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Returns AP over the number of examples per class; None if the table has fewer than two such numbers.

    A line per model, mode and data set (of several data sets: their average, if each of them has a score), with the
    standard deviation over seeds, and dashed lines for the scores without training. Published rows are left out.

    Args:
        table: of `results_table.table_of`.
    """
    from matplotlib.figure import Figure

    rows = [row for row in table if not row["source"]]
    numbers = sorted({int(row["shots"]) for row in rows if row["shots"] not in ("0", "all")})
    ticks = [*map(str, numbers), *(["all"] if any(row["shots"] == "all" for row in rows) else [])]
    if len(ticks) < 2:
        return None
    lines, zero_shot = _lines_over_shots(rows)
    figure = Figure(figsize=(7, 4.3 + 0.2 * len(lines)), layout="constrained")
    axes = figure.subplots()
    # With several data sets a color is a data set, and the marker the mode.
    names = list(dict.fromkeys(name for _, name in lines))
    color_of = {key: f"C{(names.index(key[1]) if len(names) > 1 else index) % 10}" for index, key in enumerate(lines)}
    dashed = {name: f"C{index % 10}" for index, name in enumerate(names)} if len(names) > 1 else {}
    for index, ((mode, name), cells) in enumerate(lines.items()):
        found = [(place, cells[tick]) for place, tick in enumerate(ticks) if tick in cells]
        axes.errorbar(
            [place for place, _ in found],
            [cell["mean"] for _, cell in found],
            yerr=[cell["sd"] or 0.0 for _, cell in found],
            color=color_of[mode, name],
            marker="osv^D"[index % 5],
            capsize=3,
            label=f"{name}, {mode}".replace("$", r"\$"),
        )
    for name, cell in zero_shot.items():
        label = f"{name}, zero-shot: AP {cell['mean']:.1f}".replace("$", r"\$")
        axes.axhline(cell["mean"], color=dashed.get(name, "black"), linestyle="--", label=label)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set(xlabel="examples per class (shots)", ylabel="AP on test images (%)")
    axes.set_ylim(bottom=0)
    _tidy(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle("AP over the number of examples", fontsize=12)
    return figure


def draw_shots(path: Path, table: Sequence[Mapping[str, Any]]) -> bool:
    """Writes `shots_figure` as a PNG; returns False, and removes the file, if there is none.

    Raises:
        JobFailed: the file cannot be written.
    """
    figure = shots_figure(table)
    if figure is None:
        path.unlink(missing_ok=True)  # of an earlier sweep with other runs
        return False
    _save(path, figure, "png")
    return True


_Cells = dict[str, Any]


def _lines_over_shots(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[tuple[str, str], _Cells], _Cells]:
    """Returns cells by (mode, data set) and shots, and those without training by data set."""
    from glip.training.results_table import AVERAGE, SCENES

    every = dict.fromkeys(name for row in rows for name in row["cells"] if name != SCENES)
    names = [AVERAGE] if AVERAGE in every else list(every)
    lines: dict[tuple[str, str], _Cells] = {}
    zero_shot: _Cells = {}
    for row in rows:
        for name in names:
            cell = row["cells"].get(name)
            if cell is None:
                continue
            if row["shots"] == "0":
                zero_shot[name] = cell
            else:
                lines.setdefault((row["mode"], name), {})[row["shots"]] = cell
    return lines, zero_shot


def right_boxes(found: Detections, annotated: Detections) -> NDArray[np.bool_]:
    """Returns (N,) which boxes are right: each takes the free annotated box of its class that it overlaps most.

    Args:
        found: best score first.
        annotated: the truth. A box counts as found from IoU 0.5.
    """
    right = np.zeros(len(found), bool)
    overlaps = box_iou(found.boxes[:, None], annotated.boxes[None]) * (found.labels[:, None] == annotated.labels[None])
    if not overlaps.size:
        return right
    for row in range(len(found)):
        best = int(overlaps[row].argmax())
        if overlaps[row, best] >= FOUND_IOU:
            right[row] = True
            overlaps[:, best] = 0
    return right


def best_threshold(found: Sequence[Detections], annotated: Sequence[Detections]) -> float:
    """Returns the score from which a model's boxes have the highest F1 on these images.

    If no box is right, returns the score from which there are at most as many boxes as annotated ones.
    """
    scores = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in found)])
    right = np.concatenate([np.zeros(0, bool), *(right_boxes(*pair) for pair in zip(found, annotated, strict=True))])
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    truth = sum(map(len, annotated))
    if not len(scores):
        return 0.0
    if not right.any():
        return float(scores[min(max(truth, 1), len(scores)) - 1])
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(scores) + 1) + truth)
    # Boxes of one score are shown together.
    f1[:-1][scores[:-1] == scores[1:]] = 0
    return float(scores[int(f1.argmax())])


def draw_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Draws one row per image, with its annotated boxes and those found before and after fine-tuning, as a JPEG.

    Each model is shown from the score with its highest F1 on these images. Right boxes are green, wrong ones red;
    annotated boxes, without scores, are blue.

    Raises:
        JobFailed: the file cannot be written.
    """
    from matplotlib.figure import Figure

    truth = [one.annotated for one in comparisons]
    before = best_threshold([one.before for one in comparisons], truth)
    after = best_threshold([one.after for one in comparisons], truth)
    ratios = [one.image.height / one.image.width for one in comparisons]
    figure = Figure(figsize=(12, 4 * sum(ratios) + 0.3 * len(ratios) + 0.8), layout="constrained")
    grid = figure.subplots(len(comparisons), 3, squeeze=False, height_ratios=ratios)
    for row, one in zip(grid, comparisons, strict=True):
        names = [one.annotated.names[label] for label in one.annotated.labels]
        panels = [
            (one.annotated.draw(one.image, tags=names, colors=[TRUTH_COLOR]), _counted(len(names), "annotated box")),
            _judged(one.image, one.before, one.annotated, before),
            _judged(one.image, one.after, one.annotated, after),
        ]
        for axes, (image, text) in zip(row, panels, strict=True):
            axes.imshow(image)
            axes.set_axis_off()
            axes.set_title(text, fontsize=11)
    titles = ("Truth", f"Before, score ≥ {before:.2f}", f"After, score ≥ {after:.2f}")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(f"{title}\n{axes.get_title()}", fontsize=12)
    note = "Green: right (IoU ≥ 0.5). Red: wrong. Each model from the score with its best F1 on these images."
    figure.supxlabel(note, fontsize=11)
    _save(path, figure, "jpeg")


def _judged(image: Image.Image, found: Detections, annotated: Detections, threshold: float) -> tuple[Image.Image, str]:
    """Returns the image with its strong boxes, green or red, and their counts in words."""
    strong = found.filter(found.scores >= np.float32(threshold))
    right = right_boxes(strong, annotated)
    tags = [f"{strong.names[label]} {score:.2f}" for label, score in zip(strong.labels, strong.scores, strict=True)]
    colored = Detections(strong.boxes, strong.scores, right.astype(np.int64), ("wrong", "right"))
    drawn = colored.draw(image, tags=tags, colors=[WRONG_COLOR, RIGHT_COLOR])
    missed = len(annotated) - int(right.sum())
    return drawn, f"{right.sum()} right, {len(right) - right.sum()} wrong, {missed} missed"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}es"


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.35)
    axes.spines[["top", "right"]].set_visible(False)


def _save(path: Path, figure: Figure, kind: str) -> None:
    content = BytesIO()
    figure.savefig(content, format=kind, dpi=150 if kind == "png" else 120)
    with whole_file(path) as file:
        file.write(content.getvalue())
