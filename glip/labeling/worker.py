"""LabelWorker: runs shards of images through a detector, in batches, and writes their records.

A fault of a single image becomes its record; a fault of the program is raised.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from glip.detections import Detections
from glip.detectors.base import NOT_FINITE, DetectionLimits, ObjectDetector, OpensDetector
from glip.detectors.batching import Batcher
from glip.images import ImageFile, NotFetched, PreparedImage, UnreadableImage, decode_image
from glip.images.read_ahead import read_ahead
from glip.labeling.image_prompts import ImagePrompts, join_prompts
from glip.labeling.records import Record
from glip.labeling.shards import Shard, stamp, write_shard
from glip.labeling.tile_merging import merge_views
from glip.labeling.tiling import Tiling, plan_views, tile_views
from glip.prompts import Prompt

# An image of any size that people label decodes in seconds; reading that takes this long hangs.
READ_TIME_LIMIT = 60.0  # seconds
READ_AHEAD = min(8, (os.cpu_count() or 1) + 1)  # images read beyond the current batch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelSettings:
    """How a worker labels its images. Picklable, so that it can be sent to another process.

    Attributes:
        out: the output folder.
        prompts: what to look for in each image.
        limits: which boxes are recorded.
        imgsz: size in pixels to which the short side of an image is resized.
        batch: maximum number of images, or of tiles of one image, that run together.
        tiling: how images are cut into tiles; None runs on whole images only.
        fast_decode: decode JPEG files at a reduced size, see `decode_image`; not together with `tiling`.
    """

    out: Path
    prompts: ImagePrompts
    limits: DetectionLimits
    imgsz: int
    batch: int
    tiling: Tiling | None = None
    fast_decode: bool = False


@dataclass(frozen=True)
class ImageDone:
    """The result of one image.

    Attributes:
        file_name: of the image.
        boxes: number of boxes recorded.
        error: why it could not be labelled; None if it was.
        remaining: number of images of the same shard that are still to come.
    """

    file_name: str
    boxes: int
    error: str | None
    remaining: int


@dataclass(frozen=True)
class _Ready:
    """An image that can go into a batch."""

    file: ImageFile
    stamp: str
    prompts: tuple[Prompt, ...]
    prepared: PreparedImage
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Large:
    """An image to be cut into tiles, one image at a time: together the tiles of many would fill the memory."""

    file: ImageFile
    stamp: str
    prompts: tuple[Prompt, ...]
    image: Image.Image
    notes: tuple[str, ...] = ()


class LabelWorker:
    """Labels shards, one call each.

    Args:
        detector: opens the detector of this process; one thread uses it.
        settings: how to label.
    """

    def __init__(self, detector: OpensDetector, settings: LabelSettings) -> None:
        self._detector: ObjectDetector = detector.open()
        self._settings = settings
        self._batch = settings.batch  # halved when the memory of the device is too small

    def __call__(self, shard: Shard) -> Generator[ImageDone, None, None]:
        """Labels the images of a shard, yields the result of each, and writes the shard's file at the end.

        Closing the iterator writes the records of the images that are done, if each ran alone. A larger batch must be
        rebuilt by the next run, since its images change each other's last digits: then nothing is written.
        """
        records: list[Record] = []
        try:
            for record in self.label(shard.images):
                records.append(record)
                remaining = len(shard.images) - len(records)
                yield ImageDone(record.file_name, len(record.scores), record.error, remaining)
        except GeneratorExit:
            if self._settings.batch == 1 or len(records) == len(shard.images):
                write_shard(self._settings.out, shard, records)
            raise
        write_shard(self._settings.out, shard, records)

    def label(self, images: Sequence[ImageFile]) -> Iterator[Record]:
        """Yields the records of images. Images with equal prompts that can share a batch wait for each other."""
        batcher: Batcher[_Ready] = Batcher(self._settings.batch)
        ahead = self._settings.batch + READ_AHEAD
        for file, read in read_ahead(images, self._read, ahead=ahead, time_limit=READ_TIME_LIMIT):
            if read is None:
                yield _failed(file, f"reading took longer than {READ_TIME_LIMIT:.0f} seconds and was given up")
            elif isinstance(read, Record):
                yield read
            elif isinstance(read, _Large):
                yield self._label_tiles(read)
            else:
                key: Hashable = self._detector.batch_key(read.prepared), read.prompts
                if batch := batcher.add(key, read):
                    yield from self._label_batch(batch)
        for batch in batcher.rest():
            yield from self._label_batch(batch)

    def _read(self, file: ImageFile) -> _Ready | _Large | Record:
        """Returns an image ready for the detector, or the record of why it is not. Runs in a thread."""
        settings = self._settings
        try:
            mark = stamp(file.path) + settings.prompts.mark(file.name)
        except NotFetched as error:
            return _failed(file, error.reason)
        except OSError as error:
            return _failed(file, f"it vanished before it was read ({error.strerror})")
        prompts = settings.prompts.of(file.name)
        if isinstance(prompts, str):
            return _failed(file, prompts, mark)
        try:
            decoded = decode_image(file.path, self._reduced_hw if settings.fast_decode else None)
        except UnreadableImage as error:
            return _failed(file, error.reason, "" if _is_passing(error) else mark)
        if settings.tiling is not None:
            return _Large(file, mark, prompts, decoded.image, decoded.notes)
        size_hw = decoded.size_hw if settings.fast_decode else None
        prepared = self._detector.prepare(decoded.image, settings.imgsz, size_hw)
        return _Ready(file, mark, prompts, prepared, decoded.notes)

    def _reduced_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return self._detector.resized_hw(size_hw, self._settings.imgsz)

    def _label_batch(self, batch: Sequence[_Ready]) -> Iterator[Record]:
        found = self._detect([ready.prepared for ready in batch], batch[0].prompts)
        for ready, detections in zip(batch, found, strict=True):
            yield self._record(ready, detections, ready.prepared.size_hw)

    def _label_tiles(self, large: _Large) -> Record:
        """Returns the record of an image that runs as a whole and in tiles."""
        tiling, size_hw = self._settings.tiling, (large.image.height, large.image.width)
        assert tiling is not None
        found: dict[int, Detections | None] = {}
        batcher: Batcher[tuple[int, PreparedImage]] = Batcher(self._batch)

        def detect(batch: Sequence[tuple[int, PreparedImage]]) -> None:
            indices, prepared = zip(*batch, strict=True)
            found.update(zip(indices, self._detect(prepared, large.prompts), strict=True))

        for index, view in enumerate(tile_views(large.image, tiling)):
            prepared = self._detector.prepare(view.image, self._settings.imgsz)
            if batch := batcher.add(self._detector.batch_key(prepared), (index, prepared)):
                detect(batch)
        for batch in batcher.rest():
            detect(batch)
        parts = [part for _, part in sorted(found.items()) if part is not None]
        if len(parts) < len(found):
            return self._record(large, None, size_hw)
        if not all(part.is_finite() for part in parts):
            return _failed(large.file, NOT_FINITE, large.stamp)
        return self._record(large, self._merge(size_hw, tiling, parts), size_hw)

    def _merge(self, size_hw: tuple[int, int], tiling: Tiling, parts: Sequence[Detections]) -> Detections:
        views = plan_views(size_hw, tiling)
        return merge_views(
            views,
            parts,
            merge=tiling.merge,
            scales=[
                self._detector.resized_hw((y2 - y1, x2 - x1), self._settings.imgsz)[0] / (y2 - y1)
                for x1, y1, x2, y2 in views
            ],
            max_detections=self._settings.limits.max_detections,
        )

    def _detect(self, images: Sequence[PreparedImage], prompts: tuple[Prompt, ...]) -> list[Detections | None]:
        """Runs images that can share a batch, in smaller batches where memory is short; None: not even one fits."""
        results: list[Detections | None] = []
        while len(results) < len(images):
            batch = images[len(results) : len(results) + self._batch]
            found = self._try(batch, prompts)
            if found is not None:
                results += found
            elif len(batch) > 1:
                self._batch = len(batch) // 2
                logger.warning("Out of memory with a batch of %d images: continuing with %d.", len(batch), self._batch)
            else:
                results.append(None)
        return results

    def _try(self, batch: Sequence[PreparedImage], prompts: tuple[Prompt, ...]) -> list[Detections] | None:
        """Returns detections, or None where the memory of the device was too small."""
        import torch  # here: a job that is refused needs none

        try:
            return self._detector.detect(batch, prompts, self._settings.limits)
        except torch.OutOfMemoryError:
            pass
        # Outside the handler: the exception keeps every tensor of the failed pass alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _record(self, image: _Ready | _Large, found: Detections | None, size_hw: tuple[int, int]) -> Record:
        if found is None:
            device = self._detector.device
            return _failed(image.file, f"the memory of {device} is too small for this image, even in a batch of one")
        if not found.is_finite():
            return _failed(image.file, NOT_FINITE, image.stamp)
        found = self._detector.apply_floor(found, self._settings.limits.floor)
        own = join_prompts(image.prompts) if self._settings.prompts.by_caption else None
        return Record.of(
            found,
            file_name=image.file.name,
            stamp=image.stamp,
            size_hw=size_hw,
            caption=None if own is None else own.caption,
            spans=() if own is None else own.spans,
            notes=image.notes,
        )


def _failed(file: ImageFile, reason: str, mark: str = "") -> Record:
    """Returns the record of an image that could not be labelled. Without a mark, the next run tries it again."""
    return Record(file.name, mark, error=reason)


def _is_passing(error: UnreadableImage) -> bool:
    """Returns whether the system failed (permissions, a network drive, memory) rather than the file's content."""
    cause = error.__cause__
    # EINVAL is what damaged data give that point outside of the file.
    of_system = isinstance(cause, OSError) and cause.errno not in (None, errno.EINVAL)
    return of_system or isinstance(cause, MemoryError)
