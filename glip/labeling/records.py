"""What a labelling run leaves on disk: one JSON line per image, and the question that was asked.

    DIR/run.json                     RunInfo: the question and where its answers come from
    DIR/records/listing.txt          the images of the last command, one JSON string a line
    DIR/records/000001-000000.jsonl  a shard, `Record`s; see `shards.py` for the numbers

Lines are in natural order of the file names (2 before 10). Reads and describes these files. Knows nothing of models,
thresholds or output formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from glip.detections import Detections
from glip.errors import InputError

RUN_FILE = "run.json"
RECORDS_FOLDER = "records"
LISTING_FILE = "listing.txt"
RecordKind = Literal["detections", "candidates"]
Box = tuple[float, float, float, float]

# Whole lines are read about this many bytes at a time, and the file is closed in between: a folder
# labelled in a thousand sittings is merged from a thousand shards at once without a thousand open files.
PAGE_BYTES = 1 << 16
_DIGITS = re.compile(r"(\d+)")


class Head(msgspec.Struct, frozen=True):
    """The part of a `Record` that says which image it answers for; decoding it skips the boxes.

    Attributes:
        file_name: the image's name in every output, '/' between folders.
        stamp: changes when the image's file changes (size and modification time of a local file). Empty:
            labelling failed for a reason that may pass, such as memory, and is tried again by the next run.
    """

    file_name: str
    stamp: str


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything found in one image above the run's floor, best score first.

    Attributes:
        file_name: the image's name in every output, '/' between folders.
        stamp: see `Head`.
        width: pixels of the original image, after EXIF orientation; 0 if it could not be read.
        height: likewise.
        boxes: xyxy in pixels of the original image, continuous. Each number is the shortest decimal that
            gives back the same float32.
        scores: one a box, in [0, 1].
        labels: one a box, index into `names`, or where that is None into `RunInfo.names`.
        error: why there are no boxes; None for an image that was labelled.
        names: what the labels mean in this image; None if the whole run has one class list.
        caption: what was asked of this image, if it has a caption of its own.
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
        """The record of a labelled image; without a caption of its own its labels index the run's names."""
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
        """The same boxes as arrays, bit-equal to what the detector gave.

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
    """One caption the model read, the phrases it stands for, and the character ranges of each."""

    caption: str
    phrases: tuple[str, ...]
    spans: tuple[tuple[tuple[int, int], ...], ...] = ()


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: the question, and where the answers come from.

    Records answer one question only: `QUESTION` names its fields, and a run that asks something else may
    not add to them. The other fields describe the last command.

    Attributes:
        model_sha256: of the checkpoint's tensor file.
        names: the classes, in the order that labels count; () where each image has a caption.
        captions: how the names were put to the model, in chunks if they are many.
        floor: lowest score that was recorded.
        imgsz: short side in pixels that images were resized to.
        nms_iou: overlap above which the weaker box of a class was dropped; None if none was.
        max_detections: most boxes recorded for an image; None if there was no limit.
        record: `detections` after the published post-processing, or `candidates` before NMS.
        precision: number format of the model's arithmetic.
        by_caption: each image was asked for the phrases of its own caption, which its record holds.
        tiling: how images were cut into tiles, in words; empty if they were not.
        fast_decode: JPEG files were decoded no larger than needed.
        model: what was asked for with --model.
        device: where the last command ran.
        created: ISO 8601, when the first image's labelling began.
        versions: of glip and the libraries that compute.
        job: the last command's settings, as JSON.
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


_Line = TypeVar("_Line", Head, Record)


def encode(record: Record) -> bytes:
    """The record's line, with its line break."""
    return msgspec.json.encode(record) + b"\n"


def read_run(folder: Path) -> RunInfo:
    """The question that the records in `folder` answer.

    Raises:
        InputError: there is no run in `folder`, or its run.json cannot be understood.
    """
    path = folder / RUN_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunInfo)
    except FileNotFoundError:
        raise InputError(
            f"{folder} holds no labels: there is no {RUN_FILE}. `glip label --out {folder}` makes them."
        ) from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}). Label again with --overwrite, or into another folder."
        ) from error


def read_records(folder: Path) -> Iterator[Record]:
    """The newest record of every listed image, in natural order of file names.

    Streams: memory does not grow with the number of images. Images of the last command that are not
    labelled yet are passed over; records of images that it no longer listed are left out.

    Args:
        folder: the folder given to `glip label --out`.

    Raises:
        InputError: a shard is damaged; the message names it and says what to do.
    """
    listing = read_listing(folder)
    listed = next(listing, None)
    for record in read_all(folder, Record):
        while listed is not None and listed != record.file_name and _comes_before(listed, record.file_name):
            listed = next(listing, None)
        if listed is None:
            return
        if listed == record.file_name:
            yield record


def read_listing(folder: Path) -> Iterator[str]:
    """File names of the last command's images, in natural order; none if there was no command yet."""
    path = folder / RECORDS_FOLDER / LISTING_FILE
    if path.exists():
        for line in _lines(path):
            yield msgspec.json.decode(line, type=str)


def read_all(folder: Path, kind: type[_Line]) -> Iterator[_Line]:
    """The newest line of every image ever labelled into `folder`, listed or not, in natural order.

    Shards of one series are sorted and do not overlap, so each series is one sorted stream and only as many
    pages are in memory as there are series. A later series outranks an earlier one.
    """
    series = {number: list(paths) for number, paths in groupby(shard_files(folder), key=series_of)}
    newest_first = [_read_shards(series[number], kind) for number in sorted(series, reverse=True)]
    lines = merge(*newest_first, key=lambda line: natural_order(line.file_name))
    for _, versions in groupby(lines, key=lambda line: line.file_name):
        yield next(versions)


def natural_order(file_name: str) -> tuple[list[str | int], str]:
    """Sort key that counts: 2 before 10. The order of `glip.images.list_images`, here without torch."""
    parts = _DIGITS.split(file_name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], file_name


def _comes_before(one: str, other: str) -> bool:
    return natural_order(one) < natural_order(other)


def shard_files(folder: Path) -> list[Path]:
    """The finished shards in `folder`, series by series, each series in order."""
    return sorted((folder / RECORDS_FOLDER).glob("*.jsonl"))


def series_of(shard_file: Path) -> int:
    """The series that a finished shard belongs to: 3 for 000003-000012.jsonl."""
    return int(shard_file.name.partition("-")[0])


def _read_shards(paths: Sequence[Path], kind: type[_Line]) -> Iterator[_Line]:
    decoder = msgspec.json.Decoder(kind)
    for path in paths:
        for number, line in enumerate(_lines(path), start=1):
            try:
                decoded = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InputError(
                    f"{path} is damaged in line {number} ({error}). Delete that file and run the same "
                    f"`glip label` again: only its images are labelled anew."
                ) from error
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
    """float64 whose shortest decimal is the shortest that gives back the same float32: 0.1, not 0.10000000149."""
    return values.astype(np.str_).astype(np.float64)
