"""Draws the errors of an evaluation: curves, a confusion matrix, and images of the worst errors.

`draw_set` is for class lists, `draw_phrases` for the phrases of captions.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from glip.boxes import xyxy_to_xywh
from glip.data.annotations import Floats, Truth
from glip.data.flickr30k import Sentence, words_of
from glip.evaluation.error_analysis import FOUND_IOU, Confusion, Mistake, confusion_matrix, find_mistakes, worst
from glip.evaluation.metrics.coco import RECALLS, CocoScores, threshold_index
from glip.evaluation.metrics.curves import best_f1_thresholds
from glip.evaluation.metrics.lvis import surely_checked
from glip.evaluation.metrics.phrase_recall import PROTOCOLS, TOP_K, PhraseBoxes, phrase_indices, rank_of_first_right
from glip.evaluation.plots import curves_figure, matrix_figure, photo_figure, write_figure
from glip.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES_FILE = "precision_recall.png"
MATRIX_FILE = "confusion.png"
RECALL_FILE = "recall.png"
GALLERY_FOLDER = "worst"
MAX_CLASSES = 40  # of a matrix that can still be read

logger = logging.getLogger(__name__)


def draw_set(
    out: Path,
    name: str,
    *,
    scores: CocoScores,
    truth: Truth,
    predictions: Predictions,
    images: Sequence[Path],
    count: int,
) -> list[Path]:
    """Draws the scores and errors of a class list. Boxes count from the threshold of each class's highest F1.

    Args:
        out: folder of the set.
        name: of the set.
        scores: of its classes.
        truth: its annotated boxes.
        predictions: its predicted boxes.
        images: (I) files of the images, in the order of the truth.
        count: maximum number of images with errors; 0 for none.

    Returns:
        The files, and the folder of the images.

    Raises:
        JobFailed: a file cannot be written.
    """
    # Where a class was not checked, a box on nothing is no error.
    predictions = predictions.rows(surely_checked(truth, predictions))
    thresholds = best_f1_thresholds(truth, predictions)
    confusion = confusion_matrix(truth, predictions, thresholds)
    write_figure(out / CURVES_FILE, precision_recall_figure(name, scores))
    write_figure(out / MATRIX_FILE, confusion_figure(name, confusion, list(thresholds.values())))
    written = [out / CURVES_FILE, out / MATRIX_FILE]
    if count:
        path_of = dict(zip(truth.image_ids.tolist(), images, strict=True))
        mistakes = worst(find_mistakes(truth, predictions, thresholds), count)
        shown = [_gallery_image(mistake, path_of[mistake.image_id], truth, predictions) for mistake in mistakes]
        if draw_gallery(out / GALLERY_FOLDER, shown, name):
            written.append(out / GALLERY_FOLDER)
    return written


def precision_recall_figure(name: str, scores: CocoScores) -> Figure:
    """Returns precision over recall, mean over the classes, at three IoU thresholds and over all ten."""
    curves: dict[str, tuple[Floats, Floats]] = {}
    for iou in (None, 0.5, 0.75, 0.9):
        values = scores.precision[:, :, :, 0] if iou is None else scores.precision[[threshold_index(iou)], :, :, 0]
        known = values[:, :, scores.positives[:, 0] > 0]
        if known.size:
            label = f"IoU {iou}" if iou else "mean over IoU 0.5 to 0.95"
            curves[f"{label}: AP {100 * scores.ap(iou):.1f}"] = (RECALLS, known.mean(axis=(0, 2)))
    return curves_figure(
        f"{name}: precision over recall", curves, x_label="recall", y_label="precision", x_range=(0, 1)
    )


def confusion_figure(name: str, confusion: Confusion, thresholds: Sequence[float]) -> Figure:
    """Returns the confusion matrix; of more than 40 classes those with the most errors.

    Args:
        name: of the set.
        confusion: the counts.
        thresholds: score thresholds of the classes, for the title.
    """
    title = f"{name}: {_thresholds_text(thresholds)}; IoU {FOUND_IOU}"
    classes = len(confusion.names) - 1
    if classes <= MAX_CLASSES:
        return matrix_figure(title, confusion.names, confusion.counts)
    errors = confusion.counts.sum(axis=0) + confusion.counts.sum(axis=1) - 2 * np.diag(confusion.counts)
    shown = np.append(np.sort(np.argsort(-errors[:classes], kind="stable")[:MAX_CLASSES]), classes)
    names = [confusion.names[index] for index in shown.tolist()]
    title += f". The {MAX_CLASSES} of {classes} classes with the most errors"
    return matrix_figure(title, names, confusion.counts[np.ix_(shown, shown)])


def _thresholds_text(thresholds: Sequence[float]) -> str:
    if not thresholds:
        return "no predicted box is right, so there is no score threshold"
    low, high = f"{min(thresholds):.2f}", f"{max(thresholds):.2f}"
    if low == high:
        return f"score threshold {low} (highest F1)"
    return f"score thresholds {low} to {high}, one per class (highest F1)"


@dataclass(frozen=True, eq=False)
class GalleryImage:
    """An image of a gallery.

    Attributes:
        path: of the image.
        title: the error in words, above the image.
        file_name: the error in a few words.
        annotated: (A, 4) all annotated boxes of the image, xywh.
        expected: (M, 4) the annotated boxes that the error is about, xywh.
        predicted: (F, 4) the predicted boxes that the error is about, xywh.
    """

    path: Path
    title: str
    file_name: str
    annotated: Floats
    expected: Floats
    predicted: Floats


def draw_gallery(folder: Path, images: Iterable[GalleryImage], set_name: str) -> int:
    """Draws images with boxes into a folder, numbered; those of an earlier run are removed.

    Args:
        folder: made if there is something to draw.
        images: the worst first. Missing files are skipped and reported in one warning.
        set_name: for the warning.

    Returns:
        The number of images.

    Raises:
        JobFailed: a file cannot be written.
    """
    for old in folder.glob("*.png"):
        old.unlink()
    drawn = missing = 0
    for image in images:
        if not image.path.is_file():
            missing += 1
            continue
        figure = photo_figure(image.path, image.title, image.annotated, image.expected, image.predicted)
        if figure is None:
            continue
        drawn += 1
        name = re.sub(r"[^\w-]+", "-", f"{image.file_name}-{image.path.stem}")[:80]
        write_figure(folder / f"{drawn:03d}-{name}.png", figure)
    if missing:
        logger.warning("%d of the worst images of %s are missing and not drawn.", missing, set_name)
    return drawn


def _gallery_image(mistake: Mistake, path: Path, truth: Truth, predictions: Predictions) -> GalleryImage:
    name = _name(truth, mistake.category_id)
    return GalleryImage(
        path,
        f"{mistake.reason}: {_details(mistake, name, truth, predictions)}",
        f"{mistake.reason}-{name}",
        annotated=truth.bbox[truth.image_id == mistake.image_id],
        expected=_row(truth.bbox, mistake.annotation),
        predicted=_row(predictions.bbox, mistake.prediction),
    )


def _details(mistake: Mistake, name: str, truth: Truth, predictions: Predictions) -> str:
    """Returns both boxes of an error in words: 'predicted dog 0.90; annotated: cat'."""
    if mistake.score is not None:
        row = mistake.annotation
        other = "" if row is None else f"; annotated: {_name(truth, int(truth.category_id[row]))}"
        return f"predicted {name} {mistake.score:.2f}{other}"
    row = mistake.prediction
    if row is None:
        return f"annotated {name}"
    predicted = _name(truth, int(predictions.category_id[row]))
    return f"annotated {name}; predicted: {predicted} {predictions.score[row]:.2f}"


def _row(boxes: Floats, row: int | None) -> Floats:
    return np.zeros((0, 4)) if row is None else boxes[[row]]


def _name(truth: Truth, category_id: int) -> str:
    return truth.names[truth.label_of_category[category_id]]


@dataclass(frozen=True, eq=False)
class PhraseMiss:
    """A phrase whose best box is wrong.

    Attributes:
        image_id: the image's file name without its ending.
        reason: `wrong first`: a box with a lower score is right; `not found`: no box is right.
        sentence: the caption.
        phrase: index into `Sentence.phrases`.
        rank: number of boxes before the first right one; inf if none is right.
        predicted: (1, 4) xyxy, the best box; (0, 4) if there is none.
        score: of that box; 0 if there is none.
    """

    image_id: str
    reason: Literal["wrong first", "not found"]
    sentence: Sentence
    phrase: int
    rank: float
    predicted: Floats
    score: float


def phrase_misses(sentences: Sequence[Sentence], predicted: PhraseBoxes) -> list[PhraseMiss]:
    """Returns every phrase that Recall@1 (any-box) counts as missed, in descending order of the score.

    Args:
        sentences: the truth.
        predicted: made by `phrase_boxes`.
    """
    phrase_of = phrase_indices(sentences, predicted)
    best: dict[int, int] = {}
    for row in np.argsort(-predicted.score, kind="stable").tolist():
        best.setdefault(int(phrase_of[row]), row)
    ranks = rank_of_first_right(sentences, predicted, "any-box").tolist()
    phrases = [(sentence, index) for sentence in sentences for index in range(len(sentence.phrases))]
    misses = []
    for number, ((sentence, index), rank) in enumerate(zip(phrases, ranks, strict=True)):
        if rank == 0:
            continue
        row = best.get(number)
        misses.append(
            PhraseMiss(
                sentence.image,
                "wrong first" if np.isfinite(rank) else "not found",
                sentence,
                index,
                rank,
                np.zeros((0, 4)) if row is None else predicted.boxes[[row]],
                0.0 if row is None else float(predicted.score[row]),
            )
        )
    return sorted(misses, key=lambda miss: -miss.score)


def draw_phrases(
    out: Path,
    name: str,
    sentences: Sequence[Sentence],
    predicted: PhraseBoxes,
    image_of: Callable[[str], Path],
    count: int,
) -> list[Path]:
    """Draws the recall and the errors of a set of phrases.

    Args:
        out: folder of the set.
        name: of the set.
        sentences: the truth.
        predicted: the predicted boxes.
        image_of: returns the file of an image, given `Sentence.image`.
        count: maximum number of images with errors; 0 for none.

    Returns:
        The files, and the folder of the images.

    Raises:
        JobFailed: a file cannot be written.
    """
    write_figure(out / RECALL_FILE, phrase_recall_figure(name, sentences, predicted))
    written = [out / RECALL_FILE]
    if count:
        misses = worst(phrase_misses(sentences, predicted), count)
        images = [_phrase_image(miss, image_of(miss.image_id)) for miss in misses]
        if draw_gallery(out / GALLERY_FOLDER, images, name):
            written.append(out / GALLERY_FOLDER)
    return written


def phrase_recall_figure(name: str, sentences: Sequence[Sentence], predicted: PhraseBoxes) -> Figure:
    """Returns the recall of the first one to ten boxes: of both protocols, and of each type of phrase by any-box."""
    types = [phrase.types for sentence in sentences for phrase in sentence.phrases]
    ranks = {protocol: rank_of_first_right(sentences, predicted, protocol) for protocol in PROTOCOLS}
    shown: dict[str, Floats] = {f"{protocol}, all phrases": rank for protocol, rank in ranks.items()}
    for kind in sorted({kind for own in types for kind in own}):
        shown[f"any-box, {kind}"] = ranks["any-box"][[kind in own for own in types]]
    boxes = np.arange(1, TOP_K[-1] + 1)
    curves: Mapping[str, tuple[Floats, Floats]] = {
        f"{label}: R@1 {100 * np.mean(rank < 1):.1f}": (
            boxes.astype(np.float64),
            (rank[:, None] < boxes).mean(axis=0),
        )
        for label, rank in shown.items()
        if len(rank)
    }
    title = f"{name}: recall over the number of boxes per phrase"
    return curves_figure(title, curves, x_label="boxes per phrase", y_label="recall", x_range=(1, TOP_K[-1]))


def _phrase_image(miss: PhraseMiss, path: Path) -> GalleryImage:
    phrase = miss.sentence.phrases[miss.phrase]
    words = words_of(miss.sentence.caption, phrase.spans)
    if not len(miss.predicted):
        details = "no box"
    elif np.isfinite(miss.rank):
        details = f"the best box ({miss.score:.2f}) is wrong, number {miss.rank + 1:.0f} is right"
    else:
        details = f"the best box ({miss.score:.2f}) and all others are wrong"
    all_boxes = np.concatenate([phrase.boxes for phrase in miss.sentence.phrases])
    return GalleryImage(
        path,
        f"{words!r}: {details}. {miss.sentence.caption}",
        f"{miss.reason}-{words[:40]}",
        *(xyxy_to_xywh(boxes) for boxes in (all_boxes, phrase.boxes, miss.predicted)),
    )
