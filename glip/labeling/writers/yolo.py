"""YOLO as Ultralytics reads it: data.yaml, and labels/ with one text file per image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from glip.boxes import xyxy_to_cxcywh
from glip.files import whole_file
from glip.labeling.writers.base import AddImage, ExportInfo, LabelledImage, own_folder, write_beside


@contextmanager
def write_yolo(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes `class cx cy w h`, relative to the size of the image and clipped to it; an empty file without boxes.

    The images belong into images/ beside labels/, in the same sub-folders. Scores are left out, since training refuses
    a sixth column. data.yaml has no `path`: it then means the folder of data.yaml itself, wherever that is moved.
    """
    with own_folder(path / "labels", info) as folder:

        def add(image: LabelledImage) -> None:
            write_beside(folder, label_name(image.file_name), _lines(image), image)

        yield add
        # If this is interrupted between the new labels and their names, no data.yaml is better than a wrong one.
        (path / "data.yaml").unlink(missing_ok=True)
    with whole_file(path / "data.yaml") as file:
        data = {"train": "images", "val": "images", "names": dict(enumerate(info.names))}
        file.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())


def label_name(file_name: str) -> str:
    """Returns the path of an image's label file below labels/, the same as its own below images/ up to the suffix.

    Ultralytics finds labels by replacing the last folder called `images` in the path of an image. That must be the
    outermost one, so sub-folders of that name are left out of both paths.
    """
    *folders, name = file_name.split("/")
    return "/".join([folder for folder in folders if folder != "images"] + [f"{name.rpartition('.')[0]}.txt"])


def _lines(image: LabelledImage) -> str:
    boxes, indices = image.visible_boxes()
    labels = image.found.labels[indices].tolist()
    size = np.array([image.width, image.height] * 2, np.float64)
    rows = xyxy_to_cxcywh(boxes) / size
    return "".join(
        f"{label} {cx:.8f} {cy:.8f} {width:.8f} {height:.8f}\n"
        for label, (cx, cy, width, height) in zip(labels, rows.tolist(), strict=True)
    )
