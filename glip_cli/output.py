"""Shows results and progress: data on stdout, messages and progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PIPE_WIDTH = 240  # columns of a table that is not written to a terminal, so that its lines are not wrapped


def say(text: str) -> None:
    """Prints one message on stderr."""
    typer.echo(text, err=True)


def print_json(value: object) -> None:
    """Prints a value as indented JSON on stdout, for scripts."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table on stdout; without colours if stdout is not a terminal."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(width=width, highlight=False).print(table)


@dataclass
class Progress:
    """The progress bar of a running job; see `progress`.

    Attributes:
        failed: number of units that failed so far.
    """

    _bar: RichProgress
    _task: TaskID
    failed: int = 0
    _done: int = 0

    def advance(self, count: int = 1) -> None:
        """Counts `count` more units as done, failed ones included."""
        self._done += count
        self._bar.advance(self._task, count)

    def advance_to(self, done: int) -> None:
        """Sets the number of units that are done in all."""
        self.advance(done - self._done)

    def fail(self, count: int = 1) -> None:
        """Counts `count` of the units that are done as failed; the bar shows the total."""
        self.failed += count
        self._bar.update(self._task, failed=f"· {self.failed} failed")


@contextmanager
def progress(description: str, total: float | None, unit: str = "images") -> Iterator[Progress]:
    """Shows a bar on stderr with count, rate and time left.

    Args:
        description: stands before the bar.
        total: number of units; None if unknown.
        unit: name of the units. 'bytes' are shown in megabytes.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.2f} {unit}/s" if speed else f"- {unit}/s")

    numbers = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(), Rate())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *numbers,
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=False) as bar:
        yield Progress(bar, bar.add_task(description, total=total, failed=""))
