"""Finds what people changed in an image, and updates an image to new proposals without losing those changes.

Plain values in and out; knows nothing of FiftyOne.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from glip.data.coco import BoxXYWH
from glip.review.annotations import APPROVE, REJECT, Label, Proposal, ReviewedImage, iou

# The app rewrites a box when its class is changed, which may change its last digits. A box that moved less than this,
# in pixels, has not been moved by a person.
MOVE_TOLERANCE = 0.1
# A new proposal whose IoU with a box that a person decided about is above this is taken for the same object.
SAME_OBJECT_IOU = 0.5


@dataclass(frozen=True)
class CorrectedBox:
    """A box of the corrected file.

    Attributes:
        label: class name.
        bbox: the numbers of the source, if nobody moved the box.
        area: likewise; None if it follows from the box.
        iscrowd: as in COCO.
        annotation_id: None if not assigned yet.
        record: of its proposal; empty if a person drew it.
        id: of its label in the database; empty if it is a proposal that was approved without a label.
    """

    label: str
    bbox: BoxXYWH
    area: float | None
    iscrowd: int
    annotation_id: int | None
    record: str
    id: str


@dataclass(frozen=True)
class BoxChange:
    """A kept proposal, and the corrected box it became; `now` is None if it was deleted."""

    proposal: Proposal
    now: CorrectedBox | None

    @property
    def moved(self) -> bool:
        """Returns whether the box was moved or resized."""
        return self.now is not None and self.now.bbox != self.proposal.bbox

    @property
    def relabelled(self) -> bool:
        """Returns whether the box has another class now."""
        return self.now is not None and self.now.label != self.proposal.label

    @property
    def iou(self) -> float:
        """Returns the IoU of the box before and after; 0 if it was deleted."""
        return 0.0 if self.now is None else iou(self.proposal.bbox, self.now.bbox)


@dataclass(frozen=True)
class ImageDifference:
    """The changes in one image.

    Attributes:
        changes: one for each kept proposal.
        added: boxes that were drawn, or approved although below their threshold.
        reviewed: a person changed or tagged something in this image. Otherwise nothing is known about its labels.
        nameless: number of boxes drawn without a class, which are left out.
    """

    changes: list[BoxChange] = field(default_factory=list)
    added: list[CorrectedBox] = field(default_factory=list)
    reviewed: bool = False
    nameless: int = 0

    @property
    def boxes(self) -> list[CorrectedBox]:
        """Returns all boxes of the corrected image."""
        return [change.now for change in self.changes if change.now is not None] + self.added


def compare(image: ReviewedImage) -> ImageDifference:
    """Returns what people changed in an image.

    A tag on a box outranks a tag on its image, and `reject` outranks `approve` on one box.
    """
    labels: dict[str, Label] = {}
    drawn: list[Label] = []
    records = {proposal.record for proposal in image.proposals}
    for label in image.labels:
        # A box that was copied in the app has the record of the original; only the first one is that proposal.
        if label.record in records and label.record not in labels:
            labels[label.record] = label
        else:
            drawn.append(label)
    difference = ImageDifference()
    for proposal in image.proposals:
        _add_proposal(difference, proposal, labels.get(proposal.record), image)
    nameless = 0
    for label in sorted(drawn, key=lambda label: label.id):
        if label.label is None:
            nameless += 1
        elif REJECT not in label.tags:
            difference.added.append(_corrected(label, None, image))
    tags = image.tags.union(*(p.tags for p in image.proposals), *(label.tags for label in image.labels))
    reviewed = bool(
        tags & {APPROVE, REJECT}
        or difference.added
        or any(change.now is None or change.moved or change.relabelled for change in difference.changes)
    )
    return ImageDifference(difference.changes, difference.added, reviewed, nameless)


def _add_proposal(difference: ImageDifference, proposal: Proposal, label: Label | None, image: ReviewedImage) -> None:
    tags = proposal.tags | (label.tags if label else frozenset())
    if not proposal.kept and label is None:
        if APPROVE in tags and REJECT not in tags:
            difference.added.append(_approved(proposal))
        return
    rejected = REJECT in tags or (REJECT in image.tags and APPROVE not in tags)
    now = None if label is None or rejected else _corrected(label, proposal, image)
    if proposal.kept:
        difference.changes.append(BoxChange(proposal, now))
    elif now is not None:  # kept at an earlier threshold, and approved or changed then
        difference.added.append(now)


def _approved(proposal: Proposal) -> CorrectedBox:
    return CorrectedBox(
        label=proposal.label,
        bbox=proposal.bbox,
        area=proposal.area,
        iscrowd=proposal.iscrowd,
        annotation_id=proposal.annotation_id,
        record=proposal.record,
        id="",
    )


def _corrected(label: Label, proposal: Proposal | None, image: ReviewedImage) -> CorrectedBox:
    still = proposal is not None and _is_still(label.bbox, proposal.bbox)
    name = label.label if label.label is not None else proposal.label if proposal else ""
    return CorrectedBox(
        label=name,
        bbox=proposal.bbox if still and proposal else _inside(label.bbox, image),
        area=proposal.area if still and proposal else None,
        iscrowd=proposal.iscrowd if proposal else 0,
        annotation_id=label.annotation_id
        if label.annotation_id is not None or proposal is None
        else proposal.annotation_id,
        record=proposal.record if proposal else "",
        id=label.id,
    )


def _is_still(one: BoxXYWH, other: BoxXYWH) -> bool:
    edges = ((box[0], box[1], box[0] + box[2], box[1] + box[3]) for box in (one, other))
    return all(abs(a - b) < MOVE_TOLERANCE for a, b in zip(*edges, strict=True))


def _inside(bbox: BoxXYWH, image: ReviewedImage) -> BoxXYWH:
    """Returns a drawn box clipped to the image, with sides of 0 or more, rounded to hundredths of a pixel."""
    left, right = sorted(min(max(x, 0.0), image.width) for x in (bbox[0], bbox[0] + bbox[2]))
    top, bottom = sorted(min(max(y, 0.0), image.height) for y in (bbox[1], bbox[1] + bbox[3]))
    return round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2)


# New proposals --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UpdatedImage:
    """An image updated to new proposals.

    Attributes:
        proposals: of the source, with the tags and ids they had before.
        labels: pairs. A label without a proposal stays as it is; a label with a proposal takes its box and class, and
            keeps its id; a proposal without a label becomes a new label.
    """

    proposals: list[Proposal]
    labels: list[tuple[Label | None, Proposal | None]]


def update(before: ReviewedImage, now: Sequence[Proposal]) -> UpdatedImage:
    """Updates an image to new proposals; boxes that people decided about stay.

    Args:
        before: the image as it is in the database.
        now: the proposals of the source. Proposals with equal records are the same.
    """
    labelled = {label.record for label in before.labels}
    deleted = [p for p in before.proposals if (p.kept or p.deleted) and p.record not in labelled]
    old = {proposal.record: replace(proposal, deleted=False) for proposal in before.proposals}
    old |= {proposal.record: replace(proposal, deleted=True) for proposal in deleted}
    new = {proposal.record: _with_memory(proposal, old.get(proposal.record)) for proposal in now}
    labels: list[tuple[Label | None, Proposal | None]] = []
    decided: list[Label] = []
    for label in before.labels:
        proposal = old.get(label.record)
        if proposal is None or proposal.tags or not _is_untouched(label, proposal):
            labels.append((label, None))
            decided.append(label)
        elif label.record in new and new[label.record].kept:
            labels.append((label, new[label.record]))
    for proposal in before.proposals:
        gone = proposal.record not in new and proposal.record not in labelled
        if gone and not proposal.kept and APPROVE in proposal.tags and REJECT not in proposal.tags:
            labels.append((None, proposal))  # the source no longer has it, but a person approved it
            decided.append(Label("", proposal.label, proposal.bbox))
    for record, proposal in new.items():
        if not proposal.kept or proposal.deleted or record in labelled:
            continue
        if _is_same_object(proposal, decided):
            new[record] = replace(proposal, kept=False)
        elif not _is_same_object(proposal, deleted):  # else it stays kept without a label: deleted, as before
            labels.append((None, proposal))
    return UpdatedImage(list(new.values()), labels)


def _is_untouched(label: Label, proposal: Proposal) -> bool:
    return not label.tags and label.label == proposal.label and _is_still(label.bbox, proposal.bbox)


def _with_memory(proposal: Proposal, before: Proposal | None) -> Proposal:
    if before is None:
        return proposal
    known = proposal.annotation_id if proposal.annotation_id is not None else before.annotation_id
    return replace(proposal, tags=before.tags, deleted=before.deleted, annotation_id=known)


def _is_same_object(proposal: Proposal, boxes: Sequence[Label | Proposal]) -> bool:
    return any(iou(proposal.bbox, box.bbox) > SAME_OBJECT_IOU for box in boxes)
