"""Reads class names from files of other kinds than a list of names, where it is plain what is meant.

data.yaml of YOLO (its `names`), COCO files (their categories), lists and label maps in JSON, lists in YAML. Knows
nothing of class files with thresholds and prompts (`glip.labeling.classes`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from glip.errors import InputError
from glip.files import decode_json, read_content, text_problem
from glip.yaml_files import compose

MAX_BYTES = 1_000_000_000  # of a COCO file that names are taken from
MAX_TEXT_BYTES = 4_000_000  # of a file written by hand
_DATA_YAML = {"train", "val", "test", "nc", "path", "download"}
_EXPECTED = "Expected are class names: one per line, a YAML or JSON list, a data.yaml of YOLO, or a COCO file."
_NAMES_KEY = re.compile(rb"(?m)^[\"']?names[\"']?\s*:")
_LIST_LINE = re.compile(r"-\s+\S")
_LIST_SUFFIXES = {".json", ".yaml", ".yml"}
_QUOTED_LIST = re.compile(r"\s*\[\s*[\"']")


@dataclass(frozen=True)
class NamedClasses:
    """Class names with their category ids; ids None where the file has none that COCO files can use."""

    names: tuple[str, ...]
    ids: tuple[int, ...] | None = None


def read_names(path: Path, *, lists: bool) -> NamedClasses | str:
    """Returns the names in a file of another kind, or its text if it is not one of them.

    Args:
        path: the file.
        lists: also read lists in JSON and YAML.

    Raises:
        InputError: it cannot be read, or is no text, or HTML, XML or a table.
    """
    content = read_content(path, "a list of class names", MAX_BYTES)
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"{" and (found := _of_json(path, content)) is not None:
        return found
    if len(content) > MAX_TEXT_BYTES:
        raise InputError(f"{path} is larger than {MAX_TEXT_BYTES // 10**6} MB, too large for a list. {_EXPECTED}")
    _refuse_other_kinds(path, content, start)
    text = content.decode("utf-8-sig")
    if _NAMES_KEY.search(content) and (node := _names_node(compose(text, str(path)))) is not None:
        return NamedClasses(names_of_node(node, str(path)))
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if lists and lines and (start == b"[" or all(_LIST_LINE.match(line) for line in lines)):
        try:
            node = compose(text, str(path))
        except InputError:
            # A name may begin with a bracket: "[red] light" on a line of its own.
            if path.suffix.lower() in _LIST_SUFFIXES or _QUOTED_LIST.match(text):
                raise
            return text
        if isinstance(node, SequenceNode):
            return NamedClasses(names_of_node(node, str(path)))
    return text


def names_of_node(node: Node, where: str) -> tuple[str, ...]:
    """Returns the names in a YAML list, or in a mapping of numbers to names in the order of the numbers.

    A bare `no`, `on` or 7 is the text as it is written.

    Raises:
        InputError: it is something else, or a name is missing.
    """
    if isinstance(node, MappingNode):
        pairs = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or not re.fullmatch(r"\d{1,9}", key.value):
                raise InputError(
                    f"{where}, line {key.start_mark.line + 1}: `names` maps numbers to names, and this key is no whole "
                    f"number from 0."
                )
            pairs.append((int(key.value), value))
        numbers = [number for number, _ in pairs]
        if len(set(numbers)) < len(numbers):
            double = next(number for number in numbers if numbers.count(number) > 1)
            raise InputError(
                f"{where}, line {node.start_mark.line + 1}: the number {double} of `names` is there twice."
            )
        return tuple(_text(value, where) for _, value in sorted(pairs, key=lambda pair: pair[0]))
    if isinstance(node, SequenceNode):
        return tuple(_text(value, where) for value in node.value)
    raise InputError(
        f"{where}, line {node.start_mark.line + 1}: `names` is {node.value[:60]!r}; write a list of names."
    )


def _text(node: Node, where: str) -> str:
    if isinstance(node, ScalarNode) and node.value.strip() and not node.tag.endswith(":null"):
        return str(node.value.strip())
    found = "nothing" if isinstance(node, ScalarNode) else "a list or mapping"
    raise InputError(f"{where}, line {node.start_mark.line + 1}: expected a class name, found {found}.")


def _names_node(root: Node | None) -> Node | None:
    """Returns the `names` of a data.yaml; None for another mapping."""
    if not isinstance(root, MappingNode):
        return None
    values = {key.value: value for key, value in root.value if isinstance(key, ScalarNode)}
    node = values.get("names")
    alone = set(values) == {"names"} and isinstance(node, MappingNode | SequenceNode)
    return node if node is not None and (alone or values.keys() & _DATA_YAML) else None


def _of_json(path: Path, content: bytes) -> NamedClasses | None:
    """Returns the names of a COCO file or a label map; None for another object."""
    try:
        whole: dict[str, Any] = decode_json(content, dict[str, Any], str(path), "a JSON object")
    except InputError:
        if content.rstrip()[-1:] == b"}" and b'"categories"' in content:
            raise
        return None  # perhaps YAML in braces
    categories = whole.get("categories")
    if isinstance(categories, list):
        return _of_categories(path, categories)
    numbers = all(key.isascii() and key.isdigit() and len(key) < 10 for key in whole)
    if whole and numbers and all(isinstance(name, str) and name.strip() for name in whole.values()):
        return NamedClasses(tuple(str(name) for _, name in sorted(whole.items(), key=lambda pair: int(pair[0]))))
    return None


def _of_categories(path: Path, categories: list[Any]) -> NamedClasses:
    rows = [row for row in categories if isinstance(row, dict)]
    names = [name for row in rows if isinstance(name := row.get("name"), str) and name.strip()]
    if len(names) < len(categories) or not names:
        raise InputError(f"{path} has categories without a name, so its classes cannot be taken. {_EXPECTED}")
    ids = [id for row in rows if type(id := row.get("id")) is int and 0 < id < 2**31]
    return NamedClasses(tuple(names), tuple(ids) if len(set(ids)) == len(names) else None)


def _refuse_other_kinds(path: Path, content: bytes, start: bytes) -> None:
    if b"\0" in content[:4096] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path} is a binary file. {_EXPECTED}")
    if (problem := text_problem(content, _EXPECTED)) is not None and content.strip():
        raise InputError(f"{path} {problem}")
    if start == b"<":
        raise InputError(f"{path} is HTML or XML, perhaps an error page of a server. {_EXPECTED}")
    if path.suffix.lower() in (".csv", ".tsv"):
        separators = b"," if path.suffix.lower() == ".csv" else b"\t"
        if any(separators in line for line in content.splitlines()):
            raise InputError(f"{path} is a table of several columns. {_EXPECTED}")
