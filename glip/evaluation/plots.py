"""Draws the charts of an evaluation (curves, a confusion matrix) and boxes on its images.

matplotlib draws the charts, `Detections.draw` the boxes. All figures are about 1400 pixels wide, with text that can
still be read when they are shown 360 pixels wide.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from glip.boxes import xywh_to_xyxy
from glip.data.annotations import Floats, Integers
from glip.detections import Detections
from glip.drawing import find_font
from glip.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANNOTATED_COLOR, PREDICTED_COLOR = "#2ca02c", "#d62728"
_WIDTH = 1400  # pixels of a chart
_CHART_INCHES = 5.0  # width of a chart; text of 10 points is then readable at 360 pixels
_MAX_NAME = 24  # characters of a class name beside a matrix
_MAX_CELLS_WITH_COUNTS = 30  # classes of a matrix whose counts fit into the cells
_PHOTO_SIDE = 1200  # maximum pixels of the longer side of an image
_MIN_PHOTO_WIDTH = 360  # pixels; leaves room for the title
_LINE_HEIGHT = 18  # pixels of a line of an image's title
_CHARACTER_WIDTH = 7.5  # pixels, on average, in such a title

logger = logging.getLogger(__name__)


def curves_figure(
    title: str, curves: Mapping[str, tuple[Floats, Floats]], *, x_label: str, y_label: str, x_range: tuple[int, int]
) -> Figure:
    """Returns a chart of curves with a legend below it.

    Args:
        title: of the chart.
        curves: (N,) x and (N,) y of each curve, by name. y lies between 0 and 1.
        x_label: of the x axis.
        y_label: of the y axis.
        x_range: both ends of the x axis.
    """
    from matplotlib.figure import Figure

    columns = 2 if len(curves) > 4 and max(map(len, curves)) <= _MAX_NAME else 1
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(_CHART_INCHES, 3.6 + 0.2 * rows), dpi=_WIDTH / _CHART_INCHES, layout="constrained")
    axes = figure.subplots()
    for index, (name, (x, y)) in enumerate(curves.items()):
        axes.plot(x, y, label=name, color=f"C{index % 10}", linestyle="-" if index < 10 else "--", linewidth=1.8)
    figure.suptitle(_wrapped(title, _CHART_INCHES), fontsize=11, parse_math=False)
    axes.set(xlabel=x_label, ylabel=y_label, xlim=x_range, ylim=(0, 1.02))
    axes.grid(alpha=0.4)
    if curves:
        legend = figure.legend(loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def matrix_figure(title: str, names: Sequence[str], counts: Integers) -> Figure:
    """Returns a confusion matrix: annotated classes in rows, predicted classes in columns.

    A cell is the darker, the larger its share of the row.

    Args:
        title: above the matrix.
        names: (K) of the rows and columns.
        counts: (K, K)
    """
    from matplotlib.figure import Figure

    side = min(9.0, max(2.4, 0.5 * len(names)))
    inches = max(_CHART_INCHES, side + 2.4)
    figure = Figure(figsize=(inches, side + 1.8), dpi=_WIDTH / inches, layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 10 if len(names) <= 15 else 7
    ticks = [name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…" for name in names]
    style: dict[str, Any] = {
        "fontsize": size,
        "font": _font(ticks),
        "parse_math": False,
    }  # a name may have dollar signs
    axes.set_xticks(range(len(names)), ticks, rotation=90 if len(names) > 3 else 0, **style)
    axes.set_yticks(range(len(names)), ticks, **style)
    axes.set(xlabel="predicted class", ylabel="annotated class")
    figure.suptitle(_wrapped(title, inches), fontsize=11, parse_math=False)
    figure.colorbar(drawn, ax=axes, label="share of the row", shrink=0.8)
    if len(names) <= _MAX_CELLS_WITH_COUNTS:
        for row, column in np.argwhere(counts).tolist():
            color = "white" if shares[row, column] > 0.5 else "black"
            count = f"{counts[row, column]:,}"
            axes.text(column, row, count, ha="center", va="center", color=color, fontsize=size - len(count) // 4)
    return figure


def photo_figure(path: Path, title: str, annotated: Floats, expected: Floats, predicted: Floats) -> Figure | None:
    """Returns an image with boxes below a title; None if the file cannot be read, with a warning.

    Args:
        path: of the image.
        title: text above it.
        annotated: (A, 4) all annotated boxes, xywh in pixels of the image; thin and green.
        expected: (M, 4) annotated boxes of the error; thick and green.
        predicted: (F, 4) predicted boxes that it is about; thick and red.
    """
    from matplotlib.figure import Figure

    try:
        with Image.open(path) as file:
            photo = file.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        logger.warning("%s is not drawn: %s", path, error)
        return None
    scale = min(1.0, _PHOTO_SIDE / max(photo.size))
    photo = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    colors = (ANNOTATED_COLOR, PREDICTED_COLOR)
    photo = _as_detections(annotated * scale).draw(photo, tags=(), colors=colors, thickness=1)
    both = _as_detections(expected * scale, predicted * scale)
    photo = both.draw(photo, tags=[both.names[label] for label in both.labels], colors=colors, thickness=3)
    width = max(photo.width, _MIN_PHOTO_WIDTH)
    lines = textwrap.wrap(title, int((width - 16) / _CHARACTER_WIDTH)) or [""]
    height = photo.height + _LINE_HEIGHT * len(lines) + 10
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    figure.figimage(np.asarray(photo), 0, 0)
    figure.text(8 / width, 1 - 5 / height, "\n".join(lines), va="top", fontsize=10, font=_font(lines), parse_math=False)
    return figure


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a figure as a PNG.

    Raises:
        JobFailed: the file cannot be written.
    """
    with whole_file(path) as file:
        figure.savefig(file, format="png")


def _as_detections(*groups: Floats) -> Detections:
    """Returns boxes, xywh, of the classes 'annotated' and 'predicted'."""
    labels = np.repeat(np.arange(len(groups)), [len(bbox) for bbox in groups])
    corners = xywh_to_xyxy(np.concatenate(groups)).astype(np.float32)
    return Detections(corners, np.ones(len(labels), np.float32), labels, ("annotated", "predicted"))


def _wrapped(title: str, inches: float) -> str:
    return textwrap.fill(title, int(inches * 11))


def _font(texts: Sequence[str]) -> Path:
    """Returns the font file that has the most characters of the texts; matplotlib takes a path as a font."""
    return Path(find_font("".join(texts)))
