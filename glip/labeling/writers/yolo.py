"""YOLO as Ultralytics reads it: data.yaml, labels/ with one text file per image, and images/ beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from glip.boxes import xyxy_to_cxcywh
from glip.files import whole_file
from glip.labeling.writers.base import AddImage, ExportInfo, LabelledImage, checked_name, own_folders, write_beside
from glip.labeling.writers.images import PlacedNames, split_suffix

# Trainers skip files whose suffix they do not know; these hold what the common one says.
_COMMON_SUFFIX = {".jpe": ".jpg", ".jfif": ".jpg", ".apng": ".png"}


@contextmanager
def write_yolo(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes `class cx cy w h`, relative to the size of the image and clipped to it; an empty file without boxes.

    The images belong into images/ beside labels/, in the same sub-folders; a split export has a sub-folder for each
    part in both. Scores are left out, since training refuses a sixth column. data.yaml has no `path`: it then means the
    folder of data.yaml itself, wherever that is moved.
    """
    names = PlacedNames(one_stem=True)
    with own_folders(path, ("labels",), info, images="images", index="data.yaml") as folders:

        def add(image: LabelledImage) -> None:
            name = image_name(checked_name(image))
            if info.placer is not None:
                name = names.name(name)
                info.placer.note_name(image_name(image.file_name), name)
            stem, suffix = split_suffix(f"{image.part}/{name}" if image.part else name)
            write_beside(folders[0], f"{stem}.txt", _lines(image), image)
            if info.placer is not None and len(folders) > 1:
                suffix = _COMMON_SUFFIX.get(suffix.lower(), suffix)
                info.placer.place(image.file_name, folders[1] / f"{stem}{suffix}")

        yield add
        for part in info.parts:
            for folder in folders:
                (folder / part).mkdir(exist_ok=True)
    with whole_file(path / "data.yaml") as file:
        images = {part: f"images/{part}" for part in info.parts} or {"train": "images", "val": "images"}
        data = {**images, "names": dict(enumerate(info.names))}
        file.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())


def image_name(file_name: str) -> str:
    """Returns the path of an image below images/; its label file has the same below labels/ up to the suffix.

    Ultralytics finds labels by replacing the last folder called `images` in the path of an image. That must be the
    outermost one, so sub-folders of that name are left out.
    """
    *folders, name = file_name.split("/")
    return "/".join([folder for folder in folders if folder != "images"] + [name])


def _lines(image: LabelledImage) -> str:
    boxes, indices = image.visible_boxes()
    labels = image.found.labels[indices].tolist()
    size = np.array([image.width, image.height] * 2, np.float64)
    rows = xyxy_to_cxcywh(boxes) / size
    return "".join(
        f"{label} {cx:.8f} {cy:.8f} {width:.8f} {height:.8f}\n"
        for label, (cx, cy, width, height) in zip(labels, rows.tolist(), strict=True)
    )
