"""From the boxes of a set to its numbers, by the evaluator that the benchmark uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glip.boxes import xyxy_to_xywh
from glip.data.annotations import Truth
from glip.data.splits import OpenSplit
from glip.detections import Detections
from glip.evaluation.inference import within
from glip.evaluation.metrics.coco import CocoScores, coco_scores
from glip.evaluation.metrics.lvis import lvis_scores
from glip.evaluation.predictions import Predictions
from glip.evaluation.results import ClassRow, SetResult, class_rows, percent

if TYPE_CHECKING:
    from glip.evaluation.metrics.voc import VocScores

LVIS_NAMES_PER_CHUNK = 40  # of 1203: 31 chunks an image, the last of three names
LVIS_LIMIT = 300  # boxes of each chunk


@dataclass(frozen=True, eq=False)
class Scored:
    """A set's numbers, and what images of them are drawn from.

    Attributes:
        result: the numbers.
        scores: by class; None where the truth is not public.
        truth, predictions: that were scored.
    """

    result: SetResult
    scores: CocoScores | None
    truth: Truth
    predictions: Predictions


def score_set(opened: OpenSplit, predictions: Predictions, max_det: int, notes: tuple[str, ...] = ()) -> Scored:
    """Scores one set whose classes are names.

    Args:
        opened: the set.
        predictions: checked boxes.
        max_det: most boxes a class and image; LVIS has its own limits.
        notes: sentences about the labelling.
    """
    scorer = opened.split.format
    scores: CocoScores | None = None
    numbers: dict[str, float | None] = {}
    rows: tuple[ClassRow, ...] = ()
    if scorer == "lvis":
        fixed = lvis_scores(opened.truth, predictions, fixed=True)
        standard = lvis_scores(opened.truth, predictions, fixed=False)
        scores, rows = fixed.scores, class_rows(fixed.scores)
        order = ("AP", "APr", "APc", "APf", "AP50", "AP75", "APs", "APm", "APl")
        numbers = {name: percent(fixed.numbers()[name]) for name in order}
        numbers |= {f"standard {name}": percent(value) for name, value in standard.numbers().items()}
    elif scorer == "voc":
        from glip.evaluation.metrics.voc import voc_scores

        scores = coco_scores(opened.truth, predictions, _limits(max_det))
        voc = voc_scores(opened.truth, predictions)
        numbers = {name: percent(value) for name, value in voc.numbers().items()}
        rows = _voc_rows(voc)
    elif scorer in ("coco", "d3"):
        scores = coco_scores(opened.truth, predictions, _limits(max_det))
        numbers, rows = {name: percent(value) for name, value in scores.numbers().items()}, class_rows(scores)
    return Scored(
        SetResult(
            opened.split.name,
            opened.split.split,
            scorer,
            numbers,
            rows,
            images=len(opened.truth.image_ids),
            annotated=len(opened.truth.image_id),
            found=len(predictions),
            group=opened.split.group,
            notes=(*opened.notes, *notes),
        ),
        scores,
        opened.truth,
        predictions,
    )


def score_detections(opened: OpenSplit, detections: Mapping[int, Detections], max_det: int = 100) -> SetResult:
    """Returns the scores of boxes that a detector found in the images of a split.

    Args:
        opened: the split.
        detections: by image id, best score first; labels are indices of `opened.names`. Other images count as empty.
        max_det: maximum number of boxes per image; ties with the last one are kept.
    """
    predictions = Predictions.none()
    if detections:
        kept = {id: found.filter(np.arange(within(found.scores, max_det))) for id, found in detections.items()}
        classes = np.asarray(opened.category_ids, np.int64)
        predictions = Predictions(
            np.concatenate([np.full(len(found), id, np.int64) for id, found in kept.items()]),
            np.concatenate([classes[found.labels] for found in kept.values()]),
            xyxy_to_xywh(np.concatenate([found.boxes.astype(np.float64) for found in kept.values()])),
            np.concatenate([found.scores.astype(np.float64) for found in kept.values()]),
        )
    return score_set(opened, predictions, max_det).result


def _limits(max_det: int) -> tuple[int, ...]:
    return tuple(sorted({limit for limit in (1, 10, max_det) if limit <= max_det}))


def _voc_rows(scores: VocScores) -> tuple[ClassRow, ...]:
    columns = (scores.category_ids.tolist(), scores.names, scores.boxes.tolist(), scores.area.tolist())
    return tuple(
        ClassRow(id, name, boxes, None, percent(area), None, None)
        for id, name, boxes, area in zip(*columns, strict=True)
    )
