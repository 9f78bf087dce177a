"""A truth beside the labels: which of them are right, what they miss, and how well the detector did."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from glip.data.coco import CocoAnnotation, CocoDataset
from glip.errors import InputError
from glip.review import documents as docs
from glip.review.database import Books, documents, open_dataset, read_books, write_books

VERDICT = "verdict"  # tp or fp on a proposal and on the label made of it, tp or fn on a box of the truth
_SHOWN = 5  # names in a message

logger = logging.getLogger(__name__)


def has_truth(fiftyone: ModuleType, name: str) -> bool:
    """Whether a dataset was compared with a truth before."""
    return bool(open_dataset(fiftyone, name).has_field(docs.TRUTH))


def compare_with_truth(fiftyone: ModuleType, name: str, truth: CocoDataset | None, place: str = "") -> dict[str, Any]:
    """Puts the truth beside the proposals and scores them; without a truth, against the one that is there.

    Args:
        fiftyone: connected.
        name: of the dataset.
        truth: boxes by `file_name`; images that it does not list are not scored, and classes that the labels do
            not have are left out: nobody looked for them.
        place: of the truth's file, for messages.

    Returns:
        `average_precision` of all proposals down to the floor, IoU 0.50 to 0.95, None where the truth has no box or
        proposals have no score; and of those that count `true_positives`, `false_positives`, `missed` at IoU 0.50.

    Raises:
        InputError: the truth is about other images or other classes.
    """
    dataset = open_dataset(fiftyone, name)
    books = read_books(dataset)
    if truth is not None:
        _write_truth(fiftyone, dataset, books, truth, place)
    known = dataset.exists(docs.TRUTH)
    scored = not documents(dataset).count_documents({f"{docs.PREDICTIONS}.detections.confidence": None}, limit=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without truth give means of nothing
        results = known.evaluate_detections(
            docs.PREDICTIONS, gt_field=docs.TRUTH, eval_key=VERDICT, compute_mAP=scored, progress=False
        )
        precision = float(results.mAP()) if scored else -1.0
    books.average_precision = precision if precision >= 0 else None  # -1 says that there was nothing to find
    write_books(dataset, books)
    return {"average_precision": books.average_precision, **_judge_labels(dataset)}


def _write_truth(fiftyone: ModuleType, dataset: Any, books: Books, truth: CocoDataset, place: str) -> None:
    from pymongo import UpdateOne

    samples = documents(dataset)
    names = _common_classes(books, truth, place)
    boxes = truth.boxes_by_image()
    ids = {image.file_name: image.id for image in truth.images}
    writes = []
    for sample in samples.find({}, {"file_name": 1, "metadata": 1}):
        if sample["file_name"] not in ids:
            continue
        size_wh = sample["metadata"]["width"], sample["metadata"]["height"]
        true = (box for box in boxes[ids[sample["file_name"]]] if box.category_id in names)
        found = [_truth_box(box, names, size_wh) for box in true]
        writes.append(UpdateOne({"_id": sample["_id"]}, {"$set": {docs.TRUTH: docs.detections(found)}}))
    if not writes:
        raise InputError(
            f"--truth {place} knows none of the images of {dataset.name!r}; a sample is recognised by its "
            f"file_name, such as {next(iter(ids), 'a.jpg')!r} there."
        )
    if not dataset.has_field(docs.TRUTH):
        dataset.add_sample_field(docs.TRUTH, fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Detections)
        dataset.add_sample_field(f"{docs.TRUTH}.detections.iscrowd", fiftyone.IntField)
        dataset.add_sample_field(f"{docs.LABELS}.detections.{VERDICT}", fiftyone.StringField)
        dataset.app_config.active_fields.paths += [docs.TRUTH]
        dataset.save()
    samples.update_many({}, {"$unset": {docs.TRUTH: ""}})
    samples.bulk_write(writes, ordered=False)
    dataset.reload()


def _common_classes(books: Books, truth: CocoDataset, place: str) -> dict[int, str]:
    """The truth's classes that the labels have too, by id."""
    asked = [category.name for category in books.categories]
    names = {category.id: category.name for category in truth.categories if category.name in asked}
    if not names:
        raise InputError(
            f"--truth {place} has none of the classes of these labels, {_listed(asked)}; a class is recognised by its "
            f"name, and there are {_listed([category.name for category in truth.categories])}. Rename them in the file."
        )
    others = [category.name for category in truth.categories if category.id not in names]
    if others:
        logger.warning("Nobody looked for %s; these classes of the truth are left out.", _listed(others))
    return names


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more if names else "none"


def _truth_box(box: CocoAnnotation, names: Mapping[int, str], size_wh: tuple[int, int]) -> dict[str, Any]:
    return docs.detection(names[box.category_id], box.bbox, size_wh, iscrowd=box.iscrowd)


def _judge_labels(dataset: Any) -> dict[str, int]:
    """Hands the verdicts on to what people see and edit: a true box found below the threshold only is missed."""
    from pymongo import UpdateOne

    images = documents(dataset)
    total = {"true_positives": 0, "false_positives": 0, "missed": 0}
    writes = []
    fields = dict.fromkeys((docs.PREDICTIONS, docs.LABELS, docs.TRUTH), 1)
    for image in images.find({docs.TRUTH: {"$exists": True}}, fields, batch_size=docs.BATCH):
        kept = [box for box in docs.boxes_of(image, docs.PREDICTIONS) if box["kept"]]
        right = {box["_id"] for box in kept if box.get(VERDICT) == "tp"}
        records = {"tp": [box["record"] for box in kept if box["_id"] in right]}
        records["fp"] = [box["record"] for box in kept if box["_id"] not in right]
        found_by = set(map(str, right))
        missed = [
            box["_id"]
            for box in docs.boxes_of(image, docs.TRUTH)
            if not box["iscrowd"] and box.get(f"{VERDICT}_id") not in found_by
        ]
        counts = dict(zip(total, (len(records["tp"]), len(records["fp"]), len(missed)), strict=True))
        total = {name: total[name] + counts[name] for name in total}
        # By element, so that an edit somebody makes at this moment in the same image is not overwritten.
        marks: dict[str, Any] = {f"{docs.TRUTH}.detections.$[missed].{VERDICT}": "fn"}
        filters: list[dict[str, Any]] = [{"missed._id": {"$in": missed}}]
        if docs.boxes_of(image, docs.LABELS):
            marks |= {f"{docs.LABELS}.detections.$[{verdict}].{VERDICT}": verdict for verdict in records}
            filters += [{f"{verdict}.record": {"$in": found}} for verdict, found in records.items()]
        marks |= dict(zip((f"{VERDICT}_{verdict}" for verdict in ("tp", "fp", "fn")), counts.values(), strict=True))
        writes.append(UpdateOne({"_id": image["_id"]}, {"$set": marks}, array_filters=filters))
        if len(writes) == docs.BATCH:
            images.bulk_write(writes, ordered=False)
            writes = []
    if writes:
        images.bulk_write(writes, ordered=False)
    dataset.reload()
    return total
