"""Reads Pascal VOC annotation files.

VOC's corners are pixels that count from 1, both inside the box: its 1..10 is here a left edge of 0 with a width of 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from glip.data.annotations import Truth
from glip.data.class_lists import find_class_list
from glip.errors import InputError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(image_list: Path, annotations: Path) -> Truth:
    """Reads a split in VOC's layout. Images get the ids 1, 2, … in the order of the list.

    Classes are VOC's twenty or, if the files have others, theirs in alphabetical order.

    Args:
        image_list: file of image names, one per line, such as ImageSets/Main/test.txt; text after the name is ignored.
        annotations: folder of NAME.xml.

    Raises:
        InputError: a file is missing or has another format.
    """
    try:
        stems = [line.split()[0] for line in image_list.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {image_list}: {error}.") from error
    images = [_read_image(annotations / f"{stem}.xml", stem) for stem in stems]
    known = _class_names(images)
    count = [len(image.names) for image in images]
    bbox = np.array([box for image in images for box in image.boxes], np.float64).reshape(-1, 4)
    return Truth(
        image_ids=np.arange(1, len(images) + 1),
        sizes_hw=np.array([image.size_hw for image in images], np.int64).reshape(-1, 2),
        file_names=tuple(image.file_name for image in images),
        category_ids=np.arange(1, len(known) + 1),
        names=known,
        annotation_id=np.arange(1, len(bbox) + 1),
        image_id=np.repeat(np.arange(1, len(images) + 1), count),
        category_id=np.array([known.index(name) + 1 for image in images for name in image.names], np.int64),
        bbox=bbox,
        area=bbox[:, 2] * bbox[:, 3],
        iscrowd=np.zeros(len(bbox), bool),
        ignore=np.array([flag for image in images for flag in image.difficult], bool),
    )


@dataclass(frozen=True)
class _VocImage:
    file_name: str
    size_hw: tuple[int, int]
    names: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    difficult: tuple[bool, ...]


def _class_names(images: Sequence[_VocImage]) -> tuple[str, ...]:
    used = {name for image in images for name in image.names}
    known = find_class_list("voc").names
    return known if used <= set(known) else tuple(sorted(used))


def _read_image(path: Path, stem: str) -> _VocImage:
    try:
        root = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 (a file the user has chosen)
        items = root.findall("object")
        return _VocImage(
            file_name=root.findtext("filename") or f"{stem}.jpg",
            size_hw=(int(root.findtext("size/height", "")), int(root.findtext("size/width", ""))),
            names=tuple(item.findtext("name", "").strip() for item in items),
            boxes=tuple(_box(item) for item in items),
            difficult=tuple(item.findtext("difficult", "0").strip() == "1" for item in items),
        )
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}. Every listed image needs such a file.") from error
    except (ET.ParseError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} is not an annotation file of Pascal VOC: {error}.") from error


def _box(item: ET.Element) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(item.findtext(f"bndbox/{corner}", "")) for corner in _CORNERS)
    return left - 1, top - 1, right - left + 1, bottom - top + 1
