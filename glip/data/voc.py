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
from glip.data.builder import DatasetBuilder
from glip.data.class_lists import find_class_list
from glip.data.coco import is_inside
from glip.data.coco_reading import CocoFile
from glip.data.image_files import ImageFinder, inner_parts
from glip.data.xml_files import number, read_xml
from glip.errors import InputError
from glip.files import read_content

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MAX_LIST = 256_000_000  # bytes of a list of image names


def read_voc(image_list: Path, annotations: Path) -> Truth:
    """Reads a split of the published data set. Images get the ids 1, 2, … in the order of the list.

    Classes are VOC's twenty or, if the files have others, theirs in alphabetical order.

    Args:
        image_list: file of image names, one per line, such as ImageSets/Main/test.txt; text after the name is ignored.
        annotations: folder of NAME.xml.

    Raises:
        InputError: a file is missing or has another format, or a name leads out of its folder.
    """
    images = [read_voc_file(annotations, stem) for stem in listed_stems(image_list)]
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
class VocImage:
    """The annotations of one image.

    Attributes:
        file_name: as the file states it, or NAME.jpg.
        size_hw: pixels.
        names: (N) class of each box.
        boxes: (N) left, top, width, height in pixels; corners in the file count from 1 and are both inside the box.
        difficult: (N) whether a box is marked so.
    """

    file_name: str
    size_hw: tuple[int, int]
    names: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    difficult: tuple[bool, ...]


def listed_stems(image_list: Path) -> list[str]:
    """Returns the image names of a list such as ImageSets/Main/test.txt.

    Raises:
        InputError: it cannot be read, or a name leads out of its folder.
    """
    content = read_content(image_list, "a list of image names", _MAX_LIST)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"Cannot read {image_list}: {error}.") from error
    stems = []
    for line_number, line in enumerate(lines, start=1):
        if line.strip():
            stems.append(line.split()[0])
            if not is_inside(stems[-1]):
                raise InputError(
                    f"{image_list}, line {line_number}: the image name {stems[-1][:200]!r} leads out of its "
                    f"folder. Only names below it are accepted."
                )
    return stems


def read_voc_file(annotations: Path, stem: str, *, sized: bool = True) -> VocImage:
    """Reads the annotation file of an image.

    Args:
        annotations: the folder of the files.
        stem: name of the file without `.xml`.
        sized: False if the size may be missing; it is then 0 × 0.

    Raises:
        InputError: it is missing, has another format, or names an image outside of the folder of images.
    """
    path = annotations / f"{stem}.xml"
    root = read_xml(path, "an annotation file of Pascal VOC")
    name = (root.findtext("filename") or "").strip() or f"{stem}.jpg"
    if sized and not is_inside(name):
        raise InputError(
            f"{path}: the filename {name[:200]!r} leads out of the folder of images. Only relative paths without `..` "
            f"are accepted."
        )
    items = root.findall("object")
    sides = (_side(path, root, side, sized) for side in ("height", "width"))
    return VocImage(
        file_name=name,
        size_hw=(next(sides), next(sides)),
        names=tuple((item.findtext("name") or "").strip() for item in items),
        boxes=tuple(_box(path, item) for item in items),
        difficult=tuple((item.findtext("difficult") or "0").strip() == "1" for item in items),
    )


def _side(path: Path, root: ET.Element, side: str, sized: bool) -> int:
    text = root.findtext(f"size/{side}")
    if not sized and not (text or "").strip():
        return 0
    value = int(number(text, f"the {side}", path))
    if sized and value < 1:
        raise InputError(f"{path}: the {side} is {value} pixels; it must be at least 1.")
    return value


def _class_names(images: Sequence[VocImage]) -> tuple[str, ...]:
    used = {name for image in images for name in image.names}
    known = find_class_list("voc").names
    return known if used <= set(known) else tuple(sorted(used))


def _box(path: Path, item: ET.Element) -> tuple[float, float, float, float]:
    left, top, right, bottom = (number(item.findtext(f"bndbox/{corner}"), corner, path) for corner in _CORNERS)
    return left - 1, top - 1, right - left + 1, bottom - top + 1


# Folders of one's own -------------------------------------------------------------------------------------------------


def read_voc_folder(path: Path, images: Sequence[Path] = ()) -> CocoFile:
    """Reads annotations in VOC's format that are not the published set.

    Classes are those of the files, in alphabetical order. COCO's evaluator also scores boxes marked `difficult`.

    Args:
        path: a folder of XML files, sub-folders included, or a list such as ImageSets/Main/train.txt.
        images: folders of the images; () for JPEGImages, images, and the folder of the XML files.

    Raises:
        InputError: a file is missing or has another format.
    """
    listed = path.is_file()
    annotations = path.parents[2] / "Annotations" if listed else path
    stems = listed_stems(path) if listed else _stems_below(annotations)
    near = (annotations.parent / "JPEGImages", annotations.parent / "images", annotations, annotations.parent)
    folders = tuple(images) or tuple(folder for folder in near if folder.is_dir())
    finder = ImageFinder(folders)
    builder = DatasetBuilder(path)
    for stem in stems:
        found = read_voc_file(annotations, stem, sized=False)
        id = builder.add_image(_own_image(finder, stem, found.file_name), found.size_hw[1], found.size_hw[0])
        for name, (left, top, width, height), difficult in zip(found.names, found.boxes, found.difficult, strict=True):
            builder.add_box(id, name, (left, top, left + width, top + height), difficult)
    return builder.build(folders)


def _stems_below(folder: Path) -> list[str]:
    return [path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.rglob("*.xml"))]


def _own_image(finder: ImageFinder, stem: str, written: str) -> str:
    """Returns the image of an annotation file: beside it in the folder of images, or by its name alone."""
    parent = stem.rpartition("/")[0]
    last = "/".join(inner_parts(written)[-1:]) or f"{stem.rpartition('/')[2]}.jpg"
    beside = f"{parent}/{last}" if parent else last
    return next((found for name in (beside, written, last) if (found := finder.find(name)) is not None), beside)
