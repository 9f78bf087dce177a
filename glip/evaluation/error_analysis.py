"""Lists the errors at given score thresholds: which class is taken for which, and every single error with its reason.

Reasons, by the IoU with annotated boxes of the image (0.5 is enough to be found, 0.1 to be near):

    missed        an annotated box with no predicted box of any class near it
    wrong class   a predicted box on an annotated box of another class; also the annotated box under it
    badly placed  a predicted box of the right class whose IoU is too low; also the annotated box beside it
    duplicate     a second predicted box on an annotated box
    background    a predicted box on nothing

Crowds are left out, together with predicted boxes of their class that lie in them. Draws nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, Protocol, TypeVar

import numpy as np

from glip.boxes import box_iou_xywh
from glip.data.annotations import Floats, Integers, Truth
from glip.evaluation.metrics.curves import thresholds_by_class
from glip.evaluation.predictions import Predictions

Reason = Literal["missed", "wrong class", "badly placed", "duplicate", "background"]

FOUND_IOU = 0.5
NEAR_IOU = 0.1


@dataclass(frozen=True)
class Mistake:
    """One error, about an annotated box that was not found (then it has no score) or about a predicted box.

    Attributes:
        image_id: the image.
        reason: see above.
        category_id: of the box that the error is about.
        annotation: row of the truth: the box that was not found, or the one that the predicted box lies on or beside;
            None if there is none.
        prediction: row of the predictions: the wrong box, or the one on or beside the annotated box; None if there is
            none.
        score: of the wrong box; None for an annotated box that was not found.
        severity: 0 to 1: the score of a predicted box, or the square root of the share of the image that an annotated
            box covers.
    """

    image_id: int
    reason: Reason
    category_id: int
    annotation: int | None
    prediction: int | None
    score: float | None
    severity: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often each class is taken for each other class.

    Attributes:
        names: of the classes, then `background`.
        counts: (K + 1, K + 1) rows are annotated classes, columns predicted ones. The last column counts annotated
            boxes that were missed, the last row predicted boxes on nothing.
    """

    names: tuple[str, ...]
    counts: Integers


def confusion_matrix(truth: Truth, predictions: Predictions, thresholds: float | Mapping[int, float]) -> Confusion:
    """Counts pairs of annotated and predicted boxes, matched one to one.

    Pairs of the same class are matched first, then pairs of any classes; of these the largest IoU comes first.

    Args:
        truth: annotated boxes.
        predictions: predicted boxes.
        thresholds: minimum score, for all classes or by category id. Classes that are left out keep no box.
    """
    background = len(truth.category_ids)
    counts = np.zeros((background + 1, background + 1), np.int64)
    for image in _images(truth, predictions, thresholds):
        pairs = image.pairs()
        np.add.at(counts, (image.annotated_class[pairs[:, 0]], image.predicted_class[pairs[:, 1]]), 1)
        missed = np.delete(image.annotated_class, pairs[:, 0])
        on_nothing = np.delete(image.predicted_class, pairs[:, 1])
        counts[:, background] += np.bincount(missed, minlength=background + 1)
        counts[background] += np.bincount(on_nothing, minlength=background + 1)
    return Confusion((*truth.names, "background"), counts)


def find_mistakes(truth: Truth, predictions: Predictions, thresholds: float | Mapping[int, float]) -> list[Mistake]:
    """Returns every error, the most severe first.

    Args:
        truth: annotated boxes.
        predictions: predicted boxes.
        thresholds: minimum score, for all classes or by category id. Classes that are left out keep no box.
    """
    mistakes = []
    for image in _images(truth, predictions, thresholds):
        mistakes += list(_mistakes_of(image, truth, predictions))
    return sorted(mistakes, key=lambda mistake: (-mistake.severity, mistake.image_id))


class SortedByReason(Protocol):
    """An error that a gallery can show.

    Attributes:
        image_id: the image.
        reason: the kind of error.
    """

    @property
    def image_id(self) -> Hashable: ...
    @property
    def reason(self) -> str: ...


_Error = TypeVar("_Error", bound=SortedByReason)


def worst(mistakes: Sequence[_Error], count: int) -> list[_Error]:
    """Selects errors for a gallery: the first of each reason in turn, at most one per reason and image.

    Args:
        mistakes: the most severe first.
        count: maximum number of errors.
    """
    queues: dict[str, dict[Hashable, _Error]] = {}
    for mistake in mistakes:
        queue = queues.setdefault(mistake.reason, {})
        if len(queue) < count:
            queue.setdefault(mistake.image_id, mistake)
    turns = zip_longest(*(queue.values() for queue in queues.values()))
    return [mistake for turn in turns for mistake in turn if mistake is not None][:count]


@dataclass(frozen=True, eq=False)
class _ImageBoxes:
    """The boxes of one image: annotated boxes that count, and predicted boxes above the threshold.

    Attributes:
        image_id: of the image.
        area: of the image, in square pixels.
        annotated: (G,) rows of the truth.
        predicted: (D,) rows of the predictions, in descending order of score.
        annotated_class: (G,) class indices.
        predicted_class: (D,) class indices.
        iou: (G, D)
    """

    image_id: int
    area: float
    annotated: Integers
    predicted: Integers
    annotated_class: Integers
    predicted_class: Integers
    iou: Floats

    def pairs(self) -> Integers:
        """Returns (M, 2) indices of annotated and predicted boxes that match, one to one."""
        same = self.annotated_class[:, None] == self.predicted_class
        one, other = np.nonzero(self.iou >= FOUND_IOU)
        order = np.lexsort((other, one, -self.iou[one, other], ~same[one, other]))
        free_one, free_other = np.ones(len(self.annotated), bool), np.ones(len(self.predicted), bool)
        matched = []
        for annotated, predicted in zip(one[order].tolist(), other[order].tolist(), strict=True):
            if free_one[annotated] and free_other[predicted]:
                free_one[annotated] = free_other[predicted] = False
                matched.append((annotated, predicted))
        return np.array(matched, np.int64).reshape(-1, 2)


def _images(truth: Truth, predictions: Predictions, thresholds: float | Mapping[int, float]) -> Iterator[_ImageBoxes]:
    category = truth.category_indices(predictions.category_id)
    kept = np.flatnonzero(predictions.score >= thresholds_by_class(truth, thresholds)[category])
    kept = kept[np.lexsort((-predictions.score[kept], predictions.image_id[kept]))]
    rows = np.argsort(truth.image_id, kind="stable")
    category_of_truth = truth.category_indices(truth.category_id)
    ends = [
        np.searchsorted(ids, truth.image_ids, "right") for ids in (truth.image_id[rows], predictions.image_id[kept])
    ]
    all_annotated, all_predicted = np.split(rows, ends[0][:-1]), np.split(kept, ends[1][:-1])
    for index, id in enumerate(truth.image_ids.tolist()):
        annotated, predicted = all_annotated[index], all_predicted[index]
        crowd = truth.iscrowd[annotated]
        iou = box_iou_xywh(predictions.bbox[predicted][None], truth.bbox[annotated][:, None], crowd[:, None])
        same = category_of_truth[annotated][:, None] == category[predicted]
        in_crowd = np.any((iou >= FOUND_IOU) & crowd[:, None] & same, axis=0)
        annotated, predicted = annotated[~crowd], predicted[~in_crowd]
        yield _ImageBoxes(
            image_id=id,
            area=float(np.prod(truth.sizes_hw[index])),
            annotated=annotated,
            predicted=predicted,
            annotated_class=category_of_truth[annotated],
            predicted_class=category[predicted],
            iou=iou[~crowd][:, ~in_crowd],
        )


def _mistakes_of(image: _ImageBoxes, truth: Truth, predictions: Predictions) -> Iterator[Mistake]:
    same = image.annotated_class[:, None] == image.predicted_class
    pairs = image.pairs()
    right = pairs[same[pairs[:, 0], pairs[:, 1]]]
    iou_same = np.where(same, image.iou, 0.0)
    iou_other = np.where(same, 0.0, image.iou)
    for index in np.setdiff1d(np.arange(len(image.annotated)), right[:, 0]).tolist():
        row = int(image.annotated[index])
        reason, by = _reason(iou_same[index], iou_other[index], missed=True)
        yield Mistake(
            image_id=image.image_id,
            reason=reason,
            category_id=int(truth.category_id[row]),
            annotation=row,
            prediction=None if by is None else int(image.predicted[by]),
            score=None,
            severity=min(1.0, float(np.sqrt(np.prod(truth.bbox[row, 2:]) / image.area))),
        )
    for index in np.setdiff1d(np.arange(len(image.predicted)), right[:, 1]).tolist():
        row = int(image.predicted[index])
        reason, by = _reason(iou_same[:, index], iou_other[:, index], missed=False)
        yield Mistake(
            image_id=image.image_id,
            reason=reason,
            category_id=int(predictions.category_id[row]),
            annotation=None if by is None else int(image.annotated[by]),
            prediction=row,
            score=float(predictions.score[row]),
            severity=min(1.0, max(0.0, float(predictions.score[row]))),
        )


def _reason(same: Floats, other: Floats, *, missed: bool) -> tuple[Reason, int | None]:
    """Returns the reason, and the index of the box on the other side that it is about.

    Args:
        same: IoU with the boxes of the same class on the other side.
        other: IoU with the boxes of other classes.
        missed: the error is about an annotated box.
    """
    if same.max(initial=0.0) >= FOUND_IOU:
        # The only predicted box on this annotated box was matched with a neighbour, so this one was missed.
        return ("missed" if missed else "duplicate"), int(np.argmax(same))
    if other.max(initial=0.0) >= FOUND_IOU:
        return "wrong class", int(np.argmax(other))
    if same.max(initial=0.0) >= NEAR_IOU:
        return "badly placed", int(np.argmax(same))
    return ("missed" if missed else "background"), None
