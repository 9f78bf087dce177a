"""The files of a labelling run: one JSON line per image, and the configuration of the run.

    DIR/run.json                     `RunInfo`
    DIR/records/listing.txt          the images of the last command, one JSON string per line
    DIR/records/000001-000000.jsonl  a shard of `Record`s; `shards.py` explains the numbers

Lines are in natural order of file names (2 before 10). Only files with such names are read: copies that a sync tool
puts beside them, and files of other programs, are not. Knows nothing of models, thresholds or output formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from glip.detections import Detections
from glip.errors import InputError, shortened
from glip.files import PART_SUFFIX, decode_json, natural_order, path_text, read_json
from glip.left_out import LeftOut, first_examples
from glip.run_folder import RUN_FILE

RECORDS_FOLDER = "records"
LISTING_FILE = "listing.txt"
RecordKind = Literal["detections", "candidates"]
Box = tuple[float, float, float, float]

# Bytes of whole lines read at a time; the file is closed in between. A folder labelled in a thousand sittings is merged
# from a thousand shards at once, without a thousand open files.
PAGE_BYTES = 1 << 16
_SHARD_NAME = re.compile(r"(\d{6,18})-\d{6,18}\.jsonl")
MAX_LINE_BYTES = 2**28  # of one record: some thousand times what the most crowded image takes
_DAMAGED = "Delete this file and repeat the `glip label` command: only its images are labelled again."


class Head(msgspec.Struct, frozen=True):
    """The part of a `Record` that identifies its image; decoding it skips the boxes.

    Attributes:
        file_name: name of the image in every output, '/' between folders.
        stamp: changes when the image's file changes (size and modification time of a local file). Empty if labelling
            failed for a passing reason, such as memory; the next run then tries again.
    """

    file_name: str
    stamp: str


class _Names(msgspec.Struct, frozen=True):
    """The phrases of a `Record` with a caption of its own."""

    file_name: str
    names: tuple[str, ...] | None = None


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """The boxes of one image above the floor of the run, best score first.

    Attributes:
        file_name: name of the image in every output, '/' between folders.
        stamp: see `Head`.
        width: pixels of the original image, after EXIF orientation; 0 if it could not be read.
        height: likewise.
        boxes: xyxy in pixels of the original image, continuous. Each number is the shortest decimal that gives back the
            same float32.
        scores: one per box, in [0, 1].
        labels: one per box, index into `names`, or into `RunInfo.names` where that is None.
        error: why there are no boxes; None for an image that was labelled.
        names: the phrases of this image; None if the whole run has one class list.
        caption: the image's own caption; None if it has none.
        spans: for each of `names` its character ranges in the caption.
        notes: what a person should know about the image's file, such as frames that were not read; each is the end of a
            sentence about the image.
    """

    file_name: str
    stamp: str
    width: int = 0
    height: int = 0
    boxes: Sequence[Box] = ()
    scores: Sequence[float] = ()
    labels: Sequence[int] = ()
    error: str | None = None
    names: Sequence[str] | None = None
    caption: str | None = None
    spans: Sequence[Sequence[tuple[int, int]]] = ()
    notes: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        detections: Detections,
        *,
        file_name: str,
        stamp: str,
        size_hw: tuple[int, int],
        caption: str | None = None,
        spans: Sequence[Sequence[tuple[int, int]]] = (),
        notes: Sequence[str] = (),
    ) -> Record:
        """Returns the record of a labelled image. Without a caption of its own, labels index the names of the run."""
        return cls(
            file_name,
            stamp,
            width=size_hw[1],
            height=size_hw[0],
            boxes=[(x1, y1, x2, y2) for x1, y1, x2, y2 in _shortest(detections.boxes).tolist()],
            scores=_shortest(detections.scores).tolist(),
            labels=detections.labels.tolist(),
            names=None if caption is None else detections.names,
            caption=caption,
            spans=spans,
            notes=notes,
        )

    def __post_init__(self) -> None:
        """Refuses a record whose parts do not belong together; msgspec shows the message with the line."""
        if not len(self.boxes) == len(self.scores) == len(self.labels):
            raise ValueError(f"{len(self.boxes)} boxes, {len(self.scores)} scores and {len(self.labels)} labels")
        if self.labels and min(self.labels) < 0:
            raise ValueError(f"the label {min(self.labels)}")
        if self.names is not None and self.labels and max(self.labels) >= len(self.names):
            raise ValueError(f"the label {max(self.labels)} of {len(self.names)} names")
        if self.width < 0 or self.height < 0:
            raise ValueError(f"the size {self.width} x {self.height}")

    def check_labels(self, names: Sequence[str]) -> None:
        """Refuses labels that are no index into the class list of the run.

        Raises:
            InputError: the message names the image and the label.
        """
        if self.names is None and self.labels and max(self.labels) >= len(names):
            raise InputError(
                f"The record of {_shown(self.file_name)} has the label {max(self.labels)}, but the run has "
                f"{len(names)} names. Its file in {RECORDS_FOLDER} is damaged. {_DAMAGED}"
            )

    def detections(self, names: Sequence[str]) -> Detections:
        """Returns the boxes as arrays, bit-equal to those of the detector.

        Args:
            names: `RunInfo.names`; not used where the record has names of its own.

        Raises:
            InputError: as for `check_labels`.
        """
        self.check_labels(names)
        return Detections(
            np.asarray(self.boxes, np.float32).reshape(-1, 4),
            np.asarray(self.scores, np.float32),
            np.asarray(self.labels, np.int64),
            tuple(names if self.names is None else self.names),
        )


class CaptionPlan(msgspec.Struct, frozen=True):
    """A caption that the model reads, its phrases, and the character ranges of each."""

    caption: str
    phrases: tuple[str, ...]
    spans: tuple[tuple[tuple[int, int], ...], ...] = ()


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Content of run.json: the configuration of the records, and a description of the last command.

    `run_config.CONFIGURATION` lists the fields that decide what the records hold.

    Attributes:
        model_sha256: identifies the weights.
        names: the classes, in the order that labels count; () where each image has a caption.
        captions: the prompts of the class list; several if it is long.
        floor: minimum score of a recorded box.
        imgsz: size in pixels to which the short side of an image was resized.
        nms_iou: IoU above which the weaker box of a class was suppressed; None if none was.
        max_detections: maximum number of boxes recorded per image; None for all.
        record: `detections`, or `candidates` before suppression.
        precision: number format of the model's arithmetic.
        by_caption: each image has a caption of its own, in its record.
        tiling: how images were cut into tiles, in words; empty if they were not.
        fast_decode: JPEG files were decoded at a reduced size.
        score_rule: how thresholds and suppression apply, in words; empty in files of 0.1.0.
        model: the model as requested.
        device: where the last command ran.
        created: when labelling began, ISO 8601.
        versions: of glip and the libraries that compute.
        job: settings of the last command.
    """

    model_sha256: str
    names: tuple[str, ...]
    captions: tuple[CaptionPlan, ...]
    floor: float
    imgsz: int
    nms_iou: float | None
    max_detections: int | None
    record: RecordKind
    precision: str
    model: str
    device: str
    created: str
    versions: dict[str, str]
    job: dict[str, Any]
    by_caption: bool = False
    tiling: str = ""
    fast_decode: bool = False
    score_rule: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Returns the sources of the last command; () if run.json does not hold them."""
        sources = self.job.get("sources")
        return tuple(source for source in sources if isinstance(source, str)) if isinstance(sources, list) else ()


class _RecordLine(Protocol):
    @property
    def file_name(self) -> str: ...


_LineType = TypeVar("_LineType", bound=_RecordLine)


def encode(record: Record) -> bytes:
    """Returns the line of a record, with its line break."""
    return msgspec.json.encode(record) + b"\n"


def read_run(folder: Path) -> RunInfo:
    """Returns the configuration of the records in `folder`.

    Raises:
        InputError: there is no run in `folder`, or its run.json cannot be read.
    """
    path = folder / RUN_FILE
    if not path.exists():
        raise InputError(f"{folder} holds no labels: there is no {RUN_FILE}. `glip label` with this output writes it.")
    return read_json(
        path, RunInfo, "the run.json of a labelling run", hint="Label again with overwrite, or into another folder."
    )


def read_records(folder: Path, doubled: DoubledLines | None = None) -> Iterator[Record]:
    """Yields the newest record of every listed image, in natural order of file names.

    Memory does not grow with the number of images. Images of the last command that are not labelled yet are skipped, as
    are records of images that it did not list.

    Args:
        folder: the output folder of `glip label`.
        doubled: counts lines that are left out, see `read_all`.

    Raises:
        InputError: a shard is damaged; the message names it and says what to do.
    """
    yield from _listed(folder, Record, doubled)


def read_names(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yields the phrases of every listed image with a caption of its own; decoding skips the boxes.

    Raises:
        InputError: a shard is damaged.
    """
    for line in _listed(folder, _Names):
        if line.names:
            yield line.names


def _listed(folder: Path, kind: type[_LineType], doubled: DoubledLines | None = None) -> Iterator[_LineType]:
    listing = read_listing(folder)
    listed = next(listing, None)
    for line in read_all(folder, kind, doubled):
        while listed is not None and listed != line.file_name and _comes_before(listed, line.file_name):
            listed = next(listing, None)
        if listed is None:
            return
        if listed == line.file_name:
            yield line


def read_listing(folder: Path) -> Iterator[str]:
    """Yields the file names of the last command's images, in natural order; none if there was no command yet.

    Raises:
        InputError: the list is damaged.
    """
    path = folder / RECORDS_FOLDER / LISTING_FILE
    if not path.exists():
        return
    hint = "Repeat the `glip label` command: it writes the list again."
    before: str | None = None
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        name = decode_json(line, str, where, "the name of an image", hint=hint, repair=hint)
        if before is not None and not _comes_before(before, name):
            if name == before:
                continue
            raise InputError(f"{where}: {_shown(name)} stands behind {_shown(before)}, out of order. {hint}")
        before = name
        yield name


@dataclass
class DoubledLines:
    """Lines of records that were left out while reading: their image stands before them in the same series.

    Attributes:
        count: number of lines.
        examples: names of the first images.
    """

    count: int = 0
    examples: tuple[str, ...] = ()

    def add(self, file_name: str) -> None:
        """Counts one line."""
        self.count += 1
        self.examples = first_examples((*self.examples, file_name))

    def entries(self) -> tuple[LeftOut, ...]:
        """Returns what was left out."""
        if not self.count:
            return ()
        what = "line is doubled or" if self.count == 1 else "lines are doubled or"
        sentence = f"{self.count} {what} out of order in the records; every image counts once."
        return (LeftOut(kind="doubled_records", count=self.count, sentence=sentence, examples=self.examples),)


def foreign_files(folder: Path) -> tuple[LeftOut, ...]:
    """Returns the entry about files in the records folder that are no records of this run; () if there is none."""
    records = folder / RECORDS_FOLDER
    if not records.is_dir():
        return ()
    known = {path.name for path in shard_files(folder)} | {LISTING_FILE}
    names = sorted(path.name for path in records.iterdir() if path.name not in known and not path.name.startswith("."))
    names = [name for name in names if not name.endswith(PART_SUFFIX)]
    if not names:
        return ()
    what = "file is" if len(names) == 1 else "files are"
    sentence = (
        f"{len(names)} {what} in {records} that `glip label` did not write, such as copies made by a sync tool; "
        f"they are not read. Delete or move them."
    )
    examples = first_examples(map(path_text, names))
    return (LeftOut(kind="foreign_records", count=len(names), sentence=sentence, examples=examples),)


def read_all(folder: Path, kind: type[_LineType], doubled: DoubledLines | None = None) -> Iterator[_LineType]:
    """Yields the newest line of every image ever labelled into `folder`, listed or not, in natural order.

    Shards of one series are sorted and do not overlap, so each series is one sorted stream, and memory holds one page
    per series. A later series takes precedence over an earlier one.

    Args:
        folder: the output folder.
        kind: what to read of each line.
        doubled: counts lines that are left out because they break that order.

    Raises:
        InputError: a shard is damaged.
    """
    series = {number: list(paths) for number, paths in groupby(shard_files(folder), key=series_of)}
    counted = DoubledLines() if doubled is None else doubled
    newest_first = [_in_order(_read_shards(series[number], kind), counted) for number in sorted(series, reverse=True)]
    lines = merge(*newest_first, key=lambda entry: entry[0])
    for _, versions in groupby(lines, key=lambda entry: entry[1].file_name):
        yield next(versions)[1]


def _in_order(
    lines: Iterator[_LineType], doubled: DoubledLines
) -> Iterator[tuple[tuple[list[str | int], str], _LineType]]:
    """Yields lines with their sort key, without those that do not come after the line before."""
    before: tuple[list[str | int], str] | None = None
    for line in lines:
        order = natural_order(line.file_name)
        if before is not None and order <= before:
            doubled.add(line.file_name)
            continue
        before = order
        yield order, line


def _comes_before(one: str, other: str) -> bool:
    return natural_order(one) < natural_order(other)


def shard_files(folder: Path) -> list[Path]:
    """Returns the files of finished shards in an output folder, sorted by series and shard (`glip.labeling.shards`)."""
    records = folder / RECORDS_FOLDER
    return sorted(path for path in records.glob("*.jsonl") if _SHARD_NAME.fullmatch(path.name) and path.is_file())


def is_records_file(name: str) -> bool:
    """Returns whether a file in the records folder has the name of one that a run writes."""
    return name == LISTING_FILE or _SHARD_NAME.fullmatch(name) is not None


def series_of(shard_file: Path) -> int:
    """Returns the series of a finished shard: 3 for 000003-000012.jsonl."""
    return int(shard_file.name.partition("-")[0])


def _read_shards(paths: Sequence[Path], kind: type[_LineType]) -> Iterator[_LineType]:
    decoder = msgspec.json.Decoder(kind)
    for path in paths:
        for number, line in enumerate(_lines(path), start=1):
            try:
                decoded = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                # Says what is wrong; a decoder that is made once is faster for millions of lines.
                where = f"{path}, line {number}"
                decoded = decode_json(line, kind, where, "the record of an image", hint=_DAMAGED, repair=_DAMAGED)
            yield decoded


def _lines(path: Path) -> Iterator[bytes]:
    offset = 0
    while True:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                page = [*_page(file, path)]
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror or error}. Make it readable. {_DAMAGED}") from error
        if not page:
            return
        offset += sum(map(len, page))
        yield from page


def _page(file: BinaryIO, path: Path) -> Iterator[bytes]:
    size = 0
    while size < PAGE_BYTES and (line := file.readline(MAX_LINE_BYTES)):
        if len(line) == MAX_LINE_BYTES:
            raise InputError(f"{path} has a line of more than {MAX_LINE_BYTES // 2**20} MB. {_DAMAGED}")
        size += len(line)
        yield line


def _shown(name: str) -> str:
    return repr(shortened(name))


def _shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns float64 values whose shortest decimal gives back the same float32: 0.1, not 0.10000000149."""
    return values.astype(np.str_).astype(np.float64)
