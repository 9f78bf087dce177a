"""Lists the images in folders, files, patterns and list files, each with a name of its own.

Knows paths and suffixes; `remote_listing` handles addresses. Opens no image. Paths are text here: for 100 000 files
that is several times faster than Path, and checks of os.path return False where those of Path raise.
"""
# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH113, PTH118, PTH120

from __future__ import annotations

import fnmatch
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from itertools import takewhile
from pathlib import Path

from glip.errors import InputError
from glip.images.remote import RemoteFile, is_remote, shown

logger = logging.getLogger(__name__)

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
    ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi",
))
# fmt: on


@dataclass(frozen=True)
class ImageFile:
    """One image of a listing.

    Attributes:
        path: absolute path, or the address.
        name: its name in results: relative, separated by '/', unique in its listing, valid Unicode.
    """

    path: Path | RemoteFile
    name: str


def list_images(sources: Sequence[str | Path]) -> list[ImageFile]:
    """Returns every image of the sources once, in natural order of names (2 before 10).

    Names are relative to the folder that was given; if two images would get the same name, all names are relative to
    the common folder of all sources.

    Args:
        sources: folders (searched with their sub-folders, without hidden files and folders), files, patterns
            ('photos/**/*.jpg'), or list files (.txt: one path per line, relative to the list file, '#' comments);
            addresses of folders and images (s3://, gs://) and of images on web servers. Lists may hold addresses too.

    Raises:
        InputError: a source does not exist, or no source holds an image.
        JobFailed: the server of an address does not answer.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    names: dict[str, str] = {}
    roots = []
    given, listed = [], []
    for source in map(str, sources):
        if is_remote(source):
            given.append(source)
            continue
        root, paths = _find(source)
        roots.append(root)
        for path in paths:
            if is_remote(path):  # absolute paths have no two slashes in a row
                listed.append(path)
            else:
                names.setdefault(path, _name(path, root))
    if len(set(names.values())) < len(names):
        root = os.path.commonpath(roots)
        names = {path: _name(path, root) for path in names}
    listing = [ImageFile(Path(path), name) for path, name in names.items()]
    if given or listed:
        from glip.images.remote_listing import list_remote

        remote = list_remote(given, listed, set(names.values()), _is_image)
        listing += (ImageFile(file, name) for name, file in remote.items())
    if not listing:
        searched = ", ".join(repr(shown(str(source))) for source in sources) or "an empty list of sources"
        raise InputError(
            f"There is no image in {searched}, sub-folders included. Images end with "
            f"{' '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return sorted(listing, key=lambda image: _natural(image.name))


def _name(path: str, root: str) -> str:
    relative = path.removeprefix(root).lstrip(os.sep).replace(os.sep, "/")
    # File names may hold undecodable bytes, which JSON cannot hold; they are backslash-escaped.
    return relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _find(source: str) -> tuple[str, Iterable[str]]:
    """Returns the folder that names are relative to, and the absolute paths of the images of one source."""
    given = os.path.expanduser(source)
    path = os.path.abspath(given)
    if os.path.isdir(given):
        return path, _walk(path)
    if os.path.exists(given):
        return _listed(path) if path.lower().endswith(".txt") else (os.path.dirname(path), [path])
    if has_magic(source):
        parts = Path(path).parts
        fixed = [*takewhile(lambda part: not has_magic(part), parts)]
        return os.path.join(*fixed), _matching(os.path.join(*fixed), parts[len(fixed) :])
    raise InputError(f"There is no file or folder {source!r}, or its permissions forbid to open it.")


def _walk(root: str) -> Iterator[str]:
    """Yields all images below a folder. It enters every real folder once, so circular links do no harm."""
    seen = set()
    folders: list[str] = [root]
    links: list[str] = []
    while folders or links:
        if not folders:  # links come last and in a fixed order, so that a folder is named by its real path
            links.sort(reverse=True)
            folders.append(links.pop())
        folder = folders.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(folder, needed=folder == root):
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(entry.path)
            elif _is_image(entry.name):
                yield entry.path


def _entries(folder: str, needed: bool = False) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        if needed:
            raise InputError(f"The folder {folder!r} cannot be opened: {error.strerror}.") from None
        logger.warning("The folder %r cannot be opened (%s); its images are skipped.", folder, error.strerror)
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it as an image tells the reason
        return False


def _is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES


def _matching(root: str, parts: Sequence[str]) -> Iterator[str]:
    """Yields all images whose path below `root` matches a pattern, and all images in folders that match it."""
    for path in _expand(root, parts):
        if os.path.isdir(path):
            yield from _walk(path)
        elif _is_image(path):
            yield path


def _expand(folder: str, parts: Sequence[str]) -> Iterator[str]:
    # Not glob.glob: its '**' follows links, endlessly if they are circular.
    if not parts or parts == ("**",):
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _expand(folder, rest)
    for entry in _entries(folder):
        if part == "**":
            if _is_folder(entry) and not entry.is_symlink():
                yield from _expand(entry.path, parts)
        elif fnmatch.fnmatch(entry.name, part) and (not rest or _is_folder(entry)):
            yield from _expand(entry.path, rest)


def _listed(list_file: str) -> tuple[str, list[str]]:
    try:
        lines = Path(list_file).read_bytes().decode("utf-8-sig", "surrogateescape").split("\n")
    except OSError as error:
        raise InputError(f"The list {list_file!r} cannot be read: {error.strerror}.") from None
    folder = os.path.dirname(list_file)
    images, addresses = [], []
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if not line or line.startswith("#"):
            continue
        if is_remote(line):
            addresses.append(line)
        else:
            image = os.path.normpath(os.path.join(folder, line))
            if not os.path.isfile(image):
                raise InputError(f"Line {number} of the list {list_file!r} names {line!r}, which is not a file.")
            images.append(image)
    common = os.path.commonpath([folder, *map(os.path.dirname, images)])
    # Images outside the list's folder are named relative to their own common folder.
    root = folder if common == folder else os.path.commonpath([*map(os.path.dirname, images)])
    return root, images + addresses
