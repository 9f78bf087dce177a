"""YOLO as Ultralytics reads it: data.yaml, and labels/ with one text file a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from glip.files import whole_file
from glip.labeling.writers.picture import AddPicture, Facts, Picture, own_folder, write_beside


@contextmanager
def write_yolo(path: Path, facts: Facts) -> Iterator[AddPicture]:
    """`class cx cy w h`, relative to the picture's size, cut at its edge; an empty file for an empty picture.

    The pictures belong into images/ beside labels/, in the same sub-folders. Scores are left out: training refuses a
    sixth column. data.yaml names no `path`, which makes it the folder that data.yaml lies in, wherever that is moved.
    """
    with own_folder(path / "labels", facts) as folder:

        def add(picture: Picture) -> None:
            write_beside(folder, label_name(picture.file_name), _lines(picture), picture)

        yield add
        # Should this end between the new labels and their names, class numbers mean nothing, not something else.
        (path / "data.yaml").unlink(missing_ok=True)
    with whole_file(path / "data.yaml") as file:
        data = {"train": "images", "val": "images", "names": dict(enumerate(facts.names))}
        file.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())


def label_name(file_name: str) -> str:
    """Path below labels/ for a picture, whose own path below images/ is the same up to the suffix.

    Ultralytics finds labels by exchanging the last folder called `images` in a picture's whole path. It has to be
    the outermost, so sub-folders of that name are left out of both paths.
    """
    *folders, name = file_name.split("/")
    return "/".join([folder for folder in folders if folder != "images"] + [f"{name.rpartition('.')[0]}.txt"])


def _lines(picture: Picture) -> str:
    boxes, places = picture.visible_boxes()
    labels = picture.found.labels[places].tolist()
    width, height = picture.width, picture.height
    return "".join(
        f"{label} {(x1 + x2) / 2 / width:.8f} {(y1 + y2) / 2 / height:.8f} "
        f"{(x2 - x1) / width:.8f} {(y2 - y1) / height:.8f}\n"
        for label, (x1, y1, x2, y2) in zip(labels, boxes.tolist(), strict=True)
    )
