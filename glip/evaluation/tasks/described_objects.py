"""D3: classes are descriptions, such as `a dog without a leash`.

COCO's score on three files of the same images: all descriptions (FULL), those of present things (PRES), and those of
absent things (ABS). As in the published default, intra-scenario, each image is prompted with the descriptions of the
scenario that it was collected for, joined in one caption, and scored for these only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glip.data.annotations import Truth
from glip.data.d3 import PARTS, read_parts, read_scenarios
from glip.data.splits import Split, open_split
from glip.errors import InputError
from glip.evaluation.inference import predictions_of
from glip.evaluation.metrics.coco import CocoScores, coco_scores
from glip.evaluation.predictions import Predictions, read_predictions
from glip.evaluation.results import SetResult, class_rows, percent
from glip.evaluation.tasks import ScoreOptions
from glip.evaluation.tasks.detection import DetectionScore
from glip.left_out import LeftOut, first_examples

if TYPE_CHECKING:
    from glip.detectors.base import DetectionLimits
    from glip.labeling.image_prompts import PromptPlan
    from glip.labeling.records import Record


# Words of a description, in the groups of the benchmark.
LENGTHS: Mapping[str, range] = {
    "short": range(1, 4),
    "middle": range(4, 7),
    "long": range(7, 10),
    "very long": range(10, 1000),
}


@dataclass(frozen=True, eq=False)
class DescribedScore:
    """The score of D3.

    Attributes:
        result: the numbers of all parts.
        full: the score of FULL, of which errors are drawn.
    """

    result: SetResult
    full: DetectionScore

    def write(self, out: Path, gallery: int) -> list[Path]:
        """Draws the errors of FULL, see `Score.write`."""
        return self.full.draw(out, gallery)


class DescribedObjects:
    """D3 in its published default, intra-scenario; see `Task`."""

    def __init__(self, split: Split, options: ScoreOptions) -> None:
        self._split, self._options = split, options
        self._opened = open_split(split, options.limit)
        parts = read_parts(split.annotations, self._opened.whole_truth)
        self._parts = {part: truth.of_images(self._opened.truth.image_ids) for part, truth in parts.items()}
        groups = split.annotations.parent.parent / "d3_pkl/groups.pkl"
        self._scenarios = read_scenarios(groups)
        lost = [id for id in self._opened.whole_truth.image_ids.tolist() if id not in self._scenarios]
        if lost:
            raise InputError(f"{groups} has no scenario of image {lost[0]}.")

    @cached_property
    def _ids_of_image(self) -> dict[Path, list[int]]:
        """Returns the ids of the descriptions of each image, ascending: the order of its labels."""
        known = set(self._opened.category_ids)
        return {
            path: sorted(id for id in self._scenarios[images[0]] if id in known)
            for path, images in self._opened.ids_of_image.items()
        }

    def images(self) -> Sequence[Path]:
        """Returns the absolute paths of the images to label."""
        return list(self._ids_of_image)

    def prompts(self, adapter: Path | None) -> PromptPlan:
        """Returns the descriptions of each image's scenario; an adapter is not supported."""
        from glip.labeling.image_prompts import ClassList, PromptsByImage

        assert adapter is None, "an adapter has one class list"
        name_of = self._opened.class_of_id
        return PromptsByImage(
            {path: ClassList(tuple(name_of[id] for id in ids)) for path, ids in self._ids_of_image.items()}
        )

    def limits(self) -> DetectionLimits:
        """Returns which boxes are recorded."""
        from glip.detectors.base import DetectionLimits

        return DetectionLimits()

    def score_records(self, records: Iterator[tuple[Path, Record]], notes: Sequence[str] = ()) -> DescribedScore:
        """Scores the boxes of a labelling run."""
        predictions = predictions_of(
            records, self._opened.ids_of_image, self._ids_of_image.__getitem__, self._options.max_det
        )
        return self._score(predictions, notes)

    def score_file(self, path: Path) -> DescribedScore:
        """Scores the boxes of a results file; with a limit, those of the scored images."""
        predictions = read_predictions(path, self._opened.whole_truth)
        return self._score(predictions.of_images(self._opened.truth.image_ids), ())

    def protocol(self) -> dict[str, str]:
        """Returns the prompts, limits and batch size in words."""
        return {
            "prompts": "the descriptions of the image's scenario, joined in one caption",
            "limits": f"{self._options.max_det} boxes per image",
            "batch size": "1: each image has its own caption",
        }

    def limits_of_file(self) -> str:
        """Returns which boxes of a results file are scored, in words."""
        return "the best 100 boxes per description and image"

    def _score(self, predictions: Predictions, notes: Sequence[str]) -> DescribedScore:
        own = inside_scenarios(predictions, self._scenarios)
        scores = described_scores(self._parts, own)
        numbers = {name: percent(part.ap()) for name, part in scores.items()}
        lengths = ap_by_length(scores["FULL"])
        numbers |= {f"FULL, {name} descriptions": percent(value) for name, value in lengths.items()}
        folder = self._split.annotations.parent
        absent = [part for part in PARTS if part not in self._parts]
        left_out = [*self._opened.left_out]
        if absent:
            sentence = "Parts of D3 whose descriptions are missing are not scored; fetch their files."
            files = first_examples(f"{part}: {folder / PARTS[part]}" for part in absent)
            left_out.append(LeftOut(kind="missing_parts", count=len(absent), sentence=sentence, examples=files))
        if outside := len(predictions) - len(own):
            sentence = f"{outside} boxes of descriptions outside their image's scenario are not scored, as published."
            left_out.append(LeftOut(kind="boxes_outside_scenario", count=outside, sentence=sentence))
        truth = self._parts["FULL"]
        result = SetResult(
            self._split.name,
            self._split.split,
            self._split.format,
            numbers,
            class_rows(scores["FULL"]),
            images=len(truth.image_ids),
            annotated=len(truth.image_id),
            found=len(predictions),
            notes=(*self._opened.notes, *notes),
            left_out=tuple(left_out),
        )
        return DescribedScore(result, DetectionScore(result, self._opened, scores["FULL"], truth, own))


def described_scores(parts: Mapping[str, Truth], predictions: Predictions) -> dict[str, CocoScores]:
    """Returns COCO's scores of each part.

    Args:
        parts: FULL, PRES and ABS; each is scored for its own descriptions.
        predictions: boxes, whose categories are ids of descriptions.
    """
    scores = {}
    for name, truth in parts.items():
        known = np.isin(predictions.category_id, truth.category_ids) & np.isin(predictions.image_id, truth.image_ids)
        scores[name] = coco_scores(truth, predictions.rows(known))
    return scores


def ap_by_length(scores: CocoScores) -> dict[str, float]:
    """Returns the mean AP, 0 to 1, of the descriptions of each length; -1 where there are none."""
    rows = [row for row in scores.per_class() if row.ap >= 0]
    groups = {name: [row.ap for row in rows if len(row.name.split(" ")) in words] for name, words in LENGTHS.items()}
    return {name: float(np.mean(values)) if values else -1.0 for name, values in groups.items()}


def inside_scenarios(predictions: Predictions, scenarios: Mapping[int, frozenset[int]]) -> Predictions:
    """Returns the boxes of descriptions that belong to the scenario of their image."""
    own = [
        category in scenarios.get(image, ())
        for image, category in zip(predictions.image_id.tolist(), predictions.category_id.tolist(), strict=True)
    ]
    return predictions.rows(np.array(own, bool))
