"""Class lists: every image is prompted with all class names, and scored by the evaluator of COCO, LVIS or VOC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glip.boxes import xyxy_to_xywh
from glip.data.annotations import Truth
from glip.data.benchmarks import Format
from glip.data.splits import OpenSplit, Split, open_split
from glip.detections import Detections
from glip.evaluation.inference import count_within, find_rotated, predictions_of, tuned_prompts
from glip.evaluation.metrics.coco import CocoScores, coco_scores
from glip.evaluation.metrics.lvis import lvis_scores
from glip.evaluation.predictions import Predictions, read_predictions
from glip.evaluation.results import ClassRow, SetResult, class_rows, percent
from glip.evaluation.submission import RESULTS_FILE, write_results
from glip.evaluation.tasks import ScoreOptions
from glip.left_out import LeftOut, first_examples

if TYPE_CHECKING:
    from glip.detectors.base import DetectionLimits
    from glip.labeling.image_prompts import PromptPlan
    from glip.labeling.records import Record

LVIS_NAMES_PER_PROMPT = 40  # of 1203: 31 prompts per image, the last of three names
LVIS_LIMIT = 300  # boxes of each prompt
_LVIS_SCORED = "fixed AP: 10,000 boxes per class over the set, no limit per image; standard AP: 300 per image"
_PROMPTS = {
    "plain": "plain: only the class names",
    "original": "original: the caption prompts of the authors' configurations",
    "paper": "paper: the manual prompts of the paper's Table 10",
}


@dataclass(frozen=True, eq=False)
class DetectionScore:
    """The score of a class list.

    Attributes:
        result: the numbers.
        opened: the split, for the paths of its images.
        scores: by class; None if the truth is not public.
        truth, predictions: what was scored.
    """

    result: SetResult
    opened: OpenSplit
    scores: CocoScores | None
    truth: Truth
    predictions: Predictions

    def write(self, out: Path, gallery: int) -> list[Path]:
        """Writes results.json for formats that servers accept, and draws the errors, see `Score.write`."""
        written = []
        if self.opened.split.format in ("coco", "coco-images"):
            write_results(out / RESULTS_FILE, self.predictions)
            written.append(out / RESULTS_FILE)
        return written + self.draw(out, gallery)

    def draw(self, out: Path, gallery: int) -> list[Path]:
        """Draws the scores and errors of the classes, see `Score.write`."""
        from glip.evaluation.error_gallery import draw_set

        if self.scores is None:
            return []
        return draw_set(
            out,
            self.result.name,
            scores=self.scores,
            truth=self.truth,
            predictions=self.predictions,
            images=self.opened.images,
            count=gallery,
        )


class Detection:
    """A split whose images all get one class list; see `Task`."""

    def __init__(self, split: Split, options: ScoreOptions) -> None:
        self._split, self._options = split, options
        self._opened = open_split(split, options.limit)
        self._is_lvis = split.format == "lvis"

    def images(self) -> Sequence[Path]:
        """Returns the absolute paths of the images to label."""
        return list(self._opened.ids_of_image)

    def prompts(self, adapter: Path | None) -> PromptPlan:
        """Returns the class list, or the prompt that the adapter was tuned with."""
        from glip.labeling.image_prompts import ClassList

        if adapter is not None:
            return tuned_prompts(adapter, self._opened.names, self._split.name)
        return ClassList(self._opened.names, self._opened.wordings, LVIS_NAMES_PER_PROMPT if self._is_lvis else None)

    def limits(self) -> DetectionLimits:
        """Returns which boxes are recorded: of LVIS, the published number per prompt."""
        from glip.detectors.base import DetectionLimits

        if self._is_lvis:
            return DetectionLimits(max_detections=LVIS_LIMIT, limit_per_prompt=True)
        return DetectionLimits()

    def score_records(self, records: Iterator[tuple[Path, Record]], notes: Sequence[str] = ()) -> DetectionScore:
        """Scores the boxes of a labelling run."""
        opened = self._opened
        sizes = dict(zip(opened.images, ((h, w) for h, w in opened.truth.sizes_hw.tolist()), strict=True))
        rotated: list[Path] = []
        # LVIS and test-time augmentation have limits of their own.
        maximum = None if self._is_lvis or self._options.augmented else self._options.max_det
        predictions = predictions_of(
            find_rotated(records, sizes, rotated), opened.ids_of_image, lambda path: opened.category_ids, maximum
        )
        if rotated:
            notes = (
                *notes,
                f"{len(rotated)} images of {self._split.name} are annotated with width and height swapped, and with "
                f"boxes that do not fit the upright image: boxes in them count as wrong.",
            )
        return score_split(opened, predictions, self._options.max_det, notes)

    def score_file(self, path: Path) -> DetectionScore:
        """Scores the boxes of a results file; with a limit, those of the scored images."""
        predictions = read_predictions(path, self._opened.whole_truth)
        predictions = predictions.of_images(self._opened.truth.image_ids)
        notes = () if len(predictions) else (f"{path} has no box in these images, so all of them are missed.",)
        missing = not_covered(self._opened.truth, predictions, path) if len(predictions) else []
        return score_split(self._opened, predictions, self._options.max_det, notes, missing)

    def limits_of_file(self) -> str:
        """Returns which boxes of a results file are scored, in words."""
        if self._split.format == "coco-images":
            return "none: all boxes are written, and nothing is scored"
        if self._split.format == "voc":
            return "none: VOC's evaluator scores every box"
        if self._is_lvis:
            return _LVIS_SCORED
        return f"the best {self._options.max_det} boxes per class and image"

    def protocol(self) -> dict[str, str]:
        """Returns the prompts and limits in words."""
        limits = f"{self._options.max_det} boxes per image"
        if self._is_lvis:
            limits = f"{LVIS_NAMES_PER_PROMPT} names per caption, {LVIS_LIMIT} boxes for each caption; {_LVIS_SCORED}"
        return {"prompts": _PROMPTS[self._options.prompts], "limits": limits}


def not_covered(truth: Truth, predictions: Predictions, path: Path) -> list[LeftOut]:
    """Returns the annotated images and classes for which a results file has no box.

    Args:
        truth: the annotated boxes.
        predictions: all boxes of the file.
        path: of the file, for the sentences.
    """
    entries = []
    images = np.setdiff1d(truth.image_id, predictions.image_id)
    if len(images):
        boxes = int(np.isin(truth.image_id, images).sum())
        name_of = dict(zip(truth.image_ids.tolist(), truth.file_names, strict=True))
        entries.append(
            LeftOut(
                kind="images_without_results",
                count=len(images),
                sentence=f"{path} has no box in {len(images)} of {len(np.unique(truth.image_id))} annotated images; "
                f"their {boxes} annotated boxes count as missed. If they were not processed, add their results.",
                examples=first_examples(name_of[id] for id in images.tolist()),
            )
        )
    classes = np.setdiff1d(truth.category_id, predictions.category_id)
    if len(classes):
        boxes = int(np.isin(truth.category_id, classes).sum())
        names = dict(zip(truth.category_ids.tolist(), truth.names, strict=True))
        entries.append(
            LeftOut(
                kind="classes_without_results",
                count=len(classes),
                sentence=f"{path} has no box of {len(classes)} of the {len(np.unique(truth.category_id))} annotated "
                f"classes; their {boxes} annotated boxes count as missed, and their AP is 0.",
                examples=first_examples(repr(names[id]) for id in classes.tolist()),
            )
        )
    return entries


def score_split(
    opened: OpenSplit,
    predictions: Predictions,
    max_det: int,
    notes: Sequence[str] = (),
    missing: Sequence[LeftOut] = (),
) -> DetectionScore:
    """Scores boxes against a split whose classes are names.

    Args:
        opened: the split.
        predictions: checked boxes.
        max_det: maximum number of boxes per class and image; LVIS has its own limits.
        notes: sentences about the run.
        missing: what the run or file left out.
    """
    numbers, rows, scores = _EVALUATORS[opened.split.format](opened.truth, predictions, max_det)
    result = SetResult(
        opened.split.name,
        opened.split.split,
        opened.split.format,
        {name: percent(value) for name, value in numbers.items()},
        rows,
        images=len(opened.truth.image_ids),
        annotated=len(opened.truth.image_id),
        found=len(predictions),
        group=opened.split.group,
        notes=(*opened.notes, *notes),
        left_out=(*opened.left_out, *missing),
    )
    return DetectionScore(result, opened, scores, opened.truth, predictions)


def score_detections(opened: OpenSplit, detections: Mapping[int, Detections], max_det: int = 100) -> SetResult:
    """Returns the scores of boxes that a detector found in the images of a split.

    Args:
        opened: the split.
        detections: by image id, best score first; labels are indices of `opened.names`. Other images count as empty.
        max_det: maximum number of boxes per image; ties with the last one are kept.
    """
    predictions = Predictions.none()
    if detections:
        kept = {id: found.filter(np.arange(count_within(found.scores, max_det))) for id, found in detections.items()}
        classes = np.asarray(opened.category_ids, np.int64)
        predictions = Predictions(
            np.concatenate([np.full(len(found), id, np.int64) for id, found in kept.items()]),
            np.concatenate([classes[found.labels] for found in kept.values()]),
            xyxy_to_xywh(np.concatenate([found.boxes.astype(np.float64) for found in kept.values()])),
            np.concatenate([found.scores.astype(np.float64) for found in kept.values()]),
        )
    return score_split(opened, predictions, max_det).result


# The numbers from 0 to 1 (-1 where nothing can be scored), the rows of the classes, and the scores to draw.
_Evaluated = tuple[Mapping[str, float], tuple[ClassRow, ...], CocoScores | None]


def _evaluate_coco(truth: Truth, predictions: Predictions, max_det: int) -> _Evaluated:
    scores = coco_scores(truth, predictions, _limits(max_det))
    return scores.numbers(), class_rows(scores), scores


def _evaluate_lvis(truth: Truth, predictions: Predictions, max_det: int) -> _Evaluated:
    fixed = lvis_scores(truth, predictions, fixed=True)
    standard = lvis_scores(truth, predictions, fixed=False)
    order = ("AP", "APr", "APc", "APf", "AP50", "AP75", "APs", "APm", "APl")
    numbers = {name: fixed.numbers()[name] for name in order}
    numbers |= {f"standard {name}": value for name, value in standard.numbers().items()}
    return numbers, class_rows(fixed.scores), fixed.scores


def _evaluate_voc(truth: Truth, predictions: Predictions, max_det: int) -> _Evaluated:
    from glip.evaluation.metrics.voc import voc_scores

    voc = voc_scores(truth, predictions)
    columns = (voc.category_ids.tolist(), voc.names, voc.boxes.tolist(), voc.area.tolist())
    rows = tuple(
        ClassRow(id, name, boxes, None, percent(area), None, None)
        for id, name, boxes, area in zip(*columns, strict=True)
    )
    return voc.numbers(), rows, coco_scores(truth, predictions, _limits(max_det))


def _no_truth(truth: Truth, predictions: Predictions, max_det: int) -> _Evaluated:
    return {}, (), None


_EVALUATORS: Mapping[Format, Callable[[Truth, Predictions, int], _Evaluated]] = {
    "coco": _evaluate_coco,
    "coco-images": _no_truth,
    "lvis": _evaluate_lvis,
    "voc": _evaluate_voc,
}


def _limits(max_det: int) -> tuple[int, ...]:
    return tuple(sorted({limit for limit in (1, 10, max_det) if limit <= max_det}))
