"""States which boxes and classes of a data set are not asked, not scored or not learned.

Works on the columns of `Truth`. Opens no file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from glip.data.annotations import Bools, Truth
from glip.left_out import LeftOut, first_examples
from glip.names import clean_name


@dataclass(frozen=True)
class Use:
    """What happens to unusable parts of a split, in words for the sentences."""

    boxes: str
    nameless: str
    empty_class: str


SCORED = Use(
    "They are scored as annotated: no detection can match them, so they count as missed",
    "A model is not asked for such a class: its boxes count as missed, and its AP is 0",
    "A model is asked for such a class, which has no AP: the mean is over the other classes",
)
LEARNED = Use(
    "They are skipped in training",
    "A caption cannot hold such a class, so its boxes are skipped in training",
    "Such a class is prompted all the same, as the name of something absent",
)


def can_be_prompted(name: str) -> bool:
    """Returns whether a caption can ask for a class: its name has a letter, digit or symbol outside of brackets."""
    return any(letter.isalnum() or unicodedata.category(letter)[0] == "S" for letter in clean_name(name))


def unusable_parts(truth: Truth, prompted: Iterable[int], where: str, use: Use) -> list[LeftOut]:
    """Returns what of a split cannot be found or learned, one entry per kind.

    Args:
        truth: the split.
        prompted: category ids that are prompted.
        where: the split, for the sentences: "aquarium, validation split".
        use: what the boxes are for.
    """
    asked = set(prompted)
    return [
        *_boxes(truth, _without_area(truth), "boxes_without_area", where, "have no width or no height", use),
        *_boxes(truth, _outside(truth), "boxes_outside_image", where, "lie outside their image", use),
        *_nameless(truth, asked, where, use),
        *_without_boxes(truth, asked, where, use),
    ]


def _without_area(truth: Truth) -> Bools:
    return np.asarray((truth.bbox[:, 2:] <= 0).any(1))


def _outside(truth: Truth) -> Bools:
    sizes_wh = truth.sizes_hw[truth.image_indices(truth.image_id)][:, ::-1]
    first, last = truth.bbox[:, :2], truth.bbox[:, :2] + truth.bbox[:, 2:]
    return np.asarray(((first >= sizes_wh) | (last <= 0)).any(1) & ~_without_area(truth))


def _boxes(truth: Truth, which: Bools, kind: str, where: str, what: str, use: Use) -> Iterator[LeftOut]:
    rows = np.flatnonzero(which)
    if not len(rows):
        return
    names = dict(zip(truth.image_ids.tolist(), truth.file_names, strict=True))
    yield LeftOut(
        kind=kind,
        count=len(rows),
        sentence=f"{where}: {len(rows)} of {len(which)} boxes {what}. {use.boxes}; correct or remove them.",
        examples=first_examples(
            f"annotation {truth.annotation_id[row]} of {names[int(truth.image_id[row])]}" for row in rows
        ),
    )


def _nameless(truth: Truth, asked: set[int], where: str, use: Use) -> Iterator[LeftOut]:
    rows = [
        (int(id), name, int((truth.category_id == id).sum()))
        for id, name in zip(truth.category_ids, truth.names, strict=True)
        if id not in asked and not can_be_prompted(name)
    ]
    if rows:
        yield LeftOut(
            kind="classes_without_name",
            count=len(rows),
            sentence=f"{where}: {_classes(len(rows))} without a usable name, with {sum(row[2] for row in rows)} boxes. "
            f"{use.nameless}; give each class a name of letters or digits.",
            examples=first_examples(f"category {id}, {name!r}, {count} boxes" for id, name, count in rows),
        )


def _without_boxes(truth: Truth, asked: set[int], where: str, use: Use) -> Iterator[LeftOut]:
    if truth.federated is not None or not len(truth.image_id):
        return  # of LVIS, few classes are annotated in each image; and a published list without boxes is no truth
    used = set(truth.category_id.tolist())
    names = [name for id, name in _named(truth).items() if id in asked and id not in used]
    if names:
        yield LeftOut(
            kind="classes_without_boxes",
            count=len(names),
            sentence=f"{where}: {_classes(len(names))} without an annotated box. {use.empty_class}.",
            examples=first_examples(map(repr, names)),
        )


def _named(truth: Truth) -> Mapping[int, str]:
    return dict(zip(truth.category_ids.tolist(), truth.names, strict=True))


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"
