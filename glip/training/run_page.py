"""report.html of a fine-tuning run: scores, learning curve, boxes before and after, and AP by class in one file."""

from __future__ import annotations

from pathlib import Path

from glip.files import whole_file
from glip.html_page import facts, figures, heading, page, paragraph, table, tiles
from glip.training.finetune_job import FinetuneResult

PAGE_FILE = "report.html"
CURVE_FILE = "curve.png"
COMPARISON_FILE = "comparison.jpg"

_AP_EXPLAINED = (
    "AP (average precision) is the mean share of right boxes among those found, over all levels of recall and ten "
    "overlaps from 0.50 to 0.95, in percent. 100 means that every object is found and nothing else."
)


def write_run_page(out: Path, result: FinetuneResult) -> Path:
    """Writes the page of a run; returns its path.

    Args:
        out: folder of the run, with its curve and its comparison.
        result: of the run.

    Raises:
        JobFailed: the file cannot be written.
    """
    shots = "all images" if result.shots == "all" else f"{result.shots}-shot"
    title = f"{result.set}, {result.mode}, {shots}, seed {result.seed}"
    numbers = [(f"{name} on {result.test_split}", _text(value)) for name, value in list(result.test.items())[:3]]
    if result.best_epoch is not None:
        numbers.append((f"best epoch of {result.epochs:g}", f"{result.best_epoch:g}"))
    parts = [tiles(numbers), paragraph(_AP_EXPLAINED)]
    for name, about, text in (
        (CURVE_FILE, "Learning curve", "The score on the validation images decides which epoch is kept."),
        (COMPARISON_FILE, "Before and after", "Images of the validation split."),
    ):
        if name in result.files:
            image = ((out / name).read_bytes(), about)
            parts += [heading(about), paragraph(text), figures([image])]
    rows = sorted(result.per_class.items(), key=lambda item: (item[1] is None, item[1] or 0.0))
    parts += [heading("Classes, lowest AP first"), table(("class", "AP"), [(name, _text(ap)) for name, ap in rows])]
    details = {
        "model": result.model,
        "examples": f"{result.train_images:,} images with {result.train_boxes:,} boxes",
        "tuned": f"{result.values:,} values in {result.tensors:,} tensors",
        "training": f"{result.steps:,} steps, {result.seconds:.0f} s",
        "files": ", ".join(result.files),
    }
    parts += [heading("The run"), facts(list(details.items())), *map(paragraph, result.notes)]
    with whole_file(out / PAGE_FILE) as file:
        file.write(page(title, parts).encode(errors="replace"))
    return out / PAGE_FILE


def _text(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}"
