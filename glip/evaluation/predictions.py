"""The boxes that are scored, as columns, read from any detector's file and checked against the truth.

Two forms are read: COCO's results, a bare list of boxes, and a COCO file whose boxes have a `score`, matched by file
and class names. A box is [left, top, width, height] in pixels of the original image. Knows nothing of scores' use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from glip.data.annotations import Bools, Floats, Integers, Truth
from glip.data.box_formats import why_not_pixels
from glip.data.coco import CocoCategory, CocoImage
from glip.data.json_errors import why_no_json
from glip.errors import InputError

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Boxes of a detector, in the order of its file: with equal scores the first goes first.

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
        """No box at all."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, nothing, np.zeros((0, 4)), np.zeros(0))

    def rows(self, keep: Bools | Integers) -> Predictions:
        """Some of the boxes: a mask, or places in their new order."""
        return Predictions(self.image_id[keep], self.category_id[keep], self.bbox[keep], self.score[keep])


class _Box(msgspec.Struct, frozen=True, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


class _File(msgspec.Struct, frozen=True):
    images: list[CocoImage]
    annotations: list[_Box]
    categories: list[CocoCategory]


def read_predictions(path: str | Path, truth: Truth) -> Predictions:
    """Reads boxes with scores, in either form, and checks that they fit the truth.

    Raises:
        InputError: the file is cut off or not in one of the forms, talks of unknown images or classes, has scores
            that are not numbers, or boxes in another form than left, top, width, height.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    if content.lstrip()[:1] == b"{":
        predictions = _by_names(path, _decode(path, content, _File), truth)
    else:
        predictions = _columns(_decode(path, content, list[_Box]))
    check_predictions(predictions, truth, str(path))
    return predictions


def check_predictions(predictions: Predictions, truth: Truth, where: str) -> None:
    """Refuses boxes that cannot be meant for this truth.

    Args:
        predictions: what was found.
        truth: what it is to be scored against.
        where: said first in the message, such as the name of the file.

    Raises:
        InputError: as `read_predictions`.
    """
    _check_known(where, "image", predictions.image_id, truth.image_ids)
    _check_known(where, "class", predictions.category_id, truth.category_ids)
    bad = _first(~np.isfinite(predictions.score))
    if bad is not None:
        raise InputError(f"{where}: the score of box {bad} is {predictions.score[bad]}; a score is a finite number.")
    bad = _first(~np.all(np.isfinite(predictions.bbox), axis=1))
    if bad is not None:
        raise InputError(f"{where}: box {bad} is {predictions.bbox[bad].tolist()}; its four numbers must be finite.")
    bad = _first(np.any(predictions.bbox[:, 2:] < 0, axis=1))
    if bad is not None:
        raise InputError(
            f"{where}: box {bad} has a negative size: {predictions.bbox[bad].tolist()} "
            f"(left, top, width, height in pixels)."
        )
    size_wh = truth.sizes_hw[truth.image_places(predictions.image_id)][:, ::-1].astype(np.float64)
    if why := why_not_pixels(predictions.bbox, size_wh):
        raise InputError(f"{where}: {why}")


def _decode(path: Path, content: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        if "out of range" in str(error):
            raise InputError(
                f"{path} holds a number that is too large ({error}); scores and boxes are finite."
            ) from error
        raise InputError(_why_no_boxes(path, content, str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(why_no_json(path, content, str(error))) from error


def _why_no_boxes(path: Path, content: bytes, error: str) -> str:
    """What is wrong with a file that is JSON, at least to the place where the parser stopped."""
    try:
        whole = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as other:
        return why_no_json(path, content, str(other))
    hint = "Write it in one of these forms."
    lists = [key for key, value in whole.items() if isinstance(value, list)] if isinstance(whole, dict) else []
    if lists and "images" not in whole:
        hint = f"If the boxes stand under {lists[0]!r}, write that list alone."
    elif isinstance(whole, list) and "_id" in error and ("`str`" in error or "`float`" in error):
        hint = "Ids are the whole numbers of the annotation file, not names."
    elif isinstance(whole, list) and "bbox" in error:
        hint = "A bbox is four numbers: left, top, width, height in pixels."
    return (
        f"{path} is neither a list of COCO results (image_id, category_id, bbox, score) nor a COCO file with scores "
        f"(images, annotations, categories): {error}. {hint}"
    )


def _columns(boxes: Sequence[_Box]) -> Predictions:
    return Predictions(
        np.array([box.image_id for box in boxes], np.int64),
        np.array([box.category_id for box in boxes], np.int64),
        np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4),
        np.array([box.score for box in boxes], np.float64),
    )


def _by_names(path: Path, file: _File, truth: Truth) -> Predictions:
    """A COCO file numbers its images and classes for itself, so that names say which are meant."""
    double = next((name for name, count in Counter(truth.names).items() if count > 1), None)
    if double is not None:
        raise InputError(
            f"{path} says classes by their names, and the truth has several called {double!r}. Write a list of COCO "
            f"results instead, which says them by their ids."
        )
    boxes = _columns(file.annotations)
    image_of = dict(zip(truth.file_names, truth.image_ids.tolist(), strict=True))
    category_of = dict(zip(truth.names, truth.category_ids.tolist(), strict=True))
    used_images, used_categories = set(boxes.image_id.tolist()), set(boxes.category_id.tolist())
    images = {}
    for image in file.images:
        if image.file_name in image_of:
            images[image.id] = image_of[image.file_name]
        elif image.id in used_images:
            raise InputError(
                f"{path} has boxes for the image {image.file_name!r}, which the truth does not know"
                f"{_example(truth.file_names)}."
            )
    categories = {}
    small = {name.casefold(): name for name in truth.names}
    for category in file.categories:
        if category.name in category_of:
            categories[category.id] = category_of[category.name]
        elif category.name.casefold() in small:
            raise InputError(
                f"{path} calls a class {category.name!r}, which the truth spells "
                f"{small[category.name.casefold()]!r}. Use the same letters."
            )
        elif category.id in used_categories:
            raise InputError(
                f"{path} has boxes of the class {category.name!r}, which the truth does not know"
                f"{_example(truth.names)}."
            )
    return Predictions(
        _translated(path, "image_id", boxes.image_id, images),
        _translated(path, "category_id", boxes.category_id, categories),
        boxes.bbox,
        boxes.score,
    )


def _translated(path: Path, field: str, ids: Integers, meaning: Mapping[int, int]) -> Integers:
    known, where = np.unique(ids, return_inverse=True)
    for id in known.tolist():
        if id not in meaning:
            raise InputError(f"{path}: boxes have the {field} {id}, which the file itself does not list.")
    return np.array([meaning[id] for id in known.tolist()], np.int64)[where] if len(ids) else ids


def _example(names: Sequence[str]) -> str:
    return f" (it knows, for instance, {', '.join(map(repr, names[:3]))})" if names else " (it knows none)"


def _check_known(where: str, what: str, ids: Integers, known: Integers) -> None:
    unknown = ~np.isin(ids, known)
    bad = _first(unknown)
    if bad is None:
        return
    field = {"image": "image_id", "class": "category_id"}[what]
    span = f"{len(known)} of them, ids {known[0]} to {known[-1]}" if len(known) else "none"
    advice = "Score them against the split they were made for."
    if what == "class" and ids.min() >= 0 and ids.max() <= len(known):
        advice = "If they count classes instead, write the category ids of the annotation file."
    raise InputError(
        f"{where}: {int(unknown.sum())} of {len(ids)} boxes have a {field} that the truth does not know, first "
        f"box {bad} with {field} {ids[bad]} (the truth has {span}). {advice}"
    )


def _first(bad: Bools) -> int | None:
    return int(np.argmax(bad)) if bad.any() else None
