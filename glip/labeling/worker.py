"""LabelWorker: one shard of images through a detector, in batches, onto the disk.

Whatever is wrong with a single image becomes its record; whatever is wrong with the program is raised.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from PIL import Image

from glip.detections import Detections
from glip.images import (
    ImageBatch,
    ImageFile,
    NotFetched,
    PreparedImage,
    UnreadableImage,
    collate,
    padded_hw,
    prepare,
    read_image,
    read_reduced,
    resized_hw,
)
from glip.images.read_ahead import read_ahead
from glip.labeling.asking import Asked, in_one
from glip.labeling.records import Record
from glip.labeling.shards import Shard, stamp, write_shard
from glip.labeling.tile_merging import merge_views
from glip.labeling.tiling import Tiling, plan_views, tile_views
from glip.model.postprocess import Selection
from glip.prompts import Prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# An image of any size that people label decodes in seconds; what takes this long hangs.
READ_TIME_LIMIT = 60.0  # seconds
READ_AHEAD = min(8, (os.cpu_count() or 1) + 1)  # images beyond the batch in work

logger = logging.getLogger(__name__)


class ImageDetector(Protocol):
    """What labelling needs of a `glip.detectors.glip.Detector`."""

    name: str
    sha256: str
    device: torch.device
    precision: str
    imgsz: int
    conf: float
    tokenizer: Tokenizer

    def detect(self, batch: ImageBatch, prompts: Sequence[Prompt], selection: Selection) -> list[Detections]:
        """See `Detector.detect`."""
        ...


@dataclass(frozen=True)
class LabelSettings:
    """What a worker is to do with its images.

    Attributes:
        out: the output folder.
        asked: what to look for.
        selection: what the detector leaves.
        floor: least score that is recorded.
        imgsz: short side in pixels that images are resized to.
        batch: most images, or views of one, that run together.
        tiling: how images are cut into views; None: each is looked at as a whole.
        fast_decode: decode JPEG files no larger than needed, see `read_reduced`; not with tiles.
    """

    out: Path
    asked: Asked
    selection: Selection
    floor: float
    imgsz: int
    batch: int
    tiling: Tiling | None = None
    fast_decode: bool = False


@dataclass(frozen=True)
class ShardDone:
    """What became of a shard."""

    images: int
    failed: int


@dataclass(frozen=True)
class _Ready:
    """An image that can go into a batch."""

    file: ImageFile
    stamp: str
    prompts: tuple[Prompt, ...]
    prepared: PreparedImage


@dataclass(frozen=True)
class _Large:
    """An image that is looked at in views. They are made when their turn comes: together they are too large."""

    file: ImageFile
    stamp: str
    prompts: tuple[Prompt, ...]
    image: Image.Image


class LabelWorker:
    """Labels shards, one call each.

    Args:
        detector: finds things; used by one thread.
        settings: what to do.
        on_record: called with every image's record as soon as it is known.
        stop: asked between batches; True ends the shard early where that cannot change a result.
    """

    def __init__(
        self,
        detector: ImageDetector,
        settings: LabelSettings,
        on_record: Callable[[Record], None],
        stop: Callable[[], bool],
    ) -> None:
        self._detector = detector
        self._settings = settings
        self._on_record = on_record
        self._stop = stop
        self._batch = settings.batch  # halved when the device's memory is too small

    def __call__(self, shard: Shard) -> ShardDone:
        """Labels the images of a shard and writes its file."""
        records = []
        for record in self.label(shard.images):
            records.append(record)
            self._on_record(record)
        write_shard(self._settings.out, shard, records)
        return ShardDone(len(records), sum(record.error is not None for record in records))

    def label(self, images: Sequence[ImageFile]) -> Iterator[Record]:
        """Records in the order they come about: images of equal padded size and prompt wait for each other."""
        groups: dict[tuple[tuple[int, int], tuple[Prompt, ...]], list[_Ready]] = {}
        ahead = self._settings.batch + READ_AHEAD
        for file, read in read_ahead(images, self._read, ahead=ahead, time_limit=READ_TIME_LIMIT):
            if read is None:
                yield _failed(file, f"reading it took longer than {READ_TIME_LIMIT:.0f} seconds and was given up")
            elif isinstance(read, Record):
                yield read
            elif isinstance(read, _Large):
                yield self._in_views(read)
            else:
                alike = padded_hw(read.prepared.resized_hw), read.prompts
                groups.setdefault(alike, []).append(read)
                if len(groups[alike]) >= self._settings.batch:
                    yield from self._together(groups.pop(alike))
            # A larger batch must meet again as it is: the arithmetic of an image depends, in its last digits, on
            # who shares its batch. So only single images can be left for the next run.
            if self._settings.batch == 1 and self._stop():
                return
        for group in groups.values():
            yield from self._together(group)

    def _read(self, file: ImageFile) -> _Ready | _Large | Record:
        """An image ready for the detector, or the record of why it is not. Runs in a thread."""
        asked = self._settings.asked
        try:
            mark = stamp(file.path) + asked.mark(file.name)
        except NotFetched as error:
            return _failed(file, error.reason)
        except OSError as error:
            return _failed(file, f"it vanished before it was read ({error.strerror})")
        prompts = asked.of(file.name)
        if isinstance(prompts, str):
            return _failed(file, prompts, mark)
        settings = self._settings
        try:
            if settings.tiling is not None:
                return _Large(file, mark, prompts, read_image(file.path))
            if settings.fast_decode:
                image, size_hw = read_reduced(file.path, lambda size_hw: resized_hw(size_hw, settings.imgsz))
                return _Ready(file, mark, prompts, prepare(image, settings.imgsz, size_hw))
            return _Ready(file, mark, prompts, prepare(read_image(file.path), settings.imgsz))
        except UnreadableImage as error:
            return _failed(file, error.reason, "" if _may_pass(error) else mark)

    def _together(self, group: list[_Ready]) -> Iterator[Record]:
        """Records of images that may share a batch."""
        for ready, found in zip(group, self._find([ready.prepared for ready in group], group[0].prompts), strict=True):
            yield self._record(ready, found, ready.prepared.size_hw)

    def _in_views(self, large: _Large) -> Record:
        """The record of an image that is looked at as a whole and in tiles, views of equal padded size together."""
        tiling, size_hw = self._settings.tiling, (large.image.height, large.image.width)
        assert tiling is not None
        found: dict[int, Detections | None] = {}
        waiting: dict[tuple[int, int], dict[int, PreparedImage]] = {}
        for number, view in enumerate(tile_views(large.image, tiling)):
            prepared = prepare(view.image, self._settings.imgsz)
            shape = padded_hw(prepared.resized_hw)
            group = waiting.setdefault(shape, {})
            group[number] = prepared
            if len(group) >= self._batch:
                found |= zip(group, self._find(list(waiting.pop(shape).values()), large.prompts), strict=True)
        for group in waiting.values():
            found |= zip(group, self._find(list(group.values()), large.prompts), strict=True)
        parts = [part for _, part in sorted(found.items()) if part is not None]
        if len(parts) < len(found):
            return self._record(large, None, size_hw)
        merged = merge_views(
            plan_views(size_hw, tiling),
            parts,
            merge=tiling.merge,
            imgsz=self._settings.imgsz,
            max_detections=self._settings.selection.max_detections,
        )
        return self._record(large, merged, size_hw)

    def _find(self, images: list[PreparedImage], prompts: tuple[Prompt, ...]) -> list[Detections | None]:
        """Runs images that may share a batch, which shrinks where memory is short; None: too short for one alone."""
        results: list[Detections | None] = []
        while len(results) < len(images):
            batch = images[len(results) : len(results) + self._batch]
            found = self._try(batch, prompts)
            if found is not None:
                results += found
            elif len(batch) > 1:
                self._batch = len(batch) // 2
                logger.warning("Out of memory with %d images in a batch: going on with %d.", len(batch), self._batch)
            else:
                results.append(None)
        return results

    def _try(self, batch: list[PreparedImage], prompts: tuple[Prompt, ...]) -> list[Detections] | None:
        """Detections, or None where the device's memory was too small."""
        try:
            return self._detector.detect(collate(batch), prompts, self._settings.selection)
        except torch.OutOfMemoryError:
            pass
        # Outside the handler: the exception keeps every tensor of the failed pass alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _record(self, image: _Ready | _Large, found: Detections | None, size_hw: tuple[int, int]) -> Record:
        if found is None:
            where = self._detector.device
            return _failed(image.file, f"the memory of {where} is too small even for this image alone")
        # As in Detector.predict: up to the published threshold the detector itself applies the floor, to the score
        # before centerness is multiplied in; a higher floor applies to the score that is shown.
        if self._settings.floor > self._settings.selection.candidate_threshold:
            found = found.filter(found.scores >= np.float32(self._settings.floor))
        own = in_one(image.prompts) if self._settings.asked.by_caption else None
        return Record.of(
            found,
            file_name=image.file.name,
            stamp=image.stamp,
            size_hw=size_hw,
            caption=None if own is None else own.caption,
            spans=() if own is None else own.spans,
        )


def _failed(file: ImageFile, reason: str, mark: str = "") -> Record:
    """The record of an image that could not be labelled. Without a stamp, the next run tries it again."""
    return Record(file.name, mark, error=reason)


def _may_pass(error: UnreadableImage) -> bool:
    """Whether the computer failed (rights, a network drive, memory) rather than the file's content."""
    cause = error.__cause__
    # EINVAL is what damaged data give that point outside of the file.
    of_system = isinstance(cause, OSError) and cause.errno not in (None, errno.EINVAL)
    return of_system or isinstance(cause, MemoryError)
