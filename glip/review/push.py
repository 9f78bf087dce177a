"""Proposals into a FiftyOne dataset, in batches. Pushed again, they bring it up to date and keep what people did."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from types import ModuleType
from typing import Any

import msgspec

from glip.errors import InputError
from glip.review import documents as docs
from glip.review.annotations import Proposal, Proposed
from glip.review.database import Books, connect, documents, open_dataset, read_books, write_books
from glip.review.difference import compare
from glip.review.merging import merge
from glip.review.priorities import DUPLICATE, MISS
from glip.review.source import Source

logger = logging.getLogger(__name__)


@dataclass
class PushSummary:
    """What a push did.

    Attributes:
        dataset: its name.
        added: images that are new in it.
        updated: images whose proposals are others than before.
        unchanged: images that were there already, just so.
        removed: images that the source no longer has, and nobody had touched.
        kept: likewise, but somebody had touched them.
        unreadable: images of the source that could not be read when they were labelled.
        missing: images of the source that were not found on this machine.
        predictions: boxes of the source in the images added and updated.
        labels: of these, boxes that count.
    """

    dataset: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    kept: int = 0
    unreadable: int = 0
    missing: int = 0
    predictions: int = 0
    labels: int = 0

    @property
    def changed(self) -> bool:
        """Whether the dataset is not as it was."""
        return bool(self.added or self.updated or self.removed)

    def to_json(self) -> dict[str, Any]:
        """The summary as plain values that JSON can carry."""
        return asdict(self)


def push(source: Source, name: str, advance: Callable[[int], object] = lambda count: None) -> PushSummary:
    """Brings a dataset up to date with a source, and makes it if there is none of that name.

    Args:
        source: the images with their proposals.
        name: of the dataset.
        advance: called with the number of images done since the last call.

    Raises:
        InputError: the dataset of that name is about something else, or there is nothing to push.
        MissingExtra: FiftyOne is not installed.
        JobFailed: its database does not answer.
    """
    fiftyone = connect()
    images, seen = source.images(), set[str]()
    batch = list(islice(images, docs.BATCH))  # before there is a dataset: what cannot be read leaves none behind
    if not batch:
        raise InputError(_nothing_in(source))
    dataset = _dataset(fiftyone, source, name)
    pusher = _Pusher(fiftyone, dataset, read_books(dataset), PushSummary(name))
    while batch:
        pusher.push(batch)
        seen.update(image.file_name for image in batch)
        advance(len(batch))
        batch = list(islice(images, docs.BATCH))
    advance(source.left.unreadable + source.left.missing)
    pusher.summary.unreadable, pusher.summary.missing = source.left.unreadable, source.left.missing
    if source.left.missing:
        logger.warning("%d images are not found and left out: they were moved or deleted.", source.left.missing)
    else:
        pusher.remove_others(seen)
    write_books(dataset, pusher.books)
    return pusher.summary


def _nothing_in(source: Source) -> str:
    left = source.left
    if left.unreadable or left.missing:
        why = f"{left.unreadable} could not be read when they were labelled, and {left.missing} are not found now"
        return f"{source.place} has no image to show: {why}. Say with --images where they are, or label them again."
    return f"{source.place} has no labelled image yet. `glip label` makes records, and goes on where it stopped."


def _dataset(fiftyone: ModuleType, source: Source, name: str) -> Any:
    info = msgspec.json.encode(source.info).decode()
    if not fiftyone.dataset_exists(name):
        try:
            dataset = fiftyone.Dataset(name, persistent=True)
        except ValueError as error:
            raise InputError(
                f"A dataset cannot be called {name!r} ({error}). A name has letters or digits, and differs from others "
                f"in these. Choose another --name."
            ) from error
        write_books(dataset, Books(source.identity, source.place, [], info))
    dataset = open_dataset(fiftyone, name)
    books = read_books(dataset)
    if books.identity != source.identity:
        raise InputError(
            f"The dataset {name!r} holds the labels of {books.place}, and {source.place} is another run or file. "
            f"Choose another --name, or remove it first with `glip review delete {name}`."
        )
    known = {category.name for category in books.categories}
    more = [category for category in source.categories if category.name not in known]
    if not known:  # a new dataset, or one whose first push was killed at once
        _declare(fiftyone, dataset)
    if more:
        _offer(dataset, [*(category.name for category in books.categories), *(category.name for category in more)])
    books.categories += more
    books.place, books.info = source.place, info
    write_books(dataset, books)
    return dataset


def _declare(fiftyone: ModuleType, dataset: Any) -> None:
    """Makes the fields of a new dataset, and says which of them the app shows at first."""
    # One image that has them all tells their kinds; declared one by one they take five seconds.
    box = {"label": "", "bounding_box": [0.0, 0.0, 0.0, 0.0], "confidence": 0.0}
    fields = ((docs.PREDICTIONS, docs.ATTRIBUTES | docs.EXACT), (docs.LABELS, docs.ATTRIBUTES))
    labels = {
        field: fiftyone.Detections(detections=[fiftyone.Detection(**box, **attributes)]) for field, attributes in fields
    }
    metadata = fiftyone.ImageMetadata(width=1, height=1)
    example = fiftyone.Sample(filepath="example.png", metadata=metadata, **docs.IMAGE, **labels)
    dataset.add_samples([example], dynamic=True, progress=False)
    dataset.clear()
    dataset.create_index("file_name", unique=True)  # two pushes at once cannot double an image either
    dataset.create_index("image_id")
    dataset.app_config.color_scheme = fiftyone.ColorScheme(color_by="value")
    dataset.app_config.active_fields = fiftyone.core.odm.dataset.ActiveFields(paths=[docs.LABELS])
    dataset.save()
    dataset.reload()  # the attributes that every box has are known to it only then


def _offer(dataset: Any, classes: Sequence[str]) -> None:
    """Tells the app's annotation panel which classes there are; tags have a button of their own."""
    schema = {
        "type": "detections",
        "component": "dropdown",
        "classes": list(classes),
        "attributes": [],
    }
    dataset.set_label_schemas({docs.LABELS: schema})
    dataset.active_label_schemas = [docs.LABELS]


@dataclass
class _Pusher:
    fiftyone: ModuleType
    dataset: Any
    books: Books
    summary: PushSummary

    def __post_init__(self) -> None:
        self._documents = documents(self.dataset)
        # Ids follow on what stands there, not on a count: a push that was killed goes on as if it had not been.
        self.books.next_image_id = max(self.books.next_image_id, self._greatest("image_id") + 1)
        greatest = max(self._greatest(f"{field}.detections.annotation_id") for field in (docs.PREDICTIONS, docs.LABELS))
        self.books.next_annotation_id = max(self.books.next_annotation_id, greatest + 1)

    def _greatest(self, path: str) -> int:
        return self.dataset.bounds(path)[1] or 0

    def push(self, batch: Sequence[Proposed]) -> None:
        """Adds or updates images."""
        names = [image.file_name for image in batch]
        found = self._documents.find({"file_name": {"$in": names}}, {"file_name": 1, "digest": 1})
        digests = {document["file_name"]: document.get("digest") for document in found}
        fresh = [image for image in batch if image.file_name not in digests]
        self._add(fresh)
        for image in batch:
            if image.file_name not in digests:
                continue
            if digests[image.file_name] == _digest(image):
                self.summary.unchanged += 1
            else:
                self._update(image)

    def _add(self, images: Sequence[Proposed]) -> None:
        """New images. They appear without boxes for a moment; a push killed then is mended by the next one."""
        from pymongo import UpdateOne

        if not images:
            return
        samples = []
        for image in images:
            metadata = self.fiftyone.ImageMetadata(width=image.width, height=image.height)
            samples.append(
                self.fiftyone.Sample(
                    filepath=image.path,
                    metadata=metadata,
                    file_name=image.file_name,
                    image_id=self._image_id(image),
                )
            )
        ids = self.dataset.add_samples(samples, dynamic=False, validate=False, progress=False)
        writes = []
        for id, image in zip(ids, images, strict=True):
            proposals = [self._with_id(proposal) for proposal in image.proposals]
            size_wh = image.width, image.height
            labels = [docs.label_document(proposal, size_wh) for proposal in proposals if proposal.kept]
            writes.append(UpdateOne({"_id": _object_id(id)}, {"$set": self._content(image, proposals, labels)}))
        self._documents.bulk_write(writes, ordered=False)
        self.summary.added += len(images)

    def _update(self, image: Proposed) -> None:
        """An image that is there. Whoever saves an edit in the same moment wins, and the merge is done again."""
        while True:
            document = self._documents.find_one({"file_name": image.file_name})
            before = docs.reviewed(document)
            boxes = {str(box["_id"]): box for box in docs.boxes_of(document, docs.LABELS)}
            merged = merge(before, image.proposals)
            proposals = [self._with_id(proposal) for proposal in merged.proposals]
            ids = {proposal.record: proposal.annotation_id for proposal in proposals}
            labels = []
            for label, proposal in merged.labels:
                if proposal is None:
                    assert label is not None
                    labels.append(boxes[label.id])
                    continue
                known = replace(proposal, annotation_id=ids.get(proposal.record, proposal.annotation_id))
                box = docs.label_document(known, (image.width, image.height))
                labels.append(box if label is None else boxes[label.id] | box | {"_id": _object_id(label.id)})
            content = self._content(image, proposals, labels)
            condition = {"_id": document["_id"], "last_modified_at": document["last_modified_at"]}
            if self._documents.update_one(condition, {"$set": content}).matched_count:
                self.summary.updated += 1
                return

    def _content(
        self, image: Proposed, proposals: Sequence[Proposal], labels: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        self.summary.predictions += len(proposals)
        self.summary.labels += sum(proposal.kept for proposal in proposals)
        size_wh = image.width, image.height
        hints = [proposal.hint for proposal in proposals]
        return {
            "filepath": image.path,
            "metadata.width": image.width,
            "metadata.height": image.height,
            "caption": image.caption,
            "margin": min(
                (abs(proposal.margin) for proposal in proposals if proposal.margin is not None), default=None
            ),
            "entropy": max((proposal.entropy for proposal in proposals if proposal.entropy is not None), default=None),
            "likely_misses": hints.count(MISS),
            "likely_duplicates": hints.count(DUPLICATE),
            docs.PREDICTIONS: docs.detections(docs.prediction_document(proposal, size_wh) for proposal in proposals),
            docs.LABELS: docs.detections(labels),
            "digest": _digest(image),
            "last_modified_at": datetime.now(UTC).replace(tzinfo=None),
        }

    def remove_others(self, names: set[str]) -> None:
        """Takes out images that the source no longer has, except those that somebody worked on."""
        for document in self._documents.find({}, {"file_name": 1}):
            if document["file_name"] in names:
                continue
            whole = self._documents.find_one({"_id": document["_id"]})
            if compare(docs.reviewed(whole)).reviewed:
                self.summary.kept += 1
            else:
                self.dataset.delete_samples(str(document["_id"]))
                self.summary.removed += 1
        if self.summary.kept:
            logger.warning(
                "%d images are no longer in the source and stay, because somebody worked on them.", self.summary.kept
            )

    def _with_id(self, proposal: Proposal) -> Proposal:
        if not proposal.kept or proposal.annotation_id is not None:
            if proposal.annotation_id is not None:
                self.books.next_annotation_id = max(self.books.next_annotation_id, proposal.annotation_id + 1)
            return proposal
        self.books.next_annotation_id += 1
        return replace(proposal, annotation_id=self.books.next_annotation_id - 1)

    def _image_id(self, image: Proposed) -> int:
        id = self.books.next_image_id if image.image_id is None else image.image_id
        self.books.next_image_id = max(self.books.next_image_id, id + 1)
        return id


def _digest(image: Proposed) -> str:
    """Of everything that an image's document is made of."""
    return hashlib.blake2b(msgspec.json.encode(image, order="sorted"), digest_size=16).hexdigest()


def _object_id(id: str) -> object:
    from bson import ObjectId

    return ObjectId(id)
