"""Computes Pascal VOC's average precision at IoU 0.5.

Each predicted box is compared with the annotated box that it overlaps most. The best predicted box of an annotated box
is right, further ones are wrong, and those of difficult boxes are neither. Boxes are left, top, width, height,
continuous: VOC's corners are pixels, counted from 1 and inclusive, so its 1..10 is here 0 with a width of 10, and no
+1 is needed anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glip.boxes import box_iou_xywh
from glip.data.annotations import Floats, Integers, Truth
from glip.evaluation.metrics.coco import mean_of_known
from glip.evaluation.metrics.matching import pairs_of_same_group
from glip.evaluation.predictions import Predictions

IOU = 0.5
_LEVELS: Floats = np.arange(0.0, 1.1, 0.1)


@dataclass(frozen=True, eq=False)
class VocScores:
    """The AP of every class at IoU 0.5; -1 for a class without a box that counts.

    Attributes:
        category_ids: (K,)
        names: (K)
        boxes: (K,) number of annotated boxes that are not difficult.
        area: (K,) area under the curve, the rule since 2010.
        eleven_points: (K,) mean of the maximum precision beyond eleven recall levels, the rule of 2007.
    """

    category_ids: Integers
    names: tuple[str, ...]
    boxes: Integers
    area: Floats
    eleven_points: Floats

    def numbers(self) -> dict[str, float]:
        """Returns the means over the classes: AP50 by area, and AP50 by eleven points as AP50-11."""
        return {"AP50": mean_of_known(self.area), "AP50-11": mean_of_known(self.eleven_points)}


def voc_scores(truth: Truth, predictions: Predictions) -> VocScores:
    """Scores boxes as VOC's development kit does.

    Args:
        truth: `ignore` marks difficult boxes.
        predictions: predicted boxes. Of equal scores the image with the lower id comes first, then the file's order.
    """
    category, verdict = _judge(truth, predictions)
    classes = len(truth.category_ids)
    boxes = np.bincount(truth.category_indices(truth.category_id[~truth.ignore]), minlength=classes)
    area, eleven_points = np.full(classes, -1.0), np.full(classes, -1.0)
    for index in np.flatnonzero(boxes).tolist():
        own = verdict[category == index]
        right, wrong = np.cumsum(own > 0), np.cumsum(own < 0)
        recall = right / boxes[index]
        precision = right / np.maximum(right + wrong, 1)
        area[index] = _area(recall, precision)
        best = [precision[recall >= level].max(initial=0.0) for level in _LEVELS]
        eleven_points[index] = float(np.mean(best))
    return VocScores(truth.category_ids, truth.names, boxes, area, eleven_points)


def _judge(truth: Truth, predictions: Predictions) -> tuple[Integers, Integers]:
    """Returns the class index and the verdict of every predicted box in order of class and score.

    The verdict is 1 for right, -1 for wrong, 0 for neither.
    """
    category = truth.category_indices(predictions.category_id)
    image = truth.image_indices(predictions.image_id)
    order = np.lexsort((image, -predictions.score, category))
    group = (category * len(truth.image_ids) + image)[order]
    bbox = predictions.bbox[order]
    target = np.full(len(order), -1)
    for predicted, annotated in pairs_of_same_group(truth, group):
        iou = box_iou_xywh(bbox[predicted], truth.bbox[annotated])
        # The last entry of each predicted box is its largest IoU; of equal ones, the first of the file.
        by_iou = np.lexsort((-annotated, iou, predicted))
        last = np.flatnonzero(np.diff(predicted[by_iou], append=-1))
        best = by_iou[last]
        best = best[iou[best] >= IOU]
        target[predicted[best]] = annotated[best]
    hit = np.flatnonzero(target >= 0)
    verdict = np.full(len(order), -1)
    verdict[hit[truth.ignore[target[hit]]]] = 0
    counted = hit[~truth.ignore[target[hit]]]
    _, first = np.unique(target[counted], return_index=True)
    verdict[counted[first]] = 1
    return category[order], verdict


def _area(recall: Floats, precision: Floats) -> float:
    envelope = np.maximum.accumulate(np.append(precision, 0.0)[::-1])[::-1]
    return float(np.sum(np.diff(np.append(0.0, recall)) * envelope[:-1]))
