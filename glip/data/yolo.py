"""Reads YOLO data sets as Ultralytics does: data.yaml, images, and a text file of boxes per image.

A line is `class cx cy w h`, relative to the size of the image; polygons, oriented boxes and poses become the box around
them. Paths are taken from the folder of data.yaml and never leave it. Knows nothing of prompts or models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, ScalarNode

from glip.data.builder import XYXY, DatasetBuilder, around
from glip.data.coco_reading import CocoFile
from glip.data.image_files import ImageFinder, image_files, inner_parts, read_size
from glip.errors import InputError
from glip.files import read_content
from glip.name_files import names_of_node
from glip.yaml_files import compose, plain_values

SPLITS = ("train", "val", "test")
_MAX_YAML = 4_000_000  # bytes
_MAX_LABELS = 64_000_000  # bytes of a label file
_MAX_LIST = 256_000_000  # bytes of a list of images
_CLASS = re.compile(r"\d{1,9}(\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class YoloFile:
    """The content of a data.yaml.

    Attributes:
        path: the file.
        names: of the classes.
        splits: of each split, the folders or lists of its images, as written.
        root: the `path` of the data set, as written.
        has_poses: whether label lines have keypoints after the box.
    """

    path: Path
    names: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]
    root: str
    has_poses: bool


def read_yolo_file(path: Path) -> YoloFile:
    """Reads a data.yaml, or a list of class names beside images/ and labels/.

    Raises:
        InputError: it cannot be read, or has no `names`.
    """
    try:
        text = read_content(path, "a data.yaml of YOLO", _MAX_YAML).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}.") from error
    if path.suffix.lower() not in (".yaml", ".yml"):
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
        return YoloFile(path, names, {"train": ("images",)}, "", has_poses=False)
    root = compose(text, str(path))
    nodes = dict[str, Any]()
    if isinstance(root, MappingNode):
        nodes = {str(key.value): value for key, value in root.value if isinstance(key, ScalarNode)}
    if "names" not in nodes:
        raise InputError(f"{path} is not a data.yaml of YOLO: it has no `names`. Write a list of class names there.")
    splits = {}
    for split in (*SPLITS, "valid"):
        value = plain_values(nodes.get(split), str(path))
        paths = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        if paths and all(isinstance(one, str) and one.strip() for one in paths):
            splits["val" if split == "valid" else split] = tuple(paths)
        elif value not in (None, "", []):
            raise InputError(f"{path}: {split} is {str(value)[:60]!r}; it must be a path or a list of paths.")
    folder = plain_values(nodes.get("path"), str(path))
    return YoloFile(
        path, names_of_node(nodes["names"], str(path)), splits, str(folder or ""), nodes.get("kpt_shape") is not None
    )


def read_yolo(path: Path, split: str, images: Sequence[Path] = ()) -> CocoFile:
    """Reads a split.

    Args:
        path: data.yaml.
        split: train, val or test; '' for the only one.
        images: folders of the images, if they are elsewhere.

    Raises:
        InputError: a file is missing or damaged, or a path leaves the folder of data.yaml.
    """
    file = read_yolo_file(path)
    wanted = {"valid": "val"}.get(split, split) or next(iter(reversed(file.splits)), "")
    if not images and wanted not in file.splits:
        raise InputError(f"{path} has no split {split!r}; it has {', '.join(file.splits) or 'none'}.")
    sources = list(images) or [_existing(file, one) for one in file.splits[wanted]]
    base = sources[0] if len(sources) == 1 and sources[0].is_dir() else path.parent
    builder = DatasetBuilder(path, file.names)
    for image in _images(sources, path.parent):
        _add(builder, file, image, base, bool(images))
    return builder.build((base,))


def are_one_split(path: Path) -> bool:
    """Returns whether all splits of a data.yaml are the same images, as `glip export` writes them."""
    return len(set(read_yolo_file(path).splits.values())) == 1


def _existing(file: YoloFile, text: str) -> Path:
    """Returns the folder or list that an entry means, below the folder of data.yaml."""
    folder = file.path.parent
    root = inner_parts(file.root)
    parts = inner_parts(text)
    for start in range(len(root) + 1):
        for begin in range(len(parts) + 1 if parts else 1):
            found = folder.joinpath(*root[start:], *parts[begin:])
            if (begin < len(parts) or not parts) and _exists(found):
                return found
    raise InputError(
        f"{file.path}: the images {text!r} are not below {folder}. Paths outside of the folder of data.yaml are not "
        f"read: move the file to its images, or give their folder in `images`."
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _images(sources: Sequence[Path], folder: Path) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            yield from image_files(source)
            continue
        finder = ImageFinder((folder, source.parent))
        text = read_content(source, "a list of images", _MAX_LIST).decode("utf-8-sig", "replace")
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            name = finder.find(line.strip())
            found = None if name is None else finder.path(name)
            if found is None:
                raise InputError(f"{source}, line {number}: the image {line.strip()[:200]!r} is not below {folder}.")
            yield found


def _add(builder: DatasetBuilder, file: YoloFile, image: Path, base: Path, moved: bool) -> None:
    name = image.relative_to(base).as_posix()
    try:
        width, height = read_size(image)
    except InputError as error:
        builder.skip("unreadable_images", "images cannot be read and are not used", f"{name}: {error}")
        return
    id = builder.add_image(name, width, height)
    labels = _label_file(file.path.parent, image, name, moved)
    if labels is None:
        what = "images have no label file and are read as images without boxes"
        builder.skip("images_without_label_file", what, name)
        return
    for label, box, kind in _boxes(labels, file):
        x1, y1, x2, y2 = box
        builder.add_box(id, label, (x1 * width, y1 * height, x2 * width, y2 * height))
        if kind:
            builder.note(f"{kind} are read as the boxes around them", name)


def _label_file(folder: Path, image: Path, name: str, moved: bool) -> Path | None:
    parts = list(image.relative_to(folder).parts) if image.is_relative_to(folder) else []
    candidates = []
    if "images" in parts[:-1]:
        index = len(parts) - 2 - parts[-2::-1].index("images")
        candidates.append(folder.joinpath(*parts[:index], "labels", *parts[index + 1 :]))
    if moved:
        candidates.append(folder / "labels" / name)
    candidates.append(image)
    return next((path for one in candidates if (path := one.with_suffix(".txt")).is_file()), None)


def _boxes(path: Path, file: YoloFile) -> Iterator[tuple[int, XYXY, str]]:
    """Yields class, box (xyxy, relative to the image) and '' or the kind of outline that it was."""
    try:
        text = read_content(path, "labels of YOLO", _MAX_LABELS).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        if not _CLASS.fullmatch(words[0]) or int(float(words[0])) >= len(file.names):
            raise InputError(
                f"{where}: the class is {words[0][:40]!r}; it must be an index of the {len(file.names)} names of "
                f"{file.path}, from 0."
            )
        bad = next((word for word in words[1:] if not _NUMBER.fullmatch(word) or not -1 <= float(word) <= 2), None)
        if bad is not None and not file.has_poses:
            raise InputError(
                f"{where}: {bad[:40]!r} is no fraction of the width or height; numbers must lie between 0 and 1."
            )
        yield (int(float(words[0])), *_outline(where, words[1:], file.has_poses))


def _outline(where: str, words: Sequence[str], has_poses: bool) -> tuple[XYXY, str]:
    count = len(words)
    if count in (4, 5) or (has_poses and count > 4):
        if not all(_NUMBER.fullmatch(word) and -1 <= float(word) <= 2 for word in words[:4]):
            raise InputError(f"{where}: {' '.join(words[:4])[:80]!r} is no box; numbers must lie between 0 and 1.")
        cx, cy, width, height = map(float, words[:4])
        return (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2), ""
    if count < 6 or count % 2:
        raise InputError(
            f"{where}: {count} numbers after the class; accepted are a box (4: centre, width and height) or a polygon "
            f"(an even number, 6 or more)."
        )
    numbers = [float(word) for word in words]
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    return around(points), "oriented boxes" if count == 8 else "polygons"
