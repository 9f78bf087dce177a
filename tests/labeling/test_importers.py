"""Our exports in the importers of other tools: `pip install 'glip[importers]'`, then `pytest -m importers`.

Each tool runs in a process of its own: several change global settings of the libraries that others use.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glip.labeling.filtering import ExportSettings
from glip.labeling.splitting import Split
from tests.labeling.runs import NAMES, LabelledFolder, write
from tests.review.conftest import database_uri

__all__ = ["database_uri"]

pytestmark = pytest.mark.importers

FILES = ["a.jpg", "b.png", "day 1/a.jpg", "10.jpg", "2.jpg", "a b#%é.jpg", "A.jpg", "z.JPG"]
THIRDS = Split((0.5, 0.25, 0.25))


@pytest.fixture
def folder(tmp_path: Path) -> LabelledFolder:
    return LabelledFolder(tmp_path, FILES, labels=(0, 1, 2))


def flat(folder: LabelledFolder) -> LabelledFolder:
    """The same without sub-folders and PNG files, which some readers do not know."""
    return LabelledFolder(folder.run.parent / "flat", ["a.jpg", "b.jpg", "10.jpg", "a b#%é.jpg"], labels=(0, 1, 2))


def run_in(package: str, script: str, *words: object, environment: dict[str, str] | None = None) -> Any:
    """Runs a script that prints JSON as its last line, if the package is there."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def expected(folder: LabelledFolder) -> dict[str, tuple[str, list[float]]]:
    """Label and xyxy of the one box of each image, by the image's bytes in hex."""
    boxes = {}
    for index, path in enumerate(folder.images.values()):
        boxes[path.read_bytes().hex()] = (NAMES[index % 3], [1.0, 2.0, 20.0 + index, 30.0 + index])
    return boxes


def assert_found(folder: LabelledFolder, found: list[list[Any]], atol: float = 0.02) -> None:
    """Compares rows of image path, label and xyxy with the records."""
    truth = expected(folder)
    assert len(found) == len(truth)
    for path, label, box in found:
        wanted, edges = truth.pop(Path(path).read_bytes().hex())
        assert label == wanted
        np.testing.assert_allclose(box, edges, atol=atol)


# ---- datumaro, which CVAT imports with

DATUMARO = """
import json, sys
import datumaro as dm
dataset = dm.Dataset.import_from(sys.argv[1], sys.argv[2])
names = [label.name for label in dataset.categories()[dm.AnnotationType.label]]
rows, subsets = [], {}
for item in dataset:
    subsets[item.subset] = subsets.get(item.subset, 0) + 1
    for box in item.annotations:
        if box.type == dm.AnnotationType.bbox:
            rows.append([item.media.path, names[box.label], box.points])
print(json.dumps([rows, subsets]))
"""


def test_datumaro_reads_voc(folder: LabelledFolder) -> None:
    folder.export("voc")
    rows, subsets = run_in("datumaro", DATUMARO, folder.out / "voc", "voc")
    assert subsets == {"default": len(FILES)}
    assert_found(folder, rows, atol=1.01)  # whole pixels, counted from 1


def test_datumaro_reads_a_split_voc(folder: LabelledFolder) -> None:
    folder.export("voc", split=THIRDS)
    _, subsets = run_in("datumaro", DATUMARO, folder.out / "voc", "voc")
    assert subsets == {"train": 4, "val": 2, "test": 2}


def test_datumaro_reads_yolo(folder: LabelledFolder) -> None:
    folder = flat(folder)
    folder.export("yolo", split=Split((0.75, 0.25)))
    rows, subsets = run_in("datumaro", DATUMARO, folder.out / "yolo", "yolo")
    assert subsets == {"train": 3, "val": 1}
    assert_found(folder, rows)


def test_datumaro_reads_coco(folder: LabelledFolder) -> None:
    folder.export("coco")
    (folder.out / "annotations").mkdir()
    (folder.out / "annotations.coco.json").rename(folder.out / "annotations" / "instances_default.json")
    (folder.out / "images").mkdir()
    (folder.out / "images" / "default").symlink_to(folder.images["a.jpg"].parent)
    rows, _ = run_in("datumaro", DATUMARO, folder.out, "coco_instances")
    assert_found(folder, rows)


def test_datumaro_reads_roboflows_layout(folder: LabelledFolder) -> None:
    folder.export("coco", split=THIRDS)
    rows, subsets = run_in("datumaro", DATUMARO, folder.out / "coco", "roboflow_coco")
    assert sorted(subsets.values()) == [2, 2, 4]
    assert_found(folder, rows)


def test_datumaro_reads_cvat(folder: LabelledFolder) -> None:
    folder.export("cvat")
    (folder.out / "images").symlink_to(folder.images["a.jpg"].parent)
    rows, _ = run_in("datumaro", DATUMARO, folder.out / "annotations.cvat.xml", "cvat")
    assert_found(folder, rows)


# ---- Label Studio


def test_label_studio_finds_no_fault(folder: LabelledFolder) -> None:
    run = folder.run
    tasks = write(run, "labelstudio", settings=ExportSettings(conf=0.05, image_prefix="s3://bucket/")) / "labelstudio"
    script = """
import json, sys
from pathlib import Path
from label_studio_sdk.label_interface import LabelInterface
interface = LabelInterface(Path(sys.argv[1], "config.xml").read_text())
tasks = json.loads(Path(sys.argv[1], "tasks.json").read_text())
errors = [interface.validate_prediction(task["predictions"][0], return_errors=True) for task in tasks]
print(json.dumps([len(tasks), [error for part in errors for error in part]]))
"""
    assert run_in("label_studio_sdk", script, tasks) == [len(FILES), []]


def test_label_studios_converter_gives_the_boxes_back(folder: LabelledFolder) -> None:
    write(folder.run, "labelstudio")
    script = """
import json, os, sys
from pathlib import Path
from label_studio_sdk.converter import Converter
os.chdir(sys.argv[2])
home = Path(sys.argv[1])
tasks = json.loads((home / "tasks.json").read_text())
for number, task in enumerate(tasks):  # as Label Studio exports predictions that a person accepted
    task["id"] = number
    result = task.pop("predictions")[0]["result"]
    task["annotations"] = [{"id": number, "result": result, "completed_by": {"email": ""}}]
(home / "done.json").write_text(json.dumps(tasks))
converter = Converter((home / "config.xml").read_text(), str(home), download_resources=False)
converter.convert_to_coco(str(home / "done.json"), str(home / "back"), is_dir=False)
content = json.loads((home / "back" / "result.json").read_text())
names = {row["id"]: row["name"] for row in content["categories"]}
images = {row["id"]: row["file_name"] for row in content["images"]}
print(json.dumps([[images[r["image_id"]], names[r["category_id"]], r["bbox"]] for r in content["annotations"]]))
"""
    photos = folder.images["a.jpg"].parent
    rows = run_in("label_studio_sdk", script, folder.run / "out" / "labelstudio", photos)
    assert len(rows) == len(FILES)
    for index, name in enumerate(FILES):
        ((label, box),) = [(row[1], row[2]) for row in rows if row[0] == name]
        assert label == NAMES[index % 3]
        np.testing.assert_allclose(box, [1, 2, 19 + index, 28 + index], atol=0.02)


# ---- globox, SAHI


def test_globox_reads_coco_voc_labelme_and_yolo(folder: LabelledFolder) -> None:
    folder = flat(folder)
    folder.export("coco", "yolo", "voc", "labelme")
    script = """
import json, sys
from pathlib import Path
from globox import AnnotationSet
out = Path(sys.argv[1])
coco = AnnotationSet.from_coco(out / "annotations.coco.json")
voc = AnnotationSet.from_pascal_voc(out / "voc" / "Annotations")
labelme = AnnotationSet.from_labelme(out / "labelme")
yolo = AnnotationSet.from_yolo_v5(out / "yolo" / "labels", image_folder=out / "yolo" / "images")
print(json.dumps([[len(part), sum(len(one.boxes) for one in part)] for part in (coco, voc, labelme, yolo)]))
"""
    assert run_in("globox", script, folder.out) == [[4, 4]] * 4


def test_sahi_reads_coco(folder: LabelledFolder) -> None:
    folder.export("coco", split=THIRDS)
    script = """
import json, sys
from pathlib import Path
from sahi.utils.coco import Coco
found = []
for part in ("train", "valid", "test"):
    root = Path(sys.argv[1], part)
    for image in Coco.from_coco_dict_or_path(str(root / "_annotations.coco.json"), image_dir=str(root)).images:
        for box in image.annotations:
            x, y, w, h = box.bbox
            found.append([str(root / image.file_name), box.category_name, [x, y, x + w, y + h]])
print(json.dumps(found))
"""
    assert_found(folder, run_in("sahi", script, folder.out / "coco"), atol=1)


# ---- FiftyOne

FIFTYONE = """
import json, sys
import fiftyone as fo
found = []
for kind, words in json.loads(sys.argv[1]):
    dataset = fo.Dataset.from_dir(dataset_type=getattr(fo.types, kind), **words)
    dataset.compute_metadata()
    for sample in dataset:
        size = sample.metadata.width, sample.metadata.height
        for field in ("detections", "ground_truth"):
            for box in (sample[field].detections if sample.has_field(field) and sample[field] else ()):
                x, y, w, h = (n * size[i % 2] for i, n in enumerate(box.bounding_box))
                found.append([sample.filepath, box.label, [x, y, x + w, y + h]])
print(json.dumps(found))
"""


def test_fiftyone_reads_coco_yolo_and_voc(folder: LabelledFolder, tmp_path: Path, database_uri: str) -> None:
    folder.export("coco", "yolo", "voc")
    photos = str(folder.images["a.jpg"].parent)
    environment = {
        "FIFTYONE_DATABASE_URI": database_uri,
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "HOME": str(tmp_path),
    }
    imports = (
        ("COCODetectionDataset", {"data_path": photos, "labels_path": str(folder.out / "annotations.coco.json")}, 0.02),
        ("YOLOv5Dataset", {"yaml_path": str(folder.out / "yolo" / "data.yaml"), "split": "train"}, 0.02),
        (
            "VOCDetectionDataset",
            {
                "data_path": str(folder.out / "voc" / "JPEGImages"),
                "labels_path": str(folder.out / "voc" / "Annotations"),
            },
            1.01,
        ),
    )
    for kind, words, atol in imports:
        rows = run_in("fiftyone", FIFTYONE, json.dumps([[kind, words]]), environment=environment)
        assert_found(folder, rows, atol)


# ---- supervision, and Ultralytics' own loader where somebody has it


def test_supervision_reads_roboflows_layout(folder: LabelledFolder) -> None:
    folder.export("coco", split=THIRDS)
    script = """
import json, sys
from pathlib import Path
import supervision as sv
found = []
for part in ("train", "valid", "test"):
    root = Path(sys.argv[1], part)
    dataset = sv.DetectionDataset.from_coco(str(root), str(root / "_annotations.coco.json"))
    for path, boxes in dataset.annotations.items():
        found += [[path, dataset.classes[i], b] for i, b in zip(boxes.class_id.tolist(), boxes.xyxy.tolist())]
print(json.dumps(found))
"""
    assert_found(folder, run_in("supervision", script, folder.out / "coco"))


def test_ultralytics_trains_on_the_folder_as_it_is(folder: LabelledFolder, tmp_path: Path) -> None:
    folder.export("yolo", split=THIRDS)
    script = """
import json, sys
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
data = check_det_dataset(sys.argv[1], autodownload=False)
found = []
for part in ("train", "val", "test"):
    for label in YOLODataset(img_path=data[part], data=data, task="detect", augment=False).labels:
        height, width = label["shape"]
        for index, (cx, cy, w, h) in zip(label["cls"][:, 0].astype(int).tolist(), label["bboxes"].tolist()):
            box = [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height]
            found.append([label["im_file"], data["names"][index], box])
print(json.dumps(found))
"""
    environment = {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "true", "HOME": str(tmp_path)}
    rows = run_in("ultralytics", script, folder.out / "yolo" / "data.yaml", environment=environment)
    assert_found(folder, rows)
