"""Captions with boxes for their phrases, in and out: the JSON form of MDETR, which GLIP learns grounding from.

    images       one entry a caption (an image may have several): the image, and `caption`
    annotations  one entry a box: `bbox` [left, top, width, height], and `tokens_positive`, the characters of the
                 caption that name what is in it

Files are read as they are published, and written piece by piece in bounded memory. A file that a detector made has a
`score` at each box besides. Knows nothing of prompts, models or records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from glip.data.coco import BoxXYWH, CocoCategory, Entries, is_inside, open_lists
from glip.detections import Detections
from glip.errors import InputError
from glip.files import whole_file

Span = tuple[int, int]

# The form has one category: what a box holds is said by the caption.
OBJECT = CocoCategory(1, "object")

logger = logging.getLogger(__name__)


class GroundingImage(msgspec.Struct, frozen=True):
    """A caption and the image that it describes.

    Attributes:
        id: of this caption, unique in the file.
        file_name: of the image; several captions may share one.
        width: pixels. Published files have some sizes in quotes, which are read as numbers.
        height: likewise.
        caption: the text.
        original_img_id: says which captions belong to one image.
        sentence_id: which of the captions of that image this is.
        dataset_name: where it comes from.
        tokens_negative: ranges of the caption that name nothing boxed; all of it where nobody checked.
        tokens_positive_eval: for each phrase its ranges, phrases without a box included; what grounding is scored on.
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
        iscrowd: 1 where the box is around an uncounted many.
        category_id: means nothing in this form.
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
    """A file of captions and boxes. What else it holds is not read."""

    images: tuple[GroundingImage, ...]
    annotations: tuple[GroundingAnnotation, ...]

    def boxes_by_caption(self) -> dict[int, list[GroundingAnnotation]]:
        """Image id to its boxes; every caption is there, those without boxes too."""
        boxes: dict[int, list[GroundingAnnotation]] = {image.id: [] for image in self.images}
        for annotation in self.annotations:
            boxes[annotation.image_id].append(annotation)
        return boxes


def load_grounding(path: str | Path) -> GroundingDataset:
    """Reads and checks a file of captions and boxes.

    Ranges that lie outside of their caption are left out and counted in the log: a few of millions are no reason to
    refuse a published file. A box may be left without any.

    Raises:
        InputError: it cannot be read, or contradicts itself; the message says what and where.
    """
    path = Path(path)
    try:
        # Not strict: sizes of images are published as "500" and as 500.
        dataset = msgspec.json.decode(path.read_bytes(), type=GroundingDataset, strict=False)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except msgspec.ValidationError as error:
        raise InputError(f"{path} is not a grounding file: {error}.") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is not complete, valid JSON: {error}. Make or fetch it again.") from error
    _check(path, dataset)
    return _without_stray_ranges(path, dataset)


def save_grounding(path: Path, dataset: GroundingDataset, info: Mapping[str, Any] | None = None) -> None:
    """Writes a file of captions and boxes, whole or not at all; equal data gives equal bytes.

    Raises:
        JobFailed: it cannot be written.
    """
    with whole_file(path) as file, open_lists(file, [OBJECT], info or {}) as (images, annotations):
        for image in dataset.images:
            images.add(image)
        for annotation in dataset.annotations:
            annotations.add(annotation)


class GroundingWriter:
    """Takes captions with what was found of them; made by `grounding_writer`. Numbers them from 1."""

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
        """One more caption, with its boxes exactly as the detector gave them.

        Args:
            file_name: of the image, '/' between folders.
            size_hw: of the image.
            caption: what was asked.
            spans: (P) for each phrase its ranges; the labels of `found` count them.
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
        boxes = found.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        for bbox, label, score in zip(boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            number = self._annotations.count + 1
            area = bbox[2] * bbox[3]
            self._annotations.add(GroundingAnnotation(number, id, tuple(bbox), phrases[label], area=area, score=score))


@contextmanager
def grounding_writer(file: BinaryIO, info: Mapping[str, Any]) -> Iterator[GroundingWriter]:
    """Writes a file of captions and boxes in memory that does not grow with it. It is complete after the block.

    Args:
        file: open for writing; named, because boxes wait in a nameless file on the same disk until all captions stand.
        info: the file's own description.
    """
    with open_lists(file, [OBJECT], info) as (images, annotations):
        yield GroundingWriter(images, annotations)


def _check(path: Path, dataset: GroundingDataset) -> None:
    images = {image.id for image in dataset.images}
    for what, ids in (("image", [i.id for i in dataset.images]), ("annotation", [a.id for a in dataset.annotations])):
        if double := _first_double(ids):
            raise InputError(f"{path}: the {what} id {double[0]} stands there twice.")
    for image in dataset.images:
        if not is_inside(image.file_name):
            raise InputError(
                f"{path}: the file_name {image.file_name!r} of image {image.id} leads out of the folder of images. "
                f"Only relative paths without `..` are accepted."
            )
        if image.width < 1 or image.height < 1:
            raise InputError(
                f"{path}: image {image.id} is {image.width} × {image.height} pixels large, which cannot be."
            )
    for annotation in dataset.annotations:
        if annotation.image_id not in images:
            raise InputError(
                f"{path}: annotation {annotation.id} belongs to image {annotation.image_id}, which is not listed."
            )


def _first_double(ids: Iterable[int]) -> list[int]:
    seen: set[int] = set()
    for id in ids:
        if id in seen:
            return [id]
        seen.add(id)
    return []


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
