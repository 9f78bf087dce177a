"""Tiles: they cover an image, and what is found in them is one result of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from glip.boxes import box_iou
from glip.detections import Detections
from glip.errors import InputError
from glip.images import resized_hw
from glip.labeling.tile_merging import fuse, merge_views
from glip.labeling.tiling import Merge, Tiling, ViewBox, plan_tiles, plan_views, tile_views

NAMES = ("thing", "other")
Box = tuple[float, float, float, float]
sizes = st.tuples(st.integers(1, 400), st.integers(1, 400))
tilings = st.builds(Tiling, st.integers(64, 200), st.sampled_from([0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5]))
merges = st.sampled_from(["nms", "wbf"])


def detections(rows: Sequence[tuple[Box, float, int]]) -> Detections:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float32)
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes, scores, np.array([row[2] for row in rows], np.int64), NAMES).filter(order)


def look(
    views: Sequence[ViewBox], things: Sequence[Box], least_visible: float = 0.0, blind: Sequence[int] = ()
) -> list[Detections]:
    """What an eye without error says: in each view the visible part of each thing, if enough of it is visible."""
    found = []
    for number, (left, top, right, bottom) in enumerate(views):
        rows: list[tuple[Box, float, int]] = []
        for x1, y1, x2, y2 in things:
            part = max(x1, left), max(y1, top), min(x2, right), min(y2, bottom)
            share = max(0, part[2] - part[0]) * max(0, part[3] - part[1]) / ((x2 - x1) * (y2 - y1))
            if share > 0 and share >= least_visible and number not in blind:
                rows.append(((part[0] - left, part[1] - top, part[2] - left, part[3] - top), 0.3 + 0.6 * share, 0))
        found.append(detections(rows))
    return found


def assert_once(found: Detections, things: Sequence[Box]) -> None:
    overlaps = box_iou(np.array(things, np.float32).reshape(-1, 1, 4), found.boxes[None])
    assert len(found) == len(things), f"{len(found)} boxes of {len(things)} things: {found.boxes.tolist()}"
    assert (overlaps.max(axis=1) > 0.9).all()


# --- where tiles lie -------------------------------------------------------------------------------------------------


@given(sizes, tilings)
def test_tiles_cover_the_image_exactly_and_are_equally_large(size_hw: tuple[int, int], tiling: Tiling) -> None:
    height, width = size_hw
    tiles = plan_tiles(size_hw, tiling.tile, tiling.overlap)
    seen = np.zeros(size_hw, bool)
    for x1, y1, x2, y2 in tiles:
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert (x2 - x1, y2 - y1) == (min(width, tiling.tile), min(height, tiling.tile))
        seen[y1:y2, x1:x2] = True
    assert seen.all()
    assert len(set(tiles)) == len(tiles)
    assert tiles == tuple(sorted(tiles, key=lambda box: (box[1], box[0])))


@given(st.integers(1, 2000), tilings)
def test_neighbours_overlap_at_least_as_asked_and_no_tile_is_superfluous(width: int, tiling: Tiling) -> None:
    tiles = plan_tiles((1, width), tiling.tile, tiling.overlap)
    shared = [one[2] - other[0] for one, other in pairwise(tiles)]
    assert all(overlap >= tiling.tile * tiling.overlap - 1e-6 for overlap in shared)
    assert all(overlap < tiling.tile * tiling.overlap + 1 for overlap in shared[:-1])


def test_the_last_row_and_column_move_inwards() -> None:
    assert plan_tiles((700, 1000), 640, 0.2) == (
        (0, 0, 640, 640), (360, 0, 1000, 640), (0, 60, 640, 700), (360, 60, 1000, 700),
    )  # fmt: skip
    assert plan_tiles((640, 1152), 640, 0.2) == ((0, 0, 640, 640), (512, 0, 1152, 640))
    assert plan_tiles((640, 1153), 640, 0.2)[-1] == (513, 0, 1153, 640)


def test_a_last_binary_digit_makes_no_further_tile() -> None:
    assert 100 * 0.07 > 7
    assert plan_tiles((1, 193), 100, 0.07) == ((0, 0, 100, 1), (93, 0, 193, 1))


def test_an_image_smaller_than_a_tile_is_one_view() -> None:
    assert plan_tiles((300, 640), 640, 0.2) == ((0, 0, 640, 300),)
    assert plan_views((300, 640), Tiling(640)) == ((0, 0, 640, 300),)
    assert plan_views((300, 641), Tiling(640)) == ((0, 0, 641, 300), (0, 0, 640, 300), (1, 0, 641, 300))


def test_views_show_the_pixels_of_their_boxes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (150, 210, 3), np.uint8)
    views = list(tile_views(Image.fromarray(pixels), Tiling(100, 0.25)))
    assert [view.box for view in views] == list(plan_views((150, 210), Tiling(100, 0.25)))
    assert len(views) == 1 + 2 * 3
    for view in views:
        x1, y1, x2, y2 = view.box
        assert np.array_equal(np.asarray(view.image), pixels[y1:y2, x1:x2])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"tile": 63}, r"tile is 63; it must be 64"),
        ({"tile": 640, "overlap": 0.9}, r"overlap is 0\.9; .* between 0 and 0\.8"),
        ({"tile": 640, "overlap": -0.1}, r"overlap is -0\.1"),
        ({"tile": 640, "merge": "soft"}, r"'soft'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(words: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tiling(**words)  # type: ignore[arg-type]


# --- one thing, anywhere ---------------------------------------------------------------------------------------------


@st.composite
def placed(draw: st.DrawFn, within_overlap: bool, smallest: float = 4) -> tuple[tuple[int, int], Tiling, Box]:
    """An image, its tiling and a thing in it, up to the overlap or up to the image."""
    tiling = draw(st.builds(Tiling, st.integers(64, 128), st.sampled_from([0.1, 0.2, 0.25, 0.5])))
    height, width = draw(st.integers(100, 300)), draw(st.integers(100, 300))
    limit = tiling.tile * tiling.overlap if within_overlap else 1e9
    side = st.floats(smallest, 300)
    w, h = (min(draw(side), limit, whole) for whole in (width, height))
    x, y = draw(st.floats(0, 1)) * (width - w), draw(st.floats(0, 1)) * (height - h)
    return (height, width), tiling, (x, y, x + w, y + h)


@settings(max_examples=100, deadline=None)
@given(placed(within_overlap=True), st.floats(0, 1), merges)
def test_a_thing_within_the_overlap_is_found_once_by_tiles_alone(
    scene: tuple[tuple[int, int], Tiling, Box], least_visible: float, merge: Merge
) -> None:
    size_hw, tiling, thing = scene
    views = plan_views(size_hw, tiling)
    found = look(views, [thing], least_visible, blind=[0] if len(views) > 1 else [])
    assert_once(merge_views(views, found, merge=merge), [thing])


@settings(max_examples=100, deadline=None)
@given(placed(within_overlap=False), st.floats(0, 1), merges)
def test_a_thing_of_any_size_is_found_once_with_the_whole_view(
    scene: tuple[tuple[int, int], Tiling, Box], least_visible: float, merge: Merge
) -> None:
    size_hw, tiling, thing = scene
    views = plan_views(size_hw, tiling)
    assert_once(merge_views(views, look(views, [thing], least_visible), merge=merge), [thing])


@settings(max_examples=100, deadline=None)
@given(placed(within_overlap=False), merges)
def test_a_thing_cut_by_seams_is_joined_where_no_view_shows_it_whole(
    scene: tuple[tuple[int, int], Tiling, Box], merge: Merge
) -> None:
    size_hw, tiling, thing = scene
    views = plan_views(size_hw, tiling)
    found = look(views, [thing], blind=[0] if len(views) > 1 else [])
    assert_once(merge_views(views, found, merge=merge), [thing])


@pytest.mark.parametrize("merge", ["nms", "wbf"])
def test_tiles_without_overlap_are_joined_too(merge: Merge) -> None:
    tiling = Tiling(100, overlap=0)
    views = plan_views((200, 300), tiling)
    thing = (80.0, 70.0, 160.0, 130.0)
    assert_once(merge_views(views, look(views, [thing], blind=[0]), merge=merge), [thing])


def test_parts_that_end_a_little_short_of_a_border_are_joined() -> None:
    views = plan_views((640, 1152), Tiling(640, 0.2))
    left, right = detections([((300, 100, 634, 400), 0.9, 0)]), detections([((6, 100, 300, 400), 0.9, 0)])
    assert merge_views(views, [detections([]), left, right]).boxes.tolist() == [[300, 100, 812, 400]]
    views = plan_views((100, 200), Tiling(100, overlap=0))
    left, right = detections([((40, 10, 98, 50), 0.9, 0)]), detections([((2, 10, 30, 50), 0.9, 0)])
    assert merge_views(views, [detections([]), left, right]).boxes.tolist() == [[40, 10, 130, 50]]


def test_things_that_do_not_reach_the_seam_between_their_tiles_stay_apart() -> None:
    views = plan_views((200, 200), Tiling(100, overlap=0))
    left, right = detections([((10, 60, 40, 100), 0.9, 0)]), detections([((10, 60, 40, 100), 0.8, 0)])
    found = merge_views(views, [detections([]), left, right, detections([]), detections([])])
    assert found.boxes.tolist() == [[10, 60, 40, 100], [110, 60, 140, 100]]


def test_tiles_that_share_a_corner_only_are_not_joined() -> None:
    views = plan_views((200, 200), Tiling(100, overlap=0))
    first, last = detections([((60, 60, 100, 100), 0.9, 0)]), detections([((0, 0, 30, 30), 0.8, 0)])
    found = merge_views(views, [detections([]), first, detections([]), detections([]), last])
    assert found.boxes.tolist() == [[60, 60, 100, 100], [100, 100, 130, 130]]


@settings(max_examples=100, deadline=None)
@given(placed(within_overlap=False, smallest=24), st.integers(0, 10_000), st.booleans(), merges)
def test_an_eye_that_errs_by_a_pixel_finds_a_thing_once_too(
    scene: tuple[tuple[int, int], Tiling, Box], seed: int, sees_whole: bool, merge: Merge
) -> None:
    size_hw, tiling, thing = scene
    views = plan_views(size_hw, tiling)
    random = np.random.default_rng(seed)
    found = []
    blind = [] if sees_whole or len(views) == 1 else [0]
    for box, all_seen in zip(views, look(views, [thing], blind=blind), strict=True):
        sides = all_seen.boxes[:, 2:] - all_seen.boxes[:, :2]
        seen = all_seen.filter(sides.min(axis=1) >= 4)  # thinner slivers are lost to it
        edge = np.array([box[2] - box[0], box[3] - box[1]] * 2)
        moved = np.clip(seen.boxes + random.uniform(-1, 1, seen.boxes.shape), 0, edge).astype(np.float32)
        found.append(Detections(moved, seen.scores, seen.labels, seen.names))
    merged = merge_views(views, found, merge=merge)
    assert len(merged) == 1
    assert box_iou(merged.boxes[0], np.array(thing, np.float32)) > 0.6


# --- many things -----------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.8]), merges)
def test_a_crowd_of_one_class_is_counted_right(seed: int, least_visible: float, merge: Merge) -> None:
    random = np.random.default_rng(seed)
    tiling = Tiling(100, 0.25)
    views = plan_views((260, 330), tiling)
    things: list[Box] = []
    for x in range(0, 330 - 26, 27):
        for y in range(0, 260 - 26, 27):
            w, h = random.uniform(6, 25, 2)
            if random.random() < 0.8:
                things.append((x + 0.5, y + 0.5, x + 0.5 + w, y + 0.5 + h))
    found = merge_views(views, look(views, things, least_visible, blind=[0]), merge=merge)
    assert_once(found, things)


def test_two_things_that_stand_close_at_a_seam_stay_two() -> None:
    tiling = Tiling(100, 0.2)
    views = plan_views((100, 180), tiling)
    assert views[1:] == ((0, 0, 100, 100), (80, 0, 180, 100))
    # Both reach over the whole overlap, side by side by 40 % of their height.
    things = [(40.0, 10.0, 130.0, 50.0), (40.0, 35.0, 130.0, 75.0)]
    found = merge_views(views, look(views, things, blind=[0]))
    assert_once(found, things)


def test_boxes_of_different_classes_are_never_joined_nor_dropped() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    left = detections([((40, 10, 100, 50), 0.9, 0)])
    right = detections([((0, 10, 50, 50), 0.8, 1)])
    found = merge_views(views, [detections([]), left, right])
    assert found.boxes.tolist() == [[40, 10, 100, 50], [80, 10, 130, 50]]
    assert found.labels.tolist() == [0, 1]


def test_parts_that_do_not_continue_each_other_stay_apart() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    left = detections([((40, 10, 100, 30), 0.9, 0)])
    right = detections([((0, 60, 50, 90), 0.8, 0)])
    found = merge_views(views, [detections([]), left, right])
    assert found.boxes.tolist() == [[40, 10, 100, 30], [80, 60, 130, 90]]


def test_parts_that_overlap_a_little_stay_apart() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    left, right = detections([((40, 10, 100, 30), 0.9, 0)]), detections([((0, 22, 50, 60), 0.8, 0)])
    found = merge_views(views, [detections([]), left, right])
    assert found.boxes.tolist() == [[40, 10, 100, 30], [80, 22, 130, 60]]


def test_small_parts_far_from_each_other_in_a_wide_overlap_stay_apart() -> None:
    views = plan_views((400, 480), Tiling(400, 0.8))
    assert views[1:] == ((0, 0, 400, 400), (80, 0, 480, 400))
    left, right = detections([((394, 350, 400, 354), 0.9, 0)]), detections([((0, 10, 4, 14), 0.8, 0)])
    found = merge_views(views, [detections([]), left, right])
    assert found.boxes.tolist() == [[394, 350, 400, 354], [80, 10, 84, 14]]


def test_parts_are_joined_through_a_third_that_both_touch() -> None:
    views = plan_views((180, 260), Tiling(100, 0.2))
    assert len(views) == 7
    thing = (20.0, 20.0, 240.0, 160.0)
    # The two upper corners share no pixel; the lower middle meets both.
    found = merge_views(views, look(views, [thing], blind=[0, 2, 4, 6]))
    assert len(found) == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), merges)
def test_no_box_that_is_alone_is_lost_or_moved(seed: int, merge: Merge) -> None:
    random = np.random.default_rng(seed)
    views = plan_views((300, 300), Tiling(100, 0.2))
    # A box in each of a few places far apart, each seen by one view only; some lie on borders.
    expected, rows = [], [list[tuple[Box, float, int]]() for _ in views]
    for x, y in ((20, 20), (150, 30), (260, 90), (30, 160), (160, 170), (240, 250)):
        thing = (float(x), float(y), x + float(random.integers(4, 30)), y + float(random.integers(4, 30)))
        holds = [n for n, v in enumerate(views) if v[0] <= x and v[1] <= y and v[2] >= thing[2] and v[3] >= thing[3]]
        view = int(random.choice(holds))
        left, top = views[view][:2]
        rows[view].append(((x - left, y - top, thing[2] - left, thing[3] - top), float(random.uniform(0.1, 1)), 0))
        expected.append(thing)
    found = merge_views(views, [detections(part) for part in rows], merge=merge)
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(expected)


# --- the rules -------------------------------------------------------------------------------------------------------


def test_a_cut_box_gives_way_to_the_whole_one_and_leaves_it_the_better_score() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    whole = detections([((70, 20, 120, 60), 0.4, 0)])
    left = detections([((70, 20, 100, 60), 0.7, 0)])
    found = merge_views(views, [whole, left, detections([])])
    assert found.boxes.tolist() == [[70, 20, 120, 60]]
    assert found.scores.tolist() == pytest.approx([0.7])


def test_a_large_cut_box_does_not_give_way_to_a_small_whole_one_within_its_reach() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    left = detections([((0, 10, 100, 90), 0.7, 0)])
    right = detections([((3, 10, 18, 90), 0.6, 0)])  # in the image 83..98, not touching the border at 80
    found = merge_views(views, [detections([]), left, right])
    assert [0, 10, 100, 90] in found.boxes.tolist()


def test_of_several_whole_boxes_the_likest_takes_the_score() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    whole = detections([((82, 20, 120, 60), 0.5, 0)])
    part = detections([((82, 20, 100, 60), 0.9, 0)])
    other = detections([((4, 20, 40, 44), 0.4, 0)])  # less like it, but enough
    found = merge_views(views, [whole, part, other])
    assert found.boxes.tolist() == [[82, 20, 120, 60]]
    assert found.scores.tolist() == pytest.approx([0.9])


def test_the_edge_of_the_image_cuts_nothing() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    whole, tile = detections([((0, 20, 21, 40), 0.5, 0)]), detections([((0, 20, 20, 40), 0.8, 0)])
    found = merge_views(views, [whole, tile, detections([])])
    assert found.boxes.tolist() == [[0, 20, 20, 40]]
    assert found.scores.tolist() == pytest.approx([0.8])


def test_two_boxes_of_one_view_never_give_way_to_the_same_whole_one() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    whole = detections([((60, 20, 120, 60), 0.5, 0)])
    left = detections([((60, 20, 100, 60), 0.9, 0), ((60, 32, 100, 72), 0.8, 0)])  # overlap 0.54: two to the detector
    found = merge_views(views, [whole, left, detections([])])
    assert len(found) == 2


def test_a_joined_box_has_the_mean_score_of_its_parts_by_area() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    left = detections([((40, 20, 100, 60), 0.9, 0)])
    right = detections([((0, 20, 30, 60), 0.6, 0)])
    found = merge_views(views, [detections([]), left, right])
    assert found.boxes.tolist() == [[40, 20, 110, 60]]
    assert found.scores.tolist() == pytest.approx([(60 * 0.9 + 30 * 0.6) / 90])


def test_the_surer_of_two_views_wins_by_nms() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    found = merge_views(
        views, [detections([((20, 20, 40, 40), 0.5, 0)]), detections([((21, 20, 41, 40), 0.8, 0)]), detections([])]
    )
    assert found.boxes.tolist() == [[21, 20, 41, 40]]
    assert found.scores.tolist() == pytest.approx([0.8])


def test_boxes_of_one_view_never_suppress_each_other() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    close = [((20.0, 20.0, 40.0, 40.0), 0.9, 0), ((20.0, 26.0, 40.0, 46.0), 0.8, 0)]  # overlap 0.54
    assert len(merge_views(views, [detections([]), detections(close), detections([])])) == 2


def test_best_scores_come_first_and_the_limit_counts_after_merging() -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    found = merge_views(
        views,
        [
            detections([((150, 20, 160, 40), 0.5, 0)]),
            detections([((20, 20, 40, 40), 0.3, 1), ((60, 60, 70, 70), 0.9, 0)]),
            detections([((70, 20, 80, 40), 0.6, 0)]),
        ],
        max_detections=2,
    )
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])  # 0.6 is the same thing as 0.5
    assert found.labels.tolist() == [0, 0]
    assert found.boxes.dtype == np.float32
    assert found.names == NAMES


def test_a_single_view_is_passed_on_bit_by_bit() -> None:
    one = detections([((0.1, 0.2, 640.3, 300.4), 0.9, 0), ((0.1, 0.2, 640.3, 300.4), 0.8, 0)])
    found = merge_views([(0, 0, 640, 300)], [one])
    assert np.array_equal(found.boxes, one.boxes)
    assert np.array_equal(found.scores, one.scores)
    assert len(merge_views([(0, 0, 640, 300)], [one], max_detections=1)) == 1


@pytest.mark.parametrize("merge", ["nms", "wbf"])
def test_nothing_found_anywhere_is_nothing_found(merge: Merge) -> None:
    views = plan_views((100, 180), Tiling(100, 0.2))
    found = merge_views(views, [detections([])] * 3, merge=merge)
    assert len(found) == 0
    assert found.names == NAMES


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(-64, 4096), st.integers(-64, 4096), merges)
def test_merging_does_not_depend_on_where_the_image_lies(seed: int, dx: int, dy: int, merge: Merge) -> None:
    random = np.random.default_rng(seed)
    views = plan_views((200, 300), Tiling(100, 0.25))
    found = []
    for x1, y1, x2, y2 in views:
        corners = np.sort(random.integers(0, 2 * np.array([x2 - x1, y2 - y1]), (8, 2, 2)), axis=1) / 2
        corners[:, 1] += 1
        scores = np.sort(random.uniform(0.1, 1, 8))[::-1].astype(np.float32)
        found.append(Detections(corners.reshape(8, 4).astype(np.float32), scores, random.integers(0, 2, 8), NAMES))
    moved = [(x1 + dx, y1 + dy, x2 + dx, y2 + dy) for x1, y1, x2, y2 in views]
    here, there = merge_views(views, found, merge=merge), merge_views(moved, found, merge=merge)
    shift = np.array([dx, dy, dx, dy], np.float32)
    assert np.allclose(here.boxes + shift, there.boxes, atol=0 if merge == "nms" else 1e-2)
    assert np.allclose(here.scores, there.scores)
    assert np.array_equal(here.labels, there.labels)


# --- weighted box fusion ---------------------------------------------------------------------------------------------


def test_fusion_is_the_mean_weighted_by_scores() -> None:
    xyxy = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [1, 0, 11, 10]], np.float64)
    boxes, scores, members = fuse(xyxy, np.array([0.8, 0.7, 0.4]), 0.55)
    assert members == [[0, 2], [1]]
    assert boxes.tolist() == [pytest.approx([1 / 3, 0, 31 / 3, 10]), pytest.approx([50, 50, 60, 60])]
    assert scores.tolist() == pytest.approx([0.6, 0.7])


def test_fusion_compares_with_the_fused_box_not_with_its_first_member() -> None:
    # The third overlaps the first by 0.5 only, but the mean of the first two by 0.6.
    xyxy = np.array([[0, 0, 30, 10], [5, 0, 35, 10], [10, 0, 40, 10]], np.float64)
    assert fuse(xyxy, np.array([0.9, 0.9, 0.8]), 0.55)[2] == [[0, 1, 2]]
    assert fuse(xyxy[[0, 2]], np.array([0.9, 0.8]), 0.55)[2] == [[0], [1]]


def test_fusion_joins_the_box_that_overlaps_most() -> None:
    xyxy = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [3, 0, 13, 10]], np.float64)
    assert fuse(xyxy, np.array([0.9, 0.8, 0.7]), 0.45)[2] == [[0], [1, 2]]


def test_fusion_takes_scores_of_zero_and_boxes_without_area() -> None:
    xyxy = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]], np.float64)
    boxes, scores, _ = fuse(xyxy, np.zeros(3), 0.55)
    assert np.isfinite(boxes).all()
    assert scores.tolist() == [0, 0, 0]


def scores_by_fusion(found: Sequence[Detections], size_hw: tuple[int, int] = (1000, 1800)) -> list[float]:
    views = plan_views(size_hw, Tiling(1000, 0.2))
    assert len(views) == 3
    scales = [resized_hw((y2 - y1, x2 - x1), 400)[0] / (y2 - y1) for x1, y1, x2, y2 in views]
    return merge_views(views, found, merge="wbf", scales=scales).scores.tolist()


def test_views_that_could_have_seen_a_thing_and_did_not_lower_its_score() -> None:
    large, nothing = detections([((100, 100, 500, 500), 0.8, 0)]), detections([])
    # The left tile and the whole view hold it; the right tile does not, and has no say.
    assert scores_by_fusion([large, large, nothing]) == pytest.approx([0.8])
    assert scores_by_fusion([nothing, large, nothing]) == pytest.approx([0.4])


def test_fused_boxes_that_move_onto_each_other_become_one() -> None:
    starts, scores = (0, 140, 50, 90, 65, 85), (0.9, 0.89, 0.8, 0.79, 0.7, 0.69)
    xyxy = np.array([(x, 0, x + 300, 100) for x in starts], np.float64)
    _, _, members = fuse(xyxy, np.array(scores), 0.55)
    assert members == [[0, 2, 4], [1, 3, 5]]
    rows: list[tuple[Box, float, int]] = [
        ((x + 100.0, 100.0, x + 400.0, 200.0), score, 0) for x, score in zip(starts, scores, strict=True)
    ]
    assert len(scores_by_fusion([detections(rows), detections([]), detections([])])) == 1


def test_a_view_that_shows_a_thing_too_small_has_no_say() -> None:
    # At 400 pixels, 50 become 20 in a tile and, the long side being limited to 666, 18.5 in the whole view; 40 become
    # 16 and 14.8.
    fifty, forty = (detections([((100, 100, 100 + side, 100 + side), 0.8, 0)]) for side in (50, 40))
    nothing = detections([])
    assert scores_by_fusion([nothing, fifty, nothing]) == pytest.approx([0.4])
    assert scores_by_fusion([nothing, forty, nothing]) == pytest.approx([0.8])


def test_a_thing_made_of_parts_counts_as_seen_once() -> None:
    whole: list[tuple[Box, float, int]] = [((500, 100, 1300, 500), 0.8, 0)]
    left, right = detections([((500, 100, 1000, 500), 0.8, 0)]), detections([((0, 100, 500, 500), 0.8, 0)])
    assert scores_by_fusion([detections(whole), left, right]) == pytest.approx([0.8])
    assert scores_by_fusion([detections([]), left, right]) == pytest.approx([0.4])


def as_pairs(found: Detections) -> NDArray[np.float32]:
    return np.concatenate([found.boxes, found.scores[:, None]], axis=1)


def test_the_same_views_give_the_same_result() -> None:
    views = plan_views((260, 330), Tiling(100, 0.25))
    things = [(float(x), float(y), x + 20.0, y + 20.0) for x in range(0, 300, 30) for y in range(0, 230, 30)]
    found = look(views, things, 0.2)
    assert np.array_equal(as_pairs(merge_views(views, found)), as_pairs(merge_views(views, found)))
