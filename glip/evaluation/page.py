"""report.html of an evaluation: scores, a table by class, curves, confusion matrix and worst images in one file."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from glip.evaluation.report import COLUMNS, score_text, table_row
from glip.evaluation.results import EvaluationResult, SetResult
from glip.files import whole_file
from glip.html_page import facts, figures, folded, heading, page, paragraph, table, tiles

PAGE_FILE = "report.html"
MAX_IMAGE_BYTES = 16_000_000  # of all images together; later images are left out and counted
MAX_SIDE = 1000  # pixels of the longer side of an image of the gallery

AP_EXPLAINED = (
    "AP (average precision, 0 to 100) is the mean share of right boxes among those found, over all levels of recall: "
    "100 means that every object is found and nothing else. AP averages over ten IoU thresholds, 0.50 to 0.95; AP50 "
    "and AP75 ask for an overlap of 0.50 and 0.75. AR is the highest recall."
)
_CLASS_COLUMNS = ("class", "annotated boxes", "AP", "AP50", "AP75", "AR")


def write_page(out: Path, result: EvaluationResult) -> Path:
    """Writes the page of an evaluation; returns its path.

    Args:
        out: folder of the evaluation; `result.files` has the charts and galleries of the sets.
        result: of the evaluation.

    Raises:
        JobFailed: the file cannot be written.
    """
    several = len(result.sets) > 1
    columns = COLUMNS if several else COLUMNS[1:]
    rows = [table_row(row)[0 if several else 1 :] for row in result.rows]
    first = [
        (row.set if several and row.set else row.metric, score_text(row.measured))
        for row in result.rows
        if row.measured is not None
    ]
    detection = any(item.classes for item in result.sets)
    parts = [tiles(first[:6])] + [paragraph(AP_EXPLAINED)] * detection + [table(columns, rows)]
    room = MAX_IMAGE_BYTES
    for item in result.sets:
        section, room = _section(item, [path for path in result.files if path.parent == out / item.name], room)
        parts += [folded(item.name, section)] if several else section
    parts += [heading("How it was measured"), facts(list(result.protocol.items()))]
    notes = [*dict.fromkeys(note for item in result.sets for note in item.notes), *map(str, result.left_out)]
    if notes:
        parts += [heading("Notes"), *map(paragraph, notes)]
    with whole_file(out / PAGE_FILE) as file:
        file.write(page(f"Evaluation on {result.benchmark}", parts).encode(errors="replace"))
    return out / PAGE_FILE


def _section(item: SetResult, files: Sequence[Path], room: int) -> tuple[list[str], int]:
    """Returns the parts about a set, and the bytes that are left for images of others."""
    parts = []
    if item.classes:
        parts += [heading(f"Classes of {item.name}, lowest AP first"), _class_table(item)]
    charts = [path for path in files if path.suffix == ".png"]
    shown, room, _ = _read(charts, room, photos=False)
    if shown:
        parts += [heading(f"Charts of {item.name}"), figures(shown)]
    worst = [image for folder in files if folder.is_dir() for image in sorted(folder.glob("*.png"))]
    shown, room, dropped = _read(worst, room, photos=True)
    if shown:
        more = (
            f" {dropped} more, which would make this file too large: folder {worst[0].parent.name}." if dropped else ""
        )
        about = f"Green: annotated. Red: predicted. The most confident errors come first.{more}"
        parts += [heading(f"Worst images of {item.name}"), paragraph(about), figures(shown)]
    return parts, room


def _class_table(item: SetResult) -> str:
    rows = sorted(item.classes, key=lambda row: (row.ap is None, row.ap or 0.0))
    cells = [
        (row.name, f"{row.boxes:,}", *(score_text(value) for value in (row.ap, row.ap50, row.ap75, row.ar)))
        for row in rows
    ]
    return table(_CLASS_COLUMNS, cells)


def _read(paths: Sequence[Path], room: int, *, photos: bool) -> tuple[list[tuple[bytes, str]], int, int]:
    """Returns images that fit into `room` bytes with their names, the room that is left, and the number left out."""
    found: list[tuple[bytes, str]] = []
    for path in paths:
        try:
            content = _as_jpeg(path) if photos else path.read_bytes()
        except OSError:
            continue
        if len(content) > room:
            break
        room -= len(content)
        found.append((content, path.stem))
    return found, room, len(paths) - len(found)


def _as_jpeg(path: Path) -> bytes:
    with Image.open(path) as file:
        image = file.convert("RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    content = BytesIO()
    image.save(content, "JPEG", quality=82)
    return content.getvalue()
