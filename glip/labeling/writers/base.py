"""What every format uses: an image with its boxes, facts about the whole export, folders of files, and safe XML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec
import numpy as np
from numpy.typing import NDArray

from glip.boxes import clip_boxes
from glip.data.coco import is_inside
from glip.detections import Detections
from glip.errors import InputError
from glip.files import whole_folder

MARKER = "glip.json"
# No escape makes these characters legal in XML 1.0.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class GroundedCaption:
    """The caption of an image, with the boxes of its phrases.

    Attributes:
        caption: the text.
        spans: (P) for each phrase its character ranges.
        found: the boxes of the image; labels index the phrases.
    """

    caption: str
    spans: Sequence[Sequence[tuple[int, int]]]
    found: Detections


@dataclass(frozen=True)
class LabelledImage:
    """An image and the boxes selected for it.

    Attributes:
        id: counts from 1 in the order of the listing, unreadable images left out.
        file_name: relative, '/' between folders.
        width: pixels after EXIF orientation.
        height: likewise.
        found: labels index `ExportInfo.names`; boxes may reach beyond the edge of the image.
        grounded: its own caption; None where all images have the same classes.
    """

    id: int
    file_name: str
    width: int
    height: int
    found: Detections
    grounded: GroundedCaption | None = None

    def visible_boxes(self) -> tuple[NDArray[np.float64], list[int]]:
        """Returns the boxes clipped to the image, for formats that allow nothing beyond its edge.

        Returns:
            (K, 4) xyxy, and the index of each among the boxes. Boxes without area inside the image are left out.
        """
        boxes = clip_boxes(self.found.boxes.astype(np.float64), np.array([self.width, self.height], np.float64))
        visible = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        return boxes[visible], visible.tolist()


@dataclass(frozen=True)
class ExportInfo:
    """Facts that hold for all images of an export.

    Attributes:
        names: of the classes.
        ids: COCO category ids of the classes.
        provenance: where the boxes come from and how they were selected; equal for equal exports.
        image_prefix: put before file names where a format needs an address.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    provenance: dict[str, Any]
    image_prefix: str = ""


AddImage = Callable[[LabelledImage], None]
OpenFormat = Callable[[Path, ExportInfo], AbstractContextManager[AddImage]]


@contextmanager
def own_folder(path: Path, info: ExportInfo) -> Iterator[Path]:
    """Opens a folder with one file per image; it appears whole or not at all, with a note of its origin.

    Only a folder with such a note is ever replaced. Images placed beside it stay where they are.

    Raises:
        InputError: the folder exists, and glip did not write it.
    """
    if path.exists() and not (path / MARKER).is_file():
        raise InputError(f"{path} exists and was not written by `glip export`. Move it, or choose another folder.")
    with whole_folder(path) as folder:
        (folder / MARKER).write_bytes(msgspec.json.format(msgspec.json.encode(info.provenance), indent=2) + b"\n")
        yield folder


def write_beside(folder: Path, name: str, text: str, image: LabelledImage) -> None:
    """Writes the file of one image. Formats with one file per image find it by the image's name without its suffix.

    Args:
        folder: of such files.
        name: of the file, '/' between folders.
        text: its content.
        image: it belongs to.

    Raises:
        InputError: another image has the same name up to its suffix, or the name leads out of the folder.
    """
    if not is_inside(image.file_name):
        raise InputError(f"{image.file_name!r} leads out of its folder; this format needs images below one folder.")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(
            f"Two images share the label file {name!r}, one of them {image.file_name!r}: this format identifies images "
            f"by their name without the suffix. Rename one, or choose another format."
        ) from None


def xml_text(value: str) -> str:
    """Returns `value` escaped for the inside of an XML element, line breaks kept.

    Raises:
        InputError: it contains a character that XML cannot hold.
    """
    return escape(_checked(value), {"\r": "&#13;"})


def xml_attribute(value: object) -> str:
    """Returns `value` as a quoted XML attribute.

    Raises:
        InputError: it contains a character that XML cannot hold.
    """
    return quoteattr(_checked(str(value)))


def _checked(value: str) -> str:
    if _FORBIDDEN.search(value):
        raise InputError(
            f"{value!r} contains a control character, which XML cannot hold. Rename it, or choose another format."
        )
    return value
