"""What is reviewed, as plain values: boxes that were proposed, boxes as people left them, the image around them.

A box is [left, top, width, height] in pixels of the original image.
"""

from __future__ import annotations

from dataclasses import dataclass

from glip.data.coco import BoxXYWH

APPROVE = "approve"
REJECT = "reject"


@dataclass(frozen=True)
class Proposal:
    """A box of the source.

    Attributes:
        record: which box of the source it is: its image, the image's stamp and its place in the record,
            `a/b.jpg@1024-17#3`; of a COCO file the annotation's id, `annotation 7`. Another record, another proposal.
        label: class name.
        bbox: exactly as the source has it.
        kept: it counts unless somebody objects; others lie below their threshold and count if somebody approves.
        score: None where the source has none.
        prompt: the phrase that found it.
        chunk: which of the run's captions held that phrase.
        margin: score minus threshold.
        entropy: of the score, in bits: 1 at 0.5, 0 at 0 and 1.
        hint: `likely miss`, `likely duplicate` or nothing.
        annotation_id: in COCO files; None until it has one.
        area: as the source has it; None if it says nothing.
        iscrowd: of COCO.
        tags: of people, on the proposal itself.
        deleted: somebody deleted its label, at a time when it counted.
    """

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
        id: of the database; ids of boxes drawn later sort later.
        label: class name; None if it was drawn and not named.
        bbox: up to rounding, where nobody moved it.
        record: the proposal it comes from; nothing if somebody drew it.
        annotation_id: in COCO files; None until it has one.
        tags: of people.
    """

    id: str
    label: str | None
    bbox: BoxXYWH
    record: str = ""
    annotation_id: int | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Proposed:
    """An image of the source.

    Attributes:
        file_name: as in the source, '/' between folders.
        path: where it lies on this machine.
        width: pixels.
        height: pixels.
        proposals: best first; those kept among them in the order of the source's annotation file.
        image_id: of the source; None if it gives none.
        caption: that it was asked with, if it has its own.
    """

    file_name: str
    path: str
    width: int
    height: int
    proposals: tuple[Proposal, ...]
    image_id: int | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Reviewed:
    """An image as it stands in the database.

    Attributes:
        id: of the database.
        image_id: in COCO files.
        proposals: everything that was proposed.
        labels: the boxes as people left them.
        tags: of people, on the image.
    """

    id: str
    file_name: str
    width: int
    height: int
    image_id: int
    proposals: tuple[Proposal, ...]
    labels: tuple[Label, ...]
    tags: frozenset[str] = frozenset()


def iou(one: BoxXYWH, other: BoxXYWH) -> float:
    """Overlap of two boxes; 0 where both have no area."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = one[2] * one[3] + other[2] * other[3] - shared
    return shared / union if union > 0 else 0.0
