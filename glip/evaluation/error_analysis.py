"""What goes wrong at given thresholds: which class is taken for which, and every single mistake with its reason.

Reasons, by the overlap with annotated boxes of the image (half is enough for a find, a tenth for being meant):

    missed        an annotated box that no found box of any class is near
    wrong class   a found box on an annotated box of another class; also the annotated box under it
    badly placed  a found box of the right class that overlaps too little; also the annotated box beside it
    duplicate     a second found box on an annotated box
    background    a found box on nothing

Crowds are left out, and found boxes of their class that lie in them. Draws nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, Protocol, TypeVar

import numpy as np

from glip.data.annotations import Floats, Integers, Truth
from glip.evaluation.metrics.curves import thresholds_by_place
from glip.evaluation.metrics.matching import pair_iou
from glip.evaluation.predictions import Predictions

Reason = Literal["missed", "wrong class", "badly placed", "duplicate", "background"]

FOUND_IOU = 0.5
NEAR_IOU = 0.1


@dataclass(frozen=True)
class Mistake:
    """One mistake; where it is about an annotated box there is no score, and the other way round.

    Attributes:
        image_id: the image.
        reason: see above.
        category_id: of the annotated box, or of the found one if it is about that.
        bbox: of that box: left, top, width, height.
        annotation: row of the truth: the box that was not found, or that the found box was taken for; None if none.
        prediction: row of the predictions: the found box, or the one that was taken for the annotated box, or None.
        score: of the found box that is wrong; None for an annotated box that was not found.
        severity: 0 to 1: the score of a found box, the root of an annotated box's part of the image.
    """

    image_id: int
    reason: Reason
    category_id: int
    bbox: tuple[float, float, float, float]
    annotation: int | None
    prediction: int | None
    score: float | None
    severity: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """Which class is taken for which.

    Attributes:
        names: of the classes, and `background` as the last.
        counts: (K + 1, K + 1) rows are annotated, columns found; the last column was missed, the last row is
            on nothing.
    """

    names: tuple[str, ...]
    counts: Integers


def confusion_matrix(truth: Truth, predictions: Predictions, thresholds: float | Mapping[int, float]) -> Confusion:
    """Counts what is taken for what, one to one: of the same class first, then of any, the larger overlap first.

    Args:
        truth: annotated boxes.
        predictions: found boxes.
        thresholds: lowest score, for all classes or by category id; classes that are left out keep nothing.
    """
    background = len(truth.category_ids)
    counts = np.zeros((background + 1, background + 1), np.int64)
    for image in _images(truth, predictions, thresholds):
        pairs = image.pairs()
        np.add.at(counts, (image.annotated_class[pairs[:, 0]], image.found_class[pairs[:, 1]]), 1)
        missed = np.delete(image.annotated_class, pairs[:, 0])
        nothing = np.delete(image.found_class, pairs[:, 1])
        counts[:, background] += np.bincount(missed, minlength=background + 1)
        counts[background] += np.bincount(nothing, minlength=background + 1)
    return Confusion((*truth.names, "background"), counts)


def find_mistakes(truth: Truth, predictions: Predictions, thresholds: float | Mapping[int, float]) -> list[Mistake]:
    """Every mistake, the most severe first.

    Args:
        truth: annotated boxes.
        predictions: found boxes.
        thresholds: lowest score, for all classes or by category id; classes that are left out keep nothing.
    """
    mistakes = []
    for image in _images(truth, predictions, thresholds):
        mistakes += list(_mistakes_of(image, truth, predictions))
    return sorted(mistakes, key=lambda mistake: (-mistake.severity, mistake.image_id))


class Miss(Protocol):
    """What a gallery chooses from.

    Attributes:
        image_id: the image.
        reason: what kind of mistake it is.
    """

    @property
    def image_id(self) -> Hashable: ...
    @property
    def reason(self) -> str: ...


_Miss = TypeVar("_Miss", bound=Miss)


def worst(mistakes: Sequence[_Miss], count: int) -> list[_Miss]:
    """So many mistakes for a gallery: of each reason in turn the first, with at most one of a reason an image.

    Args:
        mistakes: the most severe first.
        count: how many at most.
    """
    queues: dict[str, dict[Hashable, _Miss]] = {}
    for mistake in mistakes:
        queue = queues.setdefault(mistake.reason, {})
        if len(queue) < count:
            queue.setdefault(mistake.image_id, mistake)
    turns = zip_longest(*(queue.values() for queue in queues.values()))
    return [mistake for turn in turns for mistake in turn if mistake is not None][:count]


@dataclass(frozen=True, eq=False)
class _Image:
    """One image: boxes that count and found boxes above the threshold.

    Attributes:
        image_id: of the image.
        area: of the image, in square pixels.
        annotated: (G,) rows of the truth.
        found: (D,) rows of the predictions, best first.
        annotated_class: (G,) places of classes.
        found_class: (D,) likewise.
        iou: (G, D)
    """

    image_id: int
    area: float
    annotated: Integers
    found: Integers
    annotated_class: Integers
    found_class: Integers
    iou: Floats

    def pairs(self) -> Integers:
        """(M, 2) places of annotated and found boxes that belong together, one to one."""
        same = self.annotated_class[:, None] == self.found_class
        one, other = np.nonzero(self.iou >= FOUND_IOU)
        order = np.lexsort((other, one, -self.iou[one, other], ~same[one, other]))
        free_one, free_other = np.ones(len(self.annotated), bool), np.ones(len(self.found), bool)
        chosen = []
        for annotated, found in zip(one[order].tolist(), other[order].tolist(), strict=True):
            if free_one[annotated] and free_other[found]:
                free_one[annotated] = free_other[found] = False
                chosen.append((annotated, found))
        return np.array(chosen, np.int64).reshape(-1, 2)


def _images(truth: Truth, predictions: Predictions, thresholds: float | Mapping[int, float]) -> Iterator[_Image]:
    category = truth.category_indices(predictions.category_id)
    kept = np.flatnonzero(predictions.score >= thresholds_by_place(truth, thresholds)[category])
    kept = kept[np.lexsort((-predictions.score[kept], predictions.image_id[kept]))]
    rows = np.argsort(truth.image_id, kind="stable")
    category_of_truth = truth.category_indices(truth.category_id)
    ends = [
        np.searchsorted(ids, truth.image_ids, "right") for ids in (truth.image_id[rows], predictions.image_id[kept])
    ]
    all_annotated, all_found = np.split(rows, ends[0][:-1]), np.split(kept, ends[1][:-1])
    for place, id in enumerate(truth.image_ids.tolist()):
        annotated, found = all_annotated[place], all_found[place]
        crowd = truth.iscrowd[annotated]
        iou = _all_iou(truth, annotated, predictions, found)
        same = category_of_truth[annotated][:, None] == category[found]
        in_crowd = np.any((iou >= FOUND_IOU) & crowd[:, None] & same, axis=0)
        annotated, found = annotated[~crowd], found[~in_crowd]
        yield _Image(
            image_id=id,
            area=float(np.prod(truth.sizes_hw[place])),
            annotated=annotated,
            found=found,
            annotated_class=category_of_truth[annotated],
            found_class=category[found],
            iou=iou[~crowd][:, ~in_crowd],
        )


def _all_iou(truth: Truth, annotated: Integers, predictions: Predictions, found: Integers) -> Floats:
    one, other = (side.ravel() for side in np.meshgrid(annotated, found, indexing="ij"))
    return pair_iou(predictions.bbox[other], truth.bbox[one], truth.iscrowd[one]).reshape(len(annotated), len(found))


def _mistakes_of(image: _Image, truth: Truth, predictions: Predictions) -> Iterator[Mistake]:
    same = image.annotated_class[:, None] == image.found_class
    pairs = image.pairs()
    right = pairs[same[pairs[:, 0], pairs[:, 1]]]
    near_same = np.where(same, image.iou, 0.0)
    near_other = np.where(same, 0.0, image.iou)
    for place in np.setdiff1d(np.arange(len(image.annotated)), right[:, 0]).tolist():
        row = int(image.annotated[place])
        reason, by = _why(near_same[place], near_other[place], missed=True)
        yield Mistake(
            image_id=image.image_id,
            reason=reason,
            category_id=int(truth.category_id[row]),
            bbox=_box(truth.bbox[row]),
            annotation=row,
            prediction=None if by is None else int(image.found[by]),
            score=None,
            severity=min(1.0, float(np.sqrt(np.prod(truth.bbox[row, 2:]) / image.area))),
        )
    for place in np.setdiff1d(np.arange(len(image.found)), right[:, 1]).tolist():
        row = int(image.found[place])
        reason, by = _why(near_same[:, place], near_other[:, place], missed=False)
        yield Mistake(
            image_id=image.image_id,
            reason=reason,
            category_id=int(predictions.category_id[row]),
            bbox=_box(predictions.bbox[row]),
            annotation=None if by is None else int(image.annotated[by]),
            prediction=row,
            score=float(predictions.score[row]),
            severity=min(1.0, max(0.0, float(predictions.score[row]))),
        )


def _why(same: Floats, other: Floats, *, missed: bool) -> tuple[Reason, int | None]:
    """The reason, and the place of the box on the other side that it has to do with."""
    if same.max(initial=0.0) >= FOUND_IOU:
        # An annotated box whose finder was given to a neighbour was missed, for all that one can tell.
        return ("missed" if missed else "duplicate"), int(np.argmax(same))
    if other.max(initial=0.0) >= FOUND_IOU:
        return "wrong class", int(np.argmax(other))
    if same.max(initial=0.0) >= NEAR_IOU:
        return "badly placed", int(np.argmax(same))
    return ("missed" if missed else "background"), None


def _box(bbox: Floats) -> tuple[float, float, float, float]:
    left, top, width, height = bbox.tolist()
    return left, top, width, height
