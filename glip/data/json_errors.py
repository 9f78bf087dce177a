"""Says in one sentence why a JSON file that somebody gave cannot be read. Knows nothing of what stands in it."""

from __future__ import annotations

import re
from pathlib import Path

_BYTE = re.compile(r"\(byte (\d+)\)")
_NO_NUMBER = re.compile(rb"-?(NaN|Infinity|nan|inf)")
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\xef\xbb\xbf": "UTF-8 with a byte order mark"}


def why_no_text(path: Path, content: bytes) -> str | None:
    """What is wrong with the letters of a file; None if nothing is."""
    if not content.strip():
        return f"{path} is empty. Make or fetch it again."
    kind = next((kind for mark, kind in _MARKS.items() if content.startswith(mark)), None)
    if kind is not None:
        return f"{path} is written in {kind}; JSON is read as plain UTF-8. Save it as UTF-8 without a byte order mark."
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return (
            f"{path} is not UTF-8: byte {error.start} is {content[error.start : error.start + 1]!r}. JSON is read as "
            f"UTF-8; save it so, or write other letters as \\u escapes."
        )
    return None


def why_no_json(path: Path, content: bytes, error: str) -> str:
    """What is wrong with a file that the parser refused.

    Args:
        path: of the file.
        content: all of it.
        error: of the parser.
    """
    letters = why_no_text(path, content)
    if letters is not None:
        return letters
    if "truncated" in error:
        return f"{path} is cut off: its JSON ends in the middle, after {len(content)} bytes. Make or fetch it again."
    place = _BYTE.search(error)
    # The parser stops at the first letter that fits no number, which is behind a minus sign.
    if place and (
        word := _NO_NUMBER.match(content, max(0, int(place[1]) - 1)) or _NO_NUMBER.match(content, int(place[1]))
    ):
        line = content.count(b"\n", 0, word.start()) + 1
        return (
            f"{path} holds {word[0].decode()} instead of a number (line {line}, byte {word.start()}); numbers are "
            f"finite. Leave such boxes out."
        )
    if "trailing characters" in error and content.lstrip()[:1] == b"{":
        return f"{path} holds several JSON objects, one a line perhaps. Put them into one list: [ …, … ]."
    return f"{path} is not valid JSON: {error}. Make or fetch it again."
