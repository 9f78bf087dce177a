"""Reads folders of LabelMe's JSON files, one per image. Shapes become the boxes around them.

Shapes of one label and one `group_id` are parts of one object. The image inside of a file (`imageData`) is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import hypot
from pathlib import Path
from typing import Any

import msgspec

from glip.data.builder import XYXY, DatasetBuilder, around
from glip.data.coco import is_inside
from glip.data.coco_reading import CocoFile
from glip.data.image_files import ImageFinder, inner_parts
from glip.errors import InputError
from glip.files import read_json

_MAX_BYTES = 512_000_000  # of a file; the image is inside, as text
_MAX_NUMBER = 1e9
_OUTLINES = ("rectangle", "polygon", "circle", "mask", "rotation", "oriented_rectangle", "quadrilateral")
_WITHOUT_BOX = "shapes are points or lines, which have no box, and are not read"


class _Shape(msgspec.Struct):
    points: list[tuple[float, float]]
    label: str | int | None = None
    shape_type: str | None = "polygon"
    group_id: int | str | None = None
    flags: dict[str, Any] | None = None


class _LabelMe(msgspec.Struct, rename="camel"):
    shapes: list[_Shape]
    image_path: str | None = None
    image_width: float | None = None
    image_height: float | None = None


def is_labelme(path: Path) -> bool:
    """Returns whether a JSON file is LabelMe's."""
    try:
        _read(path)
    except InputError:
        return False
    return True


def read_labelme(folder: Path, images: Sequence[Path] = ()) -> CocoFile:
    """Reads a folder of LabelMe files, sub-folders included.

    Args:
        folder: of the JSON files.
        images: folders of the images, if they are not beside the files.

    Raises:
        InputError: a file is damaged, or there is none.
    """
    folders = tuple(images) or (folder,)
    finder = ImageFinder(folders)
    builder = DatasetBuilder(folder)
    for path in sorted(folder.rglob("*.json")):
        file = _read(path)
        name = _image_name(finder, folder, path, file)
        sides = (file.image_width, file.image_height)
        width, height = (int(side) if side is not None and 0 < side <= _MAX_NUMBER else 0 for side in sides)
        id = builder.add_image(name, width, height)
        for label, box in _objects(builder, path, file):
            builder.add_box(id, label, box)
    return builder.build(folders)


def _read(path: Path) -> _LabelMe:
    return read_json(path, _LabelMe, "a file of LabelMe", max_bytes=_MAX_BYTES)


def _image_name(finder: ImageFinder, folder: Path, path: Path, file: _LabelMe) -> str:
    parent = path.parent.relative_to(folder)
    written = "/".join(inner_parts(file.image_path or "")) or f"{path.stem}.jpg"
    beside = (parent / written.rpartition("/")[2]).as_posix()
    for name in ((parent / written).as_posix(), beside, written):
        if (found := finder.find(name)) is not None:
            return found
    return beside if is_inside(beside) else f"{path.stem}.jpg"


def _objects(builder: DatasetBuilder, path: Path, file: _LabelMe) -> Iterator[tuple[str, XYXY]]:
    groups: dict[tuple[str, int | str], list[XYXY]] = {}
    for index, shape in enumerate(file.shapes):
        label = "" if shape.label is None else str(shape.label)
        box = _box(path, index, shape)
        if box is None:
            builder.skip("shapes_without_box", _WITHOUT_BOX, f"shape {index} of {path.name}")
            continue
        if shape.shape_type not in ("rectangle", None):
            builder.note("polygons, circles and masks are read as the boxes around them", path.name)
        if shape.group_id is None:
            yield label, box
        else:
            groups.setdefault((label, shape.group_id), []).append(box)
    for (label, _), boxes in groups.items():
        if len(boxes) > 1:
            builder.note("groups of shapes are read as one object each", path.name)
        yield label, around([corner for box in boxes for corner in (box[:2], box[2:])])


def _box(path: Path, index: int, shape: _Shape) -> XYXY | None:
    points = shape.points
    if any(not abs(number) <= _MAX_NUMBER for point in points for number in point):
        raise InputError(f"{path}: shape {index} has a point beyond {_MAX_NUMBER:g} pixels: {points[:4]}.")
    kind = shape.shape_type or "polygon"
    if kind not in _OUTLINES or len(points) < 2 or (kind == "polygon" and len(points) < 3):
        return None
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points[0], points[1]
        radius = hypot(edge_x - x, edge_y - y)
        return x - radius, y - radius, x + radius, y + radius
    return around(points)
