"""Computes average precision as LVIS defines it, where only some classes were checked in each image.

A predicted box counts only if its class was annotated in its image or is known to be absent there. If the boxes of a
class were not annotated exhaustively in an image, further predicted boxes are neither right nor wrong. Two protocols
differ in the boxes that they keep:

    standard  the 300 best boxes of an image, of any class
    fixed     the 10,000 best boxes of a class, in any image (Dave et al., "Evaluating Large-Vocabulary Object
              Detectors: The Devil is in the Details"); GLIP's published numbers follow this one
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from glip.data.annotations import Bools, Floats, Integers, Truth
from glip.errors import InputError
from glip.evaluation.metrics.coco import AREA_LETTERS, CocoScores, max_recall, precision_at_recalls
from glip.evaluation.metrics.matching import index_in_run, match
from glip.evaluation.predictions import Predictions

PER_IMAGE = 300
PER_CLASS = 10_000


@dataclass(frozen=True, eq=False)
class LvisScores:
    """The scores of one of LVIS's protocols.

    Attributes:
        fixed: whether the protocol is the fixed one.
        frequency: (K) r, c or f for each class.
        scores: of all classes; for tables and curves.
    """

    fixed: bool
    frequency: tuple[str, ...]
    scores: CocoScores

    def numbers(self) -> dict[str, float]:
        """Returns LVIS's numbers, 0 to 1; -1 where nothing can be scored.

        They are AP, AP50, AP75, APs, APm, APl, APr, APc, APf, and for the standard protocol AR300, ARs, ARm, ARl.
        """
        numbers = {"AP": self.scores.ap(), "AP50": self.scores.ap(0.5), "AP75": self.scores.ap(0.75)}
        numbers |= {f"AP{letter}": self.scores.ap(area=area) for area, letter in AREA_LETTERS.items()}
        for letter in "rcf":
            classes = np.flatnonzero(np.array(self.frequency) == letter)
            numbers[f"AP{letter}"] = self.scores.ap(categories=classes)
        if not self.fixed:
            numbers[f"AR{PER_IMAGE}"] = self.scores.ar()
            numbers |= {f"AR{letter}": self.scores.ar(area) for area, letter in AREA_LETTERS.items()}
        return numbers


def lvis_scores(truth: Truth, predictions: Predictions, *, fixed: bool) -> LvisScores:
    """Scores boxes as LVIS does.

    Args:
        truth: read from an LVIS annotation file.
        predictions: predicted boxes of every image. The fixed protocol needs all boxes that the model gives.
        fixed: keep the 10,000 best boxes of each class instead of the 300 best of each image.

    Raises:
        InputError: the truth does not say which classes were checked in which image.
    """
    federated = truth.federated
    if federated is None:
        raise InputError(
            "The annotation file does not list the checked classes of each image (neg_category_ids), which LVIS's "
            "score needs. Use a file of LVIS, or choose another benchmark."
        )
    if fixed:
        kept = best_of_each(predictions.category_id, predictions.score, PER_CLASS)
    else:
        kept = best_of_each(predictions.image_id, predictions.score, PER_IMAGE)
    # The reference skips boxes without an area, but predicted ones count towards the maximum first.
    truth = truth.rows(truth.area > 0)
    boxes = predictions.rows(kept)
    boxes = boxes.rows(boxes.bbox[:, 2] * boxes.bbox[:, 3] > 0)
    checked = _table(truth, federated.negative) | _annotated(truth)
    boxes = boxes.rows(checked[_cells(truth, boxes)])
    not_exhaustive = _table(truth, federated.not_exhaustive)[_cells(truth, boxes)]
    matches = match(truth, boxes, ignored=truth.ignore, ignored_if_unmatched=not_exhaustive, max_dets=None)
    precision, score = precision_at_recalls(truth, matches)
    limit = PER_CLASS if fixed else PER_IMAGE
    recall = max_recall(truth, matches, (len(boxes) + 1,))
    scores = CocoScores(truth.category_ids, truth.names, (limit,), matches.positives, precision, score, recall)
    return LvisScores(fixed, federated.frequency, scores)


def best_of_each(group: Integers, score: Floats, limit: int) -> Integers:
    """Returns the indices of the `limit` best boxes of every group, ascending. Of equal scores the first are kept."""
    order = np.lexsort((-score, group))
    return np.sort(order[index_in_run(group[order]) < limit])


def surely_checked(truth: Truth, boxes: Predictions) -> Bools:
    """Returns (D,) whether the class of each box was annotated exhaustively in its image.

    Only then is a box on nothing a mistake. A truth without LVIS's lists is exhaustive everywhere.
    """
    federated = truth.federated
    if federated is None:
        return np.ones(len(boxes), bool)
    known = (_table(truth, federated.negative) | _annotated(truth)) & ~_table(truth, federated.not_exhaustive)
    return known[_cells(truth, boxes)]


def _cells(truth: Truth, boxes: Predictions) -> tuple[Integers, Integers]:
    """Returns image index and class index of every box."""
    return truth.image_indices(boxes.image_id), truth.category_indices(boxes.category_id)


def _annotated(truth: Truth) -> Bools:
    """Returns an (I, K) table of the classes that are annotated in each image."""
    table = np.zeros((len(truth.image_ids), len(truth.category_ids)), bool)
    table[truth.image_indices(truth.image_id), truth.category_indices(truth.category_id)] = True
    return table


def _table(truth: Truth, classes: Mapping[int, frozenset[int]]) -> Bools:
    """Returns an (I, K) table of a mapping from image id to class ids. Classes that are not scored are left out."""
    table = np.zeros((len(truth.image_ids), len(truth.category_ids)), bool)
    label = truth.label_of_category
    for index, id in enumerate(truth.image_ids.tolist()):
        table[index, [label[category] for category in classes.get(id, ()) if category in label]] = True
    return table
