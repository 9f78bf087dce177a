"""Which boxes of a record are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou as torch_iou
from torchvision.ops import nms

from glip.boxes import box_iou, grouped_nms
from glip.errors import InputError
from glip.labeling.classes import ClassFile
from glip.labeling.filtering import Chooser, ExportSettings
from tests.labeling.runs import NAMES, a_record, a_run


def chooser(run: dict[str, Any] | None = None, **options: Any) -> Chooser:
    classes = options.get("classes") or ClassFile.from_phrases(NAMES)
    return Chooser(
        ExportSettings(**options), classes.for_phrases((run or {}).get("names", NAMES)), a_run(**(run or {}))
    )


def kept(scores: np.ndarray[Any, Any]) -> list[float]:
    return [round(float(score), 3) for score in scores]


# Whole numbers on a small grid make many overlaps that equal the threshold exactly, and boxes without area.
grid_box = st.tuples(*[st.integers(0, 12)] * 4).map(
    lambda p: [min(p[0], p[2]), min(p[1], p[3]), max(p[0], p[2]), max(p[1], p[3])]
)
free_number = st.floats(0, 1000, width=32)
free_box = st.tuples(*[free_number] * 4).map(
    lambda p: [min(p[0], p[2]), min(p[1], p[3]), max(p[0], p[2]), max(p[1], p[3])]
)
some_boxes = st.lists(grid_box, max_size=25) | st.lists(free_box, max_size=25)


@settings(max_examples=300, deadline=None)
@given(some_boxes, st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.6, 0.75, 1.0]))
def test_suppression_decides_as_torchvision_does(boxes: list[list[float]], iou: float) -> None:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    best_first = torch.arange(len(boxes), 0, -1, dtype=torch.float32)
    expected = nms(torch.from_numpy(array), best_first, iou).tolist()
    assert grouped_nms(array, np.zeros(len(boxes), np.int64), iou).tolist() == expected


def test_suppression_of_many_boxes_decides_as_torchvision_does() -> None:
    corners = np.random.default_rng(0).uniform(0, 300, (900, 2))
    array = np.concatenate([corners, corners + np.random.default_rng(1).uniform(20, 90, (900, 2))], 1).astype(
        np.float32
    )
    best_first = torch.arange(900, 0, -1, dtype=torch.float32)
    expected = nms(torch.from_numpy(array), best_first, 0.5).tolist()
    assert grouped_nms(array, np.zeros(900, np.int64), 0.5).tolist() == expected
    assert 300 < len(expected) < 900


@settings(max_examples=100, deadline=None)
@given(some_boxes, some_boxes)
def test_overlap_equals_that_of_torchvision(one: list[list[float]], other: list[list[float]]) -> None:
    arrays = [np.array(boxes, np.float32).reshape(-1, 4) for boxes in (one, other)]
    expected = torch_iou(*map(torch.from_numpy, arrays)).nan_to_num().numpy()
    np.testing.assert_array_equal(box_iou(arrays[0][:, None], arrays[1][None]), expected)


@settings(max_examples=100, deadline=None)
@given(some_boxes, st.data())
def test_boxes_of_different_groups_never_drop_each_other(boxes: list[list[float]], data: st.DataObject) -> None:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    groups = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes))), np.int64)
    alone = [
        int(index)
        for group in range(3)
        for index in np.flatnonzero(groups == group)[grouped_nms(array[groups == group], groups[groups == group], 0.5)]
    ]
    assert grouped_nms(array, groups, 0.5).tolist() == sorted(alone)


def test_only_boxes_that_stay_drop_others() -> None:
    row = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)  # each overlaps its neighbour by 0.43
    assert grouped_nms(row, np.zeros(3, np.int64), 0.4).tolist() == [0, 2]


def test_an_overlap_that_equals_the_threshold_is_no_reason_to_go() -> None:
    halves = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float32)
    assert grouped_nms(halves, np.zeros(2, np.int64), 0.5).tolist() == [0, 1]


def test_an_overlap_is_compared_as_torchvision_compares_it() -> None:
    fifths = np.array([[0, 0, 5, 1], [0, 0, 3, 1]], np.float32)  # as float32, 3 / 5 is a little more than 0.6
    expected = nms(torch.from_numpy(fifths), torch.tensor([0.9, 0.8]), 0.6).tolist()
    assert grouped_nms(fifths, np.zeros(2, np.int64), 0.6).tolist() == expected == [0]


def test_boxes_without_area_stay_and_make_no_noise() -> None:
    points = np.zeros((2, 4), np.float32)
    assert grouped_nms(points, np.zeros(2, np.int64), 0.5).tolist() == [0, 1]


def test_default_settings_return_the_detectors_own_boxes_bit_by_bit() -> None:
    boxes = np.array([[0.1, 0.2, 33.3, 44.4], [100.7, 0, 200.123, 50]], np.float32)
    record = a_record("a.jpg", boxes.tolist(), [0.9, 0.35], [2, 0])
    found = chooser().choose(record)
    np.testing.assert_array_equal(found.boxes, boxes)
    np.testing.assert_array_equal(found.scores, np.array([0.9, 0.35], np.float32))
    assert found.labels.tolist() == [2, 0]
    assert found.names == NAMES


def test_a_score_equal_to_the_threshold_is_kept() -> None:
    # 0.7 and 0.1 as float32 lie on different sides of the same decimals.
    record = a_record("a.jpg", [[0, 0, 9, 9], [50, 50, 60, 60], [70, 70, 90, 90]], [0.7, 0.1, 0.0999], [0, 0, 0])
    assert kept(chooser(conf=0.7).choose(record).scores) == [0.7]
    assert kept(chooser(conf=0.1).choose(record).scores) == [0.7, 0.1]


def test_a_class_has_its_own_threshold() -> None:
    record = a_record("a.jpg", [[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9]], [0.5, 0.45, 0.4], [0, 1, 2])
    found = chooser(conf=0.48, class_conf={"traffic light": 0.4}).choose(record)
    assert found.labels.tolist() == [0, 2]


def test_a_threshold_of_the_command_outranks_that_of_the_class_file() -> None:
    classes = ClassFile(NAMES, NAMES, (0, 1, 2), ((),) * 3, (0.6, 0.6, None), (1, 2, 3))
    rule = chooser(conf=0.3, class_conf={"dog": 0.2}, classes=classes)
    assert rule.conf == (0.6, 0.2, 0.3)


def test_boxes_come_best_first_and_equal_ones_in_their_order() -> None:
    record = a_record(
        "a.jpg", [[i * 20, 0, i * 20 + 9, 9] for i in range(5)], [0.9, 0.5, 0.5, 0.5, 0.4], [1, 0, 2, 0, 1]
    )
    found = chooser().choose(record)
    assert found.boxes[:, 0].tolist() == [0, 20, 40, 60, 80]


def test_the_limit_keeps_the_best_boxes() -> None:
    record = a_record("a.jpg", [[i * 20, 0, i * 20 + 9, 9] for i in range(5)], [0.9, 0.8, 0.7, 0.6, 0.5], [0] * 5)
    assert kept(chooser(max_det=2).choose(record).scores) == [0.9, 0.8]


@pytest.mark.parametrize(
    ("nms_kind", "scores"), [("class", [0.9, 0.8]), ("agnostic", [0.9]), ("none", [0.9, 0.8, 0.7])]
)
def test_suppression_reaches_as_far_as_asked(nms_kind: str, scores: list[float]) -> None:
    record = a_record("a.jpg", [[0, 0, 100, 100], [0, 0, 100, 99], [0, 0, 100, 98]], [0.9, 0.8, 0.7], [0, 1, 0])
    found = chooser({"record": "candidates", "nms_iou": None, "max_detections": None}, nms=nms_kind).choose(record)
    assert kept(found.scores) == scores


def test_nms_that_was_done_when_recording_is_not_done_again_with_other_rounding() -> None:
    record = a_record("a.jpg", [[0, 0, 100, 100], [0, 0, 100, 99]], [0.9, 0.8], [0, 0])
    assert kept(chooser(iou=0.6).choose(record).scores) == [0.9, 0.8]
    assert kept(chooser(iou=0.6, nms="agnostic").choose(record).scores) == [0.9, 0.8]
    assert kept(chooser(iou=0.5).choose(record).scores) == [0.9]


ALIASES = ClassFile(
    names=("vehicle", "dog"),
    phrases=("car", "truck", "dog", "toy dog"),
    class_of=(0, 0, 1, None),
    negative_of=((), (), (), (1,)),
    conf=(None, None),
    ids=(1, 2),
)
ALIAS_RUN = {"names": ALIASES.phrases}


def test_aliases_become_one_class_and_drop_each_others_doubles() -> None:
    record = a_record("a.jpg", [[0, 0, 100, 100], [0, 0, 100, 98], [200, 0, 300, 100]], [0.9, 0.8, 0.7], [1, 0, 0])
    found = chooser(ALIAS_RUN, classes=ALIASES).choose(record)
    assert found.labels.tolist() == [0, 0]
    assert kept(found.scores) == [0.9, 0.7]
    assert found.names == ("vehicle", "dog")


@pytest.mark.parametrize(
    ("negative", "score", "stays"),
    [
        ([0, 0, 100, 90], 0.8, False),  # better, and over it
        ([0, 0, 100, 90], 0.6, True),  # over it, but less sure
        ([0, 0, 100, 49], 0.8, True),  # better, but only half over it
    ],
)
def test_a_negative_claims_what_it_knows_better(negative: list[float], score: float, stays: bool) -> None:
    better_first = slice(None) if score < 0.7 else slice(None, None, -1)
    boxes: list[list[float]] = [[0, 0, 100, 100], negative]
    scores, labels = [0.7, score], [2, 3]
    record = a_record("a.jpg", boxes[better_first], scores[better_first], labels[better_first])
    found = chooser(ALIAS_RUN, classes=ALIASES).choose(record)
    assert found.labels.tolist() == ([1] if stays else [])


def test_a_negative_leaves_other_classes_alone() -> None:
    record = a_record("a.jpg", [[0, 0, 100, 90], [0, 0, 100, 100]], [0.8, 0.7], [3, 0])
    assert chooser(ALIAS_RUN, classes=ALIASES).choose(record).labels.tolist() == [0]


def test_a_box_that_a_negative_took_drops_nobody() -> None:
    record = a_record("a.jpg", [[0, 0, 100, 60], [0, 0, 100, 100], [0, 15, 100, 100]], [0.9, 0.8, 0.7], [3, 2, 2])
    assert kept(chooser(ALIAS_RUN, classes=ALIASES, iou=0.5).choose(record).scores) == [0.7]


def test_images_with_names_of_their_own_are_read_by_these() -> None:
    import msgspec

    record = msgspec.structs.replace(
        a_record("a.jpg", [[0, 0, 9, 9], [20, 0, 30, 9], [40, 0, 50, 9]], [0.9, 0.8, 0.7], [0, 1, 2]),
        names=("Dog", "a kite", "person"),
    )
    found = chooser().choose(record)
    assert [NAMES[label] for label in found.labels] == ["dog", "person"]


@pytest.mark.parametrize(
    ("run", "options", "named"),
    [
        ({}, {"conf": 0.04}, "0.04.*0.05"),
        ({"floor": 0.2}, {"class_conf": {"dog": 0.1}}, "'dog'.*0.1.*0.2"),
        ({}, {"iou": 0.7}, "iou.*0.7.*0.6"),
        ({}, {"iou": 0.7, "nms": "agnostic"}, "iou.*0.7.*0.6"),
        ({}, {"max_det": 301}, "max_det.*301.*300"),
    ],
)
def test_boxes_that_were_not_recorded_are_refused_with_the_field_and_both_values(
    run: dict[str, Any], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        chooser(run, **options)


@pytest.mark.parametrize(
    ("run", "options"),
    [
        ({}, {"conf": 0.05, "iou": 0.6, "max_det": 300}),
        ({}, {"nms": "none", "iou": 0.9}),
        ({"record": "candidates", "nms_iou": None, "max_detections": None}, {"iou": 0.9, "max_det": 10_000}),
        ({"floor": 0.2}, {"conf": 0.1, "class_conf": dict.fromkeys(NAMES, 0.2)}),
    ],
)
def test_what_the_records_hold_is_given(run: dict[str, Any], options: dict[str, Any]) -> None:
    assert chooser(run, **options).choose(a_record("a.jpg")).names == NAMES


def test_an_unknown_class_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"'persom'.*'person'.*traffic light"):
        chooser(class_conf={"persom": 0.5})


@pytest.mark.parametrize(
    "options",
    [{"conf": 1.1}, {"conf": float("nan")}, {"class_conf": {"dog": -1}}, {"iou": 0}, {"max_det": 0}, {"nms": "soft"}],
)
def test_a_setting_out_of_range_is_refused_by_its_field(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        ExportSettings(**options)
