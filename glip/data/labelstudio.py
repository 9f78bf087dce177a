"""Reads exports of Label Studio (JSON and JSON-MIN): rectangles, ellipses and polygons become boxes in pixels.

Coordinates are percent of the image. A rotated rectangle becomes the box around it. Brush masks are skipped and
counted. Of several annotations of a task, the ground truth or else the first that was not cancelled is read;
predictions are read only if no task has an annotation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import cos, isfinite, radians, sin
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from glip.data.builder import XYXY, DatasetBuilder, around
from glip.data.coco import is_inside
from glip.data.coco_checks import Place
from glip.data.coco_reading import CocoFile
from glip.data.image_files import ImageFinder, inner_parts, read_size
from glip.errors import InputError
from glip.files import decode_json, read_content

_WHAT = "an export of Label Studio"
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
_IMAGE = re.compile(r"\.(jpe?g|png|webp|bmp|gif|tiff?|avif|jp2)$", re.IGNORECASE)
_BRUSHES = ("brush", "brushlabels", "bitmask", "bitmasklabels")
_POINTS = ("keypoint", "keypointlabels", "vector", "vectorlabels")


class _Region(msgspec.Struct):
    value: Any = None
    type: str = ""
    id: Any = None
    original_width: Any = None
    original_height: Any = None


class _Annotation(msgspec.Struct):
    result: list[_Region] | None = None
    was_cancelled: bool | None = False
    ground_truth: bool | None = False


class _Task(msgspec.Struct):
    data: dict[str, Any] | None = None
    annotations: list[_Annotation] | None = None
    completions: list[_Annotation] | None = None
    predictions: list[_Annotation] | None = None

    @property
    def made_by_people(self) -> list[_Annotation]:
        """Returns the annotations, which old versions call completions."""
        return [one for one in (self.annotations or self.completions or []) if not one.was_cancelled]


def read_labelstudio(path: Path, images: Sequence[Path] = ()) -> CocoFile:
    """Reads an export.

    Args:
        path: the JSON file.
        images: folders where its images may be.

    Raises:
        InputError: the file is something else or damaged.
    """
    content = read_content(path, _WHAT)
    tasks = _tasks(path, content)
    builder = DatasetBuilder(path)
    reader = _Reader(Place(path, content), builder, ImageFinder(images), (*images, path.parent)[0])
    by_people = any(task.made_by_people for task in tasks)
    for index, task in enumerate(tasks):
        found = task.made_by_people if by_people else (task.predictions or [])
        if by_people and not found:
            builder.skip("tasks_without_annotation", "tasks are not annotated and are not read", f"task {index}")
            continue
        if len(found) > 1:
            builder.note("tasks have several annotations; the ground truth or the first is read", f"task {index}")
        found.sort(key=lambda one: not one.ground_truth)
        reader.add(index, task, (found[0].result or []) if found else [])
    notes = () if by_people else (f"{path} has no annotations of people; its predictions are read.",)
    return builder.build(tuple(images), notes)


def _tasks(path: Path, content: bytes) -> list[_Task]:
    try:
        tasks = decode_json(content, list[_Task], str(path), _WHAT)
    except InputError:
        rows = decode_json(content, list[dict[str, Any]], str(path), _WHAT)
        tasks = [_of_minimal(path, row) for row in rows]
    if tasks and all(task.data is None for task in tasks):
        rows = decode_json(content, list[dict[str, Any]], str(path), _WHAT)
        tasks = [_of_minimal(path, row) for row in rows]
    return tasks


def _of_minimal(path: Path, row: dict[str, Any]) -> _Task:
    """Returns a row of JSON-MIN as a task: its image, and lists of regions under the names of the labelling."""
    data = {key: value for key, value in row.items() if isinstance(value, str)}
    regions = []
    for value in row.values():
        for region in value if isinstance(value, list) else []:
            if isinstance(region, dict):
                kind = next((key for key in region if key.endswith("labels")), "rectangle")
                sides = (region.get("original_width"), region.get("original_height"))
                regions.append(_Region(region, kind, None, *sides))
    if not data:
        raise InputError(f"{path} is not {_WHAT}: a task has no image. Export it as JSON.")
    return _Task(data, [_Annotation(regions)])


class _Reader:
    def __init__(self, place: Place, builder: DatasetBuilder, finder: ImageFinder, folder: Path) -> None:
        self._place, self._builder, self._finder, self._folder = place, builder, finder, folder

    def add(self, index: int, task: _Task, regions: Sequence[_Region]) -> None:
        name = self._name(index, task)
        width, height = self._size(index, name, regions)
        if not width:
            what = "tasks have no region that states the size of the image, whose file is not found; they are not read"
            self._builder.skip("images_without_size", what, name)
            return
        id = self._builder.add_image(name, width, height)
        labels = {str(r.id): _labels(r) for r in regions if r.type in ("labels", "choices") and r.id is not None}
        for number, region in enumerate(regions):
            where = f"region {number} of {name}"
            box = self._box(index, where, region)
            if box is None:
                continue
            names = _labels(region) or labels.get(str(region.id), [])
            if not names:
                self._builder.skip("regions_without_label", "regions have no label and are not read", where)
            x1, y1, x2, y2 = box
            for label in names:
                pixels = (x1 * width / 100, y1 * height / 100, x2 * width / 100, y2 * height / 100)
                self._builder.add_box(id, label, pixels)

    def _name(self, index: int, task: _Task) -> str:
        data = {key: value for key, value in (task.data or {}).items() if isinstance(value, str)}
        written = data.get("image") or data.get("img") or next(filter(_is_image, data.values()), "")
        name = _file_of(written)
        if not name:
            self._place.fail(None, index, f"the task has no image: {str(task.data)[:80]}. Its data name one.")
        candidates = [name, "/".join([*name.split("/")[:-1], _UPLOAD.sub("", name.split("/")[-1])])]
        for candidate in dict.fromkeys(candidates):
            if (found := self._finder.find(candidate)) is not None:
                return found
        return name if is_inside(name) else candidates[-1]

    def _size(self, index: int, name: str, regions: Sequence[_Region]) -> tuple[int, int]:
        for region in regions:
            width, height = region.original_width, region.original_height
            if all(isinstance(side, int | float) and 1 <= side < 1e9 for side in (width, height)):
                return int(width), int(height)
        try:
            return read_size(self._finder.path(name) or self._folder / name)
        except InputError:
            return 0, 0

    def _box(self, index: int, where: str, region: _Region) -> XYXY | None:
        """Returns xyxy in percent of the image; None for a region without a box."""
        value = region.value if isinstance(region.value, dict) else {}
        if region.type in _BRUSHES or "rle" in value:
            self._builder.skip("brush_masks", "brush masks have no box and are not read", where)
            return None
        if region.type in _POINTS:
            self._builder.skip("key_points", "key points have no box and are not read", where)
            return None

        def number(key: str) -> float:
            found = value.get(key, 0 if key == "rotation" else None)
            found = 0 if found is None and key == "rotation" else found
            if not isinstance(found, int | float) or isinstance(found, bool) or not abs(found) < 1e6:
                self._place.fail(None, index, f"{where}: {key} is {str(found)[:40]!r}; it must be a number of percent.")
            return float(found)

        if "points" in value:
            self._builder.note("polygons are read as the boxes around them", where)
            return self._around_points(index, where, value["points"])
        turn = radians(number("rotation") % 360)
        sides = region.original_width, region.original_height
        aspect = sides[0] / sides[1] if turn and all(isinstance(s, int | float) and s > 0 for s in sides) else 1.0
        if "radiusX" in value:
            x, y, rx, ry = number("x"), number("y"), number("radiusX"), number("radiusY")
            self._builder.note("ellipses are read as the boxes around them", where)
            half_x = ((rx * cos(turn)) ** 2 + (ry / aspect * sin(turn)) ** 2) ** 0.5
            half_y = ((rx * aspect * sin(turn)) ** 2 + (ry * cos(turn)) ** 2) ** 0.5
            return x - half_x, y - half_y, x + half_x, y + half_y
        if "width" not in value:
            return None  # choices, texts and relations
        x, y, width, height = number("x"), number("y"), number("width"), number("height")
        if not turn:
            return x, y, x + width, y + height
        self._builder.note("rotated rectangles are read as the boxes around them", where)
        corners = ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
        # Percent of the height are converted to percent of the width before turning, and back.
        return around(
            [
                (x + u * cos(turn) - v / aspect * sin(turn), y + u * aspect * sin(turn) + v * cos(turn))
                for u, v in corners
            ]
        )

    def _around_points(self, index: int, where: str, points: Any) -> XYXY:
        def is_point(point: Any) -> bool:
            numbers = point if isinstance(point, list) else []
            return len(numbers) == 2 and all(type(n) in (int, float) and isfinite(n) and abs(n) < 1e6 for n in numbers)

        if not isinstance(points, list) or not points or not all(map(is_point, points)):
            self._place.fail(None, index, f"{where}: points are {str(points)[:60]!r}; they must be pairs of percent.")
        return around([(float(x), float(y)) for x, y in points])


def _labels(region: _Region) -> list[str]:
    value = region.value if isinstance(region.value, dict) else {}
    found: Any = next((value[key] for key in (region.type, "rectanglelabels", "labels", "choices") if key in value), [])
    return [label for label in found if isinstance(label, str)] if isinstance(found, list) else []


def _is_image(text: str) -> bool:
    return bool(_IMAGE.search(_file_of(text)))


def _file_of(address: str) -> str:
    """Returns the path in an address: of `/data/local-files/?d=sub/a.jpg` sub/a.jpg, of a URL its path."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/".join(inner_parts(address))
    local = parse_qs(parts.query).get("d")
    if local:
        return "/".join(inner_parts(local[0]))
    path = parts.path if parts.scheme and len(parts.scheme) > 1 else address.partition("?")[0]
    return "/".join(inner_parts(unquote(path)))
