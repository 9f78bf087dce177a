"""The images of an evaluation: precision-recall curves, the confusion matrix, and the worst misses as photographs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from glip.data.annotations import Floats
from glip.data.splits import OpenSplit
from glip.evaluation.error_analysis import Confusion, Mistake, confusion_matrix, find_mistakes, worst
from glip.evaluation.metrics.coco import RECALLS, CocoScores, threshold_place
from glip.evaluation.metrics.curves import best_f1_thresholds
from glip.evaluation.metrics.lvis import surely_checked
from glip.evaluation.tasks.detection import Scored
from glip.files import whole_file

CURVES_FILE = "precision_recall.png"
MATRIX_FILE = "confusion.png"
GALLERY_FOLDER = "worst"
MOST_CLASSES = 40  # of a matrix that can still be read

logger = logging.getLogger(__name__)


def draw_set(out: Path, opened: OpenSplit, scored: Scored, count: int) -> list[Path]:
    """Draws what can be seen of a set's score. Boxes count from the threshold of each class's highest F1.

    Args:
        out: the set's folder.
        opened: the set.
        scored: its boxes and scores.
        count: so many images with the worst misses; fewer if fewer have any. 0 draws none.

    Returns:
        The files, and the folder of the misses.

    Raises:
        JobFailed: a file cannot be written.
    """
    if scored.scores is None:
        return []
    with whole_file(out / CURVES_FILE) as file:
        file.write(curves_of(opened.split.name, scored.scores))
    # Where a class was never checked, a box on nothing is no mistake.
    checked = scored.predictions.rows(surely_checked(scored.truth, scored.predictions))
    scored = replace(scored, predictions=checked)
    thresholds = best_f1_thresholds(scored.truth, scored.predictions)
    with whole_file(out / MATRIX_FILE) as file:
        file.write(matrix_of(opened.split.name, confusion_matrix(scored.truth, scored.predictions, thresholds)))
    written = [out / CURVES_FILE, out / MATRIX_FILE]
    if count and _draw_worst(out / GALLERY_FOLDER, opened, scored, thresholds, count):
        written.append(out / GALLERY_FOLDER)
    return written


def curves_of(name: str, scores: CocoScores) -> bytes:
    """A PNG of precision over recall, mean over the classes, at three overlaps and over all ten."""
    from glip.evaluation.plots import draw_curves

    curves: dict[str, tuple[Floats, Floats]] = {}
    for iou in (None, 0.5, 0.75, 0.9):
        values = scores.precision[:, :, :, 0] if iou is None else scores.precision[[threshold_place(iou)], :, :, 0]
        known = values[:, :, scores.positives[:, 0] > 0]
        if known.size:
            label = f"overlap {iou}" if iou else "mean over the overlaps 0.5 to 0.95"
            curves[f"{label}: AP {100 * scores.ap(iou):.1f}"] = (RECALLS, known.mean(axis=(0, 2)))
    return draw_curves(name, curves)


def matrix_of(name: str, confusion: Confusion) -> bytes:
    """A PNG of the matrix; of many classes those that are mistaken most often."""
    from glip.evaluation.plots import draw_matrix

    classes = len(confusion.names) - 1
    if classes <= MOST_CLASSES:
        return draw_matrix(name, confusion.names, confusion.counts)
    wrong = confusion.counts.sum(axis=0) + confusion.counts.sum(axis=1) - 2 * np.diag(confusion.counts)
    chosen = np.append(np.sort(np.argsort(-wrong[:classes], kind="stable")[:MOST_CLASSES]), classes)
    names = [confusion.names[place] for place in chosen.tolist()]
    title = f"{name}, the {MOST_CLASSES} of {classes} classes that are mistaken most often"
    return draw_matrix(title, names, confusion.counts[np.ix_(chosen, chosen)])


@dataclass(frozen=True, eq=False)
class Shown:
    """A photograph of a gallery.

    Attributes:
        path: of the image.
        title: what went wrong, in words above it.
        file_name: the same in short.
        annotated: (A, 4) left, top, width and height of boxes of the image.
        meant: (M, 4) likewise: the annotated boxes that it is about.
        found: (F, 4) likewise: the found boxes that it is about.
    """

    path: Path
    title: str
    file_name: str
    annotated: Floats
    meant: Floats
    found: Floats


def draw_gallery(folder: Path, images: Iterable[Shown], of: str) -> int:
    """Draws photographs with boxes, numbered, into a folder of their own instead of those of an earlier run.

    Args:
        folder: where; made if there is something to draw.
        images: what, the worst first. Those that are not at hand are told of once, and left out.
        of: the set's name.

    Returns:
        How many were drawn.

    Raises:
        JobFailed: a file cannot be written.
    """
    from glip.evaluation.plots import draw_boxes

    for old in folder.glob("*.png"):
        old.unlink()
    drawn = absent = 0
    for shown in images:
        at_hand = shown.path.is_file()
        absent += not at_hand
        boxes = (shown.annotated, shown.meant, shown.found)
        content = draw_boxes(shown.path, shown.title, *boxes) if at_hand else None
        if content is None:
            continue
        drawn += 1
        name = re.sub(r"[^\w-]+", "-", f"{shown.file_name}-{shown.path.stem}")[:80]
        with whole_file(folder / f"{drawn:03d}-{name}.png") as file:
            file.write(content)
    if absent:
        logger.warning("%d of the worst images of %s are not at hand, and not drawn.", absent, of)
    return drawn


def _draw_worst(folder: Path, opened: OpenSplit, scored: Scored, thresholds: Mapping[int, float], count: int) -> int:
    place_of = {id: place for place, id in enumerate(scored.truth.image_ids.tolist())}
    shown = [
        Shown(
            opened.images[place_of[mistake.image_id]],
            _in_words(mistake, scored),
            f"{mistake.reason}-{_name(scored, mistake.category_id)}",
            *_boxes(mistake, scored),
        )
        for mistake in worst(find_mistakes(scored.truth, scored.predictions, thresholds), count)
    ]
    return draw_gallery(folder, shown, opened.split.name)


def _in_words(mistake: Mistake, scored: Scored) -> str:
    name = _name(scored, mistake.category_id)
    if mistake.score is not None:
        other = mistake.annotation
        beside = "" if other is None else f"; annotated: {_name(scored, int(scored.truth.category_id[other]))}"
        return f"{mistake.reason}: found {name} {mistake.score:.2f}{beside}"
    other = mistake.prediction
    if other is None:
        return f"{mistake.reason}: annotated {name}"
    found = _name(scored, int(scored.predictions.category_id[other]))
    return f"{mistake.reason}: annotated {name}; found: {found} {scored.predictions.score[other]:.2f}"


def _boxes(mistake: Mistake, scored: Scored) -> tuple[Floats, Floats, Floats]:
    """Left, top, width and height of: all annotated boxes of the image, the annotated box meant, the found one."""
    own = scored.truth.bbox[scored.truth.image_id == mistake.image_id]
    return own, _row(scored.truth.bbox, mistake.annotation), _row(scored.predictions.bbox, mistake.prediction)


def _row(boxes: Floats, row: int | None) -> Floats:
    return np.zeros((0, 4)) if row is None else boxes[[row]]


def _name(scored: Scored, category_id: int) -> str:
    return scored.truth.names[scored.truth.label_of_category[category_id]]
