"""What people changed in an image: proposals on one side, labels and tags on the other. Plain values in and out."""

from __future__ import annotations

from dataclasses import dataclass, field

from glip.data.coco import BoxXYWH
from glip.review.annotations import APPROVE, REJECT, Label, Proposal, Reviewed, iou

# The app writes a box anew when its class is changed; what that does to its last digits is no movement.
STILL = 0.1  # pixels


@dataclass(frozen=True)
class Kept:
    """A box that belongs into the corrected file.

    Attributes:
        label: class name.
        bbox: the source's own numbers where nobody moved the box.
        area: the source's own, likewise; None if it follows from the box.
        iscrowd: of COCO.
        annotation_id: None if it has none yet.
        record: of its proposal; nothing if somebody drew it.
        id: of its label in the database; nothing if it is a proposal that was approved where it stands.
    """

    label: str
    bbox: BoxXYWH
    area: float | None
    iscrowd: int
    annotation_id: int | None
    record: str
    id: str


@dataclass(frozen=True)
class Change:
    """One proposal that counted, and what became of it; `now` is None if it was deleted."""

    proposal: Proposal
    now: Kept | None

    @property
    def moved(self) -> bool:
        """Its box is another one."""
        return self.now is not None and self.now.bbox != self.proposal.bbox

    @property
    def relabelled(self) -> bool:
        """It belongs to another class."""
        return self.now is not None and self.now.label != self.proposal.label

    @property
    def iou(self) -> float:
        """Overlap of the box before and after; 0 if it was deleted."""
        return 0.0 if self.now is None else iou(self.proposal.bbox, self.now.bbox)


@dataclass(frozen=True)
class Difference:
    """What became of one image.

    Attributes:
        changes: one for each proposal that counted.
        added: boxes that did not count before: drawn, or approved although below their threshold.
        reviewed: somebody changed or tagged something here; where nobody did, nothing is known.
        nameless: boxes that were drawn and not named, and are left out.
    """

    changes: list[Change] = field(default_factory=list)
    added: list[Kept] = field(default_factory=list)
    reviewed: bool = False
    nameless: int = 0

    @property
    def kept(self) -> list[Kept]:
        """All boxes of the corrected image."""
        return [change.now for change in self.changes if change.now is not None] + self.added


def compare(image: Reviewed) -> Difference:
    """Finds out what people did to an image.

    A tag on a box outranks one on its image, and of two tags on one box `reject` outranks `approve`.
    """
    labels: dict[str, Label] = {}
    drawn: list[Label] = []
    records = {proposal.record for proposal in image.proposals}
    for label in image.labels:
        # A copied box carries the record of its origin; only the first one is that proposal.
        if label.record in records and label.record not in labels:
            labels[label.record] = label
        else:
            drawn.append(label)
    difference = Difference()
    for proposal in image.proposals:
        _follow(difference, proposal, labels.get(proposal.record), image)
    nameless = 0
    for label in sorted(drawn, key=lambda label: label.id):
        if label.label is None:
            nameless += 1
        elif REJECT not in label.tags:
            difference.added.append(_taken(label, None, image))
    told = image.tags.union(*(p.tags for p in image.proposals), *(label.tags for label in image.labels))
    reviewed = bool(
        told & {APPROVE, REJECT}
        or difference.added
        or any(change.now is None or change.moved or change.relabelled for change in difference.changes)
    )
    return Difference(difference.changes, difference.added, reviewed, nameless)


def is_untouched(label: Label, proposal: Proposal) -> bool:
    """Whether nobody did anything to the label that was made of a proposal."""
    return not label.tags and label.label == proposal.label and _is_still(label.bbox, proposal.bbox)


def _follow(difference: Difference, proposal: Proposal, label: Label | None, image: Reviewed) -> None:
    tags = proposal.tags | (label.tags if label else frozenset())
    if not proposal.kept and label is None:
        if APPROVE in tags and REJECT not in tags:
            difference.added.append(_untouched(proposal))
        return
    rejected = REJECT in tags or (REJECT in image.tags and APPROVE not in tags)
    now = None if label is None or rejected else _taken(label, proposal, image)
    if proposal.kept:
        difference.changes.append(Change(proposal, now))
    elif now is not None:  # it counted under an earlier threshold, and somebody approved or changed it then
        difference.added.append(now)


def _untouched(proposal: Proposal) -> Kept:
    return Kept(
        *(proposal.label, proposal.bbox, proposal.area, proposal.iscrowd, proposal.annotation_id),
        record=proposal.record,
        id="",
    )


def _taken(label: Label, proposal: Proposal | None, image: Reviewed) -> Kept:
    still = proposal is not None and _is_still(label.bbox, proposal.bbox)
    name = label.label if label.label is not None else proposal.label if proposal else ""
    return Kept(
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
    return all(abs(a - b) < STILL for a, b in zip(*edges, strict=True))


def _inside(bbox: BoxXYWH, image: Reviewed) -> BoxXYWH:
    """A box drawn by hand: within the image, its sides not negative, in hundredths of a pixel."""
    left, right = sorted(min(max(x, 0.0), image.width) for x in (bbox[0], bbox[0] + bbox[2]))
    top, bottom = sorted(min(max(y, 0.0), image.height) for y in (bbox[1], bbox[1] + bbox[3]))
    return round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2)
