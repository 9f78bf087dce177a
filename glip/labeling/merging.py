"""Keeps the boxes of people when a folder is labelled again: the annotation file joins theirs with the model's.

    boxes of people    stay exactly as they are, with everything that their file says about them; `source` is "person"
    finished images    keep their boxes and get no other: those that people reviewed, or marked as `reviewed`
    boxes of the model are added where no box of a person with the same class has an IoU above `SAME_OBJECT_IOU`

In the file to merge, a box is a person's if its `source` says so, or if it has neither `source` nor `score`. Beside a
corrected file of `glip review pull` stands the list of changes: images that are not in it were not reviewed, so their
boxes are the model's. So merging the merged file again changes nothing.

Knows COCO files. Knows nothing of records and thresholds.
"""

from __future__ import annotations

import mmap
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from glip.boxes import box_iou, xywh_to_xyxy, xyxy_to_xywh
from glip.data.coco import BoxXYWH, CocoCategory, load_coco, open_lists
from glip.data.coco_folders import CORRECTED_FILE
from glip.errors import InputError
from glip.files import path_text, read_json, whole_file
from glip.labeling.writers.base import AddImage, ExportInfo, LabelledImage
from glip.names import name_key

SAME_OBJECT_IOU = 0.5  # as in a review (`glip.review.difference`)
ANNOTATIONS_FILE = "annotations.coco.json"
PERSON, MODEL = "person", "glip"
_CHANGES_FILE = "diff.json"  # of `glip review pull`
_CHANGES = ("accepted", "moved", "relabelled", "added", "deleted")


class MergeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the boxes of people and of the model.

    Attributes:
        file: the file with the boxes of people.
        kept: number of boxes of people, all in the annotation file.
        added: number of boxes of the model in the annotation file.
        covered: number of boxes of the model that are left out, because a person's box shows the same object.
        finished: number of images that people finished, which get no box of the model.
        withheld: number of boxes of the model in these.
        elsewhere: number of images that only the file of people has; they are kept.
    """

    file: str
    kept: int
    added: int
    covered: int
    finished: int
    withheld: int
    elsewhere: int


@dataclass(frozen=True)
class PersonBox:
    """A box of a person: its class, left, top, width and height, and all fields of its annotation."""

    name: str
    bbox: BoxXYWH
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class PersonImage:
    """An image in a file of people.

    Attributes:
        fields: of the image in that file.
        boxes: of people.
        finished: nothing is to be added.
    """

    fields: Mapping[str, Any]
    boxes: tuple[PersonBox, ...]
    finished: bool


@dataclass(frozen=True)
class People:
    """The boxes of people in an annotation file.

    Attributes:
        path: of the file.
        images: by file name, as `_comparable` writes it; only those with a box of a person, and finished ones.
        categories: of the file, by class name.
    """

    path: Path
    images: Mapping[str, PersonImage]
    categories: Mapping[str, Mapping[str, Any]]

    @property
    def max_id(self) -> int:
        """Returns the largest id of an annotation; 0 without one."""
        return max((box.fields["id"] for image in self.images.values() for box in image.boxes), default=0)


class _RawFile(msgspec.Struct, frozen=True):
    """All fields of the entries of a COCO file; `load_coco` checks those that are known."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]


class _Change(msgspec.Struct, frozen=True):
    image_id: int


def find_people(out: Path) -> Path | None:
    """Returns the file with boxes of people in an output folder: a corrected file, or the annotation file itself."""
    corrected, own = out / CORRECTED_FILE, out / ANNOTATIONS_FILE
    if corrected.is_file():
        return corrected
    return own if own.is_file() and _has_people(own) else None


def _has_people(path: Path) -> bool:
    """Returns whether an annotation file has a box without a score, or one that is marked as a person's."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        marked = content.find(b'"source":"person"') >= 0
        return marked or _count(content, b'"category_id"') > _count(content, b'"score"')


def _count(content: mmap.mmap, word: bytes) -> int:
    count = position = 0
    while (position := content.find(word, position)) >= 0:
        count, position = count + 1, position + len(word)
    return count


def open_people(path: Path) -> People:
    """Reads the boxes of people in a COCO file.

    Raises:
        InputError: the file cannot be read or used.
    """
    dataset = load_coco(path)
    raw = read_json(path, _RawFile, "a COCO file")
    images = {_id(entry.get("id")): entry for entry in raw.images}
    annotations = {_id(entry.get("id")): entry for entry in raw.annotations}
    names = {category.id: category.name for category in dataset.categories}
    reviewed = _reviewed(path)
    boxes: dict[int, list[PersonBox]] = {}
    for box in dataset.annotations:
        known = annotations.get(box.id, {})
        if (reviewed is None or box.image_id in reviewed) and _is_of_person(known):
            boxes.setdefault(box.image_id, []).append(
                PersonBox(names[box.category_id], box.bbox, {**known, **_plain(box)})
            )
    found: dict[str, PersonImage] = {}
    for image in dataset.images:
        known = images.get(image.id, {})
        finished = known.get("reviewed") is True or (reviewed is not None and image.id in reviewed)
        if finished or image.id in boxes:
            own = tuple(boxes.get(image.id, ()))
            found[_comparable(image.file_name)] = PersonImage({**known, **_plain(image)}, own, finished)
    categories = {name: entry for entry in raw.categories if isinstance(name := entry.get("name"), str)}
    return People(path, found, categories)


def _is_of_person(fields: Mapping[str, Any]) -> bool:
    if "source" in fields and fields["source"] in (PERSON, MODEL):
        return bool(fields["source"] == PERSON)
    return fields.get("score") is None


def _reviewed(path: Path) -> set[int] | None:
    """Returns the ids of the images that people reviewed; None if no list of changes stands beside a corrected file."""
    changes = path.with_name(_CHANGES_FILE)
    if path.name != CORRECTED_FILE or not changes.is_file():
        return None
    hint = f"Pull the review again, or delete it: then every box of {path.name} is kept."
    content = read_json(changes, dict[str, Any], "the list of changes of a review", hint=hint, repair=hint)
    try:
        entries = msgspec.convert([content.get(kind, []) for kind in _CHANGES], list[list[_Change]])
    except msgspec.ValidationError as error:
        raise InputError(f"{changes} is not the list of changes of a review: {error}. {hint}") from error
    return {change.image_id for kind in entries for change in kind}


def _plain(entry: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(entry)
    return plain


def _id(value: object) -> object:
    """Returns an id as the reader of COCO files does: 7 for 7.0 and "7"."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value


def _comparable(file_name: str) -> str:
    # Other systems change names: backslashes, accents as one or two characters.
    return unicodedata.normalize("NFC", file_name.replace("\\", "/").removeprefix("./"))


@dataclass
class Merger:
    """Writes annotation files that join the boxes of people with those of a run, and counts both.

    Attributes:
        people: boxes to keep.
        per_class: number of boxes written, by class name.
    """

    people: People
    per_class: Counter[str] = field(default_factory=Counter)
    _added: int = 0
    _covered: int = 0
    _withheld: int = 0
    _elsewhere: int = 0

    @contextmanager
    def write(self, path: Path, info: ExportInfo) -> Iterator[AddImage]:
        """Writes COCO JSON, as `glip.labeling.writers.coco.write_coco` does, with the boxes of people."""
        categories = self._categories(info)
        ids = {name_key(category["name"]): category["id"] for category in reversed(categories)}
        header = {"description": "Labels made by glip and by people", "glip": info.provenance}
        remaining = dict(self.people.images)
        with whole_file(path) as file, open_lists(file, _entries(categories), header) as (images, annotations):
            next_id, last_image = self.people.max_id + 1, 0

            def add(image: LabelledImage) -> None:
                nonlocal next_id, last_image
                known = remaining.pop(_comparable(image.file_name), None)
                entry: dict[str, Any] = {
                    "id": image.id,
                    "file_name": image.file_name,
                    "width": image.width,
                    "height": image.height,
                }
                images.add(entry | {"reviewed": True} if known is not None and known.finished else entry)
                last_image = image.id
                for fields in self._of_people(known, image.id, ids):
                    annotations.add(fields)
                for fields in self._of_model(image, known, info):
                    annotations.add({"id": next_id} | fields)
                    next_id += 1

            yield add
            for known in remaining.values():  # nothing that a person did is lost
                self._elsewhere += 1
                last_image += 1
                images.add({**known.fields, "id": last_image} | ({"reviewed": True} if known.finished else {}))
                for fields in self._of_people(known, last_image, ids):
                    annotations.add(fields)

    def counts(self) -> MergeCounts:
        """Returns the counts after the file is written."""
        images = self.people.images.values()
        return MergeCounts(
            file=path_text(self.people.path),
            kept=sum(len(image.boxes) for image in images),
            added=self._added,
            covered=self._covered,
            finished=sum(image.finished for image in images),
            withheld=self._withheld,
            elsewhere=self._elsewhere,
        )

    def _categories(self, info: ExportInfo) -> list[dict[str, Any]]:
        """Returns the classes of the run, then those that only people use."""
        categories: list[dict[str, Any]] = [
            {"id": id, "name": name} for id, name in zip(info.ids, info.names, strict=True)
        ]
        known, taken = {name_key(name) for name in info.names}, set(info.ids)
        for name, entry in self.people.categories.items():
            if name_key(name) in known:
                continue
            known.add(name_key(name))
            id = _id(entry.get("id"))
            if not isinstance(id, int) or id in taken:
                id = max(taken, default=0) + 1
            taken.add(id)
            categories.append({**entry, "id": id})
        return categories

    def _of_people(self, known: PersonImage | None, image_id: int, ids: Mapping[str, int]) -> Iterator[dict[str, Any]]:
        for box in () if known is None else known.boxes:
            self.per_class[box.name] += 1
            yield {
                "segmentation": [],
                **box.fields,
                "image_id": image_id,
                "category_id": ids[name_key(box.name)],
                "source": PERSON,
            }

    def _of_model(self, image: LabelledImage, known: PersonImage | None, info: ExportInfo) -> Iterator[dict[str, Any]]:
        found = image.found
        if known is not None and known.finished:
            self._withheld += len(found)
            return
        covered = _covered(image, () if known is None else known.boxes, info.names)
        boxes: list[list[float]] = xyxy_to_xywh(found.boxes.astype(np.float64)).tolist()
        for box, score, label, same in zip(boxes, found.scores.tolist(), found.labels.tolist(), covered, strict=True):
            if same:
                self._covered += 1
                continue
            self._added += 1
            self.per_class[info.names[label]] += 1
            yield {
                "image_id": image.id,
                "category_id": info.ids[label],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "score": score,
                "segmentation": [],
                "source": MODEL,
            }


def _covered(image: LabelledImage, boxes: Sequence[PersonBox], names: Sequence[str]) -> list[bool]:
    """Returns for each box of the model whether a box of a person shows the same object."""
    if not boxes or not len(image.found):
        return [False] * len(image.found)
    theirs: NDArray[np.float64] = xywh_to_xyxy(np.array([box.bbox for box in boxes], np.float64))
    same_object = box_iou(image.found.boxes.astype(np.float64)[:, None], theirs[None]) > SAME_OBJECT_IOU
    keys = [name_key(box.name) for box in boxes]
    same_class = np.array([[name_key(names[label]) == key for key in keys] for label in image.found.labels.tolist()])
    covered: list[bool] = np.any(same_object & same_class, axis=1).tolist()
    return covered


def _entries(categories: Sequence[Mapping[str, Any]]) -> list[CocoCategory]:
    return [CocoCategory(entry["id"], entry["name"], entry.get("supercategory", msgspec.UNSET)) for entry in categories]
