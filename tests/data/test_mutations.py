"""Files of every reader, valid but for a changed value: each is read, or refused for a user to repair."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from glip.data.annotations import Truth
from glip.data.coco_folders import read_own
from glip.data.fewshot import choose_few_shot
from glip.data.flickr30k import read_flickr30k
from glip.data.grounding import load_grounding
from glip.data.lvis import read_lvis
from glip.data.splits import Split, open_split
from glip.data.voc import read_voc
from glip.evaluation.predictions import read_predictions
from glip.images import list_images
from glip.labeling.captions import read_captions
from glip.labeling.classes import load_class_file
from glip.weights.folder import verify_model_folder
from tests.mutations import EXTREMES, changed, survives

ROUNDS = 60  # changes of each file
COCO: dict[str, Any] = {
    "info": {"year": 2020},
    "images": [
        {"id": 1, "file_name": "a.png", "width": 40, "height": 30, "license": 1},
        {"id": 2, "file_name": "b.png", "width": 20, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "ignore": 0},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [0, 0, 20, 30], "area": 600, "iscrowd": 1, "score": 0.5},
    ],
    "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "dog"}],
}
LVIS: dict[str, Any] = {
    "images": [
        {
            "id": 1,
            "width": 40,
            "height": 30,
            "neg_category_ids": [2],
            "not_exhaustive_category_ids": [],
            "coco_url": "u/a",
        }
    ],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3, 4]]}],
    "categories": [
        {"id": 1, "name": "cat", "frequency": "c", "synset": "cat.n.01", "synonyms": ["cat"], "image_count": 2},
        {"id": 2, "name": "dog", "frequency": "r", "def": "a dog", "instance_count": 3},
    ],
}
RESULTS = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}] * 2
SCORED = copy.deepcopy(COCO)
SCORED["annotations"][0]["score"] = 0.25
GROUNDING: dict[str, Any] = {
    "images": [
        {
            **{"id": 1, "file_name": "a.png", "width": 40, "height": 30, "caption": "two dogs play", "sentence_id": 0},
            **{"original_img_id": 1, "tokens_positive_eval": [[[0, 8]]]},
        }
    ],
    "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "tokens_positive": [[0, 8]]}],
    "categories": [{"id": 1, "name": "object"}],
}
LABELME: dict[str, Any] = {
    **{"version": "5.5.0", "flags": {}, "imagePath": "a.png", "imageData": None, "imageWidth": 40, "imageHeight": 30},
    "shapes": [
        {"label": "cat", "points": [[1, 2], [9, 8]], "shape_type": "rectangle", "group_id": 1, "flags": {}},
        {"label": "dog", "points": [[5, 5], [8, 9]], "shape_type": "circle", "group_id": None},
    ],
}
TASKS: list[Any] = [
    {
        "data": {"image": "/data/local-files/?d=a.png"},
        "annotations": [
            {
                "was_cancelled": False,
                "result": [
                    {
                        **{"id": "r", "type": "rectanglelabels", "original_width": 40, "original_height": 30},
                        "value": {"x": 1, "y": 2, "width": 9, "height": 8, "rotation": 30, "rectanglelabels": ["cat"]},
                    },
                    {
                        **{"id": "s", "type": "polygonlabels", "original_width": 40, "original_height": 30},
                        "value": {"points": [[1, 2], [3, 4], [5, 1]], "polygonlabels": ["dog"]},
                    },
                ],
            }
        ],
    }
]
DATA_YAML: dict[str, Any] = {"path": ".", "train": "images", "val": ["images"], "nc": 2, "names": {0: "cat", 1: "dog"}}
CLASSES: dict[str, Any] = {
    "person": {"prompts": ["person", "pedestrian"], "conf": 0.4, "id": 1, "negative": ["mannequin"]},
    "dog": "a small dog",
    "cat": None,
}
CAPTION: dict[str, Any] = {"file_name": "a.png", "caption": "two dogs play", "tokens_positive": [[[0, 8]]]}
VOC = (
    "<annotation><folder>x</folder><filename>a.png</filename><size><width>40</width><height>30</height></size><object>"
    "<name>dog</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    "</object></annotation>"
)


def changed_text(text: str, rng: random.Random) -> str:
    """Returns a text with one of its words, or of its tags' contents, changed."""
    pieces = text.replace(">", ">\0").replace("<", "\0<").replace(" ", "\0 \0").split("\0")
    index = rng.randrange(len(pieces))
    word = rng.choice([extreme for extreme in EXTREMES if isinstance(extreme, str | int | float)])
    pieces[index] = rng.choice((str(word), "", pieces[index] * 2, "nan", "-inf", "1e999", "&lt;", "&x;", "<a>" * 500))
    return "".join(pieces)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the images."""
    folder = tmp_path_factory.mktemp("mutations")
    for parent in (folder, folder / "images", folder / "JPEGImages"):
        parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(parent / "a.png")
        Image.new("RGB", (20, 30)).save(parent / "b.png")
    for name in ("labels", "Annotations", "Sentences", "labelme"):
        (folder / name).mkdir()
    Image.new("RGB", (40, 30)).save(folder / "labelme/a.png")
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "truth.json").write_text(json.dumps(COCO))
    return folder


def coco_split(path: Path) -> object:
    return open_split(Split("set", "", "coco", path, (path.parent,)))


def few_shot(path: Path) -> object:
    dataset = read_own(path.parent / "truth.json").dataset
    return choose_few_shot(dataset, path.parent / "truth.json", "train", 1, 3)


def predictions(path: Path) -> object:
    return read_predictions(path, Truth.from_coco(read_own(path.parent / "truth.json").dataset))


JSON_FILES: dict[str, tuple[str, Any, Callable[[Path], object]]] = {
    "coco": ("coco.json", COCO, coco_split),
    "coco-images": ("coco.json", COCO, lambda path: open_split(Split("s", "", "coco-images", path, (path.parent,)))),
    "lvis": ("lvis.json", LVIS, read_lvis),
    "results": ("results.json", RESULTS, predictions),
    "scored": ("scored.json", SCORED, predictions),
    "few-shot": ("fewshot_train_shot1_seed3.json", COCO, few_shot),
    "grounding": ("grounding.json", GROUNDING, load_grounding),
    "flickr": ("grounding.json", GROUNDING, read_flickr30k),
    "labelme": ("labelme/a.json", LABELME, lambda path: read_own(path.parent)),
    "labelstudio": ("tasks.json", TASKS, read_own),
    "classes": ("classes.json", CLASSES, load_class_file),
    "coco-classes": ("names.json", COCO, load_class_file),
    "captions": (
        "captions.jsonl",
        CAPTION,
        lambda path: read_captions(path, list_images([str(path.parent / "images")])),
    ),
}


@pytest.mark.parametrize("name", JSON_FILES)
def test_changed_json_is_read_or_refused(folder: Path, name: str) -> None:
    file, content, read = JSON_FILES[name]
    rng = random.Random(name)
    path = folder / file
    path.write_text(json.dumps(content))
    assert survives(lambda: read(path))
    outcomes = []
    for _ in range(ROUNDS):
        path.write_text(json.dumps(changed(content, rng)))
        outcomes.append(survives(lambda: read(path)))
    assert 0.05 < np.mean(outcomes) < 1, "the changes do not reach the code behind the decoder, or nothing is checked"


@pytest.mark.parametrize(("file", "content"), [("data.yaml", DATA_YAML), ("classes.yaml", CLASSES)])
def test_changed_yaml_is_read_or_refused(folder: Path, file: str, content: Any) -> None:
    rng = random.Random(file)
    path = folder / file
    read: Callable[[Path], object] = read_own if file == "data.yaml" else load_class_file
    outcomes = []
    for _ in range(ROUNDS):
        text = yaml.safe_dump(changed(content, rng), allow_unicode=True)
        path.write_text(text if rng.random() < 0.7 else changed_text(text, rng), encoding="utf-8", errors="replace")
        outcomes.append(survives(lambda: read(path)))
    assert 0.05 < np.mean(outcomes) < 1


def test_changed_yolo_labels_are_read_or_refused(folder: Path) -> None:
    rng = random.Random("labels")
    (folder / "data.yaml").write_text(yaml.safe_dump(DATA_YAML))
    for _ in range(ROUNDS):
        text = "0 0.5 0.5 0.5 0.5\n1 0.1 0.1 0.5 0.2 0.3 0.6\n"
        (folder / "labels/a.txt").write_text(changed_text(text, rng), encoding="utf-8")
        survives(lambda: read_own(folder / "data.yaml"))
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")


def test_changed_voc_files_are_read_or_refused(folder: Path) -> None:
    rng = random.Random("voc")
    (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    listed = folder / "ImageSets/Main/test.txt"
    for _ in range(ROUNDS):
        listed.write_text("a\n" if rng.random() < 0.8 else rng.choice(("../a\n", "a 1\n", "\n", "a\na\n", "é\n")))
        (folder / "Annotations/a.xml").write_text(changed_text(VOC, rng), encoding="utf-8")
        survives(lambda: read_voc(listed, folder / "Annotations"))
        survives(lambda: read_own(folder / "Annotations"))


def test_changed_flickr_files_are_read_or_refused(folder: Path) -> None:
    rng = random.Random("flickr")
    for _ in range(ROUNDS):
        (folder / "val.txt").write_text("a\n" if rng.random() < 0.8 else rng.choice(("../a\n", "a b\n", "\n")))
        (folder / "Annotations/a.xml").write_text(changed_text(VOC, rng), encoding="utf-8")
        (folder / "Sentences/a.txt").write_text(changed_text("[/EN#1/people Two people] wave at [/EN#2/x y] .", rng))
        survives(lambda: read_flickr30k(folder / "val.txt"))


def test_changed_model_folders_are_opened_or_refused(folder: Path) -> None:
    rng = random.Random("source")
    source = {"name": "x", "files": {"a": {"sha256": "0" * 64, "size": 1}}, "url": "https://example.org"}
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model/config.json").write_text(json.dumps({"format": 1, "model": {}}))
    for _ in range(ROUNDS):
        (folder / "model/source.json").write_text(json.dumps(changed(source, rng)))
        survives(lambda: verify_model_folder(folder / "model"))
