"""Writes the labels of a dataset as people left them, the list of their changes, and the counts of these."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import msgspec

from glip.data.coco import BoxXYWH, CocoAnnotation, CocoCategory, CocoImage, CocoWriter, Entries, coco_writer
from glip.data.coco_folders import CORRECTED_FILE
from glip.errors import InputError
from glip.files import whole_file
from glip.left_out import LeftOut, first_examples
from glip.review import database as db
from glip.review.annotations import ReviewedImage
from glip.review.difference import BoxChange, CorrectedBox, ImageDifference, compare
from glip.review.summary import PullSummary, ReviewCounts, write_chart

DIFF_FILE = "diff.json"
SUMMARY_FILE = "summary.json"
CHART_FILE = "summary.png"
FILES = (CORRECTED_FILE, DIFF_FILE, SUMMARY_FILE, CHART_FILE)
IMAGES_LINK = "images"  # link to the folder of the images, so that the output folder is a complete data set
KINDS = ("accepted", "moved", "relabelled", "added", "deleted")

logger = logging.getLogger(__name__)


def pull(
    name: str, out: Path, *, only_reviewed: bool = False, advance: Callable[[int], object] = lambda count: None
) -> PullSummary:
    """Writes the corrected labels of a dataset. The same state of the dataset gives the same bytes.

    Args:
        name: of the dataset.
        out: folder for the files (`FILES`) and a link to the images.
        only_reviewed: leave out images in which nobody changed or tagged anything.
        advance: called with the number of images done since the last call.

    Raises:
        InputError: there is no such dataset, or `out` is a file.
        JobFailed: the database does not answer, or a file cannot be written.
    """
    dataset = db.open_dataset(db.connect(), name)
    if out.exists() and not out.is_dir():
        raise InputError(f"out is {out}, which is a file. Give a folder; it is created if it does not exist.")
    state = db.read_state(dataset)
    _assign_ids(dataset, state)
    ids = {category.name: category.id for category in state.categories}
    info = msgspec.json.decode(state.info) | {"description": "Labels made by glip, corrected by people"}
    counter = _Counter(dataset, state.categories)
    with ExitStack() as stack:
        file = stack.enter_context(whole_file(out / CORRECTED_FILE))
        writer = stack.enter_context(coco_writer(file, state.categories, info))
        per_class = counter.summary.per_class
        diff = stack.enter_context(_diff_writer(stack.enter_context(whole_file(out / DIFF_FILE)), per_class))
        for image, difference in _images(dataset):
            advance(1)
            counter.add(image, difference)
            if difference.reviewed:
                _write_changes(diff, image, difference)
            elif only_reviewed:
                continue
            _write_image(writer, image, difference, ids)
    summary = counter.finish()
    with whole_file(out / SUMMARY_FILE) as file:
        file.write(msgspec.json.format(msgspec.json.encode(summary.to_json()), indent=2) + b"\n")
    with whole_file(out / CHART_FILE) as file:
        write_chart(summary, file)
    _link_images(dataset, out / IMAGES_LINK)
    return summary


def summarise(fiftyone: ModuleType, name: str) -> PullSummary:
    """Returns the summary that `pull` would write, without writing anything."""
    dataset = db.open_dataset(fiftyone, name)
    counter = _Counter(dataset, db.read_state(dataset).categories)
    for image, difference in _images(dataset):
        counter.add(image, difference)
    return counter.finish()


def _images(dataset: Any) -> Iterator[tuple[ReviewedImage, ImageDifference]]:
    fields = ("file_name", "image_id", "metadata", "tags", db.PREDICTIONS, db.LABELS)
    found = db.documents(dataset).find(db.PUSHED, dict.fromkeys(fields, 1), batch_size=db.BATCH)
    for document in found.sort("image_id", 1):
        image = db.as_image(document)
        yield image, compare(image)


class _Counter:
    """Counts the changes of all images."""

    def __init__(self, dataset: Any, categories: list[CocoCategory]) -> None:
        per_class = {category.name: ReviewCounts() for category in categories}
        self.summary = PullSummary(dataset.name, per_class=per_class)
        self._dataset = dataset
        self._ious: list[float] = []
        self._cornerless = self._foreign = 0

    def add(self, image: ReviewedImage, difference: ImageDifference) -> None:
        """Counts one image."""
        summary = self.summary
        self._cornerless += image.cornerless
        self._foreign += image.foreign
        summary.images += 1
        summary.boxes += len(difference.boxes)
        summary.nameless += difference.nameless
        if not difference.reviewed:
            summary.unreviewed += len(difference.boxes)
            return
        summary.reviewed += 1
        for change in difference.changes:
            self._count(change.proposal.label, "proposed", *_kinds(change))
            if change.moved:
                self._ious.append(change.iou)
        for box in difference.added:
            self._count(box.label, "added")

    def _count(self, label: str, *kinds: str) -> None:
        for counts in (self.summary.total, self.summary.per_class.setdefault(label, ReviewCounts())):
            for kind in kinds:
                setattr(counts, kind, getattr(counts, kind) + 1)

    def finish(self) -> PullSummary:
        """Returns the summary of all images."""
        self.summary.mean_iou = sum(self._ious) / len(self._ious) if self._ious else None
        self.summary.left_out = list(self._left_out())
        return self.summary

    def _left_out(self) -> Iterator[LeftOut]:
        counts = (
            ("nameless_boxes", self.summary.nameless, "boxes have no class. Give them one in the app"),
            ("labels_without_box", self._cornerless, "labels have no box. Draw them again in the app"),
            (
                "boxes_among_predictions",
                self._foreign,
                f"boxes were drawn in the field {db.PREDICTIONS!r}, which holds the source. Draw them in {db.LABELS!r}",
            ),
            (
                "added_images",
                len(self._dataset) - self.summary.images,
                "images were added in FiftyOne or lost their size. Label them with `glip label`, and push them",
            ),
        )
        for kind, count, what in counts:
            if count > 0:
                yield LeftOut(kind=kind, count=count, sentence=f"{count} {what}; they are left out.")
        if fields := _other_label_fields(self._dataset):
            yield LeftOut(
                kind="other_fields",
                count=len(fields),
                sentence=f"{len(fields)} other fields with labels are left out: corrections are read from "
                f"{db.LABELS!r}, as boxes.",
                examples=first_examples(fields),
            )


def _other_label_fields(dataset: Any) -> list[str]:
    """Returns the fields of a dataset that hold labels and that `push` did not make, such as polylines."""
    from fiftyone.core.labels import Label

    ours = {db.PREDICTIONS, db.LABELS, db.TRUTH}
    types = {name: getattr(kind, "document_type", None) for name, kind in dataset.get_field_schema().items()}
    return sorted(
        name for name, kind in types.items() if name not in ours and kind is not None and issubclass(kind, Label)
    )


def _kinds(change: BoxChange) -> list[str]:
    if change.now is None:
        return ["deleted"]
    kinds = [kind for kind, applies in (("moved", change.moved), ("relabelled", change.relabelled)) if applies]
    return kinds or ["accepted"]


def _link_images(dataset: Any, link: Path) -> None:
    """Makes `link` a symbolic link to the folder of the images; logs a warning if they have no common folder."""
    roots = set()
    for document in db.documents(dataset).find(db.PUSHED, {"filepath": 1, "file_name": 1}, batch_size=db.BATCH):
        roots.add(document["filepath"].removesuffix(document["file_name"]))
    folder = Path(roots.pop()) if len(roots) == 1 else None
    if link.exists() and not link.is_symlink():
        return  # a folder of images that people put there
    if folder is None or not folder.is_dir():
        logger.warning("The images are not in one folder of this machine; give their folder with --images later.")
        return
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        beside.symlink_to(folder.resolve(), target_is_directory=True)
        beside.replace(link)
    except OSError as error:
        logger.warning("Cannot link to the images (%s); give --images %s later.", error.strerror, folder)
    finally:
        beside.unlink(missing_ok=True)


# Ids ------------------------------------------------------------------------------------------------------------------


def _assign_ids(dataset: Any, state: db.DatasetState) -> None:
    """Stores an id with every new box and class, so that the next pull writes the same ones."""
    known = {category.name for category in state.categories}
    taken: set[int] = set()
    added: list[tuple[str, CorrectedBox]] = []
    new_names: set[str] = set()
    for image, difference in _images(dataset):
        new_names |= {box.label for box in difference.boxes} - known
        taken.update(p.annotation_id for p in image.proposals if p.annotation_id is not None)
        added += ((image.id, box) for box in difference.added)
    writes = []
    for image_id, box in added:
        # A box that was copied in the app has the id of the original, and needs one of its own.
        if box.annotation_id is not None and (box.record or box.annotation_id not in taken):
            taken.add(box.annotation_id)
            continue
        id = state.next_annotation_id = max(state.next_annotation_id, max(taken, default=0) + 1)
        taken.add(id)
        writes.append(_write_id(image_id, box, id))
    if writes:
        db.documents(dataset).bulk_write(writes, ordered=False)
    if new_names:
        first = max((category.id for category in state.categories), default=0) + 1
        state.categories += [CocoCategory(id, name) for id, name in enumerate(sorted(new_names), start=first)]
    if writes or new_names:
        state.next_annotation_id = max(taken, default=0) + 1
        db.write_state(dataset, state)


def _write_id(image_id: str, box: CorrectedBox, id: int) -> Any:
    """Returns the write of one box's id. It changes only that element, so that edits made meanwhile are kept."""
    from bson import ObjectId
    from pymongo import UpdateOne

    field, key = (db.LABELS, {"_id": ObjectId(box.id)}) if box.id else (db.PREDICTIONS, {"record": box.record})
    return UpdateOne(
        {"_id": ObjectId(image_id)},
        {"$set": {f"{field}.detections.$[box].annotation_id": id}},
        array_filters=[{f"box.{name}": value for name, value in key.items()}],
    )


# Files ----------------------------------------------------------------------------------------------------------------


def _write_image(writer: CocoWriter, image: ReviewedImage, difference: ImageDifference, ids: Mapping[str, int]) -> None:
    writer.add_image(CocoImage(image.image_id, image.file_name, image.width, image.height))
    for box in sorted(difference.boxes, key=lambda box: box.annotation_id or 0):
        assert box.annotation_id is not None
        area = box.bbox[2] * box.bbox[3] if box.area is None else box.area
        writer.add_annotation(
            CocoAnnotation(box.annotation_id, image.image_id, ids[box.label], box.bbox, area=area, iscrowd=box.iscrowd)
        )


class _DiffEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry of diff.json: the box now, and the values before that differ."""

    annotation_id: int | None
    image_id: int
    file_name: str
    category: str
    bbox: BoxXYWH
    score: float | None = None
    prompt: str = ""
    category_before: str = ""
    bbox_before: BoxXYWH | None = None
    iou: float | None = None


def _write_changes(diff: Mapping[str, Entries], image: ReviewedImage, difference: ImageDifference) -> None:
    for change in difference.changes:
        for kind in _kinds(change):
            diff[kind].add(_entry(image, change))
    for box in difference.added:
        diff["added"].add(_DiffEntry(box.annotation_id, image.image_id, image.file_name, box.label, box.bbox))


def _entry(image: ReviewedImage, change: BoxChange) -> _DiffEntry:
    before, now = change.proposal, change.now
    return _DiffEntry(
        annotation_id=before.annotation_id,
        image_id=image.image_id,
        file_name=image.file_name,
        category=before.label if now is None else now.label,
        bbox=before.bbox if now is None else now.bbox,
        score=before.score,
        prompt=before.prompt,
        category_before=before.label if change.relabelled else "",
        bbox_before=before.bbox if change.moved else None,
        iou=round(change.iou, 4) if change.moved else None,
    )


@contextmanager
def _diff_writer(file: BinaryIO, per_class: Mapping[str, ReviewCounts]) -> Iterator[dict[str, Entries]]:
    """Yields one list for each kind of change, to be filled in any order, and writes them and the counts as JSON.

    The lists are kept in temporary files on the same disk, because they may not fit in memory.
    """
    with ExitStack() as stack:
        parts = {kind: stack.enter_context(tempfile.TemporaryFile(dir=Path(file.name).parent)) for kind in KINDS}
        yield {kind: Entries(part) for kind, part in parts.items()}
        for index, (kind, part) in enumerate(parts.items()):
            part.seek(0)
            file.write(b'%s"%s": [\n' % (b",\n" if index else b"{\n", kind.encode()))
            shutil.copyfileobj(part, file, 1 << 20)
            file.write(b"\n]")
        counts = msgspec.json.encode({name: asdict(counts) for name, counts in per_class.items()})
        file.write(b',\n"per_class": %s\n}\n' % counts)
