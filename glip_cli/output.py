"""Shows results and progress: data on stdout, messages and progress bars on stderr.

Every value that is printed passes `printable` here: names come from files and from the network.
"""

from __future__ import annotations

import logging
import re
import shlex
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PIPE_WIDTH = 240  # columns of a table that is not written to a terminal, so that its lines are not wrapped

_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_LINE_ENDS_AND_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Format characters (category Cf) with a shape of their own: the number signs of Arabic, Syriac and Kaithi.
_VISIBLE_FORMAT = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Letters, marks and symbols that show nothing: the grapheme joiner, fillers of Hangul and Khmer, the blank of Braille.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_ZWNJ, _ZWJ, _EMOJI_STYLE = "\u200c", "\u200d", "\ufe0f"
_VIRAMA = 9  # combining class of the signs that join two letters of Indian scripts
_UNASSIGNED_IGNORED = range(0xE0000, 0xE1000)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def printable(value: object) -> str:
    """Returns a value as one line of text that a terminal shows and does not obey.

    Control characters, line ends, escape sequences, signs that change the direction of text, invisible characters and
    bytes that are no text (lone surrogates) become visible escapes such as `\\x1b`. Letters of all scripts and emoji
    stay as they are; joiners stay where they belong to them.
    """
    return _with_escapes(str(value), _escape)


def say(text: str) -> None:
    """Prints one line on stderr."""
    typer.echo(printable(text), err=True)


def print_line(text: object = "") -> None:
    """Prints one line on stdout."""
    typer.echo(printable(text))


def print_json(value: object) -> None:
    """Prints a value as indented JSON on stdout, for scripts.

    Characters that `printable` would not show are written as JSON escapes; a byte that is no text becomes the text of
    its escape (`\\xff`), as in the files that glip writes.
    """
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_without_surrogates(msgspec.to_builtins(value)))
    lines = msgspec.json.format(encoded, indent=2).decode().split("\n")
    text = "\n".join(_with_escapes(line, _json_escape) for line in lines)
    if not (sys.stdout.encoding or "utf-8").lower().startswith("utf"):
        text = _NOT_ASCII.sub(lambda match: _json_escape(match[0]), text)
    typer.echo(text)


_quiet = False


def be_quiet(quiet: bool) -> None:
    """Switches progress bars and the next step off or on, for `--quiet`."""
    global _quiet  # one terminal, one setting
    _quiet = quiet


def say_next(*words: object) -> None:
    """Prints the command that comes next, ready to be pasted; nothing in scripts, pipes and with `--quiet`."""
    if not _quiet and sys.stdout.isatty() and sys.stderr.isatty():
        say(f"Next: {shlex.join(map(str, words))}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], whole: Collection[int] = ()) -> None:
    """Prints a table on stdout; without colours if stdout is not a terminal.

    Args:
        columns: their titles.
        rows: the cells.
        whole: indices of the columns that are never wrapped, such as names that are copied.
    """
    # Text is shown as it is; in strings, rich reads [brackets] as markup and :names: as emoji.
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(Text(printable(column)), no_wrap=index in whole)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(width=width, highlight=False).print(table)


def show_exception(error: BaseException) -> None:
    """Prints the traceback of an error that nobody expected on stderr."""
    for block in traceback.format_exception(error):
        for line in block.splitlines():
            say(line)


def show_logs_and_warnings(level: int) -> None:
    """Sends the log of this process, and warnings of Python, to stderr.

    Args:
        level: minimum level of glip's own messages; those of other packages are shown from WARNING.
    """
    logging.basicConfig(handlers=[_Say()], level=logging.WARNING, force=True)
    logging.getLogger("glip").setLevel(level)
    warnings.showwarning = _show_warning


class _Say(logging.Handler):
    """Prints every message as one line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            say(record.getMessage())
            if record.exc_info and record.exc_info[1] is not None:
                show_exception(record.exc_info[1])
        except Exception:  # noqa: BLE001  # as the handlers of Python do
            self.handleError(record)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"{category.__name__}: {message}")


def _with_escapes(text: str, escape: Callable[[str], str]) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if _is_shown(character, text, index) else escape(character) for index, character in enumerate(text)
    )


def _is_shown(character: str, text: str, index: int) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        return character in _VISIBLE_FORMAT or (character in (_ZWNJ, _ZWJ) and _joins(text, index))
    if category == "Cn":
        return ord(character) not in _UNASSIGNED_IGNORED
    return category not in _LINE_ENDS_AND_CONTROLS and character not in _BLANK


def _joins(text: str, index: int) -> bool:
    """Returns whether a joiner belongs to its neighbours: to emoji, Arabic letters, or letters of India."""
    before, after = text[index - 1 : index], text[index + 1 : index + 2]
    if not before or not after:
        return False
    if unicodedata.combining(before) == _VIRAMA:
        return True
    if unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL":
        return True
    is_emoji = before == _EMOJI_STYLE or unicodedata.category(before) in ("So", "Sk")
    return text[index] == _ZWJ and is_emoji and unicodedata.category(after) == "So"


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python hands over the byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return _SHORT_ESCAPES.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub(lambda match: _escape(match[0]), value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(part) for part in value]
    return value


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

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.2f} {unit}/s" if speed else f"- {unit}/s")

    numbers = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(), Rate())
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *numbers,
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=False, disable=_quiet) as bar:
        yield Progress(bar, bar.add_task(printable(description), total=total, failed=""))
