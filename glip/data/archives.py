"""Unpacks .zip and .tar archives from elsewhere, checked before a byte is written, whole or not at all.

An archive is refused if a name leaves the folder, if it holds links or other special files, two entries of one name, or
far more than its size. Knows nothing of data sets.
"""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from glip.errors import JobFailed

# Images hardly shrink; the published JSON files shrink to a fifth. A tar file is not compressed.
MAX_RATIO = 40
MAX_ENTRIES = 2_000_000
_SMALL = 64 << 20  # bytes that any archive may unpack to
_CHUNK = 1 << 20
# Written by the archivers of macOS and Windows; no data set reads them.
_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")

Advance = Callable[[int], None]


class BadArchive(JobFailed):
    """The archive is damaged or refused; another one of the same bytes will be as well."""


@dataclass(frozen=True)
class _Entry:
    """A file of an archive: its parts below the folder, its size in bytes, and what its archive calls it."""

    path: PurePosixPath
    size: int
    source: zipfile.ZipInfo | tarfile.TarInfo


def unpacked_size(archive: Path) -> int:
    """Returns the number of bytes that an archive unpacks to.

    Raises:
        BadArchive: it is damaged, or refused.
    """
    with _opened(archive) as (entries, _):
        return sum(entry.size for entry in entries)


def unpack(archive: Path, folder: Path, advance: Advance | None = None) -> int:
    """Unpacks an archive into an empty folder and returns the number of files. Checksums of a .zip are compared.

    Args:
        archive: a .zip or .tar file.
        folder: an existing, empty folder.
        advance: called with the number of bytes that were written.

    Raises:
        BadArchive: it is damaged or refused. The folder may hold a part of it then.
        JobFailed: it does not fit on the disk, or cannot be read.
    """
    with _opened(archive) as (entries, open_entry):
        _refuse_same_names(archive, entries, ignore_case=_ignores_case(folder))
        for entry in entries:
            target = folder.joinpath(*entry.path.parts)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_entry(entry) as source, target.open("xb") as file:
                    _copy(archive, entry, source, file, advance)
            except OSError as error:
                raise JobFailed(
                    f"{entry.path} of {archive.name} cannot be written to {folder}: {error.strerror or error}. Free "
                    f"some space, or choose another data folder."
                ) from error
        return len(entries)


def _copy(archive: Path, entry: _Entry, source: IO[bytes], file: IO[bytes], advance: Advance | None) -> None:
    written = 0
    while True:
        try:
            chunk = source.read(_CHUNK)
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
            raise _damaged(archive, f"{entry.path}: {error}") from error
        if not chunk:
            break
        written += len(chunk)
        if written > entry.size:
            break
        file.write(chunk)
        if advance is not None:
            advance(len(chunk))
    if written != entry.size:
        raise _damaged(archive, f"{entry.path} has {written} bytes instead of {entry.size}")


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[list[_Entry], Callable[[_Entry], IO[bytes]]]]:
    """Yields the checked files of an archive, and a function that opens one."""
    try:
        with archive.open("rb") as file:
            if archive.suffix == ".zip":
                with zipfile.ZipFile(file) as opened:
                    yield _checked(archive, _zip_entries(archive, opened)), _opens_zip(archive, opened)
            else:
                with tarfile.open(fileobj=file, mode="r:") as opened_tar:
                    yield _checked(archive, _tar_entries(archive, opened_tar)), _opens_tar(opened_tar)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        raise _damaged(archive, str(error)) from error
    except OSError as error:
        raise JobFailed(f"Cannot read {archive}: {error.strerror or error}.") from error


def _opens_zip(archive: Path, opened: zipfile.ZipFile) -> Callable[[_Entry], IO[bytes]]:
    def open_entry(entry: _Entry) -> IO[bytes]:
        assert isinstance(entry.source, zipfile.ZipInfo)
        try:
            return opened.open(entry.source)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise _damaged(archive, f"{entry.path}: {error}") from error

    return open_entry


def _opens_tar(opened: tarfile.TarFile) -> Callable[[_Entry], IO[bytes]]:
    def open_entry(entry: _Entry) -> IO[bytes]:
        assert isinstance(entry.source, tarfile.TarInfo)
        file = opened.extractfile(entry.source)
        assert file is not None  # only regular files are entries
        return file

    return open_entry


def _zip_entries(archive: Path, opened: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.flag_bits & 0x1:
            raise _refused(archive, info.filename, "is encrypted")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(archive, info.filename, "is a link or a special file")
        if not info.is_dir():
            # The name as it is written: `filename` ends at a null character.
            yield _Entry(_safe_path(archive, info.orig_filename), info.file_size, info)


def _tar_entries(archive: Path, opened: tarfile.TarFile) -> Iterator[_Entry]:
    for member in opened:
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise _refused(archive, member.name, "is a link or a special file")
        yield _Entry(_safe_path(archive, member.name), member.size, member)


def _safe_path(archive: Path, name: str) -> PurePosixPath:
    """Returns a path that stays below the folder, on every operating system."""
    path = PurePosixPath(name)
    unsafe = (
        not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or any(":" in part or any(unicodedata.category(letter) == "Cc" for letter in part) for part in path.parts)
    )
    if unsafe:
        raise _refused(archive, name, "is not a plain path below the folder of the data set")
    return path


def _checked(archive: Path, found: Iterator[_Entry]) -> list[_Entry]:
    """Returns the entries, if there are not too many and they are not too large."""
    limit = max(_SMALL, MAX_RATIO * archive.stat().st_size)
    entries: list[_Entry] = []
    total = 0
    for entry in found:
        total += entry.size
        if total > limit or len(entries) >= MAX_ENTRIES:
            raise BadArchive(
                f"{archive.name} is refused: it unpacks to more than {limit} bytes or {MAX_ENTRIES} files, and has "
                f"{archive.stat().st_size} bytes itself. Nothing was unpacked; do not trust its origin."
            )
        if not set(entry.path.parts) & {*_LITTER}:
            entries.append(entry)
    if not entries:
        raise _damaged(archive, "it holds no file")
    return entries


def _refuse_same_names(archive: Path, entries: Sequence[_Entry], *, ignore_case: bool) -> None:
    """Refuses two entries that one file system may not tell apart: in Unicode's composition and, if it does, case."""
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for entry in entries:
        name = str(entry.path)
        key = _key(name, ignore_case)
        if key in seen:
            raise _refused(archive, name, f"has the same name as {seen[key]!r}")
        seen[key] = name
        folders |= {_key(str(parent), ignore_case) for parent in entry.path.parents}
    if both := folders & seen.keys():
        raise _refused(archive, seen[min(both)], "is a file and a folder")


def _key(name: str, ignore_case: bool) -> str:
    text = unicodedata.normalize("NFC", name)
    return unicodedata.normalize("NFC", text.casefold()) if ignore_case else text


def _ignores_case(folder: Path) -> bool:
    """Returns whether the file system of a folder takes a.tmp and A.tmp for one file."""
    probe = folder / ".glip-case"
    probe.touch()
    try:
        return probe.with_name(".GLIP-CASE").exists()
    finally:
        probe.unlink()


def _refused(archive: Path, name: str, why: str) -> BadArchive:
    return BadArchive(
        f"{archive.name} is refused: its entry {name!r} {why}. Nothing was unpacked; do not trust its origin."
    )


def _damaged(archive: Path, why: str) -> BadArchive:
    return BadArchive(f"{archive.name} is damaged ({why}). Nothing was unpacked; the same command fetches it again.")


def move_into(source: Path, target: Path) -> None:
    """Moves what was unpacked into a folder that may hold other files, folder by folder where it holds none.

    Files that are there with the same size stay. Folders with more files are moved first: the lists that name files
    come after them, so a reader never finds a list without its files.

    Raises:
        JobFailed: another file of that name is there, or nothing can be written. Files that are there are not changed.
    """
    files = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    for path in files:
        there = target / path
        if there.exists() and not (there.is_file() and there.stat().st_size == (source / path).stat().st_size):
            raise JobFailed(f"{there} is there already, with another content. Move it away; the same command resumes.")
    try:
        target.mkdir(parents=True, exist_ok=True)
        _move_children(source, target)
    except OSError as error:
        raise JobFailed(f"Cannot write below {target}: {error.strerror or error}. The same command resumes.") from error


def _move_children(source: Path, target: Path) -> None:
    children = sorted(source.iterdir(), key=lambda path: (-_number_of_files(path), path.name))
    for child in children:
        there = target / child.name
        if child.is_dir() and there.is_dir():
            _move_children(child, there)
        elif not there.exists():
            os.rename(child, there)  # noqa: PTH104  # unlike `Path.replace`, never over an existing folder


def _number_of_files(path: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(path)) if path.is_dir() else 0


def free_space(folder: Path) -> int:
    """Returns the free bytes of the disk that a folder, or its nearest existing parent, is on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
