"""Proposals that come again meet what people did in the meantime: their work stays, the rest follows the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glip.review.annotations import APPROVE, REJECT, Label, Proposal, Reviewed, iou
from glip.review.difference import is_untouched

# A new proposal that overlaps a box somebody decided about by more than this is about the same thing.
SAME_THING = 0.5


@dataclass(frozen=True)
class Merged:
    """An image brought up to date.

    Attributes:
        proposals: of the source, with the tags and ids that they had before.
        labels: pairs. A label alone stays as it is; a label with a proposal takes that one's place and keeps its id;
            a proposal alone is a new label.
    """

    proposals: list[Proposal]
    labels: list[tuple[Label | None, Proposal | None]]


def merge(before: Reviewed, now: Sequence[Proposal]) -> Merged:
    """Brings an image up to date.

    Args:
        before: the image as it stands in the database.
        now: what the source proposes now. A proposal is the same as one before if its record is.
    """
    followed = {label.record for label in before.labels}
    deleted = [p for p in before.proposals if (p.kept or p.deleted) and p.record not in followed]
    old = {proposal.record: replace(proposal, deleted=False) for proposal in before.proposals}
    old |= {proposal.record: replace(proposal, deleted=True) for proposal in deleted}
    new = {proposal.record: _remembering(proposal, old.get(proposal.record)) for proposal in now}
    labels: list[tuple[Label | None, Proposal | None]] = []
    decided: list[Label] = []
    for label in before.labels:
        proposal = old.get(label.record)
        if proposal is None or proposal.tags or not is_untouched(label, proposal):
            labels.append((label, None))
            decided.append(label)
        elif label.record in new and new[label.record].kept:
            labels.append((label, new[label.record]))
    for proposal in before.proposals:
        gone = proposal.record not in new and proposal.record not in followed
        if gone and not proposal.kept and APPROVE in proposal.tags and REJECT not in proposal.tags:
            labels.append((None, proposal))  # it vanishes, what somebody said of it does not
            decided.append(Label("", proposal.label, proposal.bbox))
    for record, proposal in new.items():
        if not proposal.kept or proposal.deleted or record in followed:
            continue
        if _has_place_of(proposal, decided):
            new[record] = replace(proposal, kept=False)
        elif not _has_place_of(proposal, deleted):  # else it counts and has no label: deleted, like the one before
            labels.append((None, proposal))
    return Merged(list(new.values()), labels)


def _remembering(proposal: Proposal, before: Proposal | None) -> Proposal:
    if before is None:
        return proposal
    known = proposal.annotation_id if proposal.annotation_id is not None else before.annotation_id
    return replace(proposal, tags=before.tags, deleted=before.deleted, annotation_id=known)


def _has_place_of(proposal: Proposal, boxes: Sequence[Label | Proposal]) -> bool:
    return any(iou(proposal.bbox, box.bbox) > SAME_THING for box in boxes)
