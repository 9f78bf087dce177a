"""What the commands show: data on stdout, talk and progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import typer
from rich.console import Console
from rich.table import Table


def say(text: str) -> None:
    """One line for the person at the terminal, on stderr."""
    typer.echo(text, err=True)


def print_json(value: object) -> None:
    """`value` as indented JSON on stdout, for scripts."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; plain columns without colours where stdout is no terminal."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # In a pipe nobody knows the width: lines must not be wrapped at 80 columns then.
    width = None if sys.stdout.isatty() else 240
    Console(width=width, highlight=False).print(table)


@dataclass
class Progress:
    """Counts done and failed units of a running job; see `progress`."""

    _bar: object
    _task: object
    failed: int = 0

    def advance(self, count: int = 1) -> None:
        """`count` more units are done, failed ones included."""
        self._bar.advance(self._task, count)  # type: ignore[attr-defined]

    def fail(self, count: int = 1) -> None:
        """`count` of the units done have failed; shown beside the bar."""
        self.failed += count
        self._bar.update(self._task, failed=f"· {self.failed} failed")  # type: ignore[attr-defined]


@contextmanager
def progress(description: str, total: float | None, unit: str = "images") -> Iterator[Progress]:
    """A bar on stderr with count, rate and time left. `unit='bytes'` counts in megabytes."""
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
