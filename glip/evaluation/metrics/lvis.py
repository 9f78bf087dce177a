"""Average precision as LVIS defines it, where only some classes were checked in each image.

A found box counts only if its class was annotated in its image or is known not to be there; where not every box of
a class was annotated, further finds are neither right nor wrong. Two protocols differ in what is let in:

    standard  the 300 best boxes of an image, whatever their class
    fixed     the 10,000 best boxes of a class, wherever they are (Dave et al., "Evaluating Large-Vocabulary Object
              Detectors: The Devil is in the Details"); the one that GLIP's published numbers follow
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from glip.data.annotations import Bools, Floats, Integers, Truth
from glip.errors import InputError
from glip.evaluation.metrics.coco import CocoScores, highest_recall, precision_at_recalls
from glip.evaluation.metrics.matching import match
from glip.evaluation.predictions import Predictions

PER_IMAGE = 300
PER_CLASS = 10_000
_AREA_LETTER = {"small": "s", "medium": "m", "large": "l"}


@dataclass(frozen=True, eq=False)
class LvisScores:
    """LVIS's numbers.

    Attributes:
        fixed: which protocol.
        frequency: (K) r, c or f for each class.
        scores: of all classes; for tables and curves.
        short: classes with fewer found boxes than the fixed protocol takes, for which more boxes might score better.
    """

    fixed: bool
    frequency: tuple[str, ...]
    scores: CocoScores
    short: int

    def numbers(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, APr, APc, APf, and under the standard protocol AR300, ARs, ARm, ARl.

        From 0 to 1; -1 where nothing can be scored.
        """
        numbers = {"AP": self.scores.ap(), "AP50": self.scores.ap(0.5), "AP75": self.scores.ap(0.75)}
        numbers |= {f"AP{letter}": self.scores.ap(area=area) for area, letter in _AREA_LETTER.items()}
        for letter in "rcf":
            places = np.flatnonzero(np.array(self.frequency) == letter)
            numbers[f"AP{letter}"] = self.scores.ap(categories=places)
        if not self.fixed:
            numbers[f"AR{PER_IMAGE}"] = self.scores.ar()
            numbers |= {f"AR{letter}": self.scores.ar(area) for area, letter in _AREA_LETTER.items()}
        return numbers


def lvis_scores(truth: Truth, predictions: Predictions, *, fixed: bool) -> LvisScores:
    """Scores boxes as LVIS does.

    Args:
        truth: made by `Truth.from_lvis`.
        predictions: found boxes; for the fixed protocol as many as there are, of every image.
        fixed: the 10,000 best of each class, instead of the 300 best of each image.

    Raises:
        InputError: the truth does not say which classes were checked in which image.
    """
    federated = truth.federated
    if federated is None:
        raise InputError("LVIS's score needs LVIS's annotation file, which lists the classes that were checked.")
    counts = np.bincount(truth.category_indices(predictions.category_id), minlength=len(truth.category_ids))
    if fixed:
        chosen = best_of_each(predictions.category_id, predictions.score, PER_CLASS)
    else:
        chosen = best_of_each(predictions.image_id, predictions.score, PER_IMAGE)
    # The reference reads no box without an area, annotated or found, but found ones have used up their places by then.
    truth = truth.rows(truth.area > 0)
    boxes = predictions.rows(chosen)
    boxes = boxes.rows(boxes.bbox[:, 2] * boxes.bbox[:, 3] > 0)
    checked = _pairs(truth, federated.negative) | _annotated(truth)
    boxes = boxes.rows(checked[_place(truth, boxes)])
    excused = _pairs(truth, federated.not_exhaustive)[_place(truth, boxes)]
    matches = match(truth, boxes, void=truth.ignore, excused=excused, max_dets=None)
    precision, score = precision_at_recalls(truth, matches)
    limit = PER_CLASS if fixed else PER_IMAGE
    recall = highest_recall(truth, matches, (len(boxes) + 1,))
    scores = CocoScores(truth.category_ids, truth.names, (limit,), matches.positives, precision, score, recall)
    return LvisScores(fixed, federated.frequency, scores, int(np.sum(counts < PER_CLASS)))


def best_of_each(group: Integers, score: Floats, limit: int) -> Integers:
    """Rows of the `limit` best boxes of every group, in the order that they had; of equal scores the first stay."""
    order = np.lexsort((-score, group))
    place = np.arange(len(order)) - np.searchsorted(group[order], group[order], "left")
    return np.sort(order[place < limit])


def surely_checked(truth: Truth, boxes: Predictions) -> Bools:
    """(D,) whether every box of its class was annotated in its image, so that one on nothing is a mistake."""
    federated = truth.federated
    if federated is None:
        return np.ones(len(boxes), bool)
    known = (_pairs(truth, federated.negative) | _annotated(truth)) & ~_pairs(truth, federated.not_exhaustive)
    return known[_place(truth, boxes)]


def _place(truth: Truth, boxes: Predictions) -> tuple[Integers, Integers]:
    return truth.image_indices(boxes.image_id), truth.category_indices(boxes.category_id)


def _annotated(truth: Truth) -> Bools:
    table = np.zeros((len(truth.image_ids), len(truth.category_ids)), bool)
    table[truth.image_indices(truth.image_id), truth.category_indices(truth.category_id)] = True
    return table


def _pairs(truth: Truth, classes: Mapping[int, frozenset[int]]) -> Bools:
    """(I, K) table of a mapping from image to classes; classes that are not scored are passed over."""
    table = np.zeros((len(truth.image_ids), len(truth.category_ids)), bool)
    label = truth.label_of_category
    for place, id in enumerate(truth.image_ids.tolist()):
        table[place, [label[category] for category in classes.get(id, ()) if category in label]] = True
    return table
