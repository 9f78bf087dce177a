"""Results of any detector are read, and what cannot be meant is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from glip.data.annotations import Truth
from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from glip.errors import InputError
from glip.evaluation.predictions import Predictions, check_predictions, read_predictions

BOX = {"image_id": 4, "category_id": 2, "bbox": [1.5, 2, 3, 4], "score": 0.25}


@pytest.fixture
def truth() -> Truth:
    return Truth.from_coco(
        CocoDataset(
            images=(CocoImage(4, "a.jpg", 100, 80), CocoImage(6, "sub/b.jpg", 100, 80)),
            annotations=(CocoAnnotation(1, 4, 2, (1, 2, 3, 4)),),
            categories=(CocoCategory(2, "dog"), CocoCategory(5, "Traffic Light")),
        )
    )


def write(folder: Path, content: Any) -> Path:
    path = folder / "found.json"
    path.write_bytes(content if isinstance(content, bytes) else msgspec.json.encode(content))
    return path


def coco_file(**changes: Any) -> dict[str, Any]:
    """What a detector writes in COCO's form, with ids of its own."""
    return {
        "images": [{"id": 1, "file_name": "sub/b.jpg", "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "Traffic Light"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}],
    } | changes


def test_results_keep_their_order_and_numbers(tmp_path: Path, truth: Truth) -> None:
    found = read_predictions(write(tmp_path, [BOX, BOX | {"image_id": 6, "score": 1, "extra": "x"}]), truth)
    assert found.image_id.tolist() == [4, 6]
    assert found.category_id.tolist() == [2, 2]
    assert found.bbox.tolist() == [[1.5, 2, 3, 4]] * 2
    assert found.score.tolist() == [0.25, 1.0]


def test_no_results_are_results(tmp_path: Path, truth: Truth) -> None:
    assert len(read_predictions(write(tmp_path, []), truth)) == 0


def test_a_coco_file_is_matched_by_names(tmp_path: Path, truth: Truth) -> None:
    found = read_predictions(write(tmp_path, coco_file()), truth)
    assert (found.image_id.tolist(), found.category_id.tolist(), found.score.tolist()) == ([6], [5], [0.5])


def test_a_coco_file_may_know_more_images_and_classes_than_it_has_boxes_for(tmp_path: Path, truth: Truth) -> None:
    content = coco_file()
    content["images"].append({"id": 2, "file_name": "other.jpg", "width": 1, "height": 1})
    content["categories"].append({"id": 9, "name": "zebra"})
    assert len(read_predictions(write(tmp_path, content), truth)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([BOX, BOX | {"image_id": 5}], "1 of 2 boxes .* box 1 with image_id 5"),
        ([BOX | {"category_id": 1}], "1 of 1 boxes .* category_id 1 "),
        ([BOX, BOX | {"bbox": [1, 2, -3, 4]}], r"box 1 .*-3"),
        ([BOX | {"bbox": [1, 2, 3]}], r"entry 0: the bbox"),
        ([BOX | {"score": None}], r"entry 0: box 0: the score"),
        ([{"image_id": 4, "bbox": [1, 2, 3, 4], "score": 1}], "category_id"),
        (b'[{"image_id": 4, "category_id": 2, "bbox": [1, 2, 3, 4], "score": NaN}]', "NaN .*line 1"),
        (b'[{"image_id": 4, "category_id": 2,\n "bbox": [1, 2, -Infinity, 4]}]', "-Infinity .*line 2"),
        (b'[{"image_id": 4, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 1e999}]', "out of range"),
        (msgspec.json.encode([BOX, BOX])[:-9], "found.json"),
        (b"", "empty"),
        ("[]".encode("utf-16"), "UTF-16"),
        (msgspec.json.encode(coco_file()).replace(b"Light", b"L\xefght"), "UTF-8.*byte"),
        (b"\n".join([msgspec.json.encode(BOX)] * 2), "several JSON objects"),
        ({"predictions": [BOX]}, "'predictions'"),
        ([BOX | {"image_id": "a.jpg"}], "image_id"),
        ([BOX | {"category_id": 0}], "category_id 0"),
        (b"<html>", "byte 0"),
        (
            coco_file(categories=[{"id": 1, "name": "traffic light"}]),
            "'traffic light'.*'Traffic",
        ),
        (coco_file(categories=[{"id": 1, "name": "zebra"}]), "class 'zebra'.*'dog'"),
        (coco_file(images=[{"id": 1, "file_name": "x.jpg", "width": 1, "height": 1}]), "'x.jpg'"),
        (coco_file(images=[]), "image_id 1"),
        (coco_file(annotations=[{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]), "score"),
    ],
)
def test_a_file_that_does_not_fit_the_truth_is_refused(
    tmp_path: Path, truth: Truth, content: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_predictions(write(tmp_path, content), truth)
    assert "found.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[BOX], coco_file()])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, truth: Truth, content: Any) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + msgspec.json.encode(content))
    assert len(read_predictions(path, truth)) == 1


def test_a_name_that_the_truth_has_twice_cannot_be_matched(tmp_path: Path, truth: Truth) -> None:
    double = replace(truth, names=("Dog",) * len(truth.names))
    with pytest.raises(InputError, match="'Dog'"):
        read_predictions(write(tmp_path, coco_file()), double)


def test_a_missing_file_is_named(tmp_path: Path, truth: Truth) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json"):
        read_predictions(tmp_path / "nowhere.json", truth)


def boxes(truth: Truth, bbox: list[list[float]]) -> Predictions:
    count = len(bbox)
    return Predictions(np.full(count, 4), np.full(count, 2), np.array(bbox, np.float64), np.full(count, 0.5))


def random_corners(count: int) -> list[list[float]]:
    """Returns x1, y1, x2, y2 in an image of 100 × 80."""
    random = np.random.default_rng(0)
    corners = np.sort(random.random((count, 2, 2)), axis=1) * (100, 80)
    return corners.reshape(count, 4).tolist()


def test_corners_are_refused_with_how_sure_that_is(truth: Truth) -> None:
    with pytest.raises(InputError, match=r"file: .*40 of 40 .*x1, y1, x2, y2"):
        check_predictions(boxes(truth, random_corners(40)), truth, "file")


def test_boxes_in_the_right_format_are_accepted(truth: Truth) -> None:
    corners = np.array(random_corners(40))
    corners[:, 2:] -= corners[:, :2]
    check_predictions(boxes(truth, corners.tolist()), truth, "file")


def test_boxes_a_little_beyond_the_image_are_accepted(truth: Truth) -> None:
    check_predictions(boxes(truth, [[1.0, 1.0, 100.0, 80.0]] * 9), truth, "file")


def test_fractions_of_the_image_are_refused(truth: Truth) -> None:
    with pytest.raises(InputError, match="fractions"):
        check_predictions(boxes(truth, [[0.1, 0.2, 0.3, 0.4]] * 3), truth, "file")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_from_memory_too(truth: Truth, bad: float) -> None:
    found = boxes(truth, [[0, 0, 5, 5]])
    with pytest.raises(InputError, match="score of box 0"):
        check_predictions(Predictions(found.image_id, found.category_id, found.bbox, np.array([bad])), truth, "file")
    with pytest.raises(InputError, match="box 0"):
        check_predictions(boxes(truth, [[0, 0, bad, 5]]), truth, "file")
