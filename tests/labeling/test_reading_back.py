"""What `glip export` writes is read back equal, within the rounding of each format, by the reader of all commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.data.coco_folders import read_own
from glip.data.coco_reading import CocoFile
from glip.data.lookup import find_suite, find_training_splits
from glip.data.splits import open_split
from tests.labeling.runs import NAMES, READABLE, RECORDS, write, write_run

Boxes = dict[str, list[tuple[str, tuple[float, ...]]]]
FORMATS = {  # where the annotations and the images of each format lie, and by how many pixels boxes may differ
    "coco": ("annotations.coco.json", "images", 0.0),
    "yolo": ("yolo", "yolo/images", 1e-4),
    "voc": ("voc", "voc/JPEGImages", 0.5),
    "labelme": ("labelme", "labelme", 1e-3),
    "labelstudio": ("labelstudio/tasks.json", "labelstudio", 1e-3),
}


def exported() -> Boxes:
    """Returns the recorded boxes of each image, clipped to it: class and xyxy."""
    boxes: Boxes = {}
    for record in READABLE:
        found = record.detections(NAMES)
        clipped = np.clip(found.boxes.astype(float), 0, [record.width, record.height] * 2)
        boxes[record.file_name] = sorted(
            (NAMES[label], tuple(box)) for label, box in zip(found.labels, clipped.tolist(), strict=True)
        )
    return boxes


def read_boxes(file: CocoFile) -> Boxes:
    """Returns the boxes of each image as `exported` does."""
    dataset = file.dataset
    names = {category.id: category.name for category in dataset.categories}
    sizes = {image.id: [image.width, image.height] * 2 for image in dataset.images}
    of_image = dataset.boxes_by_image()
    return {
        image.file_name: sorted(
            (names[box.category_id], tuple(np.clip(corners(box.bbox), 0, sizes[image.id]).tolist()))
            for box in of_image[image.id]
        )
        for image in dataset.images
    }


def corners(bbox: tuple[float, float, float, float]) -> list[float]:
    left, top, width, height = bbox
    return [left, top, left + width, top + height]


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_is_read_back(tmp_path: Path, name: str) -> None:
    out = write(write_run(tmp_path / "run", RECORDS), name)
    annotations, images, tolerance = FORMATS[name]
    for record in READABLE:
        path = out / images / record.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (record.width, record.height)).save(path)
    found, expected = read_boxes(read_own(out / annotations)), exported()
    assert found.keys() == expected.keys()
    for image, boxes in expected.items():
        assert [label for label, _ in found[image]] == [label for label, _ in boxes]
        for (_, one), (_, other) in zip(found[image], boxes, strict=True):
            np.testing.assert_allclose(one, other, atol=tolerance)


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme"])
def test_a_folder_is_evaluated_and_tuned_on_like_coco(tmp_path: Path, name: str) -> None:
    out = write(write_run(tmp_path / "run", RECORDS), name)
    annotations, images, _ = FORMATS[name]
    for record in READABLE:
        path = out / images / record.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (record.width, record.height)).save(path)
    (split,) = find_suite(str(out / annotations), tmp_path).splits
    opened = open_split(split)
    assert sorted(opened.names) == sorted(NAMES)
    assert all(path.is_file() for path in opened.images)
    (training,), _ = find_training_splits(str(out / annotations), tmp_path)
    assert open_split(training.train).truth.file_names == opened.truth.file_names
