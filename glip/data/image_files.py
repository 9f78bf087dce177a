"""Finds the image files that an annotation file means, however its tool wrote their names, and their upright sizes.

A name is looked up below the given folders only: backslashes, percent-encoding, other Unicode forms, letter case, and
folders in front of it are tolerated where exactly one file answers. Knows nothing of boxes.
"""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePath, PureWindowsPath
from urllib.parse import unquote

from PIL import ExifTags, Image

from glip.data.coco import is_inside
from glip.errors import InputError

_IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2"),
    *(".ppm", ".pgm", ".pbm", ".qoi"),
)
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI")  # as `glip.images` reads
_MAX_PARTS = 64  # of a path; deeper ones are not looked for
_MAX_LISTED = 2_000_000  # entries of a folder that is searched for other spellings


def match_names(names: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Returns for each name the known name that it means; names that mean none or several are absent.

    Args:
        names: file names as one program wrote them.
        known: those of another. Equal names match first; then names that differ only in spelling (see the module),
            or by folders in front of one of them.
    """
    exact = set(known)
    by_last: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for name in known:
        parts = _key_parts(name)
        by_last.setdefault(parts[-1] if parts else "", []).append((name, parts))
    found: dict[str, str] = {}
    for name in names:
        if name in exact:
            found[name] = name
            continue
        parts = _key_parts(name)
        answers = [other for other, own in by_last.get(parts[-1] if parts else "", ()) if _ends_alike(parts, own)]
        if len(answers) == 1:
            found[name] = answers[0]
    owners: dict[str, int] = {}
    for name in found.values():
        owners[name] = owners.get(name, 0) + 1
    return {name: other for name, other in found.items() if owners[other] == 1 or name == other}


class ImageFinder:
    """Finds files below folders by the names that annotation files give them."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folder for folder in folders if folder.is_dir())
        self._listing = lru_cache(maxsize=256)(_listing)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Returns the folders that exist."""
        return self._folders

    def path(self, name: str) -> Path | None:
        """Returns the file of an exact relative name: the first that exists; None without one."""
        if not is_inside(name):
            return None
        return next((path for folder in self._folders if _is_file(path := folder / name)), None)

    def find(self, name: str) -> str | None:
        """Returns the exact relative name of the one file that a name means; None if there is none, or several."""
        if self.path(name) is not None:
            return name
        for spelling in dict.fromkeys((name, unquote(name))):
            parts = inner_parts(spelling)[-_MAX_PARTS:]
            for start in range(len(parts)):
                answers = {path.resolve(): (folder, path) for folder, path in self._answers(parts[start:])}
                if len(answers) == 1:
                    folder, path = next(iter(answers.values()))
                    return path.relative_to(folder).as_posix()
                if answers:
                    return None
        return None

    def _answers(self, parts: Sequence[str]) -> Iterator[tuple[Path, Path]]:
        for folder in self._folders:
            exact = folder.joinpath(*parts)
            if _is_file(exact):
                yield folder, exact
                continue
            for path in self._spelled_otherwise(folder, parts):
                yield folder, path

    def _spelled_otherwise(self, folder: Path, parts: Sequence[str]) -> Iterator[Path]:
        """Yields the files whose parts equal these up to Unicode form and, failing that, letter case."""
        current = [folder]
        for part in parts:
            found = []
            for place in current:
                names = self._listing(place).get(_key(part), ())
                same_letters = [name for name in names if _composed(name) == _composed(part)]
                found += [place / name for name in same_letters or names]
            current = found[:_MAX_PARTS]
        return (path for path in current if _is_file(path))


def image_files(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder whose names end like those of images, in the order of their paths."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if not name.startswith(".") and PurePath(name).suffix.lower() in _IMAGE_SUFFIXES:
                yield Path(parent, name)


def read_size(path: Path) -> tuple[int, int]:
    """Returns width and height of an image as it is shown, from its header alone. Loads no torch.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            warnings.simplefilter("ignore")
            width, height = image.size
            on_its_side = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except Exception as error:  # on damaged data Pillow raises exceptions of any kind
        raise InputError(f"The image {str(path)!r} cannot be read: {type(error).__name__}.") from error
    return (height, width) if on_its_side else (width, height)


def inner_parts(name: str) -> list[str]:
    """Returns the parts of a path after its last '..', without drive, root and '.'; they never lead out of a folder."""
    if "\0" in name:
        return []
    name = name.replace("\\", "/")
    if "://" in name:
        name = name.partition("://")[2]
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if parts and PureWindowsPath(parts[0]).drive:
        parts = parts[1:]
    while ".." in parts:
        parts = parts[parts.index("..") + 1 :]
    return parts


def _key_parts(name: str) -> tuple[str, ...]:
    return tuple(_key(part) for part in inner_parts(unquote(name)))


def _ends_alike(first: Sequence[str], second: Sequence[str]) -> bool:
    length = min(len(first), len(second))
    return length > 0 and tuple(first[-length:]) == tuple(second[-length:])


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _key(part: str) -> str:
    return unicodedata.normalize("NFC", part).casefold()


def _listing(folder: Path) -> Mapping[str, Sequence[str]]:
    names: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(_MAX_LISTED), entries, strict=False):
                names.setdefault(_key(entry.name), []).append(entry.name)
    except OSError:
        return {}
    return names


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL character
        return False
