"""Finds the splits that a word of the command line means: a name of the table of benchmarks, a folder or a file.

`find_suite` is for evaluation, `find_training_splits` for tuning. Looks at paths only; reads no annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

from glip.data.benchmarks import TABLE, Benchmark, Files, group_of_set
from glip.data.coco_folders import ACCEPTED_NAMES, CORRECTED_FILE, find_file, find_in_folder, sets_below
from glip.data.formats import ACCEPTED
from glip.data.odinw import AUTHORS_SPLIT, GROUPS, OdinwSet, odinw_group, odinw_sets
from glip.data.sources import how_to_fetch
from glip.data.splits import Split
from glip.data.yolo import are_one_split, read_yolo_file
from glip.errors import InputError, did_you_mean
from glip.left_out import LeftOut, first_examples

# How ODinW's classes are written: by their names, as in the authors' configurations, as in the paper's Table 10.
PromptStyle = Literal["plain", "original", "paper"]

_ODINW_SPLIT: dict[PromptStyle, str] = {"plain": "val", "original": AUTHORS_SPLIT, "paper": "test"}
_OWN_SOURCE = "the files themselves"


@dataclass(frozen=True)
class Suite:
    """The splits that one evaluation scores.

    Attributes:
        name: of the benchmark, or the path as given.
        splits: in the order of the benchmark.
        prompts: how ODinW's classes are written.
        source: the document that layout and protocol were read from.
        known: whether it is in the table, and so has published scores.
        missing: names of its data sets that are not on this machine; their average is not that of the benchmark.
        left_out: states what is missing, and the command that fetches it.
    """

    name: str
    splits: tuple[Split, ...]
    prompts: PromptStyle
    source: str
    known: bool = True
    missing: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class TrainingSplits:
    """The splits of a data set that can be tuned on.

    Attributes:
        name: of the data set.
        train: to learn from; the whole data set where it has no splits.
        val: to choose the best epoch by; None: a part of `train` is held out.
        test: to score once, at the end; None: `val` is scored.
    """

    name: str
    train: Split
    val: Split | None
    test: Split | None


def find_suite(dataset: str, root: Path, split: str | None = None, prompts: PromptStyle = "plain") -> Suite:
    """Returns the splits to evaluate. Of a benchmark of several data sets, those that are on this machine.

    Args:
        dataset: a name of `known_benchmarks`, a set of ODinW, a folder or a COCO file.
        root: the data folder; not used for a path.
        split: one of the benchmark's splits; None for its default, which for ODinW depends on `prompts`.
        prompts: how classes are written; other than plain for ODinW only.

    Raises:
        InputError: the name, split or prompts are unknown, or all data sets are missing.
    """
    if prompts not in get_args(PromptStyle):
        raise InputError(f"prompts is {prompts!r}; accepted are {', '.join(get_args(PromptStyle))}.")
    row = TABLE.get(_key(dataset))
    path = Path(dataset).expanduser()
    if row is None and path.exists():
        _refuse_prompts(prompts, dataset)
        return _suite_of_path(path, split)
    if row is None or row.name in GROUPS:
        return _odinw_suite(dataset, root, split, prompts)
    _refuse_prompts(prompts, row.name)
    chosen = _checked_split(row.name, split or next(iter(row.splits)), tuple(row.splits))
    found, missing = _locate(row, root, chosen)
    return Suite(
        row.name, tuple(found), prompts, row.source, missing=missing, left_out=_left_out(row.name, missing, found, root)
    )


def find_training_splits(
    dataset: str, root: Path, prompts: PromptStyle | None = None, images: Path | None = None
) -> tuple[list[TrainingSplits], list[LeftOut]]:
    """Returns the data sets to tune on. Of a benchmark of several data sets, those that are on this machine.

    Args:
        dataset: a name of `known_benchmarks` with a train split, a set of ODinW, a folder (also of folders) or a file.
        root: the data folder; not used for a path.
        prompts: how ODinW's classes are written; None: as its authors configured each set.
        images: folder of the images of a COCO file, if they are not next to it.

    Returns:
        The data sets, and what states the missing ones of a group.

    Raises:
        InputError: nothing is found, or a name is unknown.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"images is {images}, which is not a folder.")
    if _key(dataset) in GROUPS:
        return _training_group(_key(dataset), root, prompts or "original")
    path = Path(dataset).expanduser()
    if _key(dataset) not in TABLE and path.exists():
        if prompts not in (None, "plain"):
            _refuse_prompts(prompts, str(path))
        return _training_splits_of_path(path, images), []
    if images is not None:
        raise InputError(f"images is for a COCO file of your own; the images of {dataset} are in its own folders.")
    suite, splits = _known_training_splits(dataset, root, prompts)
    return splits, list(suite.left_out)


def name_of_benchmark(word: str) -> str:
    """Returns the name of a benchmark, or of a set of ODinW (`odinw/Aquarium`), in the form of the table.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    return _key(word) if _key(word) in TABLE else f"odinw/{_find_odinw_set(word).name}"


def _key(dataset: str) -> str:
    return dataset.strip().removeprefix("@").casefold()


def _refuse_prompts(prompts: PromptStyle, name: str) -> None:
    if prompts != "plain":
        raise InputError(
            f"prompts is {prompts!r}, which is for ODinW, whose authors worded some classes by hand; {name} is "
            f"prompted by its class names. Leave it out."
        )


def _checked_split(name: str, split: str, accepted: tuple[str, ...]) -> str:
    if split not in accepted:
        raise InputError(f"{name} has no split {split!r}; accepted are {', '.join(accepted)}.")
    return split


# Rows of the table ----------------------------------------------------------------------------------------------------


def _locate(row: Benchmark, root: Path, split: str) -> tuple[list[Split], tuple[str, ...]]:
    """Returns a split of each data set of a benchmark, and the names of the sets that are missing.

    Raises:
        InputError: a file is missing; of several data sets, all are missing.
    """
    split_files = row.splits[split]
    if split_files.folder_of_sets:
        folder = _existing(row, root, (root / split_files.folder_of_sets,))
        groups = group_of_set(row.name)
        found = [replace(one, group=groups.get(one.name, "")) for one in sets_below(folder, split)]
        if not found:
            raise InputError(f"{folder} has no data set with a split {split!r}. {_help(row, root)}")
        here = {one.name for one in found}
        return found, tuple(name for name in groups if name not in here)
    if not row.sets:
        return [_located(row, split_files, root, split, row.name)], ()
    return _those_here(row.sets, lambda name: _located(row, split_files, root, split, name))


_Name = TypeVar("_Name", str, OdinwSet)


def _those_here(sets: Sequence[_Name], locate: Callable[[_Name], Split]) -> tuple[list[Split], tuple[str, ...]]:
    """Returns the splits of the sets that are here, and the names of the others.

    Raises:
        InputError: none is here; the message is about the first.
    """
    found, missing, first = [], [], None
    for one in sets:
        try:
            found.append(locate(one))
        except InputError as error:
            missing.append(one if isinstance(one, str) else one.name)
            first = first or error
    if not found and first is not None:
        raise first
    return found, tuple(missing)


def _left_out(name: str, missing: Sequence[str], found: Sequence[object], root: Path) -> tuple[LeftOut, ...]:
    """Returns what states the missing sets of a benchmark."""
    if not missing:
        return ()
    sentence = (
        f"{len(missing)} sets of {name} are not below {root}; those that are there ({len(found)}) are used, and "
        f"averages are over these only. {how_to_fetch(name, TABLE[name].fetch, root)}"
    )
    return (LeftOut(kind="missing_sets", count=len(missing), sentence=sentence, examples=first_examples(missing)),)


def _located(row: Benchmark, split_files: Files, root: Path, split: str, name: str) -> Split:
    def paths(patterns: tuple[str, ...]) -> tuple[Path, ...]:
        return tuple(root / path.replace("{split}", split).replace("{set}", name) for path in patterns)

    annotations = _existing(row, root, paths(split_files.annotations))
    for path in paths(split_files.required):
        _existing(row, root, (path,))
    images = []
    for group in map(paths, split_files.images):
        _existing(row, root, group)
        images += [folder for folder in group if folder.exists()]
    return Split(
        name,
        split,
        split_files.format,
        annotations,
        tuple(images),
        size=split_files.size,
        notes=split_files.notes,
    )


def _existing(row: Benchmark, root: Path, paths: tuple[Path, ...]) -> Path:
    """Returns the first path that exists.

    Raises:
        InputError: none does.
    """
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        others = f" (or {', '.join(map(str, paths[1:]))})" if paths[1:] else ""
        raise InputError(f"{paths[0]}{others} is missing. {_help(row, root)}")
    return found


def _help(row: Benchmark, root: Path) -> str:
    how = how_to_fetch(row.name, row.fetch, root)
    return f"{row.name} is expected below `data_root` as {row.layout}. {how}"


# ODinW ----------------------------------------------------------------------------------------------------------------


def _odinw_suite(dataset: str, root: Path, split: str | None, prompts: PromptStyle) -> Suite:
    if _key(dataset) in GROUPS:
        name, sets = _key(dataset), odinw_group(_key(dataset))
        accepted = tuple(TABLE[name].splits)
    else:
        one = _find_odinw_set(dataset)
        name, sets = f"odinw/{one.name}", (one,)
        accepted = (*one.splits, AUTHORS_SPLIT)
    chosen = _checked_split(name, split or _ODINW_SPLIT[prompts], accepted)
    found, missing = _those_here(sets, lambda one: _odinw_split(one, name, root, chosen, prompts))
    return Suite(
        name,
        tuple(found),
        prompts,
        TABLE["odinw35"].source,
        missing=missing,
        left_out=_left_out(name, missing, found, root),
    )


def _find_odinw_set(dataset: str) -> OdinwSet:
    sets = {row.name.casefold(): row for row in odinw_sets()}
    name = _key(dataset).removeprefix("odinw/")
    if name in sets:
        return sets[name]
    known = {key: repr(key) for key in TABLE} | {key: repr(f"odinw/{row.name}") for key, row in sets.items()}
    hint = did_you_mean(dataset.casefold(), known)
    raise InputError(
        f"No benchmark is called {dataset!r}, and no such folder or file exists.{hint} Known benchmarks: "
        f"{', '.join(TABLE)}, single sets such as odinw/Aquarium, and any COCO folder or file."
    )


def _odinw_split(one: OdinwSet, suite: str, root: Path, split: str, prompts: PromptStyle) -> Split:
    authors = one.published["glip-35"]
    plain = one.published.get("glip-13", authors) if suite == "odinw13" else authors
    protocol = {"plain": plain, "original": authors, "paper": one.published.get("paper-13", plain)}[prompts]
    name = authors.split if split == AUTHORS_SPLIT else split
    row = TABLE.get(suite) or replace(TABLE["odinw35"], name=suite, splits={name: one.splits[name]})
    located = _located(row, one.splits[name], root, name, one.name)
    # ODinW's ChessPieces has a class of two spaces, which cannot be prompted; it stays in the annotations.
    kept = [index for index, class_name in enumerate(protocol.names) if class_name.strip()]
    wordings = None if prompts == "plain" else protocol.wordings
    notes = []
    if prompts == "paper" and "paper-13" not in one.published:
        notes.append(f"{one.name} is not one of the paper's thirteen sets, and is prompted by its class names.")
    if split == "test" and one.test_is_val:
        notes.append(f"{one.name} has no test images of its own: its test split is val.")
    return replace(
        located,
        classes=tuple((one.ids[index], protocol.names[index]) for index in kept),
        wordings=None if wordings is None else tuple(wordings[index] for index in kept),
        notes=tuple(notes),
    )


# Tuning ---------------------------------------------------------------------------------------------------------------


def _training_group(name: str, root: Path, prompts: PromptStyle) -> tuple[list[TrainingSplits], list[LeftOut]]:
    found: list[TrainingSplits] = []
    missing: list[str] = []
    for one in odinw_group(name):
        try:
            found += _known_training_splits(f"odinw/{one.name}", root, prompts)[1]
        except InputError:
            missing.append(one.name)
    if not found:
        raise InputError(
            f"None of the {len(missing)} sets of {name} is below {root}; the first is expected at "
            f"{root / odinw_group(name)[0].root}. Set `data_root` to the folder that holds odinw/, or fetch them. "
            f"{how_to_fetch(name, TABLE[name].fetch, root)}"
        )
    return found, list(_left_out(name, missing, found, root))


def _known_training_splits(dataset: str, root: Path, prompts: PromptStyle | None) -> tuple[Suite, list[TrainingSplits]]:
    """Returns the suite of the training splits, and all splits of its data sets."""
    row = TABLE.get(_key(dataset))
    if row is not None and "train" not in row.splits:
        tunable = ", ".join(name for name, one in TABLE.items() if "train" in one.splits)
        raise InputError(
            f"{row.name} has {' and '.join(row.splits)}, and no split to learn from. Accepted are {tunable}, "
            f"single sets such as odinw/Aquarium, and any COCO folder or file."
        )
    style: PromptStyle = prompts or ("plain" if row is not None else "original")
    suite = find_suite(dataset, root, "train", style)
    val, test = (_splits_by_name(dataset, root, split, style) for split in ("val", "test"))
    return suite, [TrainingSplits(one.name, one, val.get(one.name), test.get(one.name)) for one in suite.splits]


def _splits_by_name(dataset: str, root: Path, split: str, prompts: PromptStyle) -> dict[str, Split]:
    try:
        return {one.name: one for one in find_suite(dataset, root, split, prompts).splits}
    except InputError:
        return {}


# Folders and files of one's own ---------------------------------------------------------------------------------------


def _suite_of_path(path: Path, split: str | None) -> Suite:
    if path.is_file():
        whole = find_file(path)
        if split is not None and path.suffix.lower() not in (".yaml", ".yml"):
            raise InputError(f"split is {split!r}, which chooses a split of a folder; {path} is a file. Leave it out.")
        if path.suffix.lower() in (".yaml", ".yml"):
            whole = _split_of_yaml(whole, split)
        return Suite(str(path), (whole,), "plain", _OWN_SOURCE, known=False)
    one = find_in_folder(path, split)
    splits = [one] if one is not None else sets_below(path, split or "test")
    if not splits:
        wanted = f" with a split {split!r}" if split else ""
        raise InputError(f"{path} holds no annotations{wanted}. {ACCEPTED_NAMES} {ACCEPTED}. Or give the file itself.")
    return Suite(str(path), tuple(splits), "plain", _OWN_SOURCE, known=False)


def _training_splits_of_path(path: Path, images: Path | None) -> list[TrainingSplits]:
    corrected = path / CORRECTED_FILE
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        return [_training_splits_of_yaml(path, images)]
    if path.is_file() or corrected.is_file():
        whole = find_file(path if path.is_file() else corrected)
        return [TrainingSplits(whole.name, whole if images is None else replace(whole, images=(images,)), None, None)]
    if images is not None:
        raise InputError(f"images is for an annotation file; {path} is a folder.")
    train = find_in_folder(path, "train")
    if train is not None:
        return [TrainingSplits(train.name, train, find_in_folder(path, "val"), find_in_folder(path, "test"))]
    sets = sets_below(path, "train")
    if sets:
        val, test = ({one.name: one for one in sets_below(path, split)} for split in ("val", "test"))
        return [TrainingSplits(one.name, one, val.get(one.name), test.get(one.name)) for one in sets]
    split = find_in_folder(path, None)
    if split is None:
        raise InputError(
            f"{path} holds no annotations. {ACCEPTED_NAMES} {ACCEPTED}. Or give the file itself, and its folder of "
            f"images."
        )
    return [TrainingSplits(split.name, split, None, None)]


def _split_of_yaml(whole: Split, split: str | None) -> Split:
    """Returns a split of a data.yaml of YOLO: the only one, if none is chosen."""
    splits = read_yolo_file(whole.annotations).splits
    if split is None and len(splits) > 1 and not are_one_split(whole.annotations):
        raise InputError(f"{whole.annotations} has several splits: {', '.join(splits)}. Choose one with split.")
    return replace(
        whole,
        split=_checked_split(
            whole.name, {"valid": "val"}.get(split or "", split or "") or next(iter(splits), "train"), tuple(splits)
        ),
    )


def _training_splits_of_yaml(path: Path, images: Path | None) -> TrainingSplits:
    whole = replace(find_file(path), images=() if images is None else (images,))
    splits = read_yolo_file(path).splits
    if not splits:
        raise InputError(f"{path} has no split: none of train, val and test is there. Write the path of its images.")
    first = next(iter(splits))
    val, test = (
        replace(whole, split=split) if split in splits and split != first else None for split in ("val", "test")
    )
    return TrainingSplits(whole.name, replace(whole, split=first), val, test)
