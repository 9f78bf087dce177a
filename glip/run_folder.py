"""One run per output folder.

The operating system lets go of the lock when its process ends, however it ends: there is no stale lock to remove.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from glip.errors import InputError, JobFailed

LOCK_FILE = ".lock"

logger = logging.getLogger(__name__)


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Holds the output folder for the length of the block. The lock file stays; it means nothing by itself.

    Raises:
        InputError: another run holds it.
        JobFailed: the lock file cannot be made.
    """
    path = folder / LOCK_FILE
    try:
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise JobFailed(
            f"Cannot write into {folder}: {error.strerror or error}. Choose another folder with --out."
        ) from error
    with file:
        if not _lock(file):
            file.seek(0)
            holder = file.read().decode(errors="replace").strip()
            raise InputError(
                f"Another run is writing into {folder} ({holder or 'process unknown'}). "
                f"Wait until it ends, or choose another folder with --out."
            )
        with suppress(OSError):  # a full disk is told of where it matters: at the first file that counts
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


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
                "%s cannot be locked (%s): take care that only one run writes there.", file.name, error.strerror
            )
        return True
