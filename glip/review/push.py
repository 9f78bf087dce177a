"""Adds proposals to a FiftyOne dataset, in batches, and saves views of it.

Pushing again updates the proposals and keeps the changes that people made.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from types import ModuleType
from typing import Any

import msgspec

from glip.errors import InputError, JobFailed
from glip.left_out import LeftOut
from glip.review import database as db
from glip.review.annotations import Proposal, ProposedImage
from glip.review.difference import compare, update
from glip.review.priorities import DUPLICATE, MISS
from glip.review.source import ReviewSource
from glip.review.truth import VERDICT

# A view for each of hundreds of classes would hide the other views; the app's sidebar filters by class as well.
MAX_CLASS_VIEWS = 50
OLD_EMPTY_VIEW = "empty pictures"  # the name that 0.1.0 gave to 'empty images'

logger = logging.getLogger(__name__)


@dataclass
class PushSummary:
    """The result of a push.

    Attributes:
        dataset: its name.
        added: images that are new in the dataset.
        updated: images whose proposals changed.
        unchanged: images that were in the dataset with the same proposals.
        removed: images that are no longer in the source, and that nobody changed.
        kept: likewise, but a person changed or tagged something in them.
        unreadable: images of the source that could not be read when they were labelled.
        missing: images of the source that were not found on this machine.
        predictions: boxes of the images that were added or updated.
        labels: of these, the labels.
        left_out: states what is not in the dataset.
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
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Returns whether the push changed the dataset."""
        return bool(self.added or self.updated or self.removed)

    def to_json(self) -> dict[str, Any]:
        """Returns the summary as plain values for JSON."""
        return asdict(self) | {"left_out": msgspec.to_builtins(self.left_out)}


def push(source: ReviewSource, name: str, advance: Callable[[int], object] = lambda count: None) -> PushSummary:
    """Updates a dataset to the proposals of a source; makes the dataset if it does not exist.

    Args:
        source: the images with their proposals.
        name: of the dataset.
        advance: called with the number of images done since the last call.

    Raises:
        InputError: the dataset holds the labels of another source, or there is nothing to push.
        MissingExtra: FiftyOne is not installed.
        JobFailed: the database does not answer.
    """
    fiftyone = db.connect()
    seen = check_source(source)  # before anything is written
    with none_left_behind(fiftyone, name):
        dataset = _open(fiftyone, source, name)
        pusher = _Pusher(fiftyone, dataset, db.read_state(dataset), PushSummary(name, left_out=list(source.left_out)))
        images = source.images()
        while batch := list(islice(images, db.BATCH)):
            pusher.push(batch)
            advance(len(batch))
        return _finish(pusher, source, seen, advance)


def check_source(source: ReviewSource) -> set[str]:
    """Reads a whole source and returns the file names of its images.

    Raises:
        InputError: it has no image, it cannot be read to its end, or the database cannot store a value of it.
    """
    db.check_storable(msgspec.to_builtins(source.categories), f"{source.path}, in its categories,")
    names = set()
    for image in source.images():
        where = f"{source.path}, image {image.file_name!r},"
        if image.width < 1 or image.height < 1:
            raise InputError(f"{where} has the size {image.width} × {image.height} pixels; both must be at least 1.")
        db.check_storable(msgspec.to_builtins(image), where)
        names.add(image.file_name)
    if not names:
        raise InputError(_nothing_in(source))
    return names


@contextmanager
def none_left_behind(fiftyone: ModuleType, name: str) -> Iterator[None]:
    """Deletes the dataset if it is new and the block fails. An interrupted push is kept, to be resumed."""
    is_new = not fiftyone.dataset_exists(name)
    try:
        yield
    except Exception as error:
        from pymongo.errors import PyMongoError

        with suppress(PyMongoError):
            if is_new and fiftyone.dataset_exists(name):
                fiftyone.delete_dataset(name)
        if isinstance(error, PyMongoError):
            raise JobFailed(f"FiftyOne's database did not take the images: {error}. Push again.") from error
        raise


def _finish(pusher: _Pusher, source: ReviewSource, seen: set[str], advance: Callable[[int], object]) -> PushSummary:
    """Removes images that the source no longer has, and stores the state of the dataset."""
    skipped = source.skipped
    advance(skipped.unreadable + skipped.missing)
    pusher.summary.unreadable, pusher.summary.missing = skipped.unreadable, skipped.missing
    if not skipped.missing:
        pusher.remove_others(seen)
    pusher.summary.left_out += _skipped(source)
    db.write_state(pusher.dataset, pusher.state)
    return pusher.summary


def _skipped(source: ReviewSource) -> Iterator[LeftOut]:
    skipped = source.skipped
    if skipped.unreadable:
        yield LeftOut(
            kind="unreadable_images",
            count=skipped.unreadable,
            sentence=f"{skipped.unreadable} unreadable images left out; errors.jsonl of the run has the reasons.",
        )
    if skipped.missing:
        yield LeftOut(
            kind="missing_images",
            count=skipped.missing,
            sentence=f"{skipped.missing} images are not found and are left out. Give their folder with --images.",
        )


def _nothing_in(source: ReviewSource) -> str:
    skipped = source.skipped
    if skipped.unreadable or skipped.missing:
        return (
            f"{source.path} has no image to show: {skipped.unreadable} could not be read when they were labelled, and "
            f"{skipped.missing} are not found. Give their folder in `images`, or label them again."
        )
    return f"{source.path} has no labelled images yet. Run `glip label` first, or resume it."


def _open(fiftyone: ModuleType, source: ReviewSource, name: str) -> Any:
    """Returns the dataset of a source, with its classes; makes it if it does not exist."""
    info = msgspec.json.encode(source.info).decode()
    if not fiftyone.dataset_exists(name):
        try:
            dataset = fiftyone.Dataset(name, persistent=True)
        except ValueError as error:
            raise InputError(
                f"name is {name!r}, which FiftyOne refuses ({error}). A name needs a letter or a digit. If "
                f"another name has the same letters and digits, choose different ones."
            ) from error
        db.write_state(dataset, db.DatasetState(source.identity, source.path, [], info))
    dataset = db.open_dataset(fiftyone, name)
    state = db.read_state(dataset)
    if state.identity != source.identity:
        raise InputError(
            f"The dataset {name!r} holds the labels of {state.source}; {source.path} is another run or file. Choose "
            f"another `name`, or delete the dataset with `glip review delete {name}`."
        )
    known = {category.name for category in state.categories}
    more = [category for category in source.categories if category.name not in known]
    if not known:  # a new dataset, or one whose first push was killed at once
        _declare_fields(fiftyone, dataset)
    if more:
        _offer_classes(dataset, [category.name for category in (*state.categories, *more)])
    state.categories += more
    state.source, state.info = source.path, info
    db.write_state(dataset, state)
    return dataset


def _declare_fields(fiftyone: ModuleType, dataset: Any) -> None:
    """Declares the fields of a new dataset, and which of them the app shows by default."""
    # One example with all fields declares them at once; one by one takes five seconds.
    box = {"label": "", "bounding_box": [0.0, 0.0, 0.0, 0.0], "confidence": 0.0}
    fields = ((db.PREDICTIONS, db.ATTRIBUTES | db.EXACT), (db.LABELS, db.ATTRIBUTES))
    labels = {
        field: fiftyone.Detections(detections=[fiftyone.Detection(**box, **attributes)]) for field, attributes in fields
    }
    metadata = fiftyone.ImageMetadata(width=1, height=1)
    example = fiftyone.Sample(filepath="example.png", metadata=metadata, **db.IMAGE, **labels)
    dataset.add_samples([example], dynamic=True, progress=False)
    dataset.clear()
    dataset.create_index("file_name", unique=True)  # so that two pushes at once cannot add an image twice
    dataset.create_index("image_id")
    dataset.app_config.color_scheme = fiftyone.ColorScheme(color_by="value")
    dataset.app_config.active_fields = fiftyone.core.odm.dataset.ActiveFields(paths=[db.LABELS])
    dataset.save()
    dataset.reload()  # needed before the dataset knows the attributes of its boxes


def _offer_classes(dataset: Any, classes: Sequence[str]) -> None:
    """Sets the classes that the app's annotation panel offers."""
    schema = {"type": "detections", "component": "dropdown", "classes": list(classes), "attributes": []}
    dataset.set_label_schemas({db.LABELS: schema})
    dataset.active_label_schemas = [db.LABELS]


@dataclass
class _Pusher:
    """Adds and updates the images of one dataset."""

    fiftyone: ModuleType
    dataset: Any
    state: db.DatasetState
    summary: PushSummary

    def __post_init__(self) -> None:
        self._documents = db.documents(self.dataset)
        # The highest ids in use, not a count: a killed push may have written images after the state was stored.
        self.state.next_image_id = max(self.state.next_image_id, self._highest("image_id") + 1)
        highest = max(self._highest(f"{field}.detections.annotation_id") for field in (db.PREDICTIONS, db.LABELS))
        self.state.next_annotation_id = max(self.state.next_annotation_id, highest + 1)

    def _highest(self, path: str) -> int:
        return self.dataset.bounds(path)[1] or 0

    def push(self, batch: Sequence[ProposedImage]) -> None:
        """Adds or updates images."""
        names = [image.file_name for image in batch]
        found = self._documents.find({"file_name": {"$in": names}}, {"file_name": 1, "digest": 1})
        digests = {document["file_name"]: document.get("digest") for document in found}
        self._add([image for image in batch if image.file_name not in digests])
        for image in batch:
            if image.file_name not in digests:
                continue
            if digests[image.file_name] == _digest(image):
                self.summary.unchanged += 1
            else:
                self._update(image)

    def _add(self, images: Sequence[ProposedImage]) -> None:
        """Adds new images. For a moment they have no boxes; if the push is killed then, the next push adds them."""
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
            labels = [db.label_document(proposal, size_wh) for proposal in proposals if proposal.kept]
            writes.append(UpdateOne({"_id": _object_id(id)}, {"$set": self._content(image, proposals, labels)}))
        self._documents.bulk_write(writes, ordered=False)
        self.summary.added += len(images)

    def _update(self, image: ProposedImage) -> None:
        """Updates an image. If a person saves an edit at the same moment, that edit is kept and the update repeated."""
        while True:
            document = self._documents.find_one({"file_name": image.file_name})
            boxes = {str(box["_id"]): box for box in db.boxes_of(document, db.LABELS)}
            size = {"metadata": {"width": image.width, "height": image.height}}
            updated = update(db.as_image(document | size), image.proposals)
            proposals = [self._with_id(proposal) for proposal in updated.proposals]
            ids = {proposal.record: proposal.annotation_id for proposal in proposals}
            labels = []
            for label, proposal in updated.labels:
                if proposal is None:
                    assert label is not None
                    labels.append(boxes[label.id])
                    continue
                known = replace(proposal, annotation_id=ids.get(proposal.record, proposal.annotation_id))
                box = db.label_document(known, (image.width, image.height))
                labels.append(box if label is None else boxes[label.id] | box | {"_id": _object_id(label.id)})
            labels += [box for box in boxes.values() if not db.has_corners(box)]  # a person's, and kept
            content = self._content(image, proposals, labels)
            condition = {"_id": document["_id"], "last_modified_at": document["last_modified_at"]}
            if self._documents.update_one(condition, {"$set": content}).matched_count:
                self.summary.updated += 1
                return

    def _content(
        self, image: ProposedImage, proposals: Sequence[Proposal], labels: Sequence[dict[str, Any]]
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
            db.PREDICTIONS: db.detections(db.prediction_document(proposal, size_wh) for proposal in proposals),
            db.LABELS: db.detections(labels),
            "digest": _digest(image),
            "last_modified_at": datetime.now(UTC).replace(tzinfo=None),
        }

    def remove_others(self, names: set[str]) -> None:
        """Removes images that are no longer in the source, except those that a person changed or tagged."""
        for document in self._documents.find(db.PUSHED, {"file_name": 1}):
            if document["file_name"] in names:
                continue
            whole = self._documents.find_one({"_id": document["_id"]})
            if compare(db.as_image(whole)).reviewed:
                self.summary.kept += 1
            else:
                self.dataset.delete_samples(str(document["_id"]))
                self.summary.removed += 1
        if self.summary.kept:
            logger.warning(
                "%d images are no longer in the source; they are kept, because people changed them.", self.summary.kept
            )

    def _with_id(self, proposal: Proposal) -> Proposal:
        if not proposal.kept or proposal.annotation_id is not None:
            if proposal.annotation_id is not None:
                self.state.next_annotation_id = max(self.state.next_annotation_id, proposal.annotation_id + 1)
            return proposal
        self.state.next_annotation_id += 1
        return replace(proposal, annotation_id=self.state.next_annotation_id - 1)

    def _image_id(self, image: ProposedImage) -> int:
        id = self.state.next_image_id if image.image_id is None else image.image_id
        self.state.next_image_id = max(self.state.next_image_id, id + 1)
        return id


def _digest(image: ProposedImage) -> str:
    """Returns a hash of everything that is stored of an image."""
    return hashlib.blake2b(msgspec.json.encode(image, order="sorted"), digest_size=16).hexdigest()


def _object_id(id: str) -> object:
    from bson import ObjectId

    return ObjectId(id)


# Views ----------------------------------------------------------------------------------------------------------------


def save_views(fiftyone: ModuleType, dataset: Any) -> list[str]:
    """Saves views of what to check first and, with true boxes, of right and wrong labels; returns their names.

    Views made by people are kept.
    """
    views = _views(fiftyone, dataset)
    for name in dataset.list_saved_views():
        if name == OLD_EMPTY_VIEW or (name.startswith("class: ") and name not in views):
            dataset.delete_saved_view(name)
    # The app shows labels by default; a view cannot select another field.
    hint = f"Tick '{db.PREDICTIONS}' at the left to see them. Tag one with 'approve' to make it a label."
    saved = []
    for name, view in views.items():
        try:
            dataset.save_view(name, view, description=hint if name == "likely misses" else None, overwrite=True)
            saved.append(name)
        except ValueError:  # FiftyOne compares names of views by their letters and digits: 'class: a' and 'class: A'
            logger.info("The view %r is not saved, because another has the same letters and digits.", name)
    return saved


def _views(fiftyone: ModuleType, dataset: Any) -> dict[str, Any]:
    field = fiftyone.ViewField
    views = {
        "most uncertain: margin": dataset.exists("margin").sort_by("margin"),
        "most uncertain: entropy": dataset.exists("entropy").sort_by("entropy", reverse=True),
        "likely misses": dataset.filter_labels(db.PREDICTIONS, field("hint") == MISS).sort_by(
            "likely_misses", reverse=True
        ),
        "likely duplicates": dataset.filter_labels(db.LABELS, field("hint") == DUPLICATE).sort_by(
            "likely_duplicates", reverse=True
        ),
        "empty images": dataset.match(field(f"{db.LABELS}.detections").length() == 0),
    }
    if dataset.has_field(db.TRUTH):
        verdict = field(VERDICT)
        views["false positives"] = dataset.filter_labels(db.LABELS, verdict == "fp")
        views["true positives"] = dataset.filter_labels(db.LABELS, verdict == "tp")
        views["missed truth"] = dataset.filter_labels(db.TRUTH, verdict == "fn")
    counts: Mapping[str, int] = dataset.count_values(f"{db.LABELS}.detections.label")
    named = sorted((name for name in counts if name is not None), key=lambda name: (-counts[name], name))
    for name in named[:MAX_CLASS_VIEWS]:
        views[f"class: {name}"] = dataset.filter_labels(db.LABELS, field("label") == name)
    return views
