"""The known benchmarks: what they are called, their class names, folders, splits and published wordings.

`@coco` and `@odinw/Aquarium` on the command line are rows of this table. The names stand in `benchmarks.json` beside
this file, in the order of their category ids and spelled as published, typing errors included: a benchmark's own
files know its classes by these spellings. Opens no data set; knows nothing of images or models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from glip.errors import InputError
from glip.prompts import Wording

GROUPS = ("odinw13", "odinw35")


@dataclass(frozen=True)
class Split:
    """Images with their truth; both paths are relative to `Benchmark.root`.

    Attributes:
        name: train, val, test or minival.
        annotations: a COCO file.
        images: the folder that its file names are relative to; '' is the root itself.
    """

    name: str
    annotations: str
    images: str

    def few_shot(self, shots: int, seed: int) -> str:
        """The published subset of this split: so many examples a class (1, 3, 5, 10), drawn with seed 3, 30 or 300."""
        folder = f"{self.images}/" if self.images else ""
        return f"{folder}fewshot_{self.name}_shot{shots}_seed{seed}.json"


@dataclass(frozen=True)
class Protocol:
    """One published way to ask a benchmark and to score the answer.

    Attributes:
        name: glip-35 and glip-13 (the authors' configurations), mmdet-35 and mmdet-13 (the other port's), or
            paper-13 (the paper's table of prompts, on the test images).
        split: what is scored.
        names: the classes as this protocol calls them, in the order of `Benchmark.ids`.
        wordings: how they stand in the caption; None for the plain names.
    """

    name: str
    split: Split
    names: tuple[str, ...]
    wordings: tuple[Wording, ...] | None


@dataclass(frozen=True)
class Benchmark:
    """A known set of classes, and where its images lie.

    Attributes:
        name: what stands after '@'.
        names: of the classes, in the order of their ids.
        ids: their category ids in the benchmark's files.
        root: its folder below the data folder; '' where the table names no files.
        splits: train, val, …
        protocols: published ways to score it.
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    root: str = ""
    splits: tuple[Split, ...] = ()
    protocols: tuple[Protocol, ...] = ()

    @property
    def wanted(self) -> dict[str, int]:
        """Category ids of the names that can be looked for: all but those of spaces (ODinW's ChessPieces has one)."""
        return {name: id for name, id in zip(self.names, self.ids, strict=True) if name.strip()}

    def split(self, name: str) -> Split:
        """One split by name.

        Raises:
            InputError: there is none of that name.
        """
        for split in self.splits:
            if split.name == name:
                return split
        known = ", ".join(split.name for split in self.splits) or "none that the catalog knows"
        raise InputError(f"{self.name!r} has no split {name!r}. It has {known}.")

    def protocol(self, name: str) -> Protocol:
        """One protocol by name.

        Raises:
            InputError: there is none of that name.
        """
        for protocol in self.protocols:
            if protocol.name == name:
                return protocol
        known = ", ".join(protocol.name for protocol in self.protocols) or "none that the catalog knows"
        raise InputError(f"{self.name!r} has no protocol {name!r}. It has {known}.")


def resolve(text: str) -> Benchmark:
    """The benchmark of a name, with or without '@', in any case of letters.

    Raises:
        InputError: there is none of that name.
    """
    table = _table()
    name = text.strip().removeprefix("@").strip()
    if name.casefold() in table:
        return table[name.casefold()]
    # A set of ODinW is often called by its own name alone.
    endings = {key.rpartition("/")[2]: key for key in table}
    close = get_close_matches(name.casefold(), [*table, *endings], n=1, cutoff=0.7)
    hint = f" Did you mean '@{table[endings.get(close[0], close[0])].name}'?" if close else ""
    lists = ", ".join(f"@{row.name}" for row in table.values() if "/" not in row.name)
    raise InputError(
        f"No benchmark is called {name!r}, and there is no such file.{hint} Known are {lists} and the 35 of "
        f"@odinw/…, for instance @odinw/Aquarium."
    )


def find_in_prompt(prompt: str) -> Benchmark | None:
    """The benchmark that a prompt of the command line means; None if it holds names, or is '@' and a file.

    A file wins over a benchmark of the same name: who keeps a file called 'coco' means it.

    Raises:
        InputError: it is '@' and something that is neither.
    """
    text = prompt.strip()
    name = text.removeprefix("@").strip()
    if not text.startswith("@") or not name or _is_file(name):
        return None
    # A path with a suffix was meant as a file; `split_names` says best what is wrong with it.
    return None if Path(name).suffix and name.casefold() not in _table() else resolve(text)


def group(name: str) -> tuple[Benchmark, ...]:
    """The benchmarks whose average is published as one number, in the order of their names.

    Raises:
        InputError: no such group.
    """
    if name not in GROUPS:
        raise InputError(f"No group of benchmarks is called {name!r}. Known are {' and '.join(GROUPS)}.")
    protocol = f"glip-{name.removeprefix('odinw')}"
    rows = _table().values()
    return tuple(row for row in rows if any(known.name == protocol for known in row.protocols))


def known_names() -> tuple[str, ...]:
    """All that `resolve` takes."""
    return tuple(row.name for row in _table().values())


class _ListRow(msgspec.Struct, frozen=True):
    """A row of `benchmarks.json` with names only. Without ids they count from 1."""

    name: str
    names: tuple[str, ...]
    ids: tuple[int, ...] = ()


class _OdinwRow(msgspec.Struct, frozen=True):
    """A set of ODinW, as far as it differs from the others.

    Attributes:
        name: after 'odinw/'.
        root: see `Benchmark`.
        names: of the 35-set configuration.
        in_13: also one of the 13.
        names_13: of the 13-set configuration, where they differ.
        flat: annotation files lie in the root, beside the images.
        minival: a smaller val split exists, and the authors' configuration scores it.
        test_is_val: no test split was made.
        renamed_by_mmdet: the other port scores against a copy of the file with other class names.
        wordings: of the authors' 35-set configuration, where it has any; spaces included, they are read too.
        mmdet_wordings: of the other port's.
        paper_wordings: of the paper's table.
    """

    name: str
    root: str
    names: tuple[str, ...]
    in_13: bool = False
    names_13: tuple[str, ...] = ()
    flat: bool = False
    minival: bool = False
    test_is_val: bool = False
    renamed_by_mmdet: bool = False
    wordings: tuple[Wording, ...] | None = None
    mmdet_wordings: tuple[Wording, ...] | None = None
    paper_wordings: tuple[Wording, ...] | None = None


class _File(msgspec.Struct, frozen=True):
    lists: tuple[_ListRow, ...]
    odinw: tuple[_OdinwRow, ...]


@cache
def _table() -> dict[str, Benchmark]:
    """Every row by its name in small letters."""
    content = msgspec.json.decode(files("glip.data").joinpath("benchmarks.json").read_bytes(), type=_File)
    rows = [*map(_from_list, content.lists), *map(_from_odinw, content.odinw)]
    return {row.name.casefold(): row for row in rows}


def _from_list(row: _ListRow) -> Benchmark:
    ids = row.ids or tuple(range(1, len(row.names) + 1))
    if row.name != "coco":
        return Benchmark(row.name, row.names, ids)
    splits = tuple(Split(name, f"annotations/instances_{name}2017.json", f"{name}2017") for name in ("train", "val"))
    return Benchmark(row.name, row.names, ids, root="coco", splits=splits)


def _from_odinw(row: _OdinwRow) -> Benchmark:
    splits = tuple(_odinw_splits(row))
    ids = tuple(range(1, len(row.names) + 1))
    return Benchmark(f"odinw/{row.name}", row.names, ids, row.root, splits, tuple(_protocols(row, splits)))


def _odinw_splits(row: _OdinwRow) -> Iterator[Split]:
    folders = {"train": "train", "val": "valid", "test": "valid" if row.test_is_val else "test"}
    if row.minival:
        folders["minival"] = "mini_val"
    for name, folder in folders.items():
        if row.flat:
            yield Split(name, f"{name}_annotations_without_background.json", "")
        else:
            yield Split(name, f"{folder}/annotations_without_background.json", folder)


def _protocols(row: _OdinwRow, splits: tuple[Split, ...]) -> Iterator[Protocol]:
    by_name = {split.name: split for split in splits}
    val = by_name["val"]
    renamed = Split("val", "valid/new_annotations_without_background.json", "valid") if row.renamed_by_mmdet else val
    authors = by_name["minival"] if row.minival else val
    yield Protocol("glip-35", authors, row.names, row.wordings)
    yield Protocol("mmdet-35", renamed, row.names, row.mmdet_wordings)
    if row.in_13:
        names = row.names_13 or row.names
        yield Protocol("glip-13", authors, names, None)
        yield Protocol("mmdet-13", val, names, None)
        yield Protocol("paper-13", by_name["test"], names, row.paper_wordings)


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # no path at all: too long, a NUL, an unknown ~user
        return False
