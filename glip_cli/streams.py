"""Keeps stdout and stderr usable: a stream that is closed, full, broken or ASCII ends no job.

Knows nothing of what is printed.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any


class _Sink(io.FileIO):
    """Takes every write, also where the file descriptor does not; `problem` is the first error."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes bytes, or drops them and remembers why."""
        try:
            return super().write(data)
        except OSError as error:
            self.problem = self.problem or error
            return len(memoryview(data).cast("B"))


def secure_streams() -> None:
    """Makes the stdout and stderr of this process take every write and every character.

    A closed one is opened on /dev/null: else the next file that is opened would take its number, and receive what
    libraries print. A stream that was replaced, as tests do, stays as it is.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or _sink_of(stream) is not None:
            continue
        encoding = "utf-8" if stream is None else stream.encoding
        with suppress(OSError, AttributeError):
            stream.flush()
        buffer = io.BufferedWriter(_Sink(number, "w", closefd=False))
        secured = io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)
        setattr(sys, name, secured)
        setattr(sys, f"__{name}__", secured)  # the flush at exit must not meet the broken stream again


def problem_of_stdout() -> str | None:
    """Returns why a part of the output was lost; None if nothing was, or if the reader of a pipe stopped reading."""
    sink = _sink_of(sys.stdout)
    if sink is None:
        return None
    sys.stdout.flush()
    if sink.problem is None or sink.problem.errno == errno.EPIPE:
        return None
    return sink.problem.strerror or str(sink.problem)


def _sink_of(stream: object) -> _Sink | None:
    sink = getattr(getattr(stream, "buffer", None), "raw", None)
    return sink if isinstance(sink, _Sink) else None
