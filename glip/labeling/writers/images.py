"""Puts the images of an export beside their labels, linked or copied, under names that readers of labels find.

Knows nothing of formats; each writer says where an image belongs.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from glip.errors import GlipError
from glip.left_out import LeftOut, first_examples

if TYPE_CHECKING:
    from glip.images import RemoteFile

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_NOTES = (".txt", ".xml", ".json", ".cache")  # written by glip and by trainers; never an image
MAX_NAME_BYTES = 200  # of a renamed file, so that a suffix still fits into the 255 of common file systems


class ImagePlacer:
    """Links or copies images into an export, and counts what it could not place.

    Args:
        images: where they are, by name.
        copy: copy their bytes. False makes hard links, and copies only where there can be none (another disk, FAT,
            somebody else's files). Symbolic links are not used: careful importers refuse files that lead out of their
            folder.
    """

    def __init__(self, images: Mapping[str, Path | RemoteFile], *, copy: bool = False) -> None:
        self._images, self._copy = images, copy
        self._missing: dict[str, None] = {}
        self._remote: dict[str, None] = {}
        self._renamed: dict[str, str] = {}
        self._copied: dict[str, None] = {}
        self._kept: list[Path] = []

    def place(self, file_name: str, target: Path) -> None:
        """Puts an image at `target`. An image that is not found is counted.

        Args:
            file_name: its name in the run.
            target: in a folder that is being written.

        Raises:
            OSError: it cannot be written, for instance because the disk is full.
        """
        source = self._images.get(file_name)
        if source is None:
            self._missing[file_name] = None
        elif isinstance(source, Path):
            if not source.is_file() or not os.access(source, os.R_OK):
                self._missing[file_name] = None
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            if not self._copy:
                if _link(source, target):
                    return
                self._copied[file_name] = None
            _copy_file(source, target)
        elif self._copy:
            self._download(file_name, source, target)
        else:
            self._remote[file_name] = None

    def _download(self, file_name: str, source: RemoteFile, target: Path) -> None:
        try:
            with source.open() as file:
                content = file.getvalue()
        except (GlipError, OSError):  # `NotFetched` is an OSError
            self._missing[file_name] = None
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def note_name(self, file_name: str, placed: str) -> None:
        """Notes the name of an image in an export, to report those that differ."""
        if placed.rpartition(".")[0] != file_name.rpartition(".")[0]:
            self._renamed[file_name] = placed

    def note_kept(self, folder: Path) -> None:
        """Notes a folder of images that is not glip's and was left as it was."""
        self._kept.append(folder)

    def left_out(self) -> Iterator[LeftOut]:
        """Yields what was not placed, and what has another name."""
        if count := len(self._missing):
            yield LeftOut(
                kind="images_not_found",
                count=count,
                sentence=f"{count} images were not found where they were labelled; their labels are written without "
                f"them. --images DIR says where they are now, --copy-images downloads those on servers, --no-images "
                f"leaves all out.",
                examples=first_examples(self._missing),
            )
        if count := len(self._remote):
            yield LeftOut(
                kind="remote_images",
                count=count,
                sentence=f"{count} images are on a server and cannot be linked. --copy-images downloads them.",
                examples=first_examples(self._remote),
            )
        if count := len(self._renamed):
            yield LeftOut(
                kind="images_renamed",
                count=count,
                sentence=f"{count} images have another name in an export, because their own would share a label file, "
                f"is one on other systems, or cannot stand in a list.",
                examples=first_examples(f"{name} → {placed}" for name, placed in self._renamed.items()),
            )
        if count := len(self._copied):
            yield LeftOut(
                kind="images_copied",
                count=count,
                sentence=f"{count} images are copied, because there can be no hard links to them from here (another "
                f"disk, or another owner).",
                examples=first_examples(self._copied),
            )
        for folder in self._kept:
            yield LeftOut(
                kind="image_folder_kept",
                count=1,
                sentence=f"{folder} was not made by glip, so no images were placed there. Move it to have them placed.",
            )


class PlacedNames:
    """Gives each image a name of its own in an export, also on systems that ignore case or Unicode form.

    Args:
        one_stem: names must differ without their suffix, since labels are found by it.
    """

    def __init__(self, *, one_stem: bool) -> None:
        self._one_stem = one_stem
        self._taken: set[str] = set()

    def name(self, file_name: str) -> str:
        """Returns the name of an image: its own, unless a reader of lists or another system would misread it.

        Args:
            file_name: relative, '/' between folders, inside its folder.
        """
        # Readers of lists strip lines, and take one that begins with # as a comment.
        clean = _CONTROL.sub("_", file_name)
        clean = clean if clean == clean.strip() and not clean.startswith("#") else f"_{clean.strip()}"
        stem, suffix = split_suffix(clean)
        wanted, number = stem, 1
        while self._key(wanted, suffix) in self._taken:
            ending = f"_{suffix[1:]}" if number == 1 and suffix else f"_{number}"
            wanted, number = _shortened(stem, ending), number + 1
        self._taken.add(self._key(wanted, suffix))
        return wanted + suffix

    def _key(self, stem: str, suffix: str) -> str:
        # Ending dots and spaces are dropped by Windows.
        name = stem if self._one_stem else stem + suffix
        return unicodedata.normalize("NFC", name.casefold()).rstrip(". ")


def split_suffix(file_name: str) -> tuple[str, str]:
    """Returns a path without its suffix, and the suffix with its dot; '' if the name itself has none.

    A dot in a folder's name, or at the beginning of the name, is none.
    """
    folders, slash, name = file_name.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return (file_name, "") if not stem else (folders + slash + stem, dot + suffix)


def lost_file(old: Path, new: Path) -> Path | None:
    """Returns an image that would be lost if the folder `new` replaced `old`; None if only links and copies would be.

    A file is not lost if it has another hard link, or if `new` holds one of its name, size and time. Labels are
    replaced.
    """
    known = {_state(path) for path in _images(new)}
    return next((path for path in _images(old) if path.stat().st_nlink == 1 and _state(path) not in known), None)


def _images(folder: Path) -> Iterator[Path]:
    """Yields all files that neither glip nor a trainer writes."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            if not path.is_symlink() and path.suffix not in _NOTES and not name.startswith("."):
                yield path


def _state(path: Path) -> tuple[str, int, int]:
    state = path.stat()
    return path.name, state.st_size, state.st_mtime_ns


def _link(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source.resolve())
    except (OSError, NotImplementedError):
        return False
    return True


def _copy_file(source: Path, target: Path) -> None:
    """Copies content and time, and not the mode: a copy of a read-only file is flushed like any other."""
    shutil.copyfile(source, target)
    state = source.stat()
    os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))


def _shortened(stem: str, ending: str) -> str:
    folders, slash, name = stem.rpartition("/")
    room = MAX_NAME_BYTES - len(ending.encode())
    return folders + slash + name.encode()[:room].decode(errors="ignore") + ending
