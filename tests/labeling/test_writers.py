"""Every output format, read back by somebody else's reader."""

from __future__ import annotations

import csv
import errno
import json
import re
import xml.etree.ElementTree as ET
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from PIL import Image

from glip.data.coco import CocoResult, load_coco
from glip.errors import InputError, JobFailed
from glip.labeling.filtering import ExportSettings
from glip.labeling.records import Record, read_records
from glip.labeling.writers.images import split_suffix
from glip.labeling.writers.yolo import image_name
from tests.labeling.runs import BOX_FORMATS, LOW, NAMES, READABLE, RECORDS, a_record, contents, write, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "labels", RECORDS)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The images that the records are about, all black."""
    for record in READABLE:
        path = tmp_path / "photos" / record.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (record.width, record.height)).save(path)
    return tmp_path / "photos"


def cut(record: Record) -> np.ndarray[Any, Any]:
    """The recorded boxes, cut at the image's edge."""
    limit = np.array([record.width, record.height] * 2)
    return np.clip(record.detections(NAMES).boxes.astype(float), 0, limit)


# ---- COCO


def test_coco_is_what_pycocotools_and_our_own_reader_expect(run: Path) -> None:
    from pycocotools.coco import COCO

    path = write(run, "coco") / "annotations.coco.json"
    with redirect_stdout(StringIO()):
        theirs = COCO(str(path))
    listed = [record for record in read_records(run) if record.error is None]
    assert theirs.getImgIds() == [1, 2, 3, 4, 5]
    assert [theirs.imgs[id]["file_name"] for id in range(1, 6)] == [record.file_name for record in listed]
    assert [(theirs.imgs[id]["width"], theirs.imgs[id]["height"]) for id in range(1, 6)] == [
        (record.width, record.height) for record in listed
    ]
    assert theirs.getAnnIds() == list(range(1, 9))
    assert [category["name"] for category in theirs.loadCats([1, 2, 3])] == list(NAMES)
    assert load_coco(path).names == NAMES


def test_coco_boxes_are_the_recorded_numbers_to_the_last_bit(run: Path) -> None:
    content = json.loads((write(run, "coco") / "annotations.coco.json").read_text())
    image = next(image for image in content["images"] if image["file_name"] == "a.jpg")
    rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
    found = RECORDS[0].detections(NAMES)
    for row, box, score, label in zip(rows, found.boxes, found.scores, found.labels, strict=True):
        left, top, width, height = row["bbox"]
        assert [left, top, left + width, top + height] == box.astype(float).tolist()
        assert row["score"] == float(score)
        assert row["category_id"] == label + 1
        assert row["area"] == width * height
        assert row["iscrowd"] == 0
        assert row["segmentation"] == []


def test_coco_widths_are_not_rounded_to_float32(tmp_path: Path) -> None:
    run = write_run(tmp_path, [a_record("a.jpg", [[0.1, 0.3, 200.7, 333.3]], [0.9], [0])])
    box = load_coco(write(run, "coco") / "annotations.coco.json").annotations[0].bbox
    assert [np.float32(0.1), np.float32(0.3)] == [box[0], box[1]]
    assert [float(np.float32(200.7)), float(np.float32(333.3))] == [box[0] + box[2], box[1] + box[3]]


def test_coco_boxes_are_not_cut_at_the_edge(run: Path) -> None:
    content = json.loads((write(run, "coco") / "annotations.coco.json").read_text())
    assert [-3.5, -2.0, 653.5, 492.0] in [row["bbox"] for row in content["annotations"]]


def test_coco_says_where_its_boxes_come_from_and_never_when(run: Path) -> None:
    settings = ExportSettings(conf=0.4, class_conf={"dog": 0.5}, nms="agnostic", iou=0.5, max_det=7)
    info = json.loads((write(run, "coco", settings=settings) / "annotations.coco.json").read_text())["info"]
    assert info["glip"] == {
        "glip": "1.2.3",
        "model": "glip-t",
        "model_sha256": "ab" * 32,
        "captions": ["person. dog. traffic light"],
        "precision": "fp32",
        "imgsz": 800,
        "record": "detections",
        "floor": 0.05,
        "conf": 0.4,
        "class_conf": {"dog": 0.5},
        "nms": "agnostic",
        "iou": 0.5,
        "max_det": 7,
    }


def test_results_name_the_same_images_and_boxes(run: Path) -> None:
    out = write(run, "coco", "coco-results")
    dataset = load_coco(out / "annotations.coco.json")
    results = msgspec.json.decode((out / "results.coco.json").read_bytes(), type=list[CocoResult])
    assert [(r.image_id, r.category_id, r.bbox, r.score) for r in results] == [
        (a.image_id, a.category_id, a.bbox, a.score) for a in dataset.annotations
    ]


def test_pycocotools_scores_the_results_against_the_file(run: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    out = write(run, "coco", "coco-results")
    with redirect_stdout(StringIO()):
        truth = COCO(str(out / "annotations.coco.json"))
        score = COCOeval(truth, truth.loadRes(str(out / "results.coco.json")), "bbox")
        score.evaluate()
        score.accumulate()
        score.summarize()
    assert score.stats[0] == pytest.approx(1.0)


def test_supervision_reads_coco(run: Path, photos: Path) -> None:
    import supervision as sv

    path = write(run, "coco") / "annotations.coco.json"
    dataset = sv.DetectionDataset.from_coco(str(photos), str(path))
    assert dataset.classes == list(NAMES)
    for record in READABLE:
        theirs = dataset.annotations[str((photos / record.file_name).resolve())]
        np.testing.assert_allclose(theirs.xyxy, record.detections(NAMES).boxes, atol=1e-4)
        assert theirs.class_id.tolist() == list(record.labels)


# ---- YOLO


def test_supervision_reads_yolo_folder_by_folder(run: Path, photos: Path) -> None:
    import supervision as sv

    yolo = write(run, "yolo") / "yolo"
    for part in ("", "sub"):
        dataset = sv.DetectionDataset.from_yolo(
            str(photos / part), str(yolo / "labels" / part), str(yolo / "data.yaml")
        )
        assert dataset.classes == list(NAMES)
        records = [record for record in READABLE if record.file_name.rpartition("/")[0] == part]
        assert len(dataset.annotations) == len(records)
        for record in records:
            theirs = dataset.annotations[str(photos / record.file_name)]
            np.testing.assert_allclose(theirs.xyxy, cut(record), atol=1e-3)
            assert theirs.class_id.tolist() == list(record.labels)


def test_yolo_files_lie_where_ultralytics_looks_for_them(run: Path) -> None:
    yolo = write(run, "yolo") / "yolo"
    written = {path.relative_to(yolo).as_posix() for path in yolo.rglob("*.txt")}
    assert written == {f"labels/{record.file_name.rpartition('.')[0]}.txt" for record in READABLE}
    data = yaml.safe_load((yolo / "data.yaml").read_text(encoding="utf-8"))
    assert data == {"train": "images", "val": "images", "names": dict(enumerate(NAMES))}


def test_yolo_has_an_empty_file_for_an_empty_image(run: Path) -> None:
    assert (write(run, "yolo") / "yolo" / "labels" / "sub" / "empty.txt").read_bytes() == b""


def test_yolo_rows_satisfy_the_checks_of_training(run: Path) -> None:
    for path in (write(run, "yolo") / "yolo" / "labels").rglob("*.txt"):
        for row in path.read_text().splitlines():
            label, *numbers = row.split(" ")
            assert label in {"0", "1", "2"}
            assert len(numbers) == 4
            assert all(0 <= float(number) <= 1 for number in numbers)


def test_yolo_names_never_belong_to_other_labels(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    yolo = write(run, "yolo") / "yolo"
    monkeypatch.setattr(yaml, "safe_dump", fail)
    with pytest.raises(JobFailed):
        write(run, "yolo", settings=ExportSettings(conf=0.9))
    assert not (yolo / "data.yaml").exists()


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("a.jpg", "a.txt"),
        ("a/b.c.png", "a/b.c.txt"),
        ("images/a.jpg", "a.txt"),
        ("train/images/a.jpg", "train/a.txt"),
        ("my images/a.jpg", "my images/a.txt"),
    ],
)
def test_the_label_path_follows_the_rule_of_ultralytics(name: str, label: str) -> None:
    placed = image_name(name)
    assert f"{split_suffix(placed)[0]}.txt" == label
    image = f"/data/images/{placed}"
    assert "/labels/".join(image.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt" == f"/data/labels/{label}"


@pytest.mark.parametrize("kind", ["yolo", "voc", "labelme"])
def test_two_images_that_differ_in_their_suffix_only_are_refused(tmp_path: Path, kind: str) -> None:
    run = write_run(tmp_path, [a_record("sub/a.jpg"), a_record("sub/a.png"), a_record("a.jpg")])
    with pytest.raises(InputError, match=r"'sub/a\.\w+'.*'sub/a\.png'"):
        write(run, kind)
    assert contents(run / "out") == {}
    write(run, *(set(BOX_FORMATS) - {"yolo", "voc", "labelme"}))


@pytest.mark.parametrize("kind", ["yolo", "voc", "labelme"])
@pytest.mark.parametrize("name", ["../a.jpg", "/tmp/a.jpg"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    run = write_run(tmp_path / "x" / "y", [a_record(name)])
    with pytest.raises(InputError, match=re.escape(repr(name))):
        write(run, kind)
    assert contents(run / "out") == {}


# ---- Pascal VOC


def test_supervision_reads_voc_folder_by_folder(run: Path, photos: Path) -> None:
    import supervision as sv

    voc = write(run, "voc") / "voc" / "Annotations"
    for part in ("", "sub"):
        dataset = sv.DetectionDataset.from_pascal_voc(str(photos / part), str(voc / part))
        for record in (record for record in READABLE if record.file_name.rpartition("/")[0] == part):
            theirs = dataset.annotations[str(photos / record.file_name)]
            np.testing.assert_allclose(theirs.xyxy, cut(record), atol=0.5)
            assert [dataset.classes[index] for index in theirs.class_id] == [NAMES[label] for label in record.labels]


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0, 0, 10, 10), (1, 1, 10, 10)),
        ((0.5, 0.49, 9.5, 9.49), (2, 1, 10, 9)),
        ((3.2, 3.2, 3.4, 3.4), (4, 4, 4, 4)),
        ((-5, -5, 900, 900), (1, 1, 640, 480)),
        ((639.9, 479.9, 640, 480), (640, 480, 640, 480)),
    ],
)
def test_voc_counts_pixels_from_one_and_includes_the_last(tmp_path: Path, box: list[float], pixels: list[int]) -> None:
    run = write_run(tmp_path, [a_record("a.jpg", [box], [0.9], [0])])
    bounds = ET.parse(write(run, "voc") / "voc" / "Annotations" / "a.xml").find("object/bndbox")
    assert bounds is not None
    assert tuple(int(edge.text or "") for edge in bounds) == tuple(pixels)


def test_voc_carries_names_scores_and_sizes(run: Path) -> None:
    voc = write(run, "voc") / "voc" / "Annotations"
    document = ET.parse(voc / "sub" / "a.xml")
    assert document.findtext("folder") == ""
    assert document.findtext("filename") == "sub/a.jpg"
    assert document.findtext("object/name") == "traffic light"
    assert document.findtext("object/score") == "0.8"
    assert [document.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["640", "480", "3"]
    assert ET.parse(voc / 'ünï "quoted", & <b>.xml').findtext("filename") == 'ünï "quoted", & <b>.jpg'


# ---- Label Studio


class Value(msgspec.Struct, forbid_unknown_fields=True):
    x: float
    y: float
    width: float
    height: float
    rotation: float
    rectanglelabels: list[str]


class Region(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    from_name: str
    to_name: str
    type: str
    original_width: int
    original_height: int
    image_rotation: float
    score: float
    value: Value


class Prediction(msgspec.Struct, forbid_unknown_fields=True):
    model_version: str
    result: list[Region]
    score: float | None = None


class Task(msgspec.Struct, forbid_unknown_fields=True):
    data: dict[str, str]
    predictions: list[Prediction]


def tasks_of(run: Path, settings: ExportSettings = LOW) -> list[Task]:
    path = write(run, "labelstudio", settings=settings) / "labelstudio" / "tasks.json"
    return msgspec.json.decode(path.read_bytes(), type=list[Task])


def test_label_studio_tasks_follow_the_documented_form(run: Path) -> None:
    tasks = {task.data["image"]: task.predictions[0] for task in tasks_of(run)}
    assert tasks.keys() == {record.file_name for record in READABLE}
    for record in READABLE:
        prediction = tasks[record.file_name]
        assert prediction.model_version == "glip-t"
        assert prediction.score == (min(record.scores) if record.scores else None) or record.scores
        for region, box, label in zip(prediction.result, cut(record), record.labels, strict=True):
            value = region.value
            edges = np.array([value.x, value.y, value.x + value.width, value.y + value.height]) / 100
            np.testing.assert_allclose(edges * ([record.width, record.height] * 2), box, atol=1e-6)
            assert 0 <= edges.min() <= edges.max() <= 1 + 1e-12
            assert value.rectanglelabels == [NAMES[label]]
            assert (region.original_width, region.original_height) == (record.width, record.height)
            assert region.type == "rectanglelabels"


def test_a_label_studio_task_is_as_sure_as_its_least_sure_box(run: Path) -> None:
    scores = {task.data["image"]: task.predictions[0].score for task in tasks_of(run)}
    assert scores["a.jpg"] == pytest.approx(0.31)
    assert scores["sub/empty.png"] is None


def test_label_studio_regions_are_told_apart(run: Path) -> None:
    ids = [region.id for task in tasks_of(run) for region in task.predictions[0].result]
    assert len(set(ids)) == len(ids) == 8


def test_label_studio_regions_belong_to_the_interface_that_comes_with_them(run: Path) -> None:
    interface = ET.parse(write(run, "labelstudio") / "labelstudio" / "config.xml").getroot()
    image, labels = interface.find("Image"), interface.find("RectangleLabels")
    assert image is not None
    assert labels is not None
    assert image.attrib == {"name": "image", "value": "$image"}
    assert labels.attrib == {"name": "label", "toName": "image"}
    assert [label.get("value") for label in labels] == list(NAMES)
    regions = [region for task in tasks_of(run) for region in task.predictions[0].result]
    assert {(region.from_name, region.to_name) for region in regions} == {("label", "image")}


def test_an_address_before_image_names_makes_them_part_of_it(run: Path) -> None:
    prefix = "/data/local-files/?d=photos/"
    images = {task.data["image"] for task in tasks_of(run, ExportSettings(image_prefix=prefix))}
    assert prefix + "sub/a.jpg" in images
    assert prefix + "%C3%BCn%C3%AF%20%22quoted%22%2C%20%26%20%3Cb%3E.jpg" in images


# ---- CVAT


def test_cvat_follows_the_documented_form(run: Path) -> None:
    root = ET.parse(write(run, "cvat") / "annotations.cvat.xml").getroot()
    assert root.tag == "annotations"
    assert root.findtext("version") == "1.1"
    labels = root.findall("meta/task/labels/label")
    assert [label.findtext("name") for label in labels] == list(NAMES)
    assert all(label.findtext("attributes/attribute/name") == "score" for label in labels)
    assert all(label.findtext("attributes/attribute/input_type") == "text" for label in labels)
    images = root.findall("image")
    assert [int(image.attrib["id"]) for image in images] == [0, 1, 2, 3, 4]
    by_name = {image.attrib["name"]: image for image in images}
    assert by_name.keys() == {record.file_name for record in READABLE}
    for record in READABLE:
        image = by_name[record.file_name]
        assert (int(image.attrib["width"]), int(image.attrib["height"])) == (record.width, record.height)
        for element, box, label, score in zip(image, cut(record), record.labels, record.scores, strict=True):
            assert element.tag == "box"
            edges = [float(element.attrib[edge]) for edge in ("xtl", "ytl", "xbr", "ybr")]
            np.testing.assert_allclose(edges, box, atol=6e-4)
            assert element.attrib["label"] == NAMES[label]
            assert element.attrib["occluded"] == "0"
            assert float(element.findtext("attribute[@name='score']") or "") == pytest.approx(score)


@pytest.mark.parametrize("kind", ["voc", "cvat"])
def test_what_xml_cannot_carry_is_refused(tmp_path: Path, kind: str) -> None:
    run = write_run(tmp_path, [a_record("bell\a.jpg")])
    with pytest.raises(InputError, match=r"'bell\\x07.jpg'"):
        write(run, kind)
    assert contents(run / "out") == {}


def test_line_breaks_in_names_survive_xml(tmp_path: Path) -> None:
    run = write_run(tmp_path, [a_record("a\r\n\tb.jpg")])
    out = write(run, "cvat", "voc")
    image = ET.parse(out / "annotations.cvat.xml").find("image")
    assert image is not None
    assert image.attrib["name"] == "a\r\n\tb.jpg"
    assert ET.parse(out / "voc" / "Annotations" / "a\r\n\tb.xml").findtext("filename") == "a\r\n\tb.jpg"


# ---- CSV


def rows_of(run: Path) -> list[dict[str, str]]:
    with (write(run, "csv") / "annotations.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_class_name_never_runs_as_a_formula(tmp_path: Path) -> None:
    run = write_run(tmp_path, [a_record("a.jpg", [[0, 0, 9, 9]], [0.9], [0])], names=('=HYPERLINK("http://x")',))
    assert [row["label"] for row in rows_of(run)] == ['\'=HYPERLINK("http://x")']


def test_csv_gives_back_names_and_the_very_numbers(run: Path) -> None:
    rows = rows_of(run)
    for record in READABLE:
        mine = [row for row in rows if Path(row["file_name"]) == Path(record.file_name)]
        assert all((int(row["width"]), int(row["height"])) == (record.width, record.height) for row in mine)
        if not record.scores:
            assert [list(row.values())[3:] for row in mine] == [[""] * 6]
            continue
        found = record.detections(NAMES)
        assert [row["label"] for row in mine] == [NAMES[label] for label in record.labels]
        assert [np.float32(row["score"]) for row in mine] == found.scores.tolist()
        assert [[np.float32(row[edge]) for edge in ("x1", "y1", "x2", "y2")] for row in mine] == found.boxes.tolist()


def test_an_image_cannot_run_a_formula_in_a_spreadsheet(run: Path) -> None:
    names = {row["file_name"] for row in rows_of(run)}
    assert "./=cmd.jpg" in names
    assert not any(name.startswith(("=", "+", "-", "@", "\t", "\r")) for name in names)
