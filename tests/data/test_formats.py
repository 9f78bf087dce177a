"""Annotations that are no COCO files: values in pixels, what is skipped, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.data.coco_folders import read_own
from glip.data.coco_reading import CocoFile
from glip.data.formats import read_annotated
from glip.errors import InputError


def image(path: Path, size: tuple[int, int] = (200, 100)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def boxes(file: CocoFile) -> list[tuple[str, list[float]]]:
    """Returns class and xyxy of each box, rounded."""
    names = {category.id: category.name for category in file.dataset.categories}
    found = [(names[box.category_id], box.bbox) for box in file.dataset.annotations]
    return [(name, [round(n, 3) for n in (x, y, x + w, y + h)]) for name, (x, y, w, h) in found]


def skipped(file: CocoFile) -> dict[str, int]:
    return {entry.kind: entry.count for entry in file.left_out}


# YOLO -----------------------------------------------------------------------------------------------------------------


def yolo(folder: Path, lines: str, data: str = "train: images\nval: images\nnames: {0: cat, 1: dog}\n") -> Path:
    image(folder / "images/a.png")
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "labels/a.txt").write_text(lines)
    (folder / "data.yaml").write_text(data)
    return folder / "data.yaml"


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("1 0.5 0.5 0.5 0.5", [50, 25, 150, 75]),
        ("1 0.5 0.5 0.5 0.5 0.9", [50, 25, 150, 75]),
        ("1.0 0.5 0.5 5e-1 0.5", [50, 25, 150, 75]),
        ("1 0.1 0.1 0.5 0.2 0.3 0.6", [20, 10, 100, 60]),
        ("1 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6", [20, 10, 100, 60]),
    ],
)
def test_yolo_lines_become_boxes_in_pixels(tmp_path: Path, line: str, box: list[float]) -> None:
    assert boxes(read_own(yolo(tmp_path, line))) == [("dog", box)]


def test_yolo_poses_are_their_boxes(tmp_path: Path) -> None:
    data = "train: images\nnames: [cat, dog]\nkpt_shape: [1, 3]\n"
    assert boxes(read_own(yolo(tmp_path, "0 0.5 0.5 0.5 0.5 0.4 0.4 2", data))) == [("cat", [50, 25, 150, 75])]


@pytest.mark.parametrize(
    "entry", ["images", "./images", "../images", "images/", "C:\\x\\images", "/data/set/images", "[images]", "list.txt"]
)
def test_yolo_paths_are_found_in_the_folder_of_the_file(tmp_path: Path, entry: str) -> None:
    (tmp_path / "list.txt").write_text("./images/a.png\n/elsewhere/images/b.png\n")
    image(tmp_path / "images/b.png")
    path = yolo(tmp_path, "0 0.5 0.5 1 1", f"path: ../set\ntrain: {entry}\nnames: [cat, dog]\n")
    file = read_own(path)
    assert len(file.dataset.images) == 2
    assert skipped(file) == {"images_without_label_file": 1}


def test_yolo_never_reads_outside_of_its_folder(tmp_path: Path) -> None:
    image(tmp_path / "secret/a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/data.yaml").write_text("train: ../secret\nnames: [cat]\n")
    with pytest.raises(InputError, match=re.escape("../secret")):
        read_own(tmp_path / "set/data.yaml")


@pytest.mark.parametrize(
    "line", ["2 0.5 0.5 1 1", "-1 0.5 0.5 1 1", "cat 0.5 0.5 1 1", "0 50 50 10 10", "0 nan 0.5 1 1", "0 0.5 0.5", "0"]
)
def test_yolo_lines_that_are_no_boxes_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=re.escape("a.txt, line 2")):
        read_own(yolo(tmp_path, f"0 0.5 0.5 1 1\n{line}\n"))


# VOC ------------------------------------------------------------------------------------------------------------------

VOC = (
    "<annotation><folder>x</folder><filename>{name}</filename>{size}<object><name>dog</name>"
    "<difficult>1</difficult><bndbox><xmin>1</xmin><ymin>11</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>"
    "</annotation>"
)


@pytest.mark.parametrize("name", ["a.png", "C:\\data\\a.png", "/x/a.png", "A.PNG", "", "../../a.png"])
def test_voc_folders_are_read(tmp_path: Path, name: str) -> None:
    image(tmp_path / "JPEGImages/a.png")
    if not name:
        image(tmp_path / "JPEGImages/a.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/a.xml").write_text(VOC.format(name=name, size=""))
    file = read_own(tmp_path)
    assert boxes(file) == [("dog", [0, 10, 20, 30])]
    (found,) = file.dataset.images
    assert (found.file_name.rpartition(".")[0], found.width, found.height) == ("a", 200, 100)
    assert file.dataset.annotations[0].is_ignored


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>',
        "<annotation>",
        "",
        "<annotation><object><bndbox><xmin>nan</xmin></bndbox></object></annotation>",
        "<annotation><size><width>x</width></size></annotation>",
    ],
)
def test_damaged_and_hostile_xml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InputError, match=re.escape("a.xml")):
        read_annotated(tmp_path)


# LabelMe --------------------------------------------------------------------------------------------------------------


def shape(kind: str | None, points: list[list[float]], label: Any = "dog", group: Any = None) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": group, "flags": {}}


def labelme(folder: Path, *shapes: dict[str, Any], **changes: Any) -> Path:
    image(folder / "a.png")
    content = {"imagePath": "..\\x\\a.png", "imageData": "abc", "imageWidth": None, "imageHeight": None}
    (folder / "a.json").write_text(json.dumps({**content, "shapes": list(shapes), **changes}))
    return folder


@pytest.mark.parametrize(
    ("one", "box"),
    [
        (shape("rectangle", [[30, 40], [10, 20]]), [10, 20, 30, 40]),
        (shape("polygon", [[10, 20], [30, 25], [20, 40]]), [10, 20, 30, 40]),
        (shape("circle", [[50, 50], [53, 54]]), [45, 45, 55, 55]),
        (shape(None, [[10, 20], [30, 25], [20, 40]]), [10, 20, 30, 40]),
    ],
)
def test_labelme_shapes_become_boxes(tmp_path: Path, one: dict[str, Any], box: list[float]) -> None:
    file = read_own(labelme(tmp_path, one))
    assert boxes(file) == [("dog", box)]
    assert (file.dataset.images[0].file_name, file.dataset.images[0].width) == ("a.png", 200)


def test_labelme_groups_are_one_object_and_points_are_counted(tmp_path: Path) -> None:
    parts = [shape("rectangle", [[0, 0], [5, 5]], group=1), shape("rectangle", [[20, 20], [30, 30]], group=1)]
    file = read_own(labelme(tmp_path, *parts, shape("point", [[1, 1]]), shape("line", [[1, 1], [2, 2]])))
    assert boxes(file) == [("dog", [0, 0, 30, 30])]
    assert skipped(file) == {"shapes_without_box": 2}


@pytest.mark.parametrize("bad", [{"shapes": None}, {"shapes": [{"points": [["a", 1]]}]}, {"shapes": [{"points": 3}]}])
def test_damaged_labelme_files_are_refused(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=re.escape("a.json")):
        read_annotated(labelme(tmp_path, **bad))


# Label Studio ---------------------------------------------------------------------------------------------------------


def region(**value: Any) -> dict[str, Any]:
    kind = value.pop("type", "rectanglelabels")
    labels = {} if kind.startswith("brush") else {kind: ["dog"]}
    return {"id": "r", "type": kind, "original_width": 200, "original_height": 100, "value": {**value, **labels}}


def task(*regions: dict[str, Any], name: str = "/data/upload/1/0a1b2c3d-a.png", **changes: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": name}, "annotations": [{"result": list(regions)}], **changes}


def labelstudio(folder: Path, *tasks: Any) -> Path:
    image(folder / "images/a.png")
    (folder / "export.json").write_text(json.dumps(list(tasks)))
    return folder / "export.json"


@pytest.mark.parametrize(
    ("one", "box"),
    [
        (region(x=10, y=20, width=30, height=40), [20, 20, 80, 60]),
        (region(x=10, y=20, width=30, height=40, rotation=0.0), [20, 20, 80, 60]),
        (region(x=50, y=50, width=10, height=10, rotation=90), [90, 50, 100, 70]),
        (region(x=50, y=50, radiusX=10, radiusY=20, type="ellipselabels"), [80, 30, 120, 70]),
        (region(points=[[10, 20], [30, 25], [20, 40]], type="polygonlabels"), [20, 20, 60, 40]),
    ],
)
def test_labelstudio_regions_become_boxes_in_pixels(tmp_path: Path, one: dict[str, Any], box: list[float]) -> None:
    file = read_own(labelstudio(tmp_path, task(one)))
    assert boxes(file) == [("dog", box)]
    assert file.dataset.images[0].file_name == "a.png"


@pytest.mark.parametrize(
    "name", ["a.png", "/data/local-files/?d=images/a.png", "s3://b/c/a.png", "http://h/x/a.png?token=1", "..\\a.png"]
)
def test_labelstudio_addresses_are_the_files_that_they_mean(tmp_path: Path, name: str) -> None:
    file = read_own(labelstudio(tmp_path, task(name=name)))
    assert file.dataset.images[0].file_name in ("a.png", "images/a.png")
    assert file.dataset.images[0].width == 200


def test_labelstudio_counts_what_it_does_not_read(tmp_path: Path) -> None:
    box = region(x=0, y=0, width=10, height=10)
    several = task(box, name="b.png", annotations=[{"result": []}, {"result": [box], "ground_truth": True}])
    tasks = [task(box, region(type="brushlabels", rle=[1])), several, task(name="c.png", annotations=[])]
    cancelled = task(name="d.png", annotations=[{"result": [box], "was_cancelled": True}])
    image(tmp_path / "images/b.png")
    file = read_own(labelstudio(tmp_path, *tasks, cancelled))
    assert len(boxes(file)) == 2
    assert skipped(file) == {"brush_masks": 1, "tasks_without_annotation": 2}


def test_labelstudio_json_min_is_read(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "label": [{"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["dog"]}]}]
    assert boxes(read_own(labelstudio(tmp_path, *rows))) == [("dog", [0, 0, 100, 50])]


@pytest.mark.parametrize(
    "bad", [3, {}, task(region(x="a", y=0, width=1, height=1)), task(region(points=3, type="polygonlabels"))]
)
def test_damaged_exports_are_refused(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(InputError, match=re.escape("export.json")):
        read_own(labelstudio(tmp_path, bad))
