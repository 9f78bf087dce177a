"""Saved views of a dataset: what to look at first, and with a truth, what the detector got right."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from glip.data.coco import CocoAnnotation, CocoDataset
from glip.errors import InputError
from glip.review import documents as docs
from glip.review.database import documents, open_dataset, read_books, write_books
from glip.review.priorities import DUPLICATE, MISS

# A view for each of hundreds of classes would bury the others; the sidebar filters by class anyway.
MOST_CLASSES = 50
VERDICT = "verdict"  # of a comparison with the truth: tp, fp or fn, on each box


def save_views(fiftyone: ModuleType, dataset: Any) -> list[str]:
    """Saves our views anew; those that people made stay. Gives their names."""
    views = _views(fiftyone, dataset)
    stale = [name for name in dataset.list_saved_views() if name.startswith("class: ") and name not in views]
    for name in stale:
        dataset.delete_saved_view(name)
    for name, view in views.items():
        dataset.save_view(name, view, overwrite=True)
    return list(views)


def _views(fiftyone: ModuleType, dataset: Any) -> dict[str, Any]:
    field = fiftyone.ViewField
    views = {
        "most uncertain: margin": dataset.exists("margin").sort_by("margin"),
        "most uncertain: entropy": dataset.exists("entropy").sort_by("entropy", reverse=True),
        "likely misses": dataset.filter_labels(docs.PREDICTIONS, field("hint") == MISS).sort_by(
            "likely_misses", reverse=True
        ),
        "likely duplicates": dataset.filter_labels(docs.LABELS, field("hint") == DUPLICATE).sort_by(
            "likely_duplicates", reverse=True
        ),
        "empty pictures": dataset.match(field(f"{docs.LABELS}.detections").length() == 0),
    }
    if dataset.has_field(docs.TRUTH):
        verdict, kept = field(VERDICT), field("kept")
        views["false positives"] = dataset.filter_labels(docs.PREDICTIONS, (verdict == "fp") & kept)
        views["true positives"] = dataset.filter_labels(docs.PREDICTIONS, (verdict == "tp") & kept)
        views["missed truth"] = dataset.filter_labels(docs.TRUTH, verdict == "fn")
    counts: Mapping[str, int] = dataset.count_values(f"{docs.LABELS}.detections.label")
    named = sorted((name for name in counts if name is not None), key=lambda name: (-counts[name], name))
    for name in named[:MOST_CLASSES]:
        views[f"class: {name}"] = dataset.filter_labels(docs.LABELS, field("label") == name)
    return views


def compare_with_truth(fiftyone: ModuleType, name: str, truth: CocoDataset | None, place: str = "") -> dict[str, Any]:
    """Puts the truth beside the proposals and scores them; without a truth, against the one that is there.

    Args:
        fiftyone: connected.
        name: of the dataset.
        truth: boxes by `file_name`; pictures that it does not list are not scored.
        place: of the truth's file, for messages.

    Returns:
        `average_precision` of all proposals down to the floor, IoU 0.50 to 0.95, and of those that count
        `true_positives`, `false_positives` and `missed` at IoU 0.50.

    Raises:
        InputError: the truth is about other pictures.
    """
    dataset = open_dataset(fiftyone, name)
    if truth is not None:
        _write_truth(fiftyone, dataset, truth, place)
    known = dataset.exists(docs.TRUTH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without truth give means of nothing
        results = known.evaluate_detections(
            docs.PREDICTIONS, gt_field=docs.TRUTH, eval_key=VERDICT, compute_mAP=True, progress=False
        )
        precision = float(results.mAP())
    books = read_books(dataset)
    books.average_precision = precision
    write_books(dataset, books)
    field = fiftyone.ViewField
    verdicts = known.filter_labels(docs.PREDICTIONS, field("kept")).count_values(
        f"{docs.PREDICTIONS}.detections.{VERDICT}"
    )
    return {
        "average_precision": precision,
        "true_positives": verdicts.get("tp", 0),
        "false_positives": verdicts.get("fp", 0),
        "missed": known.count(f"{docs.TRUTH}.detections") - verdicts.get("tp", 0),
    }


def _write_truth(fiftyone: ModuleType, dataset: Any, truth: CocoDataset, place: str) -> None:
    from pymongo import UpdateOne

    pictures = documents(dataset)
    names = {category.id: category.name for category in truth.categories}
    boxes = truth.boxes_by_image()
    ids = {image.file_name: image.id for image in truth.images}
    writes = []
    for picture in pictures.find({}, {"file_name": 1, "metadata": 1}):
        if picture["file_name"] not in ids:
            continue
        size_wh = picture["metadata"]["width"], picture["metadata"]["height"]
        found = [_truth_box(box, names, size_wh) for box in boxes[ids[picture["file_name"]]]]
        writes.append(UpdateOne({"_id": picture["_id"]}, {"$set": {docs.TRUTH: docs.detections(found)}}))
    if not writes:
        raise InputError(
            f"--truth {place} knows none of the pictures of {dataset.name!r}; a picture is recognised by its "
            f"file_name, such as {next(iter(ids), 'a.jpg')!r} there."
        )
    if not dataset.has_field(docs.TRUTH):
        dataset.add_sample_field(docs.TRUTH, fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Detections)
        dataset.add_sample_field(f"{docs.TRUTH}.detections.iscrowd", fiftyone.IntField)
        dataset.app_config.active_fields.paths += [docs.TRUTH]
        dataset.save()
    pictures.update_many({}, {"$unset": {docs.TRUTH: ""}})
    pictures.bulk_write(writes, ordered=False)
    dataset.reload()


def _truth_box(box: CocoAnnotation, names: Mapping[int, str], size_wh: tuple[int, int]) -> dict[str, Any]:
    return docs.detection(names[box.category_id], box.bbox, size_wh, iscrowd=box.iscrowd)
