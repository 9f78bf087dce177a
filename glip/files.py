"""Puts files and folders on disk whole or not at all: written aside, flushed, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from glip.errors import JobFailed

PART_SUFFIX = ".part"
FOLDER_SUFFIX = ".unfinished"
_FEW = 100


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens `path` for writing such that it appears complete or not at all, even if the power fails.

    If the block raises, nothing appears and an earlier file of that name stays as it was.

    Raises:
        JobFailed: the file cannot be written, for instance because the disk is full.
    """
    aside = path.with_name(path.name + PART_SUFFIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to write into that takes the place of `path` once the block is done.

    If the block raises, an earlier folder of that name stays as it was. Between the two renames that exchange an
    earlier folder for the new one neither is there: a kill at that moment leaves no folder, never half a one.

    Raises:
        JobFailed: something cannot be written, for instance because the disk is full.
    """
    aside = path.with_name(path.name + FOLDER_SUFFIX)
    old = path.with_name(path.name + ".old" + FOLDER_SUFFIX)
    new_parent = None if path.parent.exists() else path.parent
    try:
        for leftover in (aside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        _flush(aside)
        if path.exists():
            path.replace(old)
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        for leftover in (aside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        if new_parent is not None:
            with suppress(OSError):  # it holds the folder, if that was finished
                new_parent.rmdir()


def _flush(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    if len(files) > _FEW and hasattr(os, "sync"):
        os.sync()  # one call for up to a million small files, where flushing each takes hours
        return
    # Few files are flushed one by one: a call for all would wait for whatever else this machine is writing.
    for file in files:
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())


def _not_written(path: Path, error: OSError) -> JobFailed:
    return JobFailed(
        f"Cannot write {path}: {error.strerror or error}. What was finished before is safe: "
        f"once that is repaired, the same command goes on from there."
    )


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power failure; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
