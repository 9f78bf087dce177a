"""Grounding files: read as published, written whole, streamed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from glip.data.grounding import (
    GroundingAnnotation,
    GroundingDataset,
    GroundingImage,
    grounding_writer,
    load_grounding,
    save_grounding,
)
from glip.detections import Detections
from glip.errors import InputError, JobFailed
from glip.files import whole_file

# An entry as the published Flickr30k file has it, sizes in quotes and all; and one of the mixed file.
FLICKR = {
    "file_name": "4886839805.jpg", "height": "500", "width": "371", "id": 27,
    "caption": "2 wet boys in blue swimming suits", "dataset_name": "flickr", "tokens_negative": [[0, 33]],
    "sentence_id": 2, "original_img_id": 4886839805, "tokens_positive_eval": [[[0, 10]], [[14, 33]]],
}  # fmt: skip
MIXED = {
    "file_name": "2354786.jpg", "height": 270, "width": 500, "id": 486488, "original_id": "2354786",
    "caption": "two cars on street. a traffic light.", "tokens_negative": [[0, 3], [9, 11]], "data_source": "vg",
    "dataset_name": "mixed",
}  # fmt: skip
BOX = {
    "area": 240.0, "iscrowd": 0, "image_id": 27, "category_id": 1, "id": 3, "bbox": [1, 2, 12, 20],
    "tokens_positive": [[0, 10]], "phrase_ids": [4],
}  # fmt: skip


def write(path: Path, **parts: object) -> Path:
    whole = {"info": [], "licenses": [], "categories": [{"id": 1, "name": "object", "supercategory": "object"}]}
    path.write_text(json.dumps(whole | {"images": [FLICKR, MIXED], "annotations": [BOX]} | parts))
    return path


def test_published_entries_are_read_with_sizes_in_quotes(tmp_path: Path) -> None:
    dataset = load_grounding(write(tmp_path / "flickr.json"))
    boys, cars = dataset.images
    assert (boys.width, boys.height, boys.sentence_id, boys.original_img_id) == (371, 500, 2, 4886839805)
    assert [boys.caption[slice(*spans[0])] for spans in boys.tokens_positive_eval] == [
        "2 wet boys",
        "blue swimming suits",
    ]
    assert cars.tokens_positive_eval == ()
    assert dataset.annotations[0].tokens_positive == ((0, 10),)
    assert dataset.annotations[0].score is msgspec.UNSET
    assert {id: len(boxes) for id, boxes in dataset.boxes_by_caption().items()} == {27: 1, 486488: 0}


def test_several_captions_may_share_an_image(tmp_path: Path) -> None:
    again = FLICKR | {"id": 28, "sentence_id": 3, "caption": "boys"}
    dataset = load_grounding(write(tmp_path / "flickr.json", images=[FLICKR, again]))
    assert [image.file_name for image in dataset.images] == ["4886839805.jpg"] * 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": [FLICKR, FLICKR]}, "image id 27"),
        ({"annotations": [BOX, BOX]}, "annotation id 3"),
        ({"images": [MIXED]}, "annotation 3 .*image 27"),
        ({"images": [FLICKR | {"file_name": "../secret.jpg"}]}, r"'\.\./secret\.jpg' of image 27"),
        ({"images": [FLICKR | {"width": 0}]}, "image 27 .*0 × 500"),
        ({"images": [{"id": 1}]}, r"file_name.*images\[0\]"),
        ({"annotations": [BOX | {"tokens_positive": [[0, 10, 12]]}]}, "tokens_positive"),
        ({"annotations": [BOX | {"tokens_positive": [0, 10]}]}, "tokens_positive"),
    ],
)
def test_contradictions_are_refused_with_their_place(tmp_path: Path, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_grounding(write(tmp_path / "broken.json", **parts))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json"):
        load_grounding(tmp_path / "none.json")
    (tmp_path / "half.json").write_text(write(tmp_path / "whole.json").read_text()[:-40])
    with pytest.raises(InputError, match=r"half\.json"):
        load_grounding(tmp_path / "half.json")


def test_ranges_outside_of_their_caption_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strays = [[0, 10], [30, 34], [5, 5], [-1, 3]]
    boxes = [BOX, BOX | {"id": 4, "tokens_positive": strays}, BOX | {"id": 5, "tokens_positive": [[40, 50]]}]
    with caplog.at_level(logging.WARNING):
        dataset = load_grounding(write(tmp_path / "flickr.json", annotations=boxes))
    assert [a.tokens_positive for a in dataset.annotations] == [((0, 10),), ((0, 10),), ()]
    assert "2 boxes have character ranges outside" in caplog.text
    assert "first: annotation 4" in caplog.text


def test_what_is_written_is_read_back_equal(tmp_path: Path) -> None:
    dataset = load_grounding(write(tmp_path / "flickr.json"))
    save_grounding(tmp_path / "again.json", dataset)
    assert load_grounding(tmp_path / "again.json") == dataset
    save_grounding(tmp_path / "third.json", dataset)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "third.json").read_bytes()
    written = json.loads((tmp_path / "again.json").read_text())
    assert "score" not in written["annotations"][0]
    assert written["categories"] == [{"id": 1, "name": "object"}]
    assert written["images"][0]["height"] == 500


def detections(boxes: list[list[float]], labels: list[int]) -> Detections:
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, np.int64), ("a cat", "a dog")
    )


def test_detections_become_boxes_with_the_characters_of_their_phrases(tmp_path: Path) -> None:
    path = tmp_path / "grounding.json"
    with whole_file(path) as file, grounding_writer(file, {"description": "test"}) as writer:
        spans = [[(0, 5)], [(10, 15), (22, 25)]]
        writer.add(
            "b/one.jpg",
            (30, 40),
            "a cat and a dog , the dog",
            spans,
            detections([[1, 2, 11, 22], [0, 0, 5, 5]], [1, 0]),
        )
        writer.add("two.jpg", (50, 60), "a cat", [[(0, 5)]], detections([], []))
    dataset = load_grounding(path)
    assert dataset.images[0] == GroundingImage(
        1, "b/one.jpg", 40, 30, "a cat and a dog , the dog", original_img_id=1, tokens_negative=((0, 25),),
        tokens_positive_eval=(((0, 5),), ((10, 15), (22, 25))),
    )  # fmt: skip
    assert dataset.annotations == (
        GroundingAnnotation(1, 1, (1, 2, 10, 20), ((10, 15), (22, 25)), area=200, score=float(np.float32(0.9))),
        GroundingAnnotation(2, 1, (0, 0, 5, 5), ((0, 5),), area=25, score=0.5),
    )
    assert (dataset.images[1].id, dataset.boxes_by_caption()[2]) == (2, [])
    assert json.loads(path.read_text())["info"] == {"description": "test"}


def test_a_file_of_captions_is_readable_as_coco(tmp_path: Path) -> None:
    pycocotools = pytest.importorskip("pycocotools.coco")
    save_grounding(tmp_path / "g.json", load_grounding(write(tmp_path / "flickr.json")))
    coco = pycocotools.COCO(tmp_path / "g.json")
    assert coco.loadImgs([27])[0]["caption"] == FLICKR["caption"]
    assert coco.loadAnns(coco.getAnnIds(imgIds=[27]))[0]["tokens_positive"] == [[0, 10]]


def test_no_captions_make_a_file_too(tmp_path: Path) -> None:
    save_grounding(tmp_path / "empty.json", GroundingDataset((), ()))
    assert load_grounding(tmp_path / "empty.json") == GroundingDataset((), ())


def test_a_writer_that_fails_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "grounding.json"
    path.write_text("earlier")
    with pytest.raises(ZeroDivisionError), whole_file(path) as file, grounding_writer(file, {}) as writer:
        writer.add("a.jpg", (1, 1), "a cat", [[(0, 5)]], detections([], []))
        raise ZeroDivisionError
    assert path.read_text() == "earlier"
    assert [found.name for found in tmp_path.iterdir()] == ["grounding.json"]
    with pytest.raises(JobFailed, match="Cannot write"):
        save_grounding(path / "below_a_file.json", GroundingDataset((), ()))
