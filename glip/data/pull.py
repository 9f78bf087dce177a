"""Fetches the published files of a benchmark, and tells what of each is on this machine.

Every file is fetched into DATA-ROOT/.downloads, which is also how an interrupted pull is known: it resumes there. An
archive is unpacked beside its target and renamed, so a data set is whole or absent. Addresses: `glip.data.sources`.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from glip.data.archives import Advance, BadArchive, free_space, move_into, unpack, unpacked_size
from glip.data.benchmarks import TABLE, Benchmark
from glip.data.lookup import Suite, find_suite, name_of_benchmark
from glip.data.odinw import GROUPS
from glip.data.sources import (
    BY_HAND,
    Source,
    can_be_pulled,
    how_to_fetch,
    sources_of,
    splits_with_sources,
    with_root,
)
from glip.errors import InputError, JobFailed
from glip.fetch import OnDownload, Unreachable, fetch
from glip.left_out import LeftOut, first_examples

logger = logging.getLogger(__name__)

DOWNLOADS_FOLDER = ".downloads"
_ARCHIVES = (".zip", ".tar")
_COMMAND = re.compile("^Run `([^`]+)`")
_SPARE = 64 << 20  # bytes that stay free


@dataclass(frozen=True)
class Pulled:
    """What a pull did.

    Attributes:
        name: of the benchmark.
        data_root: the data folder.
        fetched: names of the files that were fetched now.
        here: names of the files whose content was there before.
        failed: file name → why it could not be fetched or unpacked.
        left_out: states what has to be fetched by hand.
    """

    name: str
    data_root: str
    fetched: tuple[str, ...] = ()
    here: tuple[str, ...] = ()
    failed: dict[str, str] | None = None
    left_out: tuple[LeftOut, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Returns whether the benchmark can be used now."""
        return not self.failed and not self.left_out


def pull(
    name: str,
    root: Path,
    split: str | None = None,
    on_progress: OnDownload | None = None,
) -> Pulled:
    """Fetches, checks and unpacks the files of a benchmark that are not in the data folder.

    Args:
        name: a benchmark of `glip data list`, or a set of ODinW such as odinw/Aquarium.
        root: the data folder.
        split: of the benchmark; None for its default. ODinW's archives hold all splits.
        on_progress: receives the progress of each download, and of each archive that is unpacked.

    Raises:
        InputError: the name or the split is unknown, or the benchmark has no public address.
        JobFailed: the network cannot be reached, or the disk is too small. What was fetched is kept.
    """
    name = name_of_benchmark(name)
    if not can_be_pulled(name):
        raise InputError(f"There is no address to fetch {name} from. {with_root(TABLE[name].fetch, root)}")
    sources = _sources(name, split)
    missing = [source for source in sources if not source.is_here(root)]
    _check_space(root, missing)
    here = tuple(source.file_name for source in sources if source not in missing)
    done = Pulled(name, str(root), here=here, failed={}, left_out=_by_hand(name, root))
    for source in missing:
        try:
            _pull_one(source, root, on_progress)
        except Unreachable as error:
            # The other files are on the same network.
            raise JobFailed(f"{source.file_name} could not be fetched: {error}.") from error
        except JobFailed as error:
            logger.warning("%s", error)
            done = replace(done, failed={**(done.failed or {}), source.file_name: str(error)})
        else:
            done = replace(done, fetched=(*done.fetched, source.file_name))
    return done


def _sources(name: str, split: str | None) -> tuple[Source, ...]:
    if split is not None:
        accepted = splits_with_sources(name)
        if not accepted:
            raise InputError(f"split is {split!r}, but the archives of {name} hold all splits. Leave it out.")
        if split not in accepted:
            raise InputError(f"{name} has no split {split!r}; accepted are {', '.join(accepted)}.")
    return sources_of(name, split)


def _by_hand(name: str, root: Path) -> tuple[LeftOut, ...]:
    folder = root / "flickr30k/flickr30k_images"
    if name not in BY_HAND or folder.is_dir():
        return ()
    sentence = with_root(BY_HAND[name], root)
    return (LeftOut(kind="by_hand", count=1, sentence=sentence, examples=first_examples([folder])),)


def _check_space(root: Path, missing: Sequence[Source]) -> None:
    """Refuses what certainly does not fit. Files of unknown size are checked one by one when they are fetched."""
    # One archive at a time is on the disk beside its content, which is at least as large.
    sizes = [source.size or 0 for source in missing]
    needed = sum(sizes) + max(sizes, default=0) + _SPARE
    free = free_space(root)
    if missing and needed > free:
        raise JobFailed(
            f"{needed / 1e9:.1f} GB are needed below {root}, and {free / 1e9:.1f} GB are free. Free some space, or "
            f"choose another data folder with `data_root`."
        )


def _pull_one(source: Source, root: Path, on_progress: OnDownload | None) -> None:
    """Fetches one file and puts its content in place.

    Raises:
        JobFailed: something failed; Unreachable if the host could not be reached.
    """
    downloads = root / DOWNLOADS_FOLDER
    try:
        downloads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobFailed(f"Cannot write into {root}: {error.strerror or error}. Choose another data folder.") from error
    file = downloads / source.file_name
    with FileLock(file.with_name(f"{file.name}.unpack.lock")):
        if source.is_here(root):  # another process was faster
            return
        fetch(source.url, file, published_hash=source.sha256, on_download=on_progress)
        if file.suffix in _ARCHIVES:
            _unpack(source, file, root, on_progress)
        else:
            target = root / source.folder / source.file_name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    if not source.is_here(root):
        absent = next(path for path in source.makes if not (root / path).exists())
        raise JobFailed(
            f"{source.url} does not hold {absent}, which {root} should have now. Its publisher may have changed it."
        )


def _unpack(source: Source, file: Path, root: Path, on_progress: OnDownload | None) -> None:
    aside = file.with_name(f"{file.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        size = unpacked_size(file)
        if size + _SPARE > free_space(root):
            raise JobFailed(
                f"{file.name} unpacks to {size / 1e9:.1f} GB, and {free_space(root) / 1e9:.1f} GB are free on the disk "
                f"of {root}. Free some space; the same command resumes."
            )
        aside.mkdir(parents=True)
        unpack(file, aside, _unpack_progress(source, size, on_progress))
        has_top = not source.top or [path.name for path in aside.iterdir()] == [source.top]
        move_into(aside, root / source.folder if has_top else root / source.folder / source.top)
        file.unlink()
    except BadArchive:
        file.unlink()
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack_progress(source: Source, size: int, on_progress: OnDownload | None) -> Advance | None:
    """Returns a callback that hands the bytes of an archive on, as the progress of a file of another name."""
    if on_progress is None:
        return None
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_progress(f"{source.url} (unpacking)", done, size)

    return advance


# What is here ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holding:
    """What of a benchmark is on this machine.

    Attributes:
        name: of the benchmark.
        about: one line for people.
        layout: the files it is made of, below the data folder.
        splits: each split → whether its files are here. Of several data sets, whether one is.
        sets: number of its data sets that are here, in the default split, and of all; (0, 0) if it is one data set.
        missing: names of the data sets that are not here.
        download: bytes to fetch for the default split; None if unknown.
        unfinished: bytes of downloads that were interrupted.
        command: fetches or makes it; '' if it has to be fetched by hand.
        fetch: how to get it, as a sentence.
    """

    name: str
    about: str
    layout: str
    splits: dict[str, bool]
    sets: tuple[int, int]
    missing: tuple[str, ...]
    download: int | None
    unfinished: int
    command: str
    fetch: str

    @property
    def state(self) -> str:
        """Returns what is here, in a few words."""
        found, total = self.sets
        if total and found:
            return "yes" if found == total else f"{found} of {total} sets"
        here = [split for split, is_here in self.splits.items() if is_here]
        return "no" if not here else "yes" if len(here) == len(self.splits) else ", ".join(here)


def holdings(root: Path) -> list[Holding]:
    """Returns what of each benchmark is below a data folder. Looks at paths only; opens no file."""
    return [_holding(row, root) for row in TABLE.values()]


def _holding(row: Benchmark, root: Path) -> Holding:
    suites = {split: _suite(row.name, root, split) for split in row.splits}
    first = next(iter(suites.values()))
    several = row.name in GROUPS or bool(row.sets) or any(files.folder_of_sets for files in row.splits.values())
    found: int = 0 if first is None else len(first.splits)
    missing: tuple[str, ...] = () if first is None else first.missing
    sources = [source for source in sources_of(row.name) if not source.is_here(root)]
    sizes = [source.size for source in sources]
    fetch = how_to_fetch(row.name, row.fetch, root)
    return Holding(
        name=row.name,
        about=row.about,
        layout=row.layout,
        splits={split: suite is not None for split, suite in suites.items()},
        sets=(found, found + len(missing)) if several else (0, 0),
        missing=missing,
        download=None if None in sizes or not can_be_pulled(row.name) else sum(size or 0 for size in sizes),
        unfinished=sum(_unfinished(root / DOWNLOADS_FOLDER / source.file_name) for source in sources),
        command=command[1] if (command := _COMMAND.search(fetch)) else "",
        fetch=fetch,
    )


def _suite(name: str, root: Path, split: str) -> Suite | None:
    try:
        return find_suite(name, root, split)
    except InputError:
        return None


def _unfinished(file: Path) -> int:
    """Returns the bytes of a download that was not finished, or not unpacked."""
    return sum(path.stat().st_size for path in (file, file.with_name(f"{file.name}.part")) if path.is_file())
