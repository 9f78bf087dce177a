"""The values under review: proposed boxes, boxes as people left them, and the images around them.

A box is [left, top, width, height] in pixels of the original image. Knows nothing of FiftyOne.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glip.boxes import box_iou_xywh
from glip.data.coco import BoxXYWH

# Tags with which people decide about a box or a whole image.
APPROVE = "approve"
REJECT = "reject"


@dataclass(frozen=True)
class Proposal:
    """A box of the source.

    Attributes:
        record: identifies the box: image, stamp of the image and index in its record (`a/b.jpg@1024-17#3`), or the id
            of the annotation in a COCO file (`annotation 7`). Boxes with another record are other proposals.
        label: class name.
        bbox: exactly as in the source.
        kept: the box is a label unless a person rejects it. Other proposals are below their threshold, and become
            labels if a person approves them.
        score: None if the source has none.
        prompt: the phrase that found it.
        chunk: index of the caption of the run that contained the phrase.
        margin: score minus threshold.
        entropy: of the score, in bits: 1 at 0.5, 0 at 0 and 1.
        hint: `likely miss`, `likely duplicate` or empty.
        annotation_id: in COCO files; None if not assigned yet.
        area: as in the source; None if it has none.
        iscrowd: as in COCO.
        tags: given by people to the proposal itself.
        deleted: a person deleted the label made of it.
    """

    # The names of the fields are part of the digests stored in FiftyOne; see `push`.
    record: str
    label: str
    bbox: BoxXYWH
    kept: bool = True
    score: float | None = None
    prompt: str = ""
    chunk: int = 0
    margin: float | None = None
    entropy: float | None = None
    hint: str = ""
    annotation_id: int | None = None
    area: float | None = None
    iscrowd: int = 0
    tags: frozenset[str] = frozenset()
    deleted: bool = False


@dataclass(frozen=True)
class Label:
    """A box as people left it.

    Attributes:
        id: in the database; ids increase in the order in which boxes are drawn.
        label: class name; None if a person drew the box without one.
        bbox: equal to that of the proposal up to rounding, if nobody moved it.
        record: of its proposal; empty if a person drew it.
        annotation_id: in COCO files; None if not assigned yet.
        tags: given by people.
    """

    id: str
    label: str | None
    bbox: BoxXYWH
    record: str = ""
    annotation_id: int | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ProposedImage:
    """An image of the source.

    Attributes:
        file_name: as in the source, with '/' between folders.
        path: on this machine.
        width: in pixels.
        height: in pixels.
        proposals: best score first; kept ones in the order of the source's annotation file.
        image_id: of the source; None if it has none.
        caption: the image's own caption, if the run used captions.
    """

    file_name: str
    path: str
    width: int
    height: int
    proposals: tuple[Proposal, ...]
    image_id: int | None = None
    caption: str | None = None


@dataclass(frozen=True)
class ReviewedImage:
    """An image as it is in the database.

    Attributes:
        id: in the database.
        file_name: as in the source, with '/' between folders.
        width: in pixels.
        height: in pixels.
        image_id: in COCO files.
        proposals: all boxes of the source.
        labels: boxes as people left them.
        tags: given by people to the image.
        cornerless: number of labels without a box, which are left out of `labels`.
        foreign: number of predictions that `push` did not write, which are left out of `proposals`.
    """

    id: str
    file_name: str
    width: int
    height: int
    image_id: int
    proposals: tuple[Proposal, ...]
    labels: tuple[Label, ...]
    tags: frozenset[str] = frozenset()
    cornerless: int = 0
    foreign: int = 0


def iou(one: BoxXYWH, other: BoxXYWH) -> float:
    """Returns the intersection over union of two boxes; 0 if neither has an area."""
    return float(box_iou_xywh(np.array(one, np.float64), np.array(other, np.float64)))
