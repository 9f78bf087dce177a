"""Reads annotations in any format that people keep them in; the format is told by looking at the path and the file.

    COCO                    a JSON file of images, annotations and categories
    YOLO                    data.yaml (or classes.txt), images/ and labels/
    Pascal VOC              a folder of XML files, or a list in ImageSets/Main
    LabelMe                 a folder of JSON files, one per image
    Label Studio            a JSON file: a list of tasks

All become a COCO data set in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glip.data.coco_reading import CocoFile, read_coco
from glip.errors import InputError

ACCEPTED = (
    "Accepted are COCO files, YOLO's data.yaml, and folders with one of them, with VOC's Annotations/*.xml, with "
    "LabelMe's JSON files, or with an export of Label Studio"
)


def read_annotated(path: Path, images: Sequence[Path] = (), split: str = "") -> CocoFile:
    """Reads annotations.

    Args:
        path: a file, or a folder of annotation files (VOC, LabelMe).
        images: folders of the images; () for those beside the annotations.
        split: of a data.yaml; '' for the only one.

    Raises:
        InputError: the path is none of the formats, or cannot be used.
    """
    if path.suffix.lower() in (".yaml", ".yml") or path.name in ("classes.txt", "obj.names"):
        from glip.data.yolo import read_yolo

        return read_yolo(path, split, images)
    if is_voc(path):
        from glip.data.voc import read_voc_folder

        return read_voc_folder(path, images)
    if path.is_dir():
        from glip.data.labelme import read_labelme

        return read_labelme(path, images)
    if _is_list(path):
        from glip.data.labelstudio import read_labelstudio

        return read_labelstudio(path, images or (path.parent / "images", path.parent))
    return read_coco(path, images)


def is_voc(path: Path) -> bool:
    """Returns whether a path is a folder of XML files, or a list of VOC's ImageSets."""
    if path.is_dir():
        return next(path.rglob("*.xml"), None) is not None
    return path.suffix == ".txt" and path.parent.parent.name == "ImageSets" and path.is_file()


def is_labelme_folder(path: Path) -> bool:
    """Returns whether the first JSON file of a folder is LabelMe's."""
    from glip.data.labelme import is_labelme

    first = min(path.rglob("*.json"), default=None) if path.is_dir() else None
    return first is not None and is_labelme(first)


def _is_list(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}. {ACCEPTED}.") from error
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
