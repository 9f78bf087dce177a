"""Small data folders in the benchmarks' layouts, and a detector that finds exactly what is annotated in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glip.detections import Detections
from glip.images import ImageBatch
from glip.prompts import Prompt
from tests.labeling.fake import FakeDetector

Boxes = Sequence[tuple[str, tuple[float, float, float, float]]]  # what is there, xyxy


@dataclass
class PerfectDetector(FakeDetector):
    """Knows images by their size, and finds in them what the prompt names.

    Attributes:
        truth: by (height, width): phrase and box, xyxy.
        asked: the captions of each batch.
    """

    truth: Mapping[tuple[int, int], Boxes] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def detect_batch(self, batch: ImageBatch, prompts: Sequence[Prompt]) -> list[Detections]:
        self.batches.append(len(batch.sizes_hw))
        self.asked.append(tuple(prompt.caption for prompt in prompts))
        names = tuple(phrase for prompt in prompts for phrase in prompt.phrases)
        return [self._find(size_hw, names) for size_hw in batch.original_sizes_hw]

    def _find(self, size_hw: tuple[int, int], names: tuple[str, ...]) -> Detections:
        found = [(label, box) for label, name in enumerate(names) for what, box in self.truth[size_hw] if what == name]
        boxes = np.array([box for _, box in found], np.float32).reshape(-1, 4)
        scores = np.linspace(0.9, 0.5, len(found), dtype=np.float32)
        return Detections(boxes, scores, np.array([label for label, _ in found], np.int64), names)


SCENES: Sequence[tuple[tuple[int, int], Boxes]] = (
    ((40, 60), (("person", (2, 3, 20, 30)), ("dog", (30, 5, 55, 35)))),
    ((50, 60), (("dog", (1, 1, 30, 40)),)),
    ((60, 70), (("person", (10, 10, 30, 50)), ("person", (40, 10, 60, 50)))),
)
CLASSES = {1: "person", 2: "dog"}


def detector(names: Mapping[str, str] | None = None) -> PerfectDetector:
    """Knows the scenes; `names` says by which other words a class is asked."""
    other = names or {}
    return PerfectDetector(truth={size: [(other.get(n, n), box) for n, box in boxes] for size, boxes in SCENES})


def write_set(
    annotations: Path,
    images: Path,
    classes: Mapping[int, str] = CLASSES,
    *,
    called: Mapping[str, int] | None = None,
    prefix: str = "",
    lvis: bool = False,
    truth: bool = True,
) -> None:
    """Writes the scenes as a COCO file with its files.

    Args:
        annotations: the file.
        images: the folder of the files.
        classes: category ids and names of the file.
        called: category id of 'person' and 'dog', if the file calls them otherwise.
        prefix: put before file names, 'val2017/'.
        lvis: with what LVIS knows besides.
        truth: False leaves the annotations out, as of test-dev.
    """
    ids = called or {name: id for id, name in classes.items()}
    files: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    (images / prefix).mkdir(parents=True, exist_ok=True)
    for number, ((height, width), scene) in enumerate(SCENES, start=1):
        name = f"{prefix}p{number}.png"
        Image.new("RGB", (width, height), (number, 50, 90)).save(images / name)
        image: dict[str, Any] = {"id": number, "file_name": name, "width": width, "height": height}
        if lvis:
            image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        files.append(image)
        for what, (x1, y1, x2, y2) in scene:
            size = [x2 - x1, y2 - y1]
            box = {"id": len(boxes) + 1, "image_id": number, "category_id": ids[what], "bbox": [x1, y1, *size]}
            boxes.append(box | {"area": size[0] * size[1], "iscrowd": 0})
    categories: list[dict[str, Any]] = [{"id": id, "name": name} for id, name in classes.items()]
    if lvis:
        categories = [category | {"frequency": "rcf"[place % 3]} for place, category in enumerate(categories)]
    content = {"images": files, "categories": categories} | ({"annotations": boxes} if truth else {})
    annotations.parent.mkdir(parents=True, exist_ok=True)
    annotations.write_text(json.dumps(content))


def write_coco(root: Path) -> Path:
    """COCO val2017 with the scenes, below a data folder; returns it."""
    write_set(root / "coco/annotations/instances_val2017.json", root / "coco/val2017")
    return root
