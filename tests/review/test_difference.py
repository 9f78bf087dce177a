"""Changes are found from proposals, labels and tags; new proposals keep them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from glip.data.coco import BoxXYWH
from glip.review.annotations import APPROVE, REJECT, Label, Proposal, ReviewedImage, iou
from glip.review.difference import MOVE_TOLERANCE, ImageDifference, UpdatedImage, compare, update

A = Proposal("a", "person", (10.25, 20.5, 30.0, 40.0), score=0.9, annotation_id=1)
B = Proposal("b", "dog", (100.0, 100.0, 50.0, 50.0), score=0.8, annotation_id=2, area=7.0, iscrowd=1)
LOW = Proposal("low", "dog", (200.0, 10.0, 20.0, 20.0), kept=False, score=0.2)


def label_of(proposal: Proposal, **changes: Any) -> Label:
    label = Label(f"id-{proposal.record}", proposal.label, proposal.bbox, proposal.record, proposal.annotation_id)
    return replace(label, **changes)


def difference(*labels: Label, proposals: tuple[Proposal, ...] = (A, B, LOW), tags: str = "") -> ImageDifference:
    return compare(ReviewedImage("s", "a.jpg", 640, 480, 1, proposals, labels, frozenset(tags.split())))


def tagged(*tags: str) -> frozenset[str]:
    return frozenset(tags)


def moved_by(bbox: BoxXYWH, x: float) -> BoxXYWH:
    return bbox[0] + x, bbox[1], bbox[2], bbox[3]


def test_where_nobody_did_anything_nothing_is_reviewed_and_the_sources_numbers_come_back() -> None:
    found = difference(label_of(A), label_of(B))
    assert not found.reviewed
    assert [(box.annotation_id, box.bbox, box.area, box.iscrowd) for box in found.boxes] == [
        (1, A.bbox, None, 0),
        (2, B.bbox, 7.0, 1),
    ]


def test_rounding_of_the_database_is_no_movement() -> None:
    found = difference(label_of(A, bbox=moved_by(A.bbox, MOVE_TOLERANCE / 2)), label_of(B))
    assert not found.reviewed
    assert found.boxes[0].bbox == A.bbox


def test_a_moved_box_keeps_its_id_and_class_and_loses_the_old_area() -> None:
    found = difference(label_of(A), label_of(B, bbox=moved_by(B.bbox, 25.0)))
    change = found.changes[1]
    assert found.reviewed
    assert change.moved
    assert not change.relabelled
    assert change.iou == pytest.approx(1 / 3)
    assert change.now is not None
    assert (change.now.annotation_id, change.now.bbox, change.now.area) == (2, (125.0, 100.0, 50.0, 50.0), None)


def test_a_box_can_be_moved_and_relabelled() -> None:
    change = difference(label_of(A, label="dog", bbox=moved_by(A.bbox, 5.0))).changes[0]
    assert change.moved
    assert change.relabelled


def test_a_label_that_is_gone_was_deleted() -> None:
    found = difference(label_of(A))
    assert [change.now is None for change in found.changes] == [False, True]
    assert found.changes[1].iou == 0


def test_a_box_tagged_reject_is_deleted_wherever_the_tag_stands() -> None:
    on_label = difference(label_of(A), label_of(B, tags=tagged(REJECT)))
    on_proposal = difference(label_of(A), label_of(B), proposals=(A, replace(B, tags=tagged(REJECT)), LOW))
    for found in (on_label, on_proposal):
        assert [box.annotation_id for box in found.boxes] == [1]
        assert found.reviewed


def test_of_two_tags_on_one_box_reject_wins() -> None:
    assert difference(label_of(A, tags=tagged(APPROVE, REJECT))).boxes == []


def test_a_proposal_below_its_threshold_is_added_by_approving_it() -> None:
    approved = replace(LOW, tags=tagged(APPROVE))
    found = difference(label_of(A), label_of(B), proposals=(A, B, approved))
    assert [(box.record, box.bbox, box.annotation_id) for box in found.added] == [("low", LOW.bbox, None)]


def test_other_tags_than_ours_say_nothing() -> None:
    found = difference(label_of(A, tags=tagged("blurred")), label_of(B), tags="train")
    assert not found.reviewed


def test_an_approved_image_is_reviewed_as_it_stands() -> None:
    found = difference(label_of(A), label_of(B), tags=APPROVE)
    assert found.reviewed
    assert len(found.boxes) == 2


def test_a_rejected_image_keeps_what_was_approved_or_drawn() -> None:
    drawn = Label("z", "cat", (1.0, 1.0, 2.0, 2.0))
    found = difference(label_of(A, tags=tagged(APPROVE)), label_of(B), drawn, tags=REJECT)
    assert [box.label for box in found.boxes] == ["person", "cat"]


def test_drawn_boxes_come_in_the_order_in_which_they_were_drawn() -> None:
    later, earlier = Label("2", "cat", (1.0, 1.0, 2.0, 2.0)), Label("1", "dog", (1.0, 1.0, 2.0, 2.0))
    assert [box.label for box in difference(later, earlier).added] == ["dog", "cat"]


def test_a_drawn_box_stays_inside_the_image_and_its_sides_positive() -> None:
    outside = Label("1", "dog", (-5.0, 470.0, 20.0, 30.123456))
    backwards = Label("2", "dog", (50.0, 50.0, -10.0, -20.0))
    assert [box.bbox for box in difference(outside, backwards).added] == [
        (0.0, 470.0, 15.0, 10.0),
        (40.0, 30.0, 10.0, 20.0),
    ]


def test_a_copied_box_is_added_and_the_first_is_the_proposal() -> None:
    found = difference(label_of(A), label_of(A, id="z", bbox=moved_by(A.bbox, 90.0)), label_of(B))
    assert not found.changes[0].moved
    assert [box.record for box in found.added] == [""]


def test_a_box_without_a_class_is_left_out_and_counted() -> None:
    found = difference(label_of(A), label_of(B), Label("z", None, (1.0, 1.0, 2.0, 2.0)))
    assert found.nameless == 1
    assert len(found.boxes) == 2


def test_a_box_approved_under_an_earlier_threshold_stays_and_counts_as_added() -> None:
    found = difference(label_of(A), label_of(B), label_of(LOW, tags=tagged(APPROVE), annotation_id=9))
    assert [(box.annotation_id, box.record) for box in found.added] == [(9, "low")]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 10.0), 1.0),
        ((0.0, 0.0, 10.0, 10.0), (5.0, 0.0, 10.0, 10.0), 1 / 3),
        ((0.0, 0.0, 10.0, 10.0), (10.0, 0.0, 10.0, 10.0), 0.0),
        ((0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 10.0, 10.0), 0.0),
        ((5.0, 5.0, 0.0, 0.0), (5.0, 5.0, 0.0, 0.0), 0.0),
    ],
)
def test_overlap(one: BoxXYWH, other: BoxXYWH, expected: float) -> None:
    assert iou(one, other) == pytest.approx(expected)


def updated(labels: tuple[Label, ...], before: tuple[Proposal, ...], now: tuple[Proposal, ...]) -> UpdatedImage:
    return update(ReviewedImage("s", "a.jpg", 640, 480, 1, before, labels), now)


def pairs(found: UpdatedImage) -> list[tuple[str | None, str | None]]:
    """Returns, for each label, the id of the old label and the record of the proposal that replaces it."""
    return [(label.id if label else None, proposal.record if proposal else None) for label, proposal in found.labels]


def test_the_same_again_changes_nothing() -> None:
    found = updated((label_of(A), label_of(B)), (A, B, LOW), (A, B, LOW))
    assert pairs(found) == [("id-a", "a"), ("id-b", "b")]
    assert found.proposals == [A, B, LOW]


def test_what_somebody_changed_drew_or_tagged_stays() -> None:
    labels = (
        label_of(A, bbox=moved_by(A.bbox, 9.0)),
        label_of(B, tags=tagged(APPROVE)),
        Label("drawn", "cat", (1.0, 1.0, 2.0, 2.0)),
    )
    lower = tuple(replace(proposal, kept=False) for proposal in (A, B, LOW))
    for now in ((A, B, LOW), lower, ()):
        assert pairs(updated(labels, (A, B, LOW), now)) == [("id-a", None), ("id-b", None), ("drawn", None)]


def test_what_somebody_deleted_stays_deleted_however_the_threshold_moves() -> None:
    found = updated((label_of(A),), (A, B, LOW), (A, B, replace(LOW, kept=True)))
    assert pairs(found) == [("id-a", "a"), (None, "low")]


def test_a_higher_threshold_takes_untouched_labels_out() -> None:
    found = updated((label_of(A), label_of(B)), (A, B, LOW), (A, replace(B, kept=False), LOW))
    assert pairs(found) == [("id-a", "a")]


def test_a_lower_threshold_adds_no_box_where_somebody_drew_it_already() -> None:
    drawn = Label("drawn", "dog", moved_by(LOW.bbox, 1.0))
    found = updated((label_of(A), label_of(B), drawn), (A, B, LOW), (A, B, replace(LOW, kept=True)))
    assert pairs(found) == [("id-a", "a"), ("id-b", "b"), ("drawn", None)]
    assert [proposal.kept for proposal in found.proposals] == [True, True, False]


def test_tags_and_ids_of_proposals_are_remembered() -> None:
    before = (A, B, replace(LOW, tags=tagged(APPROVE), annotation_id=7))
    found = updated((label_of(A), label_of(B)), before, (replace(A, annotation_id=None), B, LOW))
    assert [(proposal.annotation_id, proposal.tags) for proposal in found.proposals] == [
        (1, frozenset()),
        (2, frozenset()),
        (7, tagged(APPROVE)),
    ]


NEW = tuple(replace(proposal, record=f"new {proposal.record}", annotation_id=None) for proposal in (A, B, LOW))


def test_an_image_labelled_anew_gets_the_new_boxes() -> None:
    assert pairs(updated((label_of(A), label_of(B)), (A, B, LOW), NEW)) == [(None, "new a"), (None, "new b")]


def test_a_new_box_in_the_place_of_a_deleted_one_counts_and_has_no_label() -> None:
    found = updated((label_of(A),), (A, B, LOW), NEW)
    assert pairs(found) == [(None, "new a")]
    assert found.proposals[1].kept


def test_a_new_box_in_the_place_of_a_changed_one_gives_way() -> None:
    found = updated((label_of(A, label="cat"), label_of(B)), (A, B, LOW), NEW)
    assert pairs(found) == [("id-a", None), (None, "new b")]
    assert not found.proposals[0].kept


def test_an_approved_proposal_that_vanishes_leaves_a_label() -> None:
    before = (A, B, replace(LOW, tags=tagged(APPROVE)))
    found = updated((label_of(A), label_of(B)), before, NEW)
    assert pairs(found) == [(None, "low"), (None, "new a"), (None, "new b")]
    rejected = (A, B, replace(LOW, tags=tagged(APPROVE, REJECT)))
    assert (None, "low") not in pairs(updated((label_of(A), label_of(B)), rejected, NEW))


def test_a_deletion_outlives_a_threshold_that_goes_up_and_down_again() -> None:
    found = updated((label_of(A),), (A, B, LOW), (A, replace(B, kept=False), LOW))
    assert [proposal.deleted for proposal in found.proposals] == [False, True, False]
    again = updated((label_of(A),), tuple(found.proposals), (A, B, LOW))
    assert pairs(again) == [("id-a", "a")]
    restored = updated((label_of(A), label_of(B)), tuple(again.proposals), (A, B, LOW))
    assert pairs(restored) == [("id-a", "a"), ("id-b", "b")]
    assert not restored.proposals[1].deleted
