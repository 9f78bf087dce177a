"""How an image and its boxes stand in FiftyOne's database, and back to plain values.

Boxes there are [left, top, width, height] as shares of the image. What this room adds to a box are the attributes
of `ATTRIBUTES`; whatever else people add stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from glip.data.coco import BoxXYWH
from glip.review.annotations import Label, Proposal, Reviewed

BATCH = 64  # images that are in memory at once
PREDICTIONS = "predictions"
LABELS = "labels"
TRUTH = "truth"
# Attributes of boxes, each with a value of its kind.
ATTRIBUTES = {
    "record": "",
    "prompt": "",
    "chunk": 0,
    "annotation_id": 0,
    "margin": 0.0,
    "entropy": 0.0,
    "hint": "",
}
# Only predictions have these: what the source says, digit by digit.
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


def detections(boxes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A label field that holds boxes."""
    return {"_cls": "Detections", "detections": list(boxes)}


def detection(label: str, bbox: BoxXYWH, size_wh: tuple[int, int], **attributes: object) -> dict[str, Any]:
    """A box with a new id."""
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
    """The box that people edit, made of a proposal."""
    attributes = {name: getattr(proposal, name) for name in ATTRIBUTES}
    tags = sorted(proposal.tags)
    return detection(proposal.label, proposal.bbox, size_wh, confidence=proposal.score, **attributes, tags=tags)


def prediction_document(proposal: Proposal, size_wh: tuple[int, int]) -> dict[str, Any]:
    """The box that stays as it was proposed."""
    exact = {name: getattr(proposal, name) for name in EXACT} | {"bbox": list(proposal.bbox)}
    return label_document(proposal, size_wh) | exact


def boxes_of(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """The boxes in an image's field; none where there is no such field."""
    boxes: list[dict[str, Any]] = (document.get(field) or {}).get("detections") or []
    return boxes


def reviewed(document: Mapping[str, Any]) -> Reviewed:
    """An image of the database as plain values."""
    size_wh = document["metadata"]["width"], document["metadata"]["height"]
    return Reviewed(
        id=str(document["_id"]),
        file_name=document["file_name"],
        width=size_wh[0],
        height=size_wh[1],
        image_id=document["image_id"],
        proposals=tuple(map(_proposal, boxes_of(document, PREDICTIONS))),
        labels=tuple(_label(box, size_wh) for box in boxes_of(document, LABELS)),
        tags=frozenset(document.get("tags") or ()),
    )


def _proposal(box: Mapping[str, Any]) -> Proposal:
    return Proposal(
        label=box["label"],
        bbox=tuple(box["bbox"]),
        kept=box["kept"],
        score=box["confidence"],
        area=box["area"],
        iscrowd=box["iscrowd"],
        deleted=box["deleted"],
        tags=frozenset(box["tags"]),
        **{name: box[name] for name in ATTRIBUTES},
    )


def _label(box: Mapping[str, Any], size_wh: tuple[int, int]) -> Label:
    left, top, width, height = box["bounding_box"]
    return Label(
        id=str(box["_id"]),
        label=box.get("label"),
        bbox=(left * size_wh[0], top * size_wh[1], width * size_wh[0], height * size_wh[1]),
        record=box.get("record") or "",
        annotation_id=box.get("annotation_id"),
        tags=frozenset(box.get("tags") or ()),
    )
