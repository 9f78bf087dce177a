"""LabelMe: one JSON file beside each image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from glip.errors import InputError
from glip.files import whole_folder
from glip.labeling.writers.base import (
    AddImage,
    ExportInfo,
    LabelledImage,
    checked_name,
    refuse_loss,
    write_beside,
)
from glip.labeling.writers.images import PlacedNames, split_suffix

# No .json: tools take every such file of the folder as labels.
_MARKER = ".glip-export"
# The form of the files, not of the program; readers warn about other major versions.
_VERSION = "5.5.0"


@contextmanager
def write_labelme(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes rectangles clipped to the image, in the sub-folders of the images; an image without boxes has a file, too.

    The images belong beside their files. The score of a box stands in its `description`, which LabelMe shows and keeps.

    Raises:
        InputError: the folder exists and glip did not write it, or it holds images that would be lost.
    """
    if path.exists() and not (path / _MARKER).is_file():
        raise InputError(f"{path} exists and was not written by `glip export`. Move it, or choose another folder.")
    names = PlacedNames(one_stem=True)
    with whole_folder(path) as folder:

        def add(image: LabelledImage) -> None:
            name = checked_name(image)
            if info.placer is not None:
                name = names.name(name)
                info.placer.note_name(image.file_name, name)
                info.placer.place(image.file_name, folder / name)
            content = msgspec.json.format(msgspec.json.encode(_document(image, name, info.names)), indent=2)
            write_beside(folder, f"{split_suffix(name)[0]}.json", f"{content.decode()}\n", image)

        yield add
        (folder / _MARKER).write_bytes(msgspec.json.encode(info.provenance) + b"\n")
        refuse_loss(path, folder)


def _document(image: LabelledImage, placed: str, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": list(_shapes(image, names)),
        "imagePath": placed.rpartition("/")[2],
        "imageData": None,
        "imageHeight": image.height,
        "imageWidth": image.width,
    }


def _shapes(image: LabelledImage, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    boxes, indices = image.visible_boxes()
    for index, (x1, y1, x2, y2) in zip(indices, boxes.tolist(), strict=True):
        yield {
            "label": names[image.found.labels[index]],
            "points": [[x1, y1], [x2, y2]],
            "group_id": None,
            "description": f"{image.found.scores[index]:.4f}",
            "shape_type": "rectangle",
            "flags": {},
            "mask": None,
        }
