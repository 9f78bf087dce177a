"""Reads and writes captions with boxes for their phrases: MDETR's JSON format, which GLIP learns grounding from.

    images       one entry per caption (an image may have several): the image, and `caption`
    annotations  one entry per box: `bbox` [left, top, width, height], and `tokens_positive`, the character ranges of
                 the caption that name its content

Files are read as they are published, and written entry by entry in bounded memory. Boxes made by a detector also have
a `score`. Knows nothing of prompts, models or records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from glip.boxes import xyxy_to_xywh
from glip.data.coco import BoxXYWH, CocoCategory, Entries, check_image, open_lists
from glip.data.coco_checks import Place, check_unique
from glip.detections import Detections
from glip.errors import InputError
from glip.files import read_json, whole_file

Span = tuple[int, int]

# The format has one category: the caption names what a box holds.
OBJECT = CocoCategory(1, "object")

logger = logging.getLogger(__name__)


class GroundingImage(msgspec.Struct, frozen=True):
    """A caption and the image that it describes.

    Attributes:
        id: of this caption, unique in the file.
        file_name: of the image; several captions may share one.
        width: pixels. Published files have some sizes in quotes, which are read as numbers.
        height: pixels.
        caption: the text.
        original_img_id: equal for all captions of one image.
        sentence_id: index of this caption among those of its image.
        dataset_name: the data set that it comes from.
        tokens_negative: ranges of the caption that name nothing boxed; all of it where nobody checked.
        tokens_positive_eval: the ranges of each phrase, also of phrases without a box; grounding is scored on these.
    """

    id: int
    file_name: str
    width: int
    height: int
    caption: str
    original_img_id: int | str | UnsetType = UNSET
    sentence_id: int | str | UnsetType = UNSET
    dataset_name: str | UnsetType = UNSET
    tokens_negative: tuple[Span, ...] = ()
    tokens_positive_eval: tuple[tuple[Span, ...], ...] = ()


class GroundingAnnotation(msgspec.Struct, frozen=True):
    """A box.

    Attributes:
        id: unique in the file.
        image_id: the caption that it belongs to.
        bbox: left, top, width, height in pixels of the image.
        tokens_positive: character ranges [start, end) of the caption that name it.
        area: of the box, or of a finer outline.
        iscrowd: 1 if the box holds an uncounted group.
        category_id: without meaning in this format.
        score: of a detector; not set in a file made by people.
    """

    id: int
    image_id: int
    bbox: BoxXYWH
    tokens_positive: tuple[Span, ...]
    area: float = 0.0
    iscrowd: int = 0
    category_id: int = OBJECT.id
    score: float | UnsetType = UNSET


class GroundingDataset(msgspec.Struct, frozen=True):
    """A file of captions and boxes. Its other content is not read."""

    images: tuple[GroundingImage, ...]
    annotations: tuple[GroundingAnnotation, ...]

    def boxes_by_caption(self) -> dict[int, list[GroundingAnnotation]]:
        """Returns the boxes of each caption, by its id; captions without boxes have an empty list."""
        boxes: dict[int, list[GroundingAnnotation]] = {image.id: [] for image in self.images}
        for annotation in self.annotations:
            boxes[annotation.image_id].append(annotation)
        return boxes


def load_grounding(path: str | Path) -> GroundingDataset:
    """Reads and checks a file of captions and boxes.

    Character ranges outside of their caption are left out and counted in the log: a few of millions are no reason to
    refuse a published file. A box may then have no range.

    Raises:
        InputError: the file cannot be read, or contradicts itself.
    """
    path = Path(path)
    # Not strict: published files have image sizes both as "500" and as 500.
    dataset = read_json(path, GroundingDataset, "a grounding file", strict=False)
    _check(path, dataset)
    return _without_stray_ranges(path, dataset)


def save_grounding(path: Path, dataset: GroundingDataset, info: Mapping[str, Any] | None = None) -> None:
    """Writes a file of captions and boxes, complete or not at all; equal data gives equal bytes.

    Raises:
        JobFailed: the file cannot be written.
    """
    with whole_file(path) as file, open_lists(file, [OBJECT], info or {}) as (images, annotations):
        for image in dataset.images:
            images.add(image)
        for annotation in dataset.annotations:
            annotations.add(annotation)


class GroundingWriter:
    """Writes captions with their detections; made by `grounding_writer`. Ids count from 1."""

    def __init__(self, images: Entries, annotations: Entries) -> None:
        self._images = images
        self._annotations = annotations

    def add(
        self,
        file_name: str,
        size_hw: tuple[int, int],
        caption: str,
        spans: Sequence[Sequence[Span]],
        found: Detections,
    ) -> None:
        """Writes one caption with its boxes, exactly as the detector returned them.

        Args:
            file_name: of the image, '/' between folders.
            size_hw: of the image.
            caption: the prompt.
            spans: (P) the ranges of each phrase; the labels of `found` are indices of phrases.
            found: boxes in pixels of the image.
        """
        height, width = size_hw
        phrases = tuple(tuple((start, end) for start, end in group) for group in spans)
        id = self._images.count + 1
        self._images.add(
            GroundingImage(
                id,
                file_name,
                width,
                height,
                caption,
                original_img_id=id,
                tokens_negative=((0, len(caption)),) if caption else (),
                tokens_positive_eval=phrases,
            )
        )
        boxes = xyxy_to_xywh(found.boxes.astype(np.float64))
        for bbox, label, score in zip(boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            number = self._annotations.count + 1
            area = bbox[2] * bbox[3]
            self._annotations.add(GroundingAnnotation(number, id, tuple(bbox), phrases[label], area=area, score=score))


@contextmanager
def grounding_writer(file: BinaryIO, info: Mapping[str, Any]) -> Iterator[GroundingWriter]:
    """Writes a file of captions and boxes in memory that does not grow. The file is complete after the block.

    Args:
        file: open for writing; has a name, because boxes are kept in a temporary file in its folder meanwhile.
        info: the file's description.
    """
    with open_lists(file, [OBJECT], info) as (images, annotations):
        yield GroundingWriter(images, annotations)


def _check(path: Path, dataset: GroundingDataset) -> None:
    check_unique(Place(path, b""), "images", "image id", [image.id for image in dataset.images])
    check_unique(Place(path, b""), "annotations", "annotation id", [box.id for box in dataset.annotations])
    for image in dataset.images:
        check_image(path, image.id, image.file_name, image.width, image.height)
    images = {image.id for image in dataset.images}
    for box in dataset.annotations:
        if box.image_id not in images:
            raise InputError(f"{path}: annotation {box.id} belongs to image {box.image_id}, which is not listed.")


def _without_stray_ranges(path: Path, dataset: GroundingDataset) -> GroundingDataset:
    length = {image.id: len(image.caption) for image in dataset.images}
    strays = [a.id for a in dataset.annotations if not _all_inside(a.tokens_positive, length[a.image_id])]
    if not strays:
        return dataset
    logger.warning(
        "%s: %d boxes have character ranges outside of their caption, which are left out (first: annotation %d).",
        path,
        len(strays),
        strays[0],
    )
    chosen = set(strays)
    annotations = tuple(
        msgspec.structs.replace(a, tokens_positive=_inside(a.tokens_positive, length[a.image_id]))
        if a.id in chosen
        else a
        for a in dataset.annotations
    )
    return GroundingDataset(dataset.images, annotations)


def _all_inside(spans: Sequence[Span], length: int) -> bool:
    return all(0 <= start < end <= length for start, end in spans)


def _inside(spans: Sequence[Span], length: int) -> tuple[Span, ...]:
    return tuple((start, end) for start, end in spans if 0 <= start < end <= length)
