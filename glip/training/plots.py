"""Images of a tuning run: its curve, and what it finds before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from glip.detections import Detections
from glip.files import whole_file

SHOWN = 0.3  # least score of a box that is drawn
_HEIGHT = 320  # pixels of an image in the comparison
_TITLE = 22
_GAP = 6


@dataclass(frozen=True, eq=False)
class Compared:
    """An image, and its boxes: annotated, found before, found after tuning."""

    image: Image.Image
    annotated: Detections
    before: Detections
    after: Detections


def draw_curve(path: Path, rows: Sequence[Mapping[str, Any]], title: str, steps_per_epoch: int | None = None) -> None:
    """The loss of the steps and the validation score, over epochs or steps, as a PNG.

    Args:
        path: to write.
        rows: as `fit` logs them: with 'loss', or with 'score'.
        title: of the figure.
        steps_per_epoch: of the run; None: an epoch means nothing there.

    Raises:
        JobFailed: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    learned = [row for row in rows if "loss" in row]
    scored = [row for row in rows if "score" in row]
    unit = steps_per_epoch or 1
    axes.plot([row["step"] / unit for row in learned], [row["loss"] for row in learned], color="tab:grey")
    axes.set(xlabel="epoch" if steps_per_epoch else "step", ylabel="loss", title=title)
    axes.set_ylim(bottom=0)
    if scored:
        right = axes.twinx()
        places = [row["step"] / unit for row in scored]
        right.plot(places, [row["score"] for row in scored], color="tab:blue", marker=".")
        best = max(range(len(scored)), key=lambda place: (scored[place]["score"], place))
        right.plot(places[best], scored[best]["score"], color="tab:red", marker="o", linestyle="none", label="kept")
        right.set_ylabel("AP on validation images")
        right.set_ylim(0, 100)
        right.legend(loc="lower right")
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    with whole_file(path) as file:
        file.write(content.getvalue())


def draw_comparison(path: Path, compared: Sequence[Compared]) -> None:
    """Images side by side, one row each: annotated, before, after; as a JPEG.

    Raises:
        JobFailed: it cannot be written.
    """
    rows = [[_fitted(item.image, boxes) for boxes in _columns(item)] for item in compared]
    widths = [max(row[column].width for row in rows) for column in range(3)]
    size = (sum(widths) + 2 * _GAP, _TITLE + len(rows) * (_HEIGHT + _GAP))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    titles = ("annotated", f"before, score from {SHOWN}", f"after, score from {SHOWN}")
    for column, title in enumerate(titles):
        left = sum(widths[:column]) + column * _GAP
        pen.text((left + 2, 4), title, fill="black", font=ImageFont.load_default(14))
        for row, images in enumerate(rows):
            sheet.paste(images[column], (left, _TITLE + row * (_HEIGHT + _GAP)))
    content = BytesIO()
    sheet.save(content, "JPEG", quality=88)
    with whole_file(path) as file:
        file.write(content.getvalue())


def _columns(item: Compared) -> tuple[Detections, Detections, Detections]:
    strong = [found.filter(found.scores >= SHOWN) for found in (item.before, item.after)]
    return item.annotated, strong[0], strong[1]


def _fitted(image: Image.Image, boxes: Detections) -> Image.Image:
    drawn = boxes.draw(image)
    return drawn.resize((max(1, round(drawn.width * _HEIGHT / drawn.height)), _HEIGHT), Image.Resampling.LANCZOS)
