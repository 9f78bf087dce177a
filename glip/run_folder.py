"""One run per output folder: a lock, and the configuration on disk.

A run takes its folder with `lock_folder` and records its configuration in `run.json`. Resuming the folder with another
configuration is refused; the message names every field that differs, with both values. Labelling and training share
this file. Files written by 0.1.0 have the same form and are read.

The operating system releases the lock when its process ends, however it ends, so no stale lock is left to remove.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from glip.errors import InputError, JobFailed, shortened
from glip.files import read_json, whole_file

LOCK_FILE = ".lock"
RUN_FILE = "run.json"
_MAX_SHOWN = 80  # characters of a value in a message

logger = logging.getLogger(__name__)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Makes an output folder and holds its lock for the length of the block. The lock file stays and means nothing.

    Raises:
        InputError: another run holds the lock.
        JobFailed: the folder cannot be made, or the lock file cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise JobFailed(f"Cannot write into {folder}: {error.strerror or error}. Choose another folder.") from error
    with file:
        if not _lock(file):
            file.seek(0)
            holder = file.read().decode(errors="replace").strip()
            raise InputError(
                f"Another run is writing into {folder} ({holder or 'process unknown'}). "
                f"Wait until it ends, or choose another folder."
            )
        with suppress(OSError):  # a full disk is reported by the first file that matters
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def keep_configuration(
    folder: Path, configuration: Mapping[str, Any], *, names: Mapping[str, str] | None = None
) -> None:
    """Records the configuration of a run in `run.json`, or refuses to resume a run with another one.

    Args:
        folder: the output folder, locked by this process.
        configuration: everything that decides the result, as plain values. Groups may be nested.
        names: what to call a field in messages, by its key ('recipe.lr' inside a group); other fields by their key.

    Raises:
        InputError: the folder holds a run with another configuration.
        JobFailed: run.json cannot be written.
    """
    earlier = read_run_file(folder)
    if earlier is None:
        write_run_file(folder, configuration)
    else:
        refuse_change(folder, earlier, configuration, names=names)


def read_run_file(folder: Path) -> dict[str, Any] | None:
    """Returns the content of `run.json`, or None if the folder has none.

    Raises:
        InputError: it cannot be read.
    """
    path = folder / RUN_FILE
    if not path.exists():
        return None
    hint = "The configuration of this run is unknown: choose another folder, or delete this one."
    return read_json(path, dict[str, Any], "the configuration of a run", hint=hint, repair=hint)


def write_run_file(folder: Path, content: Mapping[str, Any] | msgspec.Struct) -> None:
    """Writes `run.json`.

    Raises:
        JobFailed: it cannot be written.
    """
    with whole_file(folder / RUN_FILE) as file:
        file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def refuse_change(
    folder: Path,
    earlier: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    fields: Iterable[str] | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Refuses to resume a run with another configuration.

    Args:
        folder: the output folder, for the message.
        earlier: the configuration it holds. A field that it lacks counts as null.
        now: the configuration of this run, as plain values.
        fields: the fields that must be equal; None for all fields of `now`.
        names: what to call a field in the message, by its key ('recipe.lr' inside a group).

    Raises:
        InputError: a field differs. The message names every one, with its earlier and its new value.
    """
    wanted = now if fields is None else {field: now[field] for field in fields}
    differing = [
        f"{(names or {}).get(field, field)} was {_shown(old)} and is now {_shown(new)}"
        for field, old, new in _differences(_plain(earlier), _plain(wanted))
    ]
    if differing:
        raise InputError(
            f"{folder} holds a run with another configuration: {'; '.join(differing)}. "
            f"Use the same configuration to resume it, or choose another folder."
        )


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields field, earlier value and new value of everything that differs."""
    for key, new in now.items():
        old = earlier.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{group}{key}.")
        elif old != new:
            yield f"{group}{key}", old, new


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values as JSON reads them back: tuples become lists."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values))
    return plain


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return shortened(text, _MAX_SHOWN)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: FileIO) -> bool:
        # Locks one byte far behind the text, so that others can read who holds it.
        file.seek(1 << 20)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(file: FileIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            logger.warning(
                "%s cannot be locked (%s): make sure that only one run writes there.", file.name, error.strerror
            )
        return True
