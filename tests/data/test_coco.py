"""COCO files: what is read back, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glip.data.coco import (
    CocoAnnotation,
    CocoCategory,
    CocoDataset,
    CocoImage,
    CocoResult,
    coco_writer,
    is_inside,
    load_coco,
    results_writer,
    save_coco,
)
from glip.errors import InputError

DATASET = CocoDataset(
    images=(CocoImage(4, "a.jpg", 640, 480), CocoImage(2, "sub/ü.jpg", 10, 20)),
    annotations=(
        CocoAnnotation(1, 4, 9, (1.5, 2.5, 30.25, 40.0), area=1210.0, score=0.75),
        CocoAnnotation(2, 4, 3, (0.0, 0.0, 0.0, 0.0)),
    ),
    categories=(CocoCategory(9, "dog"), CocoCategory(3, "hard hat")),
    info={"description": "two images"},
)


def good() -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480, "license": 3}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3, 4, 5, 6]]}
        ],
        "categories": [{"id": 1, "name": "dog", "supercategory": "animal"}],
    }


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_coco(tmp_path / "a.json", DATASET)
    assert load_coco(tmp_path / "a.json") == DATASET


def test_equal_data_gives_equal_bytes_and_nothing_else_is_left(tmp_path: Path) -> None:
    save_coco(tmp_path / "a.json", DATASET)
    save_coco(tmp_path / "b.json", load_coco(tmp_path / "a.json"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_marks_and_groups_of_published_files_are_kept(tmp_path: Path) -> None:
    content = good()
    content["annotations"][0] |= {"ignore": 1, "difficult": None}
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = load_coco(tmp_path / "a.json")
    save_coco(tmp_path / "b.json", dataset)
    assert load_coco(tmp_path / "b.json") == dataset
    assert dataset.annotations[0].is_ignored
    assert dataset.categories[0].supercategory == "animal"


@pytest.mark.parametrize(
    ("categories", "used", "group"),
    [
        ([(0, "all", "none"), (1, "cat", "all")], 1, 0),
        ([(0, "all", "none"), (1, "cat", "all")], 0, None),  # has a box, so it is a class
        ([(0, "all", "none"), (1, "cat", "animal")], 1, None),
        ([(0, "all", "none")], 0, None),
        ([(1, "cat", "all")], 1, None),
    ],
)
def test_roboflows_group_of_all_classes_is_recognized(
    categories: list[tuple[int, str, str]], used: int, group: int | None
) -> None:
    boxes = (CocoAnnotation(1, 1, used, (1, 2, 3, 4)),)
    dataset = CocoDataset((CocoImage(1, "a.jpg", 9, 9),), boxes, tuple(CocoCategory(*one) for one in categories))
    assert dataset.unused_group == group


def test_every_annotation_is_written_with_an_empty_segmentation(tmp_path: Path) -> None:
    save_coco(tmp_path / "a.json", DATASET)
    first, second = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert first["segmentation"] == second["segmentation"] == []
    assert set(first) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "score", "segmentation"}
    assert set(second) == {"id", "image_id", "category_id", "bbox", "iscrowd", "segmentation"}


def test_a_file_without_images_or_boxes_is_valid(tmp_path: Path) -> None:
    save_coco(tmp_path / "a.json", CocoDataset((), (), ()))
    assert load_coco(tmp_path / "a.json") == CocoDataset((), (), ())


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path: Path) -> None:
    from glip.files import whole_file

    save_coco(tmp_path / "a.json", DATASET)
    with (
        pytest.raises(ZeroDivisionError),
        whole_file(tmp_path / "a.json") as file,
        coco_writer(file, DATASET.categories, {}) as writer,
    ):
        writer.add_image(DATASET.images[0])
        raise ZeroDivisionError
    assert load_coco(tmp_path / "a.json") == DATASET
    assert len(list(tmp_path.iterdir())) == 1


def test_labels_count_categories_in_the_order_of_their_ids() -> None:
    assert DATASET.label_of_category == {3: 0, 9: 1}
    assert DATASET.names == ("hard hat", "dog")


def test_every_image_has_its_boxes_even_if_none() -> None:
    boxes = DATASET.boxes_by_image()
    assert {image: [box.id for box in found] for image, found in boxes.items()} == {4: [1, 2], 2: []}


def test_other_fields_of_published_files_do_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(good()))
    dataset = load_coco(tmp_path / "a.json")
    assert dataset.annotations[0].bbox == (1, 2, 3, 4)
    assert dataset.annotations[0].iscrowd == 0


def test_a_published_file_is_read_as_pycocotools_reads_it(real_data: Path) -> None:
    from pycocotools.coco import COCO

    path = real_data / "coco" / "annotations" / "instances_val2017.json"
    dataset = load_coco(path)
    with redirect_stdout(StringIO()):
        theirs = COCO(str(path))
    assert len(dataset.categories) == 80
    assert {image.id: image.file_name for image in dataset.images} == {
        id: image["file_name"] for id, image in theirs.imgs.items()
    }
    assert {box.id: (list(box.bbox), box.category_id, box.iscrowd, box.area) for box in dataset.annotations} == {
        id: (box["bbox"], box["category_id"], box["iscrowd"], box["area"]) for id, box in theirs.anns.items()
    }


def test_pycocotools_reads_what_is_saved(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    save_coco(tmp_path / "a.json", DATASET)
    with redirect_stdout(StringIO()):
        theirs = COCO(str(tmp_path / "a.json"))
    assert sorted(theirs.getImgIds()) == [2, 4]
    assert theirs.loadAnns(theirs.getAnnIds(imgIds=[4], catIds=[9]))[0]["bbox"] == [1.5, 2.5, 30.25, 40.0]


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "'images'"),
        (lambda d: d.pop("categories"), "'categories'"),
        (lambda d: d["images"][0].pop("width"), "0 × 480"),
        (lambda d: d["images"][0].update(id="one"), r"images\[0\].*'one'"),
        (lambda d: d["images"][0].update(id=True), r"images\[0\].*True"),
        (lambda d: d["images"][0].update(id=2**64), r"images\[0\].*18446744073709551616"),
        (lambda d: d["annotations"][0].update(image_id=1.5), r"annotations\[0\].*1\.5"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), r"annotations\[0\].*bbox.*\[1, 2, 3\]"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, None, 4]), r"annotations\[0\].*bbox.*None"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, 1e12]), r"annotations\[0\].*1000000000000"),
        (lambda d: d["images"][0].update(width=2_000_000), r"images\[0\].*2000000"),
        (lambda d: d["categories"][0].update(name=True), r"categories\[0\].*True"),
        (lambda d: d["images"].append(d["images"][0] | {"file_name": "b.jpg"}), "image id 1"),
        (lambda d: d["images"].append(d["images"][0] | {"id": 2}), "file_name 'a.jpg'"),
        (lambda d: d["annotations"].append(d["annotations"][0]), "annotation id 1"),
        (lambda d: d["categories"].append(d["categories"][0]), "category id 1"),
        (lambda d: d["annotations"][0].update(image_id=5), "annotation 1 .*image 5"),
        (lambda d: d["annotations"][0].update(category_id=5), "annotation 1 .*category 5"),
        (
            lambda d: d["annotations"][0].update(bbox=[1, 2, -3, 4]),
            r"annotation 1 .*\[1.0, 2.0, -3.0",
        ),
        (lambda d: d["annotations"][0].update(bbox=[1, math.nan, 3, 4]), "NaN"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, math.inf, 4]), "Infinity"),
        (lambda d: d["images"][0].update(width=0), "image 1 .*0 × 480"),
        (lambda d: d["images"][0].update(file_name="../a.jpg"), "'../a.jpg' of image 1"),
        (lambda d: d["images"][0].update(file_name="/etc/passwd"), "'/etc/passwd' of image 1"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    content = good()
    change(content)
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        load_coco(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(caught.value)


def test_letters_of_another_encoding_are_refused(tmp_path: Path) -> None:
    content = good()
    content["images"][0]["file_name"] = "café.jpg"
    (tmp_path / "a.json").write_bytes(json.dumps(content, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(InputError, match=r"b'\\xe9'"):
        load_coco(tmp_path / "a.json")


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    (tmp_path / "a.json").write_text(json.dumps(good())[:cut])
    with pytest.raises(InputError, match=r"a\.json"):
        load_coco(tmp_path / "a.json")


def test_another_json_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"a\.json.*'array'"):
        load_coco(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json"):
        load_coco(tmp_path / "b.json")


@pytest.mark.parametrize("name", ["a.jpg", "b/c d.jpg", "..jpg", "a..b/c", "-x", "ü", "a/./b"])
def test_paths_below_the_folder_are_accepted(name: str) -> None:
    assert is_inside(name)


@pytest.mark.parametrize(
    "name", ["", "..", "../a", "a/../../b", "/a", "C:\\a", "\\\\host\\a", "a\\..\\..\\b", "c:a", "a\0b"]
)
def test_paths_out_of_the_folder_are_not(name: str) -> None:
    assert not is_inside(name)


RESULTS = [CocoResult(4, 9, (1.0, 2.0, 3.0, 4.0), 0.5), CocoResult(2, 3, (0.5, 0.25, 1.0, 1.0), 0.125)]


@pytest.mark.parametrize("results", [[], RESULTS[:1], RESULTS])
def test_results_are_a_list_of_entries(tmp_path: Path, results: list[CocoResult]) -> None:
    with (tmp_path / "r.json").open("wb") as file, results_writer(file) as add:
        for result in results:
            add(result)
    assert msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=list[CocoResult]) == results
