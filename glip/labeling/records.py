"""The files of a labelling run: one JSON line per image, and the configuration of the run.

    DIR/run.json                     `RunInfo`
    DIR/records/listing.txt          the images of the last command, one JSON string per line
    DIR/records/000001-000000.jsonl  a shard of `Record`s; `shards.py` explains the numbers

Lines are in natural order of file names (2 before 10). Knows nothing of models, thresholds or output formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from glip.detections import Detections
from glip.errors import InputError
from glip.files import decode_json, read_json
from glip.run_folder import RUN_FILE

RECORDS_FOLDER = "records"
LISTING_FILE = "listing.txt"
RecordKind = Literal["detections", "candidates"]
Box = tuple[float, float, float, float]

# Bytes of whole lines read at a time; the file is closed in between. A folder labelled in a thousand sittings is merged
# from a thousand shards at once, without a thousand open files.
PAGE_BYTES = 1 << 16
_DIGITS = re.compile(r"(\d+)")
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
        )

    def detections(self, names: Sequence[str]) -> Detections:
        """Returns the boxes as arrays, bit-equal to those of the detector.

        Args:
            names: `RunInfo.names`; not used where the record has names of its own.
        """
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


def read_records(folder: Path) -> Iterator[Record]:
    """Yields the newest record of every listed image, in natural order of file names.

    Memory does not grow with the number of images. Images of the last command that are not labelled yet are skipped, as
    are records of images that it did not list.

    Args:
        folder: the output folder of `glip label`.

    Raises:
        InputError: a shard is damaged; the message names it and says what to do.
    """
    yield from _listed(folder, Record)


def read_names(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yields the phrases of every listed image with a caption of its own; decoding skips the boxes.

    Raises:
        InputError: a shard is damaged.
    """
    for line in _listed(folder, _Names):
        if line.names:
            yield line.names


def _listed(folder: Path, kind: type[_LineType]) -> Iterator[_LineType]:
    listing = read_listing(folder)
    listed = next(listing, None)
    for line in read_all(folder, kind):
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
    if path.exists():
        hint = "Repeat the `glip label` command: it writes the list again."
        for number, line in enumerate(_lines(path), start=1):
            yield decode_json(line, str, f"{path}, line {number}", "the name of an image", hint=hint, repair=hint)


def read_all(folder: Path, kind: type[_LineType]) -> Iterator[_LineType]:
    """Yields the newest line of every image ever labelled into `folder`, listed or not, in natural order.

    Shards of one series are sorted and do not overlap, so each series is one sorted stream, and memory holds one page
    per series. A later series takes precedence over an earlier one.
    """
    series = {number: list(paths) for number, paths in groupby(shard_files(folder), key=series_of)}
    newest_first = [_read_shards(series[number], kind) for number in sorted(series, reverse=True)]
    lines = merge(*newest_first, key=lambda line: natural_order(line.file_name))
    for _, versions in groupby(lines, key=lambda line: line.file_name):
        yield next(versions)


def natural_order(file_name: str) -> tuple[list[str | int], str]:
    """Returns a sort key that counts: 2 before 10. Same order as `glip.images.list_images`, here without torch."""
    parts = _DIGITS.split(file_name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], file_name


def _comes_before(one: str, other: str) -> bool:
    return natural_order(one) < natural_order(other)


def shard_files(folder: Path) -> list[Path]:
    """Returns the files of finished shards in an output folder, sorted by series and shard (`glip.labeling.shards`)."""
    return sorted((folder / RECORDS_FOLDER).glob("*.jsonl"))


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
        with path.open("rb") as file:
            file.seek(offset)
            page = file.readlines(PAGE_BYTES)
        if not page:
            return
        offset += sum(map(len, page))
        yield from page


def _shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns float64 values whose shortest decimal gives back the same float32: 0.1, not 0.10000000149."""
    return values.astype(np.str_).astype(np.float64)
