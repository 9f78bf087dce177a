"""Scores labels against true boxes: average precision, true and false positives, and missed boxes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from glip.data.coco import CocoAnnotation, CocoDataset
from glip.data.image_files import match_names
from glip.errors import InputError
from glip.review import database as db

# Attribute of boxes: tp or fp on a proposal and on the label made of it, tp or fn on a true box.
VERDICT = "verdict"
MAX_NAMES_SHOWN = 5  # in a message

logger = logging.getLogger(__name__)


def has_truth(fiftyone: ModuleType, name: str) -> bool:
    """Returns whether a dataset was compared with true boxes before."""
    return bool(db.open_dataset(fiftyone, name).has_field(db.TRUTH))


def compare_with_truth(fiftyone: ModuleType, name: str, truth: CocoDataset | None, path: str = "") -> dict[str, Any]:
    """Stores true boxes with a dataset and scores its proposals and labels.

    Args:
        fiftyone: connected to its database.
        name: of the dataset.
        truth: true boxes, matched by `file_name`; None to score against those stored before. Images without an entry
            are not scored. Classes that the labels do not have are left out, because the run did not look for them.
        path: of the file with the true boxes, for messages.

    Returns:
        `average_precision` of all proposals above the floor at IoU 0.50 to 0.95 (None if there is no true box, or if
        proposals have no score), and `true_positives`, `false_positives` and `missed` of the labels at IoU 0.50.

    Raises:
        InputError: the true boxes have no image or no class in common with the labels.
    """
    dataset = db.open_dataset(fiftyone, name)
    state = db.read_state(dataset)
    if truth is not None:
        _write_truth(fiftyone, dataset, state, truth, path)
    known = dataset.exists(db.TRUTH)
    scored = not db.documents(dataset).count_documents({f"{db.PREDICTIONS}.detections.confidence": None}, limit=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means over classes without true boxes
        results = known.evaluate_detections(
            db.PREDICTIONS, gt_field=db.TRUTH, eval_key=VERDICT, compute_mAP=scored, progress=False
        )
        precision = float(results.mAP()) if scored else -1.0
    state.average_precision = precision if precision >= 0 else None  # FiftyOne returns -1 without true boxes
    db.write_state(dataset, state)
    return {"average_precision": state.average_precision, **_mark_labels(dataset)}


def _write_truth(fiftyone: ModuleType, dataset: Any, state: db.DatasetState, truth: CocoDataset, path: str) -> None:
    from pymongo import UpdateOne

    samples = db.documents(dataset)
    names = _common_classes(state, truth, path)
    boxes = truth.boxes_by_image()
    known = [str(sample["file_name"]) for sample in samples.find({}, {"file_name": 1})]
    same = match_names([image.file_name for image in truth.images], known)
    ids = {same.get(image.file_name, image.file_name): image.id for image in truth.images}
    writes = []
    for sample in samples.find(db.PUSHED, {"file_name": 1, "metadata": 1}):
        if sample["file_name"] not in ids:
            continue
        size_wh = sample["metadata"]["width"], sample["metadata"]["height"]
        true = (box for box in boxes[ids[sample["file_name"]]] if box.category_id in names)
        true_boxes = [_truth_box(box, names, size_wh) for box in true]
        writes.append(UpdateOne({"_id": sample["_id"]}, {"$set": {db.TRUTH: db.detections(true_boxes)}}))
    if not writes:
        raise InputError(
            f"truth is {path}, which has no image of the dataset {dataset.name!r}. Images are matched by file_name, "
            f"such as {next(iter(ids), 'a.jpg')!r} in that file."
        )
    if not dataset.has_field(db.TRUTH):
        dataset.add_sample_field(db.TRUTH, fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Detections)
        dataset.add_sample_field(f"{db.TRUTH}.detections.iscrowd", fiftyone.IntField)
        dataset.add_sample_field(f"{db.LABELS}.detections.{VERDICT}", fiftyone.StringField)
        dataset.app_config.active_fields.paths += [db.TRUTH]
        dataset.save()
    samples.update_many({}, {"$unset": {db.TRUTH: ""}})
    samples.bulk_write(writes, ordered=False)
    dataset.reload()


def _common_classes(state: db.DatasetState, truth: CocoDataset, path: str) -> dict[int, str]:
    """Returns the classes that true boxes and labels have in common, by the id in the file of true boxes."""
    labelled = [category.name for category in state.categories]
    names = {category.id: category.name for category in truth.categories if category.name in labelled}
    if not names:
        raise InputError(
            f"truth is {path}, which has none of the classes of these labels ({_listed(labelled)}). Its classes are "
            f"{_listed([category.name for category in truth.categories])}; rename them to match."
        )
    others = [category.name for category in truth.categories if category.id not in names]
    if others:
        logger.warning("Left out true boxes of classes that the labels do not have: %s.", _listed(others))
    return names


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:MAX_NAMES_SHOWN])) + more if names else "none"


def _truth_box(box: CocoAnnotation, names: Mapping[int, str], size_wh: tuple[int, int]) -> dict[str, Any]:
    return db.detection(names[box.category_id], box.bbox, size_wh, iscrowd=box.iscrowd)


def _mark_labels(dataset: Any) -> dict[str, int]:
    """Copies the verdicts from proposals to labels and counts them.

    A true box that only a proposal below the threshold matches is missed.
    """
    from pymongo import UpdateOne

    images = db.documents(dataset)
    total = {"true_positives": 0, "false_positives": 0, "missed": 0}
    writes = []
    fields = dict.fromkeys((db.PREDICTIONS, db.LABELS, db.TRUTH), 1)
    for image in images.find({db.TRUTH: {"$exists": True}}, fields, batch_size=db.BATCH):
        records, missed = _verdicts(image)
        counts = dict(zip(total, (len(records["tp"]), len(records["fp"]), len(missed)), strict=True))
        total = {name: total[name] + counts[name] for name in total}
        # Only single elements are changed, so that edits made meanwhile are kept.
        marks: dict[str, Any] = {f"{db.TRUTH}.detections.$[missed].{VERDICT}": "fn"}
        filters: list[dict[str, Any]] = [{"missed._id": {"$in": missed}}]
        if db.boxes_of(image, db.LABELS):
            marks |= {f"{db.LABELS}.detections.$[{verdict}].{VERDICT}": verdict for verdict in records}
            filters += [{f"{verdict}.record": {"$in": matched}} for verdict, matched in records.items()]
        marks |= dict(zip((f"{VERDICT}_{verdict}" for verdict in ("tp", "fp", "fn")), counts.values(), strict=True))
        writes.append(UpdateOne({"_id": image["_id"]}, {"$set": marks}, array_filters=filters))
        if len(writes) == db.BATCH:
            images.bulk_write(writes, ordered=False)
            writes = []
    if writes:
        images.bulk_write(writes, ordered=False)
    dataset.reload()
    return total


def _verdicts(image: Mapping[str, Any]) -> tuple[dict[str, list[str]], list[object]]:
    """Returns the records of an image's labels by verdict (tp, fp), and the ids of true boxes that no label matches."""
    kept = [box for box in db.boxes_of(image, db.PREDICTIONS) if db.is_proposal(box) and box.get("kept")]
    right = {box["_id"] for box in kept if box.get(VERDICT) == "tp"}
    records = {
        "tp": [box["record"] for box in kept if box["_id"] in right],
        "fp": [box["record"] for box in kept if box["_id"] not in right],
    }
    found_by = set(map(str, right))
    missed = [
        box["_id"]
        for box in db.boxes_of(image, db.TRUTH)
        if not box.get("iscrowd") and box.get(f"{VERDICT}_id") not in found_by
    ]
    return records, missed
