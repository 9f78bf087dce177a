"""YOLO as Ultralytics reads it: data.yaml, and labels/ with one text file an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from glip.files import whole_file
from glip.labeling.writers.base import AddImage, Facts, Image, own_folder, write_beside


@contextmanager
def write_yolo(path: Path, facts: Facts) -> Iterator[AddImage]:
    """`class cx cy w h`, relative to the image's size, cut at its edge; an empty file for an empty image.

    The images belong into images/ beside labels/, in the same sub-folders. Scores are left out: training refuses a
    sixth column. data.yaml names no `path`, which makes it the folder that data.yaml lies in, wherever that is moved.
    """
    with own_folder(path / "labels", facts) as folder:

        def add(image: Image) -> None:
            write_beside(folder, label_name(image.file_name), _lines(image), image)

        yield add
        # Should this end between the new labels and their names, class numbers mean nothing, not something else.
        (path / "data.yaml").unlink(missing_ok=True)
    with whole_file(path / "data.yaml") as file:
        data = {"train": "images", "val": "images", "names": dict(enumerate(facts.names))}
        file.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())


def label_name(file_name: str) -> str:
    """Path below labels/ for an image, whose own path below images/ is the same up to the suffix.

    Ultralytics finds labels by exchanging the last folder called `images` in an image's whole path. It has to be
    the outermost, so sub-folders of that name are left out of both paths.
    """
    *folders, name = file_name.split("/")
    return "/".join([folder for folder in folders if folder != "images"] + [f"{name.rpartition('.')[0]}.txt"])


def _lines(image: Image) -> str:
    boxes, places = image.visible_boxes()
    labels = image.found.labels[places].tolist()
    width, height = image.width, image.height
    return "".join(
        f"{label} {(x1 + x2) / 2 / width:.8f} {(y1 + y2) / 2 / height:.8f} "
        f"{(x2 - x1) / width:.8f} {(y2 - y1) / height:.8f}\n"
        for label, (x1, y1, x2, y2) in zip(labels, boxes.tolist(), strict=True)
    )
