"""Pascal VOC: its annotation files, and its average precision at an overlap of one half.

A found box answers for the annotated box that it overlaps most; the best one that does so is right, further ones are
wrong, and finds of difficult boxes are neither. Boxes are left, top, width, height, continuous: VOC's corners are
pixels, counted from 1 and both inside, so that its 1..10 is here 0 with a width of 10, and no +1 is needed anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from glip.errors import InputError
from glip.evaluation.coco import mean_of_known
from glip.evaluation.matching import pair_iou, pairs_of_same_group
from glip.evaluation.predictions import Predictions
from glip.evaluation.truth import Floats, Integers, Truth

IOU = 0.5
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LEVELS: Floats = np.arange(0.0, 1.1, 0.1)


@dataclass(frozen=True, eq=False)
class VocScores:
    """AP at an overlap of 0.5 by class; -1 where a class has no box that counts.

    Attributes:
        category_ids: (K,)
        names: (K)
        boxes: (K,) annotated boxes that are not difficult.
        area: (K,) area under the curve, the rule since 2010.
        eleven_points: (K,) mean of the best precision beyond eleven recalls, the rule of 2007.
    """

    category_ids: Integers
    names: tuple[str, ...]
    boxes: Integers
    area: Floats
    eleven_points: Floats

    def numbers(self) -> dict[str, float]:
        """Means over the classes: AP50 by area, and AP50 by eleven points as AP50-11."""
        return {"AP50": mean_of_known(self.area), "AP50-11": mean_of_known(self.eleven_points)}


def voc_scores(truth: Truth, predictions: Predictions) -> VocScores:
    """Scores boxes as VOC's development kit does.

    Args:
        truth: `ignore` marks difficult boxes.
        predictions: found boxes. Of equal scores the picture with the lower id goes first, then the file decides.
    """
    category, verdict = _judge(truth, predictions)
    classes = len(truth.category_ids)
    boxes = np.bincount(truth.category_places(truth.category_id[~truth.ignore]), minlength=classes)
    area, eleven_points = np.full(classes, -1.0), np.full(classes, -1.0)
    for place in np.flatnonzero(boxes).tolist():
        own = verdict[category == place]
        right, wrong = np.cumsum(own > 0), np.cumsum(own < 0)
        recall = right / boxes[place]
        precision = right / np.maximum(right + wrong, 1)
        area[place] = _area(recall, precision)
        best = [precision[recall >= level].max(initial=0.0) for level in _LEVELS]
        eleven_points[place] = float(np.mean(best))
    return VocScores(truth.category_ids, truth.names, boxes, area, eleven_points)


def read_voc(listing: Path, annotations: Path, names: Sequence[str] | None = None) -> Truth:
    """Reads a split of VOC's form. Pictures get the ids 1, 2, … in the order of the list.

    Args:
        listing: names of pictures, one a line, as ImageSets/Main/test.txt; what follows the name is not read.
        annotations: folder of NAME.xml.
        names: of the classes, for the ids 1, 2, …; None for VOC's twenty, or if the files have others, for those in
            the order of the alphabet.

    Raises:
        InputError: a file is not there or is not as expected.
    """
    from glip.data.catalog import resolve  # brings torch along, which scoring does without

    try:
        images = [line.split()[0] for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {listing}: {error}.") from error
    pictures = [_read_picture(annotations / f"{image}.xml", image) for image in images]
    used = {name for picture in pictures for name in picture.names}
    known = tuple(names) if names is not None else resolve("voc").names
    if not used <= set(known):
        if names is not None:
            raise InputError(
                f"{annotations} has the class {min(used - set(known))!r}, which is not one of those given."
            )
        known = tuple(sorted(used))
    count = [len(picture.names) for picture in pictures]
    bbox = np.array([box for picture in pictures for box in picture.boxes], np.float64).reshape(-1, 4)
    return Truth(
        image_ids=np.arange(1, len(pictures) + 1),
        sizes_hw=np.array([picture.size_hw for picture in pictures], np.int64).reshape(-1, 2),
        file_names=tuple(picture.file_name for picture in pictures),
        category_ids=np.arange(1, len(known) + 1),
        names=known,
        annotation_id=np.arange(1, len(bbox) + 1),
        image_id=np.repeat(np.arange(1, len(pictures) + 1), count),
        category_id=np.array([known.index(name) + 1 for picture in pictures for name in picture.names], np.int64),
        bbox=bbox,
        area=bbox[:, 2] * bbox[:, 3],
        iscrowd=np.zeros(len(bbox), bool),
        ignore=np.array([flag for picture in pictures for flag in picture.difficult], bool),
    )


def _judge(truth: Truth, predictions: Predictions) -> tuple[Integers, Integers]:
    """Class and verdict of every found box, best first: 1 right, -1 wrong, 0 neither."""
    category = truth.category_places(predictions.category_id)
    image = truth.image_places(predictions.image_id)
    order = np.lexsort((image, -predictions.score, category))
    group = (category * len(truth.image_ids) + image)[order]
    bbox = predictions.bbox[order]
    target = np.full(len(order), -1)
    for found, annotated in pairs_of_same_group(truth, group):
        iou = pair_iou(bbox[found], truth.bbox[annotated], np.zeros(len(found), bool))
        # The largest overlap, and of equal ones the first of the file, comes last.
        by_overlap = np.lexsort((-annotated, iou, found))
        last = np.flatnonzero(np.diff(found[by_overlap], append=-1))
        best = by_overlap[last]
        best = best[iou[best] >= IOU]
        target[found[best]] = annotated[best]
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


@dataclass(frozen=True)
class _Picture:
    file_name: str
    size_hw: tuple[int, int]
    names: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    difficult: tuple[bool, ...]


def _read_picture(path: Path, image: str) -> _Picture:
    try:
        root = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 (a file the user has chosen)
        items = root.findall("object")
        return _Picture(
            file_name=root.findtext("filename") or f"{image}.jpg",
            size_hw=(int(root.findtext("size/height", "")), int(root.findtext("size/width", ""))),
            names=tuple(item.findtext("name", "").strip() for item in items),
            boxes=tuple(_box(item) for item in items),
            difficult=tuple(item.findtext("difficult", "0").strip() == "1" for item in items),
        )
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}. Every picture of the list has such a file.") from error
    except (ET.ParseError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} is not an annotation file of Pascal VOC: {error}.") from error


def _box(item: ET.Element) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(item.findtext(f"bndbox/{corner}", "")) for corner in _CORNERS)
    return left - 1, top - 1, right - left + 1, bottom - top + 1
