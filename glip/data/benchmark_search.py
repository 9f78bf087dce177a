"""From a word of the command line to the sets that it means: a name of the table, or a path."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

from glip.data.benchmark_rows import EvalSet, Prompts, Row, subsets
from glip.data.benchmarks import ODINW_SPLIT, TABLE, odinw_names, row_of_odinw
from glip.data.discovery import LOOKED_FOR, find_folder, find_json
from glip.errors import InputError


@dataclass(frozen=True)
class Benchmark:
    """What one command scores.

    Attributes:
        name: as given, or of the table.
        sets: in the order of the table.
        prompts: which wording was asked for.
        source: where the layout and the protocol were read.
        named: it stands in the table; not a folder of somebody's own.
    """

    name: str
    sets: tuple[EvalSet, ...]
    prompts: Prompts
    source: str
    named: bool = True


def find_benchmark(dataset: str, root: Path, split: str | None = None, prompts: Prompts = "plain") -> Benchmark:
    """The sets that a word of the command line means.

    Args:
        dataset: a name of `known_benchmarks`, a set of ODinW, a folder or a COCO file.
        root: the folder that the benchmarks' files lie below; not used for a path.
        split: one of its splits; None: the default, see `Row.splits`. ODinW's default goes with the prompts.
        prompts: how classes are asked; other than plain for ODinW only.

    Raises:
        InputError: the name, split or prompts are unknown, or a file is missing.
    """
    if prompts not in get_args(Prompts):
        raise InputError(f"--prompts is {prompts!r}; accepted are {', '.join(get_args(Prompts))}.")
    row = TABLE.get(dataset.strip().removeprefix("@").casefold())
    if row is None and Path(dataset).expanduser().exists():
        _refuse_prompts(prompts, dataset)
        return _of_path(Path(dataset).expanduser(), split)
    if row is None:
        row = row_of_odinw(dataset)
    if row is None:
        raise InputError(_unknown(dataset))
    if not row.name.startswith("odinw"):
        _refuse_prompts(prompts, row.name)
    if split is not None and split not in row.splits:
        raise InputError(f"{row.name} has no split {split!r}. It has {', '.join(row.splits)}.")
    chosen = split or (ODINW_SPLIT[prompts] if row.name.startswith("odinw") else row.splits[0])
    return Benchmark(row.name, tuple(row.find(row, root, chosen, prompts)), prompts, row.source)


def known_benchmarks() -> tuple[Row, ...]:
    """The table."""
    return tuple(TABLE.values())


def _refuse_prompts(prompts: Prompts, name: str) -> None:
    if prompts != "plain":
        raise InputError(
            f"--prompts {prompts} is for ODinW, whose authors worded some classes by hand; {name} is asked plainly. "
            f"Leave it out."
        )


def _unknown(dataset: str) -> str:
    close = get_close_matches(dataset.casefold(), [*TABLE, *(name.casefold() for name in odinw_names())], n=1)
    ending = {name.casefold(): f"odinw/{name}" for name in odinw_names()}
    hint = f" Did you mean {ending.get(close[0], close[0])!r}?" if close else ""
    return (
        f"No benchmark is called {dataset!r}, and there is no such folder or file.{hint} Known are "
        f"{', '.join(TABLE)}, single sets such as odinw/Aquarium, and any COCO folder or file."
    )


def _of_path(path: Path, split: str | None) -> Benchmark:
    """A folder or file of somebody's own."""
    source = "the files themselves"
    if path.is_file():
        if split is not None:
            raise InputError(f"--split {split} chooses among the files of a folder, and {path} is one file. Leave out.")
        found = find_json(path)
        item = EvalSet(path.stem, "", "coco", found.annotations, found.images)
        return Benchmark(str(path), (item,), "plain", source, named=False)
    one = find_folder(path, split)
    if one is not None:
        item = EvalSet(path.resolve().name, one.split, "coco", one.annotations, one.images)
        return Benchmark(str(path), (item,), "plain", source, named=False)
    several = subsets(path, split or "test")
    if not several:
        wanted = f" with a split {split!r}" if split else ""
        raise InputError(
            f"{path} holds no COCO annotations{wanted}. {LOOKED_FOR} Name the file itself with --dataset FILE.json."
        )
    return Benchmark(str(path), tuple(several), "plain", source, named=False)
