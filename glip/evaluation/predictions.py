"""The boxes that are scored, as columns: read from any detector's file and checked against the truth.

Two formats are read: COCO results, a bare list of boxes, and a COCO file whose boxes have a `score`, matched by the
names of images and classes. A box is [left, top, width, height] in pixels of the original image. Knows no metric.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET

from glip.data.annotations import Bools, Floats, Integers, Truth, box_format_problem
from glip.data.coco import CocoDataset, CocoResult
from glip.data.coco_checks import Place
from glip.data.coco_reading import decode_coco, decode_results
from glip.data.image_files import match_names
from glip.errors import InputError
from glip.files import UnexpectedJson, decode_json, read_content
from glip.names import name_key

logger = logging.getLogger(__name__)

_FORMATS = (
    "a list of COCO results (image_id, category_id, bbox, score) or a COCO file with scores (images, annotations, "
    "categories)"
)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Boxes of a detector, in the order of its file: of equal scores the first counts first.

    Attributes:
        image_id: (N,)
        category_id: (N,)
        bbox: (N, 4) left, top, width, height in pixels of the original image.
        score: (N,)
    """

    image_id: Integers
    category_id: Integers
    bbox: Floats
    score: Floats

    def __post_init__(self) -> None:
        count = len(self.score)
        assert self.bbox.shape == (count, 4), self.bbox.shape
        assert self.image_id.shape == self.category_id.shape == (count,), (self.image_id.shape, self.category_id.shape)

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def none(cls) -> Predictions:
        """Returns no boxes."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, np.zeros((0, 4)), np.zeros(0))

    def rows(self, keep: Bools | Integers) -> Predictions:
        """Returns some of the boxes: those of a mask, or of indices in their order."""
        return Predictions(self.image_id[keep], self.category_id[keep], self.bbox[keep], self.score[keep])

    def of_images(self, image_ids: Integers) -> Predictions:
        """Returns the boxes of some images."""
        return self.rows(np.isin(self.image_id, image_ids))


def read_predictions(path: str | Path, truth: Truth) -> Predictions:
    """Reads boxes with scores, in either format, and checks them against the truth.

    Raises:
        InputError: the file cannot be read or has another format, or `check_predictions` refuses its boxes.
    """
    path = Path(path)
    content = read_content(path, _FORMATS)
    try:
        if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
            dataset, left_out = decode_coco(path, content, what=_FORMATS)
            for entry in left_out:
                logger.warning("%s", entry)
            predictions = _matched_by_name(path, dataset, _scored(Place(path, content), dataset), truth)
        else:
            predictions = _columns(decode_results(path, content, _FORMATS))
    except UnexpectedJson as error:
        hint = "" if "out of range" in error.reason else f" {_hint(content, error.reason)}"
        raise InputError(f"{error}{hint}") from error
    check_predictions(predictions, truth, str(path))
    return predictions


def check_predictions(predictions: Predictions, truth: Truth, where: str) -> None:
    """Refuses boxes that do not belong to the truth, or are not boxes.

    Args:
        predictions: to be scored.
        truth: to score against.
        where: the beginning of the message, such as the name of the file.

    Raises:
        InputError: a box has an unknown image or class, a score or corner that is not finite, a negative size, or the
            boxes are in another format than left, top, width, height.
    """
    _check_ids(where, "image_id", predictions.image_id, truth.image_ids)
    _check_ids(where, "category_id", predictions.category_id, truth.category_ids)
    bad = _first(~np.isfinite(predictions.score))
    if bad is not None:
        raise InputError(f"{where}: the score of box {bad} is {predictions.score[bad]}; it must be a finite number.")
    bad = _first(~np.all(np.isfinite(predictions.bbox), axis=1))
    if bad is not None:
        raise InputError(f"{where}: box {bad} is {predictions.bbox[bad].tolist()}; its four numbers must be finite.")
    bad = _first(np.any(predictions.bbox[:, 2:] < 0, axis=1))
    if bad is not None:
        raise InputError(
            f"{where}: box {bad} has a negative size: {predictions.bbox[bad].tolist()} "
            f"(left, top, width, height in pixels)."
        )
    sizes_wh = truth.sizes_hw[truth.image_indices(predictions.image_id)][:, ::-1].astype(np.float64)
    if problem := box_format_problem(predictions.bbox, sizes_wh):
        raise InputError(f"{where}: {problem}")


def _scored(place: Place, dataset: CocoDataset) -> Sequence[CocoResult]:
    """Returns the boxes of a COCO file, which must all have a score."""
    for index, box in enumerate(dataset.annotations):
        if box.score is UNSET:
            place.fail(
                "annotations",
                index,
                f"annotation {box.id} has no score, by which predictions are ranked. Write one, or leave the box out.",
            )
    boxes = dataset.annotations
    return [CocoResult(b.image_id, b.category_id, b.bbox, b.score) for b in boxes if b.score is not UNSET]


def _hint(content: bytes, reason: str) -> str:
    """Returns what to do with a JSON file that is neither format."""
    whole: Any = decode_json(content, object, "", "JSON")
    lists = [key for key, value in whole.items() if isinstance(value, list)] if isinstance(whole, dict) else []
    if lists and "images" not in whole:
        return f"If the boxes are under {lists[0]!r}, write that list alone."
    if isinstance(whole, list) and "_id" in reason and ("`str`" in reason or "`float`" in reason):
        return "Ids are the whole numbers of the annotation file, not names."
    if isinstance(whole, list) and "bbox" in reason:
        return "A bbox is four numbers: left, top, width, height in pixels."
    return "Write it in one of these formats."


def _columns(boxes: Sequence[CocoResult]) -> Predictions:
    return Predictions(
        np.array([box.image_id for box in boxes], np.int64),
        np.array([box.category_id for box in boxes], np.int64),
        np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4),
        np.array([box.score for box in boxes], np.float64),
    )


def _matched_by_name(path: Path, file: CocoDataset, results: Sequence[CocoResult], truth: Truth) -> Predictions:
    """Returns boxes with the truth's ids: a COCO file has ids of its own, so images and classes are matched by name."""
    double = next((name for name, count in Counter(truth.names).items() if count > 1), None)
    if double is not None:
        raise InputError(
            f"{path} gives classes by name, and the truth has several called {double!r}. Write a list of COCO results "
            f"instead, which gives them by id."
        )
    boxes = _columns(results)
    images = _truth_image_ids(path, file, truth, set(boxes.image_id.tolist()))
    categories = _truth_category_ids(path, file, truth, set(boxes.category_id.tolist()))
    return Predictions(
        _translated(path, "image_id", boxes.image_id, images),
        _translated(path, "category_id", boxes.category_id, categories),
        boxes.bbox,
        boxes.score,
    )


def _truth_image_ids(path: Path, file: CocoDataset, truth: Truth, used: set[int]) -> dict[int, int]:
    known = dict(zip(truth.file_names, truth.image_ids.tolist(), strict=True))
    same = match_names([image.file_name for image in file.images], truth.file_names)
    ids = {}
    for image in file.images:
        if image.file_name in same:
            ids[image.id] = known[same[image.file_name]]
        elif image.id in used:
            raise InputError(
                f"{path} has boxes for the image {image.file_name!r}, which is not in the truth"
                f"{_example(truth.file_names)}."
            )
    return ids


def _truth_category_ids(path: Path, file: CocoDataset, truth: Truth, used: set[int]) -> dict[int, int]:
    known = dict(zip(truth.names, truth.category_ids.tolist(), strict=True))
    spelling = {name_key(name): name for name in truth.names}
    ids = {}
    for category in file.categories:
        if category.name in known:
            ids[category.id] = known[category.name]
        elif name_key(category.name) in spelling:
            raise InputError(
                f"{path} has the class {category.name!r}, which the truth spells "
                f"{spelling[name_key(category.name)]!r}. Use the same letters."
            )
        elif category.id in used:
            raise InputError(
                f"{path} has boxes of the class {category.name!r}, which is not in the truth{_example(truth.names)}."
            )
    return ids


def _translated(path: Path, field: str, ids: Integers, meaning: Mapping[int, int]) -> Integers:
    known, where = np.unique(ids, return_inverse=True)
    for id in known.tolist():
        if id not in meaning:
            raise InputError(f"{path}: boxes have the {field} {id}, which the file itself does not list.")
    return np.array([meaning[id] for id in known.tolist()], np.int64)[where] if len(ids) else ids


def _example(names: Sequence[str]) -> str:
    return f" (it has, for example, {', '.join(map(repr, names[:3]))})" if names else " (it has none)"


def _check_ids(where: str, field: str, ids: Integers, known: Integers) -> None:
    unknown = ~np.isin(ids, known)
    bad = _first(unknown)
    if bad is None:
        return
    span = f"{len(known)} ids, {known[0]} to {known[-1]}" if len(known) else "none"
    advice = "Score them against the split they were made for."
    if field == "category_id" and ids.min() >= 0 and ids.max() <= len(known):
        advice = "If these are indices of classes, write the category ids of the annotation file instead."
    raise InputError(
        f"{where}: {int(unknown.sum())} of {len(ids)} boxes have a {field} that is not in the truth, first box {bad} "
        f"with {field} {ids[bad]} (the truth has {span}). {advice}"
    )


def _first(bad: Bools) -> int | None:
    return int(np.argmax(bad)) if bad.any() else None
