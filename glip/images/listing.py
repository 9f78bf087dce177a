"""Lists the images in folders, files, patterns and list files, each with its own name, and what it passes over.

Knows paths and suffixes; `remote_listing` handles addresses. Opens no image. Paths are text here: for 100 000 files
that is several times faster than Path, and checks of os.path return False where those of Path raise.
"""
# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH113, PTH118, PTH120

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import has_magic
from itertools import takewhile
from pathlib import Path

from glip.errors import InputError, shortened
from glip.files import natural_order, path_text
from glip.images.formats import is_image, is_unread_image, left_out_formats, readable_suffixes
from glip.images.remote import RemoteFile, is_remote, shown
from glip.left_out import LeftOut, first_examples

logger = logging.getLogger(__name__)

_MAX_LIST_BYTES = 2**31  # of a list file: ten million lines of 200 letters
_MAX_SHOWN = 200  # characters of a line in a message


@dataclass(frozen=True)
class ImageFile:
    """One image of a listing.

    Attributes:
        path: absolute path, or the address.
        name: its name in results: relative, separated by '/', unique in its listing, valid Unicode.
    """

    path: Path | RemoteFile
    name: str


@dataclass(frozen=True)
class Listing:
    """The images of some sources, and what was passed over.

    Attributes:
        images: every image once, in natural order of names (2 before 10).
        left_out: images of formats that are not read, and folders that cannot be opened.
    """

    images: list[ImageFile]
    left_out: tuple[LeftOut, ...] = ()


def list_images(sources: Sequence[str | Path]) -> list[ImageFile]:
    """Returns the images of `list_sources`; logs a warning about what is left out.

    Raises:
        InputError, JobFailed: as for `list_sources`.
    """
    listing = list_sources(sources)
    for entry in listing.left_out:
        logger.warning("%s", entry)
    return listing.images


def list_sources(sources: Sequence[str | Path]) -> Listing:
    """Returns every image of the sources once, and what was passed over.

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
    passed = _PassedOver()
    for source in map(str, sources):
        if is_remote(source):
            given.append(source)
            continue
        root, paths = _find(source, passed)
        roots.append(root)
        for path in paths:
            if is_remote(path):  # absolute paths have no two slashes in a row
                listed.append(path)
            else:
                names.setdefault(path, _name(path, root))
    if len(set(names.values())) < len(names):
        root = os.path.commonpath(roots)
        names = {path: _name(path, root) for path in names}
    images = [ImageFile(Path(path), name) for path, name in names.items()]
    if given or listed:
        from glip.images.remote_listing import list_remote

        remote = list_remote(given, listed, set(names.values()), passed.wants)
        images += (ImageFile(file, name) for name, file in remote.items())
    left_out = passed.entries()
    if not images:
        searched = ", ".join(repr(shown(str(source))) for source in sources) or "an empty list of sources"
        also = "".join(f" {entry}" for entry in left_out)
        raise InputError(
            f"There is no image in {searched}, sub-folders included. Images end with "
            f"{' '.join(sorted(readable_suffixes()))}.{also}"
        )
    return Listing(sorted(images, key=lambda image: natural_order(image.name)), left_out)


@dataclass
class _PassedOver:
    """Collects what a search passes over. A path that several sources hold counts once."""

    _unread: dict[str, None] = field(default_factory=dict)
    _closed: dict[str, str] = field(default_factory=dict)

    def wants(self, path: str) -> bool:
        """Returns whether a file is an image that is read, by its suffix; notes one that is not read."""
        if is_image(path):
            return True
        if is_unread_image(path):
            self._unread[path] = None
        return False

    def cannot_open(self, folder: str, reason: str) -> None:
        self._closed[folder] = reason

    def entries(self) -> tuple[LeftOut, ...]:
        unread = left_out_formats(map(path_text, self._unread))
        if not self._closed:
            return unread
        count = len(self._closed)
        what = "folder cannot be opened and is" if count == 1 else "folders cannot be opened and are"
        reasons = (f"{path_text(folder)}: {reason}" for folder, reason in self._closed.items())
        sentence = f"{count} {what} left out; allow this user to read them."
        return (
            *unread,
            LeftOut(kind="closed_folders", count=count, sentence=sentence, examples=first_examples(reasons)),
        )


def _name(path: str, root: str) -> str:
    return path_text(path.removeprefix(root).lstrip(os.sep).replace(os.sep, "/"))


def _find(source: str, passed: _PassedOver) -> tuple[str, Iterable[str]]:
    """Returns the folder that names are relative to, and the absolute paths of the images of one source."""
    given = os.path.expanduser(source)
    path = os.path.abspath(given)
    if os.path.isdir(given):
        return path, _walk(path, passed)
    if os.path.exists(given):
        return _listed(path, passed) if path.lower().endswith(".txt") else (os.path.dirname(path), [path])
    if has_magic(source):
        parts = Path(path).parts
        fixed = [*takewhile(lambda part: not has_magic(part), parts)]
        return os.path.join(*fixed), _matching(os.path.join(*fixed), _once(parts[len(fixed) :]), passed)
    raise InputError(
        f"There is no file or folder {shortened(source, _MAX_SHOWN)!r}, or its permissions forbid to open it."
    )


def _once(parts: Sequence[str]) -> tuple[str, ...]:
    """Returns the parts of a pattern; several '**' in a row mean one, and would be expanded again and again."""
    return tuple(part for index, part in enumerate(parts) if part != "**" or parts[index - 1 : index] != ("**",))


def _walk(root: str, passed: _PassedOver) -> Iterator[str]:
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
        for entry in _entries(folder, passed, needed=folder == root):
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(entry.path)
            elif passed.wants(entry.path):
                yield entry.path


def _entries(folder: str, passed: _PassedOver, needed: bool = False) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        if needed:
            raise InputError(f"The folder {folder!r} cannot be opened: {error.strerror}.") from None
        passed.cannot_open(folder, error.strerror or str(error))
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it as an image tells the reason
        return False


def _matching(root: str, parts: Sequence[str], passed: _PassedOver) -> Iterator[str]:
    """Yields all images whose path below `root` matches a pattern, and all images in folders that match it."""
    for path in _expand(root, parts, passed):
        if os.path.isdir(path):
            yield from _walk(path, passed)
        elif passed.wants(path):
            yield path


def _expand(folder: str, parts: Sequence[str], passed: _PassedOver) -> Iterator[str]:
    # Not glob.glob: its '**' follows links, endlessly if they are circular.
    if not parts or parts == ("**",):
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _expand(folder, rest, passed)
    for entry in _entries(folder, passed):
        if part == "**":
            if _is_folder(entry) and not entry.is_symlink():
                yield from _expand(entry.path, parts, passed)
        elif fnmatch.fnmatch(entry.name, part) and (not rest or _is_folder(entry)):
            yield from _expand(entry.path, rest, passed)


def _listed(list_file: str, passed: _PassedOver) -> tuple[str, list[str]]:
    folder = os.path.dirname(list_file)
    images, addresses = [], []
    for number, line in enumerate((line.strip() for line in _lines(list_file)), start=1):
        if not line or line.startswith("#"):
            continue
        if is_remote(line):
            addresses.append(line)
            continue
        image = os.path.normpath(os.path.join(folder, line))
        if not os.path.isfile(image):
            raise InputError(
                f"Line {number} of the list {list_file!r} names {shortened(line, _MAX_SHOWN)!r}, which is not a file."
            )
        # A listed file need not look like an image, but one that is known not to be read is not tried.
        if passed.wants(image) or not is_unread_image(image):
            images.append(image)
    common = os.path.commonpath([folder, *map(os.path.dirname, images)])
    # Images outside the list's folder are named relative to their own common folder.
    root = folder if common == folder else os.path.commonpath([*map(os.path.dirname, images)])
    return root, images + addresses


def _lines(list_file: str) -> list[str]:
    path = Path(list_file)
    try:
        if path.stat().st_size > _MAX_LIST_BYTES:
            raise InputError(
                f"The list {list_file!r} is larger than {_MAX_LIST_BYTES // 2**30} GB. Is it another file?"
            )
        return path.read_bytes().decode("utf-8-sig", "surrogateescape").split("\n")
    except OSError as error:
        raise InputError(f"The list {list_file!r} cannot be read: {error.strerror}.") from None
