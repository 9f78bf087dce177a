"""Divides the work into shards, and writes their records.

A shard is a fixed list of images that becomes one file, `records/SSSSSS-IIIIII.jsonl`: series S, shard I. Images are in
natural order within a shard, and from shard to shard of a series, so that reading them back is a merge of a few sorted
streams. A later series takes precedence over an earlier one. The records themselves tell which images are done: there
is no progress file that could disagree with them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from glip.files import PART_SUFFIX, natural_order, whole_file
from glip.images import ImageFile, NotFetched, RemoteFile
from glip.labeling.records import (
    LISTING_FILE,
    RECORDS_FOLDER,
    DoubledLines,
    Head,
    Record,
    encode,
    is_records_file,
    read_all,
    series_of,
    shard_files,
)
from glip.run_folder import RUN_FILE

MAX_REQUESTS = 16  # remote images checked for changes at the same time


@dataclass(frozen=True)
class Shard:
    """Images that are written as one file of records."""

    series: int
    index: int
    images: tuple[ImageFile, ...]

    @property
    def file_name(self) -> str:
        """Returns the name of its file in the records folder."""
        return f"{self.series:06d}-{self.index:06d}.jsonl"


def stamp(path: Path | RemoteFile) -> str:
    """Returns size and modification time, or an ETag: a text that changes when the image's file changes."""
    if isinstance(path, RemoteFile):
        return path.ask().stamp
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def find_labelled(
    folder: Path,
    listing: Sequence[ImageFile],
    mark: Callable[[str], str] = lambda name: "",
    doubled: DoubledLines | None = None,
) -> tuple[list[bool], int]:
    """Finds the images that have a valid record.

    Args:
        folder: the output folder.
        listing: images in natural order of names.
        mark: returns the text after the file's stamp in the record of an image, see `ImagePrompts.mark`.
        doubled: counts lines of records that are left out.

    Returns:
        For each image, whether it is labelled and its file unchanged since; and the number of recorded images that are
        not in the listing.
    """
    labelled = [False] * len(listing)
    remote: list[tuple[int, Head, RemoteFile]] = []
    position = unlisted = 0
    for head in read_all(folder, Head, doubled):
        order = natural_order(head.file_name)
        while position < len(listing) and natural_order(listing[position].name) < order:
            position += 1
        if position == len(listing) or listing[position].name != head.file_name:
            unlisted += 1
        else:
            path = listing[position].path
            if isinstance(path, RemoteFile):
                remote.append((position, head, path))
            else:
                labelled[position] = _is_valid(head, path, mark(head.file_name))
    if remote:  # each may need a request to its server
        with ThreadPoolExecutor(MAX_REQUESTS) as pool:
            for (position, _, _), valid in zip(
                remote,
                pool.map(lambda entry: _is_valid(entry[1], entry[2], mark(entry[1].file_name)), remote),
                strict=True,
            ):
                labelled[position] = valid
    return labelled, unlisted


def _is_valid(head: Head, path: Path | RemoteFile, mark: str) -> bool:
    if not head.stamp:
        return False
    try:
        return head.stamp == stamp(path) + mark
    except NotFetched as error:  # a label stays valid while its server does not answer
        return error.errno != errno.ENOENT and head.stamp.endswith(mark)
    except OSError:  # deleted since it was listed; labelling it again records that
        return False


def plan_shards(folder: Path, listing: Sequence[ImageFile], labelled: Sequence[bool], shard_size: int) -> list[Shard]:
    """Divides the images that are not labelled yet into shards.

    The listing is cut every `shard_size` images, and a piece without any labelled image is a shard as it is: after an
    interruption the same images share the same batches, and give the same numbers to the last digit. Single images
    missing from other pieces (added, changed, failed for lack of memory) are collected into shards of their own, in a
    second series.
    """
    whole: list[tuple[ImageFile, ...]] = []
    collected: list[ImageFile] = []
    for start in range(0, len(listing), shard_size):
        piece = listing[start : start + shard_size]
        missing = [image for image, done in zip(piece, labelled[start:], strict=False) if not done]
        if len(missing) == len(piece):
            whole.append(tuple(missing))
        else:
            collected += missing
    single = [tuple(collected[start : start + shard_size]) for start in range(0, len(collected), shard_size)]
    series = max(map(series_of, shard_files(folder)), default=0) + 1
    return [
        Shard(series + later, index, images)
        for later, pieces in enumerate((whole, single))
        for index, images in enumerate(pieces)
    ]


def write_shard(folder: Path, shard: Shard, records: Iterable[Record]) -> None:
    """Writes the records of a shard, or of its finished part; writes nothing without records."""
    ordered = sorted(records, key=lambda record: natural_order(record.file_name))
    if ordered:
        with whole_file(folder / RECORDS_FOLDER / shard.file_name) as file:
            file.writelines(map(encode, ordered))


def write_listing(folder: Path, listing: Iterable[ImageFile]) -> None:
    """Writes the list of images that the outputs contain."""
    with whole_file(folder / RECORDS_FOLDER / LISTING_FILE) as file:
        file.writelines(msgspec.json.encode(image.name) + b"\n" for image in listing)


def remove_leftovers(folder: Path, outputs: Sequence[str]) -> None:
    """Deletes unfinished files of a run that was killed. Files of other programs are left alone.

    Args:
        folder: the output folder.
        outputs: names of the files that a run writes into it.
    """
    own = {f"{name}{PART_SUFFIX}" for name in (*outputs, RUN_FILE)}
    unfinished = [folder / name for name in own]
    records = folder / RECORDS_FOLDER
    unfinished += (path for path in records.glob(f"*{PART_SUFFIX}") if is_records_file(path.name[: -len(PART_SUFFIX)]))
    for path in unfinished:
        if path.is_file():
            path.unlink()
