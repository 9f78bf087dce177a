"""Out of the dataset again: the labels as people left them, what they changed, and how much of it was right."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import msgspec

from glip.data.coco import BoxXYWH, CocoAnnotation, CocoCategory, CocoImage, Entries, coco_writer
from glip.data.discovery import CORRECTED_FILE
from glip.errors import InputError
from glip.files import whole_file
from glip.review import documents as docs
from glip.review.annotations import Reviewed
from glip.review.chart import draw_chart
from glip.review.database import Books, connect, documents, open_dataset, read_books, write_books
from glip.review.difference import Change, Difference, Kept, compare

logger = logging.getLogger(__name__)

DIFF_FILE = "diff.json"
SUMMARY_FILE = "summary.json"
CHART_FILE = "summary.png"
IMAGES_LINK = "images"  # to the images' folder, so that the corrected file is a data set as it stands
KINDS = ("accepted", "moved", "relabelled", "added", "deleted")


@dataclass
class Counts:
    """Boxes, of one class or of all. A box that was moved and relabelled counts as both.

    Attributes:
        proposed: that counted before anybody looked, in images that were reviewed.
        accepted: of these, as they were.
        moved: of these, with another box now.
        relabelled: of these, with another class now.
        deleted: of these, gone or rejected.
        added: drawn, or approved although below the threshold.
    """

    proposed: int = 0
    accepted: int = 0
    moved: int = 0
    relabelled: int = 0
    deleted: int = 0
    added: int = 0


@dataclass
class PullSummary:
    """What people made of a dataset.

    Attributes:
        dataset: its name.
        images: in it.
        reviewed: of these, where somebody changed or tagged something.
        boxes: all that stand now.
        unreviewed: of these, in images where nobody did anything.
        nameless: drawn without a class, and left out.
        total: in the images that were reviewed.
        per_class: likewise, by the class that was proposed, or of the box that was added.
        mean_iou: between the boxes that were moved, before and after; None if none was.
    """

    dataset: str
    images: int = 0
    reviewed: int = 0
    boxes: int = 0
    unreviewed: int = 0
    nameless: int = 0
    total: Counts = field(default_factory=Counts)
    per_class: dict[str, Counts] = field(default_factory=dict)
    mean_iou: float | None = None

    @property
    def acceptance_rate(self) -> float | None:
        """Share of the proposals in reviewed images that stayed as they were; None if there are none."""
        return self.total.accepted / self.total.proposed if self.total.proposed else None

    def to_json(self) -> dict[str, Any]:
        """The summary as plain values that JSON can carry."""
        return asdict(self) | {"acceptance_rate": self.acceptance_rate}


def pull(
    name: str, out: Path, *, only_reviewed: bool = False, advance: Callable[[int], object] = lambda count: None
) -> PullSummary:
    """Writes what people made of a dataset. As long as they do nothing more, the same bytes are written again.

    Args:
        name: of the dataset.
        out: folder for the four files, and for a link to the images.
        only_reviewed: leave images out where nobody changed or tagged anything.
        advance: called with the number of images done since the last call.

    Raises:
        InputError: there is no such dataset, or `out` is a file.
        JobFailed: the database does not answer, or a file cannot be written.
    """
    dataset = open_dataset(connect(), name)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder, which is made if there is none.")
    books = read_books(dataset)
    _give_ids(dataset, books)
    ids = {category.name: category.id for category in books.categories}
    info = msgspec.json.decode(books.info) | {"description": "Labels made by glip, corrected by people"}
    summary = PullSummary(name, per_class={category.name: Counts() for category in books.categories})
    overlaps: list[float] = []
    with ExitStack() as stack:
        file = stack.enter_context(whole_file(out / CORRECTED_FILE))
        writer = stack.enter_context(coco_writer(file, books.categories, info))
        add = stack.enter_context(_diff_writer(stack.enter_context(whole_file(out / DIFF_FILE)), summary.per_class))
        for image, difference in _images(dataset):
            advance(1)
            _count(summary, overlaps, difference)
            if difference.reviewed:
                _write_diff(add, image, difference)
            elif only_reviewed:
                continue
            writer.add_image(CocoImage(image.image_id, image.file_name, image.width, image.height))
            for box in sorted(difference.kept, key=lambda box: box.annotation_id or 0):
                assert box.annotation_id is not None
                area = box.bbox[2] * box.bbox[3] if box.area is None else box.area
                writer.add_annotation(
                    CocoAnnotation(
                        box.annotation_id, image.image_id, ids[box.label], box.bbox, area=area, iscrowd=box.iscrowd
                    )
                )
    summary.mean_iou = sum(overlaps) / len(overlaps) if overlaps else None
    with whole_file(out / SUMMARY_FILE) as file:
        file.write(msgspec.json.format(msgspec.json.encode(summary.to_json()), indent=2) + b"\n")
    with whole_file(out / CHART_FILE) as file:
        draw_chart(summary).save(file, "PNG")
    _link_images(dataset, out / IMAGES_LINK)
    return summary


def summarise(fiftyone: ModuleType, name: str) -> PullSummary:
    """What a pull would say, without writing anything."""
    dataset = open_dataset(fiftyone, name)
    summary = PullSummary(name, per_class={category.name: Counts() for category in read_books(dataset).categories})
    overlaps: list[float] = []
    for _, difference in _images(dataset):
        _count(summary, overlaps, difference)
    summary.mean_iou = sum(overlaps) / len(overlaps) if overlaps else None
    return summary


def _images(dataset: Any) -> Iterator[tuple[Reviewed, Difference]]:
    fields = ("file_name", "image_id", "metadata", "tags", docs.PREDICTIONS, docs.LABELS)
    for document in documents(dataset).find({}, dict.fromkeys(fields, 1), batch_size=docs.BATCH).sort("image_id", 1):
        image = docs.reviewed(document)
        yield image, compare(image)


def _link_images(dataset: Any, link: Path) -> None:
    """Points to the folder that all images lie in, where there is one and the system has such links."""
    roots = set()
    for document in documents(dataset).find({}, {"filepath": 1, "file_name": 1}, batch_size=docs.BATCH):
        roots.add(document["filepath"].removesuffix(document["file_name"]))
    folder = Path(roots.pop()) if len(roots) == 1 else None
    if link.exists() and not link.is_symlink():
        return  # somebody's own folder of images
    if folder is None or not folder.is_dir():
        logger.warning("The images are not in one folder of this machine; say with --images where they are.")
        return
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        beside.symlink_to(folder.resolve(), target_is_directory=True)
        beside.replace(link)
    except OSError as error:
        logger.warning("No link to the images could be made (%s); say with --images %s.", error.strerror, folder)
    finally:
        beside.unlink(missing_ok=True)


def _give_ids(dataset: Any, books: Books) -> None:
    """Gives every new box and class an id, once and for all: the next pull finds it in the database."""
    from bson import ObjectId
    from pymongo import UpdateOne

    known = {category.name for category in books.categories}
    taken: set[int] = set()
    waiting: list[tuple[str, Kept]] = []
    new_names: set[str] = set()
    for image, difference in _images(dataset):
        for box in difference.kept:
            new_names |= {box.label} - known
        taken.update(p.annotation_id for p in image.proposals if p.annotation_id is not None)
        waiting += ((image.id, box) for box in difference.added)
    writes = []
    for image_id, box in waiting:
        # A box that was copied in the app has the id of its origin, and needs one of its own.
        if box.annotation_id is not None and (box.record or box.annotation_id not in taken):
            taken.add(box.annotation_id)
            continue
        id = books.next_annotation_id = max(books.next_annotation_id, max(taken, default=0) + 1)
        taken.add(id)
        # By element, so that an edit somebody makes at this moment in the same image is not overwritten.
        field, key = (docs.LABELS, {"_id": ObjectId(box.id)}) if box.id else (docs.PREDICTIONS, {"record": box.record})
        write = {"$set": {f"{field}.detections.$[box].annotation_id": id}}
        writes.append(
            UpdateOne(
                {"_id": ObjectId(image_id)},
                write,
                array_filters=[{f"box.{name}": value for name, value in key.items()}],
            )
        )
    if writes:
        documents(dataset).bulk_write(writes, ordered=False)
    if new_names:
        first = max((category.id for category in books.categories), default=0) + 1
        books.categories += [CocoCategory(first + place, name) for place, name in enumerate(sorted(new_names))]
    if writes or new_names:
        books.next_annotation_id = max(taken, default=0) + 1
        write_books(dataset, books)


def _count(summary: PullSummary, overlaps: list[float], difference: Difference) -> None:
    summary.images += 1
    summary.boxes += len(difference.kept)
    summary.nameless += difference.nameless
    if not difference.reviewed:
        summary.unreviewed += len(difference.kept)
        return
    summary.reviewed += 1
    for change in difference.changes:
        kinds = ["proposed", *_kinds(change)]
        for counts in (summary.total, summary.per_class.setdefault(change.proposal.label, Counts())):
            for kind in kinds:
                setattr(counts, kind, getattr(counts, kind) + 1)
        if change.moved:
            overlaps.append(change.iou)
    for box in difference.added:
        for counts in (summary.total, summary.per_class.setdefault(box.label, Counts())):
            counts.added += 1


def _kinds(change: Change) -> list[str]:
    if change.now is None:
        return ["deleted"]
    kinds = [kind for kind, applies in (("moved", change.moved), ("relabelled", change.relabelled)) if applies]
    return kinds or ["accepted"]


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of diff.json: the box before, the box now, as far as they differ or exist."""

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


def _write_diff(add: dict[str, Entries], image: Reviewed, difference: Difference) -> None:
    for change in difference.changes:
        for kind in _kinds(change):
            add[kind].add(_entry(image, change))
    for box in difference.added:
        add["added"].add(_Entry(box.annotation_id, image.image_id, image.file_name, box.label, box.bbox))


def _entry(image: Reviewed, change: Change) -> _Entry:
    before, now = change.proposal, change.now
    return _Entry(
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
def _diff_writer(file: BinaryIO, per_class: Mapping[str, Counts]) -> Iterator[dict[str, Entries]]:
    """Five lists in one JSON object, filled in any order, in nameless files on the same disk; then the counts."""
    with ExitStack() as stack:
        parts = {kind: stack.enter_context(tempfile.TemporaryFile(dir=Path(file.name).parent)) for kind in KINDS}
        yield {kind: Entries(part) for kind, part in parts.items()}
        for place, (kind, part) in enumerate(parts.items()):
            part.seek(0)
            file.write(b'%s"%s": [\n' % (b",\n" if place else b"{\n", kind.encode()))
            shutil.copyfileobj(part, file, 1 << 20)
            file.write(b"\n]")
        file.write(b',\n"per_class": %s\n}\n' % msgspec.json.encode({name: asdict(c) for name, c in per_class.items()}))
