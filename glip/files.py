"""Reads JSON with one-sentence errors, and writes files and folders whole or not at all.

Knows nothing of what a file holds. Whole or not at all means: written aside, flushed, renamed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from glip.errors import InputError, JobFailed

PART_SUFFIX = ".part"
FOLDER_SUFFIX = ".unfinished"
# The largest JSON file that is read, in bytes. The largest published annotation files are about half as large.
MAX_JSON_BYTES = 16 * 1024**3
_FEW_FILES = 100
_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_BYTE = re.compile(r"\(byte (\d+)\)")
_DIGITS = re.compile(r"(\d+)")
_LONGEST_NUMBER = 1000  # digits of a file name that are compared as a number
_NOT_FINITE = re.compile(rb"-?(NaN|Infinity|nan|inf)")
_FETCH_AGAIN = "Make or fetch it again."

_Type = TypeVar("_Type")


class UnexpectedJson(InputError):
    """JSON that is valid, but holds something else than what is read there.

    Attributes:
        reason: the difference and where it is, such as "Expected `int`, got `str` - at `$.images[0].id`".
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_json(
    path: Path,
    type: type[_Type],
    what: str,
    *,
    hint: str = "",
    repair: str = _FETCH_AGAIN,
    strict: bool = True,
    max_bytes: int = MAX_JSON_BYTES,
) -> _Type:
    """Returns the content of a JSON file as `type`.

    Args:
        path: the file.
        type: whatever msgspec decodes: a Struct, a dataclass, `list[int]`, `dict[str, Any]`.
        what: what the file should be, for the message: "an annotation file in COCO's form".
        hint: what to do if the file is something else, as a sentence.
        repair: what to do if the file is damaged, as a sentence.
        strict: False also takes numbers written as text ("500").
        max_bytes: a larger file is refused.

    Raises:
        UnexpectedJson: the file is JSON, but not `what`.
        InputError: the file cannot be read, is too large or is not JSON.
    """
    content = read_content(path, what, max_bytes)
    return decode_json(content, type, str(path), what, hint=hint, repair=repair, strict=strict)


def path_text(path: str | Path) -> str:
    """Returns a path or file name as text for JSON and pages; bytes of it that are not UTF-8 are backslash-escaped."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def natural_order(file_name: str) -> tuple[list[str | int], str]:
    """Returns a sort key of a file name by which 2 comes before 10."""
    parts = _DIGITS.split(file_name.casefold())
    # Python refuses to read a number of thousands of digits; the name itself decides between those.
    return [int(part[:_LONGEST_NUMBER]) if index % 2 else part for index, part in enumerate(parts)], file_name


def read_content(path: Path, what: str, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Returns the bytes of a file.

    Args:
        path: the file.
        what: what the file should be, for the message.
        max_bytes: a larger file is refused.

    Raises:
        InputError: the file cannot be read or is too large.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is a pipe or a device, not a file. Give {what}.")
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"{path} is {size} bytes large; {what} has at most {max_bytes}. Is it another file?")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:  # a NUL character in the path
        raise InputError(f"Cannot read {str(path)!r}: {error}.") from error


def decode_json(
    content: bytes | str,
    type: type[_Type],
    where: str,
    what: str,
    *,
    hint: str = "",
    repair: str = _FETCH_AGAIN,
    strict: bool = True,
) -> _Type:
    """Returns JSON text as `type`. A UTF-8 byte order mark in front of it is skipped.

    Args:
        content: the text.
        type: as for `read_json`.
        where: where the text stands, for the message: "labels/a.jsonl, line 3".
        what: as for `read_json`.
        hint: as for `read_json`.
        repair: as for `read_json`.
        strict: as for `read_json`.

    Raises:
        UnexpectedJson: the text is JSON, but not `what`.
        InputError: the text is not JSON.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    content = content.removeprefix(_UTF8_MARK)
    try:
        return msgspec.json.decode(content, type=type, strict=strict)
    except msgspec.ValidationError as error:
        # The decoder stops at the first difference, so the rest of the text may still be no JSON at all.
        problem = _problem_of(content, repair)
        if problem is not None:
            raise InputError(f"{where} {problem}") from error
        ending = f" {hint}" if hint else ""
        # In backticks they would be fields of the API, which the command line shows as options.
        difference = str(error).replace("`", "'")
        line = _line_of(content, str(error))
        if "out of range" in difference:
            difference = f"a number is too large for 64 bits ({difference})"
        raise UnexpectedJson(f"{where} is not {what}: {difference}{line}.{ending}", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{where} {json_problem(content, error, repair)}") from error


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON with a line end, whole or not at all.

    Raises:
        JobFailed: the file cannot be written.
    """
    with whole_file(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def json_problem(content: bytes, error: Exception, repair: str = _FETCH_AGAIN) -> str:
    """Returns why a JSON decoder refused a text, as the end of a sentence that begins with the name of its file.

    Args:
        content: the whole text.
        error: raised by the decoder: msgspec.DecodeError, UnicodeDecodeError or RecursionError.
        repair: what to do about it, as a sentence.
    """
    if isinstance(error, RecursionError):
        return f"nests its lists and objects too deeply to be read. {repair}"
    message = str(error)
    if (problem := text_problem(content, repair)) is not None:
        return problem
    if "truncated" in message:
        return f"is cut off: its JSON ends in the middle, after {len(content)} bytes. {repair}"
    if (position := _BYTE.search(message)) is None:
        return f"is not valid JSON: {message}. {repair}"
    byte = int(position[1])
    if (word := _not_finite_at(content, byte)) is not None:
        return (
            f"holds {word[0].decode()} instead of a number ({_place(content, word.start())}); numbers must be finite. "
            f"Leave out what has none."
        )
    if "trailing characters" in message and content.lstrip()[:1] == b"{":
        return "holds several JSON objects, perhaps one per line. Put them into one list: [ …, … ]."
    reason = _BYTE.sub("", message).strip()
    return f"is not valid JSON: {reason} ({_place(content, byte)}). {repair}"


def text_problem(content: bytes, repair: str = _FETCH_AGAIN) -> str | None:
    """Returns why bytes are not UTF-8 text with something in it, as `json_problem` does; None if they are."""
    if not content.removeprefix(_UTF8_MARK).strip():
        return f"is empty. {repair}"
    encoding = next((name for mark, name in _OTHER_MARKS.items() if content.startswith(mark)), None)
    if encoding is not None:
        return f"is written in {encoding}; JSON is read as UTF-8. Save it as UTF-8."
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return (
            f"is not UTF-8: byte {error.start} is {content[error.start : error.start + 1]!r} "
            f"(line {_line(content, error.start)}). Save it as UTF-8, or write such letters as \\u escapes."
        )
    return None


def line_of_entry(content: bytes, key: str | None, index: int) -> int | None:
    """Returns the line of an entry of a list in JSON text; None if it cannot be told or the text has one line.

    Args:
        content: the text.
        key: the list's key in the object that the text is; None if the text is the list.
        index: of the entry.
    """
    if b"\n" not in content.strip():
        return None
    try:
        inner = content.removeprefix(_UTF8_MARK)
        whole = inner if key is None else bytes(msgspec.json.decode(inner, type=dict[str, msgspec.Raw])[key])
        entries = msgspec.json.decode(whole, type=list[msgspec.Raw])
        position = content.find(whole)
        for entry in entries[:index]:
            position = content.find(entry, position) + len(memoryview(entry))
        return _line(content, content.find(entries[index], position))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, IndexError):
        return None


_ENTRY = re.compile(r"at `\$(?:\.(\w+))?\[(\d+)\]")


def _line_of(content: bytes, difference: str) -> str:
    found = _ENTRY.search(difference)
    line = None if found is None else line_of_entry(content, found[1], int(found[2]))
    return "" if line is None else f" (line {line})"


def _problem_of(content: bytes, repair: str) -> str | None:
    if (problem := text_problem(content, repair)) is not None:
        return problem
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return json_problem(content, error, repair)
    return None


def _not_finite_at(content: bytes, byte: int) -> re.Match[bytes] | None:
    # The decoder stops at the first letter that fits no number, which comes after a minus sign.
    return _NOT_FINITE.match(content, max(0, byte - 1)) or _NOT_FINITE.match(content, byte)


def _place(content: bytes, byte: int) -> str:
    return f"line {_line(content, byte)}, byte {byte}"


def _line(content: bytes, byte: int) -> int:
    return content.count(b"\n", 0, byte) + 1


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
    """Yields an empty folder to write into; it replaces `path` when the block ends.

    If the block raises, an earlier folder of that name stays as it was. A process killed between the two renames that
    exchange the folders leaves no folder of that name, never half of one.

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
            with suppress(OSError):  # not empty if the folder was finished
                new_parent.rmdir()


def _flush(folder: Path) -> None:
    # Links lead to content that was not written here, and that may be read-only.
    files = [path for path in folder.rglob("*") if path.is_file() and not _is_link(path)]
    if len(files) > _FEW_FILES and hasattr(os, "sync"):
        os.sync()  # one call for up to a million small files; flushing each takes hours
        return
    # A few files are flushed one by one: one call for all would wait for whatever else this machine is writing.
    for file in files:
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())


def _is_link(path: Path) -> bool:
    return path.is_symlink() or path.stat().st_nlink > 1


def _not_written(path: Path, error: OSError) -> JobFailed:
    return JobFailed(
        f"Cannot write {path}: {error.strerror or error}. Finished work is safe: once this is repaired, "
        f"the same command resumes."
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
