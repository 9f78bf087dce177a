"""Boxes of people stay as they are when images are labelled again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glip.errors import InputError
from glip.labeling.export import write_outputs
from glip.labeling.merging import MergeCounts, find_people, open_people
from tests.labeling.runs import a_record, write_run

DRAWN = {
    "id": 41,
    "image_id": 7,
    "category_id": 9,
    "bbox": [11, 21.25, 99.5, 199.125],
    "area": 3.5,
    "iscrowd": 0,
    "segmentation": [[1, 2, 3, 4, 5, 6]],
    "attributes": {"occluded": True},
}


def put(path: Path, annotations: list[dict[str, Any]], **fields: Any) -> Path:
    """A COCO file of three images and two classes, one of which the run does not know."""
    images = [{"id": id, "file_name": name, "width": 640, "height": 480} for id, name in fields.pop("images", IMAGES)]
    categories = [{"id": 9, "name": "Person", "supercategory": "x"}, {"id": 1, "name": "tram"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories} | fields))
    return path


IMAGES = [(7, "a.jpg"), (8, "b.jpg"), (9, "elsewhere.jpg")]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that found two persons and a dog in one image, a dog in the next, and nothing in the last."""
    boxes = [[10, 20, 110, 220], [300, 20, 400, 220], [12, 22, 108, 215]]
    records = [
        a_record("a.jpg", boxes, [0.9, 0.8, 0.7], [0, 0, 1]),
        a_record("b.jpg", [[1, 1, 50, 50]], [0.9], [1]),
        a_record("c.jpg"),
    ]
    return write_run(tmp_path / "run", records)


def merged(run: Path, file: Path) -> tuple[dict[str, Any], MergeCounts]:
    """The annotation file of the run with the boxes of people in `file`, and the counts."""
    outputs = write_outputs(run, [], 0.3, 0, people=open_people(file))
    assert outputs.merged is not None
    content: dict[str, Any] = json.loads((run / "annotations.coco.json").read_bytes())
    assert sum(outputs.boxes.values()) == len(content["annotations"])
    return content, outputs.merged


def test_a_drawn_box_stays_as_it_is_and_takes_the_place_of_the_models(run: Path, tmp_path: Path) -> None:
    content, counts = merged(run, put(tmp_path / "people.json", [DRAWN]))
    (kept,) = [box for box in content["annotations"] if box["source"] == "person"]
    assert kept == DRAWN | {"image_id": 1, "category_id": 1, "source": "person"}  # the run's ids of image and class
    others = [(box["image_id"], box["category_id"], box["bbox"][0]) for box in content["annotations"] if box != kept]
    assert others == [(1, 1, 300.0), (1, 2, 12.0), (2, 2, 1.0)]  # the dog under the person is another object
    ids = [box["id"] for box in content["annotations"]]
    assert ids == [41, 42, 43, 44]
    assert (counts.kept, counts.added, counts.covered, counts.finished) == (1, 3, 1, 0)


def test_merging_the_merged_file_again_changes_nothing(run: Path, tmp_path: Path) -> None:
    tram = {"id": 5, "image_id": 9, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    merged(run, put(tmp_path / "people.json", [DRAWN, tram]))
    first = (run / "annotations.coco.json").read_bytes()
    assert find_people(run) == run / "annotations.coco.json"
    content, counts = merged(run, run / "annotations.coco.json")
    assert (run / "annotations.coco.json").read_bytes() == first
    assert counts.elsewhere == 1 and content["images"][-1]["file_name"] == "elsewhere.jpg"
    assert content["categories"][-1] == {"id": 4, "name": "tram"}


def test_images_that_people_reviewed_get_no_further_box(run: Path, tmp_path: Path) -> None:
    boxes = [DRAWN, {"id": 50, "image_id": 8, "category_id": 9, "bbox": [2, 2, 40, 40], "area": 1600, "iscrowd": 0}]
    corrected = put(run / "corrected.coco.json", boxes)
    (run / "diff.json").write_text(json.dumps({"added": [{"image_id": 7}], "deleted": [], "per_class": {}}))
    assert find_people(run) == corrected
    content, counts = merged(run, corrected)
    assert [box["id"] for box in content["annotations"] if box["image_id"] == 1] == [41]
    assert content["images"][0]["reviewed"] is True
    assert [box["source"] for box in content["annotations"] if box["image_id"] == 2] == ["glip"]  # nobody looked at it
    assert (counts.kept, counts.finished, counts.withheld) == (1, 1, 3)
    first = (run / "annotations.coco.json").read_bytes()
    merged(run, run / "annotations.coco.json")
    assert (run / "annotations.coco.json").read_bytes() == first


def test_boxes_of_a_model_are_no_boxes_of_people(run: Path, tmp_path: Path) -> None:
    write_outputs(run, [], 0.3, 0)
    assert find_people(run) is None
    assert open_people(run / "annotations.coco.json").images == {}
    edited = json.loads((run / "annotations.coco.json").read_bytes())
    del edited["annotations"][0]["score"]
    (run / "annotations.coco.json").write_text(json.dumps(edited))
    assert find_people(run) == run / "annotations.coco.json"
    assert list(open_people(run / "annotations.coco.json").images) == ["a.jpg"]


def test_a_file_that_is_no_coco_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "people.json").write_text("[1]")
    with pytest.raises(InputError, match=r"people\.json"):
        open_people(tmp_path / "people.json")
    put(tmp_path / "corrected.coco.json", [DRAWN])
    (tmp_path / "diff.json").write_text('{"added": 5}')
    with pytest.raises(InputError, match=r"diff\.json"):
        open_people(tmp_path / "corrected.coco.json")
