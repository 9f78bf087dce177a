"""What every format is made from: an image with its boxes, and the facts about the whole export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from glip.data.coco import is_inside
from glip.detections import Detections
from glip.errors import InputError
from glip.files import whole_folder

MARKER = "glip.json"


@dataclass(frozen=True)
class Grounded:
    """An image's own caption, with what was found of it.

    Attributes:
        caption: what was asked.
        spans: (P) for each phrase its character ranges.
        found: the boxes of `Image.found`, with labels that index the phrases.
    """

    caption: str
    spans: Sequence[Sequence[tuple[int, int]]]
    found: Detections


@dataclass(frozen=True)
class Image:
    """An image and the boxes that were chosen for it.

    Attributes:
        id: counts from 1 in the order of the listing, unreadable images left out.
        file_name: relative, '/' between folders.
        width: pixels after EXIF orientation.
        height: likewise.
        found: labels index `Facts.names`; boxes may reach beyond the image's edge.
        grounded: its caption; None where all images were asked for the same classes.
    """

    id: int
    file_name: str
    width: int
    height: int
    found: Detections
    grounded: Grounded | None = None

    def visible_boxes(self) -> tuple[NDArray[np.float64], list[int]]:
        """The boxes cut at the image's edge, for formats that allow nothing beyond it.

        Returns:
            (K, 4) xyxy, and their K places among the boxes: a box with no area inside the image is left out.
        """
        limit = np.array([self.width, self.height] * 2, np.float64)
        boxes = np.clip(self.found.boxes.astype(np.float64), 0, limit)
        visible = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        return boxes[visible], visible.tolist()


@dataclass(frozen=True)
class Facts:
    """What is true of all images.

    Attributes:
        names: of the classes.
        ids: COCO category ids of the classes.
        provenance: where the boxes come from and how they were chosen; the same for the same question, whenever asked.
        image_prefix: put before file names where a format wants an address.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    provenance: dict[str, Any]
    image_prefix: str = ""


AddImage = Callable[[Image], None]
OpenFormat = Callable[[Path, Facts], AbstractContextManager[AddImage]]


@contextmanager
def own_folder(path: Path, facts: Facts) -> Iterator[Path]:
    """A folder of a file per image, whole or absent, with a note of where it comes from.

    Only what such a note lies in is ever replaced; images that were put beside it stay where they are.

    Raises:
        InputError: there is such a folder already, and it is not one of ours.
    """
    if path.exists() and not (path / MARKER).is_file():
        raise InputError(f"{path} exists and was not written by `glip export`. Move it, or choose another --out.")
    with whole_folder(path) as folder:
        (folder / MARKER).write_bytes(msgspec.json.format(msgspec.json.encode(facts.provenance), indent=2) + b"\n")
        yield folder


def write_beside(folder: Path, name: str, text: str, image: Image) -> None:
    """Writes the file of one image; formats with a file an image find it by the image's name without its suffix.

    Args:
        folder: where the format keeps such files.
        name: '/'-relative name in it.
        text: what to write.
        image: that it belongs to.

    Raises:
        InputError: another image has the same name up to its suffix, or this one's leads out of the folder.
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
            f"Two images would both be labelled in {name!r}, one of them {image.file_name!r}: this format goes by "
            f"names without their suffix. Rename one, or choose another format."
        ) from None
