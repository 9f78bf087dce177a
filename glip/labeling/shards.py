"""Plans the work as shards, and puts their records on disk.

A shard is a fixed list of images that becomes one file, `records/SSSSSS-IIIIII.jsonl`: series S, shard I.
Images are in natural order within a shard, and from shard to shard of a series, so that reading them back is a
merge of a few sorted streams. A later series outranks an earlier one. Which images are done is read from the records
themselves: there is no progress file that could disagree with them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from glip.files import PART_SUFFIX, whole_file
from glip.images import ImageFile, NotFetched, RemoteFile
from glip.labeling.records import (
    LISTING_FILE,
    RECORDS_FOLDER,
    Head,
    Record,
    encode,
    natural_order,
    read_all,
    series_of,
    shard_files,
)

ASKED_AT_ONCE = 16  # remote images, whether they changed


@dataclass(frozen=True)
class Shard:
    """Images that are labelled together and written as one file."""

    series: int
    index: int
    images: tuple[ImageFile, ...]

    @property
    def file_name(self) -> str:
        """Name of its file in the records folder."""
        return f"{self.series:06d}-{self.index:06d}.jsonl"


def stamp(path: Path | RemoteFile) -> str:
    """Size and modification time, or an ETag: what tells that an image's file was changed after it was labelled."""
    if isinstance(path, RemoteFile):
        return path.ask().stamp
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def find_labelled(
    folder: Path, listing: Sequence[ImageFile], mark: Callable[[str], str] = lambda name: ""
) -> tuple[list[bool], int]:
    """Looks up which images have a record that still holds.

    Args:
        folder: the output folder.
        listing: in natural order of names.
        mark: what follows the stamp of an image's file in its record: see `Asked.mark`.

    Returns:
        Whether each image is labelled and its file unchanged since; and how many recorded images the
        listing no longer holds.
    """
    labelled = [False] * len(listing)
    far: list[tuple[int, Head, RemoteFile]] = []
    position = unlisted = 0
    for head in read_all(folder, Head):
        order = natural_order(head.file_name)
        while position < len(listing) and natural_order(listing[position].name) < order:
            position += 1
        if position == len(listing) or listing[position].name != head.file_name:
            unlisted += 1
        else:
            path = listing[position].path
            if isinstance(path, RemoteFile):
                far.append((position, head, path))
            else:
                labelled[position] = _holds(head, path, mark(head.file_name))
    if far:  # each may cost a question to its server
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            for (position, _, _), holds in zip(
                far, pool.map(lambda entry: _holds(entry[1], entry[2], mark(entry[1].file_name)), far), strict=True
            ):
                labelled[position] = holds
    return labelled, unlisted


def _holds(head: Head, path: Path | RemoteFile, mark: str) -> bool:
    if not head.stamp:
        return False
    try:
        return head.stamp == stamp(path) + mark
    except NotFetched as error:  # a label is kept while its server cannot be asked
        return error.errno != errno.ENOENT and head.stamp.endswith(mark)
    except OSError:  # gone since it was listed: labelling it again records that
        return False


def plan_shards(folder: Path, listing: Sequence[ImageFile], labelled: Sequence[bool], shard_size: int) -> list[Shard]:
    """Divides what is not labelled yet into shards.

    The listing is cut every `shard_size` images, and a piece with nothing done is a shard as it is: after
    an interruption the same images meet in the same batches, and give the same numbers to the last digit.
    Single images missing from other pieces (added, changed, failed for want of memory) are gathered
    into shards of their own, in a second series.
    """
    whole: list[tuple[ImageFile, ...]] = []
    gathered: list[ImageFile] = []
    for start in range(0, len(listing), shard_size):
        piece = listing[start : start + shard_size]
        missing = [image for image, done in zip(piece, labelled[start:], strict=False) if not done]
        if len(missing) == len(piece):
            whole.append(tuple(missing))
        else:
            gathered += missing
    single = [tuple(gathered[start : start + shard_size]) for start in range(0, len(gathered), shard_size)]
    series = max(map(series_of, shard_files(folder)), default=0) + 1
    return [
        Shard(series + later, index, images)
        for later, pieces in enumerate((whole, single))
        for index, images in enumerate(pieces)
    ]


def write_shard(folder: Path, shard: Shard, records: Iterable[Record]) -> None:
    """Writes the records of a shard, or of the part of it that was finished; nothing if there are none."""
    ordered = sorted(records, key=lambda record: natural_order(record.file_name))
    if ordered:
        with whole_file(folder / RECORDS_FOLDER / shard.file_name) as file:
            file.writelines(map(encode, ordered))


def write_listing(folder: Path, listing: Iterable[ImageFile]) -> None:
    """Notes which images the outputs are about."""
    with whole_file(folder / RECORDS_FOLDER / LISTING_FILE) as file:
        file.writelines(msgspec.json.encode(image.name) + b"\n" for image in listing)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed run was writing when it ended."""
    for place in (folder, folder / RECORDS_FOLDER):
        for path in place.glob(f"*{PART_SUFFIX}"):
            path.unlink()
