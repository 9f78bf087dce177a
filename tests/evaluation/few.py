"""A few labelled images, and records of a labelling run over them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from glip.labeling.classes import ClassFile
from tests.labeling.runs import a_record, broken, write_run

BOX, OTHER = (10, 10, 60, 60), (100, 100, 180, 160)


def truth(path: Path, names: tuple[str, ...] = ("person", "dog"), images: tuple[str, ...] = ("a.jpg", "b.jpg")) -> Path:
    """Writes a COCO file with the first class at BOX and the second at OTHER in every image; returns its path."""
    boxes: list[dict[str, object]] = []
    for image, _ in enumerate(images, start=1):
        for category, (x1, y1, x2, y2) in enumerate((BOX, OTHER)[: len(names)], start=1):
            bbox = [x1, y1, x2 - x1, y2 - y1]
            boxes.append({"id": len(boxes) + 1, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0})
    content = {
        "images": [{"id": id, "file_name": name, "width": 640, "height": 480} for id, name in enumerate(images, 1)],
        "annotations": boxes,
        "categories": [{"id": id, "name": name} for id, name in enumerate(names, 1)],
    }
    path.write_text(json.dumps(content))
    return path


RECORDS = [
    a_record("a.jpg", [BOX, OTHER, (300, 300, 400, 400)], [0.8, 0.6, 0.3], [0, 1, 0]),
    a_record("b.jpg", [BOX, (300, 300, 400, 400), OTHER], [0.7, 0.35, 0.25], [0, 0, 1]),
    a_record("z.jpg", [BOX], [0.9], [0]),
    broken("broken.jpg"),
]


def wordings(tmp_path: Path) -> Path:
    """Writes a run that labelled holes in the road with two wordings; returns the labelled images."""
    names = ("pothole", "hole in the road", "manhole")
    classes = ClassFile(("pothole",), names, (0, 0, None), ((), (), (0,)), (None,), (7,))
    job = {"classes": msgspec.to_builtins(classes)}
    records = [
        a_record("a.jpg", [BOX, (300, 300, 400, 400), OTHER], [0.8, 0.6, 0.3], [1, 0, 2]),
        a_record("b.jpg", [BOX, (300, 300, 400, 400), BOX], [0.7, 0.5, 0.2], [1, 0, 0]),
    ]
    write_run(tmp_path / "labels", records, names=names, job=job)
    return truth(tmp_path / "few.json", names=("pothole",))
