"""A second push: the source's changes arrive, and people's stay."""

from __future__ import annotations

from dataclasses import replace

from glip.review.annotations import APPROVE, REJECT, Label, Proposal, Reviewed
from glip.review.merging import Merged, merge
from tests.review.test_difference import LOW, A, B, label_of, moved_by, tagged


def merged(labels: tuple[Label, ...], before: tuple[Proposal, ...], now: tuple[Proposal, ...]) -> Merged:
    return merge(Reviewed("s", "a.jpg", 640, 480, 1, before, labels), now)


def told(found: Merged) -> list[tuple[str | None, str | None]]:
    """Of each label, the id of the old one and the record of the proposal in its place."""
    return [(label.id if label else None, proposal.record if proposal else None) for label, proposal in found.labels]


def test_the_same_again_changes_nothing() -> None:
    found = merged((label_of(A), label_of(B)), (A, B, LOW), (A, B, LOW))
    assert told(found) == [("id-a", "a"), ("id-b", "b")]
    assert found.proposals == [A, B, LOW]


def test_what_somebody_changed_drew_or_tagged_stays() -> None:
    labels = (
        label_of(A, bbox=moved_by(A.bbox, 9.0)),
        label_of(B, tags=tagged(APPROVE)),
        Label("drawn", "cat", (1.0, 1.0, 2.0, 2.0)),
    )
    lower = tuple(replace(proposal, kept=False) for proposal in (A, B, LOW))
    for now in ((A, B, LOW), lower, ()):
        assert told(merged(labels, (A, B, LOW), now)) == [("id-a", None), ("id-b", None), ("drawn", None)]


def test_what_somebody_deleted_stays_deleted_however_the_threshold_moves() -> None:
    found = merged((label_of(A),), (A, B, LOW), (A, B, replace(LOW, kept=True)))
    assert told(found) == [("id-a", "a"), (None, "low")]


def test_a_higher_threshold_takes_untouched_labels_out() -> None:
    found = merged((label_of(A), label_of(B)), (A, B, LOW), (A, replace(B, kept=False), LOW))
    assert told(found) == [("id-a", "a")]


def test_a_lower_threshold_adds_no_box_where_somebody_drew_it_already() -> None:
    drawn = Label("drawn", "dog", moved_by(LOW.bbox, 1.0))
    found = merged((label_of(A), label_of(B), drawn), (A, B, LOW), (A, B, replace(LOW, kept=True)))
    assert told(found) == [("id-a", "a"), ("id-b", "b"), ("drawn", None)]
    assert [proposal.kept for proposal in found.proposals] == [True, True, False]


def test_tags_and_ids_of_proposals_are_remembered() -> None:
    before = (A, B, replace(LOW, tags=tagged(APPROVE), annotation_id=7))
    found = merged((label_of(A), label_of(B)), before, (replace(A, annotation_id=None), B, LOW))
    assert [(proposal.annotation_id, proposal.tags) for proposal in found.proposals] == [
        (1, frozenset()),
        (2, frozenset()),
        (7, tagged(APPROVE)),
    ]


NEW = tuple(replace(proposal, record=f"new {proposal.record}", annotation_id=None) for proposal in (A, B, LOW))


def test_an_image_labelled_anew_gets_the_new_boxes() -> None:
    assert told(merged((label_of(A), label_of(B)), (A, B, LOW), NEW)) == [(None, "new a"), (None, "new b")]


def test_a_new_box_in_the_place_of_a_deleted_one_counts_and_has_no_label() -> None:
    found = merged((label_of(A),), (A, B, LOW), NEW)
    assert told(found) == [(None, "new a")]
    assert found.proposals[1].kept


def test_a_new_box_in_the_place_of_a_changed_one_gives_way() -> None:
    found = merged((label_of(A, label="cat"), label_of(B)), (A, B, LOW), NEW)
    assert told(found) == [("id-a", None), (None, "new b")]
    assert not found.proposals[0].kept


def test_an_approved_proposal_that_vanishes_leaves_a_label() -> None:
    before = (A, B, replace(LOW, tags=tagged(APPROVE)))
    found = merged((label_of(A), label_of(B)), before, NEW)
    assert told(found) == [(None, "low"), (None, "new a"), (None, "new b")]
    rejected = (A, B, replace(LOW, tags=tagged(APPROVE, REJECT)))
    assert (None, "low") not in told(merged((label_of(A), label_of(B)), rejected, NEW))


def test_a_deletion_outlives_a_threshold_that_goes_up_and_down_again() -> None:
    found = merged((label_of(A),), (A, B, LOW), (A, replace(B, kept=False), LOW))
    assert [proposal.deleted for proposal in found.proposals] == [False, True, False]
    again = merged((label_of(A),), tuple(found.proposals), (A, B, LOW))
    assert told(again) == [("id-a", "a")]
    restored = merged((label_of(A), label_of(B)), tuple(again.proposals), (A, B, LOW))
    assert told(restored) == [("id-a", "a"), ("id-b", "b")]
    assert not restored.proposals[1].deleted
