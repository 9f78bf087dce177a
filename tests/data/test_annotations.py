"""Annotation files become columns, sorted by id, in the order of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from glip.data.annotations import Truth
from glip.data.coco import load_coco
from glip.errors import InputError
from tests.evaluation.cases import random_lvis_case


def write(path: Path, content: Any) -> Path:
    path.write_bytes(msgspec.json.encode(content))
    return path


@pytest.fixture
def coco_file(tmp_path: Path) -> Path:
    content = {
        "images": [
            {"id": 9, "file_name": "b.jpg", "width": 40, "height": 30},
            {"id": 2, "file_name": "a.jpg", "width": 10, "height": 20},
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 5, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 1, "area": 7.5},
            {"id": 0, "image_id": 2, "category_id": 7, "bbox": [0, 0, 5, 6], "difficult": True},
            {"id": 1, "image_id": 2, "category_id": 3, "bbox": [0, 0, 1, 1], "ignore": 1},
        ],
    }
    return write(tmp_path / "coco.json", content)


def test_images_and_classes_are_sorted_by_id_and_boxes_keep_their_order(coco_file: Path) -> None:
    truth = Truth.from_coco(coco_file)
    assert truth.image_ids.tolist() == [2, 9]
    assert truth.sizes_hw.tolist() == [[20, 10], [30, 40]]
    assert truth.file_names == ("a.jpg", "b.jpg")
    assert truth.category_ids.tolist() == [3, 7]
    assert truth.names == ("cat", "dog")
    assert truth.annotation_id.tolist() == [5, 0, 1]
    assert truth.iscrowd.tolist() == [True, False, False]
    assert truth.ignore.tolist() == [False, True, True]
    assert truth.image_indices(truth.image_id).tolist() == [1, 0, 0]
    assert truth.category_indices(truth.category_id).tolist() == [0, 1, 0]


def test_a_missing_area_is_that_of_the_box(coco_file: Path) -> None:
    assert Truth.from_coco(coco_file).area.tolist() == [7.5, 30.0, 1.0]


def test_a_dataset_in_memory_gives_the_same_columns(coco_file: Path) -> None:
    truth, other = Truth.from_coco(load_coco(coco_file)), Truth.from_coco(coco_file)
    for column in ("bbox", "ignore", "annotation_id"):
        assert getattr(truth, column).tolist() == getattr(other, column).tolist()


def test_fewer_images_or_classes_keep_their_boxes_only(coco_file: Path) -> None:
    truth = Truth.from_coco(coco_file)
    one = truth.of_images([2, 77])
    assert (one.file_names, one.annotation_id.tolist(), one.names) == (("a.jpg",), [0, 1], ("cat", "dog"))
    cats = truth.of_categories([3])
    assert (cats.names, cats.annotation_id.tolist(), cats.file_names) == (("cat",), [5, 1], ("a.jpg", "b.jpg"))


def test_fewer_classes_keep_their_frequencies() -> None:
    truth = random_lvis_case(3).truth
    last = truth.of_categories(truth.category_ids[-1:])
    assert truth.federated is not None
    assert last.federated is not None
    assert last.federated.frequency == truth.federated.frequency[-1:]


def test_a_file_that_is_not_utf8_is_refused_with_the_byte(coco_file: Path) -> None:
    coco_file.write_bytes(coco_file.read_bytes().replace(b"cat", b"c\xe4t"))
    with pytest.raises(InputError, match=r"coco\.json.*b'\\xe4'"):
        Truth.from_coco(coco_file)


def test_annotated_corners_are_refused(coco_file: Path) -> None:
    content = msgspec.json.decode(coco_file.read_bytes())
    content["annotations"] = [
        {"id": id, "image_id": 9, "category_id": 3, "bbox": [20 + id, 16, 39, 29]} for id in range(1, 5)
    ]
    with pytest.raises(InputError, match=r"coco\.json: 4 of 4 boxes .*x1, y1, x2, y2"):
        Truth.from_coco(write(coco_file, content))


@pytest.mark.parametrize("scale", [1 / 40, 1 / 30])
def test_annotated_fractions_are_refused(coco_file: Path, scale: float) -> None:
    content = msgspec.json.decode(coco_file.read_bytes())
    content["annotations"] = [
        {"id": id, "image_id": 9, "category_id": 3, "bbox": [scale * side for side in (id, 2, 3, 4)]}
        for id in range(1, 5)
    ]
    with pytest.raises(InputError, match=r"coco\.json: .*4 boxes.*fractions"):
        Truth.from_coco(write(coco_file, content))
