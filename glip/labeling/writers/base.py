"""What every format uses: an image with its boxes, facts about the whole export, folders of files, and safe XML."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec
import numpy as np
from numpy.typing import NDArray

from glip.boxes import clip_boxes
from glip.detections import Detections
from glip.errors import InputError
from glip.files import read_json, whole_folder, write_json
from glip.labeling.writers.images import ImagePlacer, lost_file
from glip.left_out import LeftOut

MARKER = "glip.json"
PARTS = ("train", "val", "test")
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
        part: one of `ExportInfo.parts`; "" if the export is not split.
    """

    id: int
    file_name: str
    width: int
    height: int
    found: Detections
    grounded: GroundedCaption | None = None
    part: str = ""

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
        placer: puts images beside their labels; None writes labels only.
        parts: of a split export, some of `PARTS`; () for one that is not split.
        left_out: filled by writers: what their format cannot hold.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    provenance: dict[str, Any]
    image_prefix: str = ""
    placer: ImagePlacer | None = None
    parts: tuple[str, ...] = ()
    left_out: list[LeftOut] = field(default_factory=list)


AddImage = Callable[[LabelledImage], None]
OpenFormat = Callable[[Path, ExportInfo], AbstractContextManager[AddImage]]


class _Marker(msgspec.Struct, frozen=True):
    """The part of an export's note of origin that says what of its folder glip wrote."""

    written: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


@contextmanager
def own_folders(
    root: Path, names: Sequence[str], info: ExportInfo, *, images: str = "", index: str = ""
) -> Iterator[list[Path]]:
    """Opens the folders of an export to write into; each appears whole or not at all.

    They replace those of an earlier export, and its folders that are not written again are removed. A note of origin is
    written beside them. Folders that glip did not write stay where they are.

    Args:
        root: folder of the export.
        names: folders in it.
        info: facts about the export.
        images: name of the folder of images, if the format has one of its own. It is opened last if images are to be
            placed, unless one is there that glip did not make.
        index: a file beside them that the caller writes afterwards. That of an earlier export is deleted before its
            folders are replaced: if this is interrupted in between, none is better than a wrong one.

    Raises:
        InputError: a folder exists and glip did not write it, or it holds images that would be lost.
    """
    earlier = _read_marker(root)
    wanted = list(names)
    if images and info.placer is not None:
        if (root / images).exists() and images not in earlier.written and not info.parts:
            info.placer.note_kept(root / images)
        else:
            wanted.append(images)
    for name in wanted:
        if (root / name).exists() and name not in earlier.written and not (root / name / MARKER).is_file():
            raise InputError(
                f"{root / name} exists and was not written by `glip export`. Move it, or choose another folder."
            )
    # Images that an earlier export placed still belong to the new labels, unless either is split.
    kept = {images} if info.placer is None and not info.parts and not earlier.parts else set()
    stale = [name for name in earlier.written if name not in wanted and name not in kept and (root / name).is_dir()]
    with ExitStack() as stack:
        opened = [stack.enter_context(whole_folder(root / name)) for name in (*wanted, *stale)]
        yield opened[: len(wanted)]
        for name, folder in zip((*wanted, *stale), opened, strict=True):
            refuse_loss(root / name, folder)
        if index:
            (root / index).unlink(missing_ok=True)
        written = dict.fromkeys((*wanted, *stale, *(kept & set(earlier.written))))
        write_json(root / MARKER, {**info.provenance, "written": list(written), "parts": info.parts})
    for name in stale:
        with suppress(OSError):
            (root / name).rmdir()


def refuse_loss(old: Path, new: Path) -> None:
    """Refuses to replace a folder that holds an image which the new one lacks: it may be the only copy.

    Raises:
        InputError: the message names the image.
    """
    if (lost := lost_file(old, new)) is not None:
        raise InputError(
            f"{lost} is an image that this export would delete, and glip deletes no images. Move {old}, or choose "
            f"another folder."
        )


def _read_marker(root: Path) -> _Marker:
    path = root / MARKER
    return read_json(path, _Marker, "the note of an export") if path.is_file() else _Marker()


def checked_name(image: LabelledImage) -> str:
    """Returns the name of an image.

    Raises:
        InputError: it leads out of its folder.
    """
    # Only by the rules of this system: a colon or backslash is a letter of a name where images can have it.
    path = PurePath(image.file_name)
    if not path.parts or path.anchor or ".." in path.parts or "\0" in image.file_name:
        raise InputError(f"{image.file_name!r} leads out of its folder; this format needs images below one folder.")
    return image.file_name


def write_beside(folder: Path, name: str, text: str, image: LabelledImage) -> None:
    """Writes the file of one image. Formats with one file per image find it by the image's name without its suffix.

    Args:
        folder: of such files.
        name: of the file, '/' between folders.
        text: its content.
        image: it belongs to.

    Raises:
        InputError: another image has the same name up to its suffix, or no file can have this name.
    """
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise InputError(
                f"Two images share the label file {name!r}, one of them {image.file_name!r}: this format identifies "
                f"images by their name without the suffix. Rename one, or choose another format."
            ) from None
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise InputError(
                f"The label file of {image.file_name!r} would be {name!r}, and the file system takes no such name "
                f"({os.strerror(error.errno)}). Rename the image, or choose another format."
            ) from None
        raise


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
