"""Class names of known data sets: what `@coco` or `@odinw/Aquarium` mean on the command line.

The names are in `class_lists.json` and `odinw.json`, in the order of their category ids and spelled as published,
typing errors included, because the data sets' own files use these spellings. Opens no data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from glip.data.odinw import odinw_sets
from glip.errors import InputError, did_you_mean


@dataclass(frozen=True)
class CategoryList:
    """The classes of a data set.

    Attributes:
        name: the word after '@'.
        names: class names, in the order of their ids.
        ids: category ids in the data set's files.
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[int, ...]

    @property
    def id_of_name(self) -> dict[str, int]:
        """Returns the category id of each name that can be prompted: all but names of spaces (ODinW's ChessPieces)."""
        return {name: id for name, id in zip(self.names, self.ids, strict=True) if name.strip()}


def find_class_list(name: str) -> CategoryList:
    """Returns the class list of a name, with or without '@', in any letter case.

    Raises:
        InputError: no class list has this name.
    """
    table = _class_lists()
    name = name.strip().removeprefix("@").strip()
    if name.casefold() in table:
        return table[name.casefold()]
    # A set of ODinW is often called by its own name alone.
    short_names = {key.rpartition("/")[2]: key for key in table}
    shown = {key: f"'@{table[short_names.get(key, key)].name}'" for key in (*table, *short_names)}
    hint = did_you_mean(name.casefold(), shown, cutoff=0.7)
    known = ", ".join(f"@{row.name}" for row in table.values() if "/" not in row.name)
    raise InputError(
        f"No class list is called {name!r}, and no such file exists.{hint} Known lists: {known} and the 35 of "
        f"@odinw/…, for example @odinw/Aquarium."
    )


def find_in_prompt(prompt: str) -> CategoryList | None:
    """Returns the class list that a prompt of the command line names; None if it holds names, or '@' and a file.

    A file wins over a class list of the same name.

    Raises:
        InputError: it begins with '@' and names neither a file nor a class list.
    """
    text = prompt.strip()
    name = text.removeprefix("@").strip()
    if not text.startswith("@") or not name or _is_file(name):
        return None
    # A name with a suffix is meant as a file; the reader of class files reports best why it cannot be read.
    return None if Path(name).suffix and name.casefold() not in _class_lists() else find_class_list(text)


class _ListRow(msgspec.Struct, frozen=True):
    """A row of `class_lists.json`. Without ids, they are 1, 2, …"""

    name: str
    names: tuple[str, ...]
    ids: tuple[int, ...] = ()


@cache
def _class_lists() -> dict[str, CategoryList]:
    """Returns every class list by its name in lower case."""
    content = files("glip.data").joinpath("class_lists.json").read_bytes()
    rows = msgspec.json.decode(content, type=tuple[_ListRow, ...])
    lists = [CategoryList(row.name, row.names, row.ids or tuple(range(1, len(row.names) + 1))) for row in rows]
    lists += [CategoryList(f"odinw/{row.name}", row.names, row.ids) for row in odinw_sets()]
    return {row.name.casefold(): row for row in lists}


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # not a path: too long, a NUL character, an unknown ~user
        return False
