"""COCO JSON, COCO results, and grounding JSON (captions with the boxes of their phrases)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np

from glip.boxes import xyxy_to_xywh
from glip.data.coco import (
    BoxXYWH,
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoResult,
    CocoWriter,
    coco_writer,
    results_writer,
)
from glip.data.grounding import grounding_writer
from glip.errors import InputError
from glip.files import whole_file
from glip.labeling.writers.base import AddImage, ExportInfo, LabelledImage, checked_name, own_folders
from glip.labeling.writers.images import PlacedNames

ANNOTATIONS = "_annotations.coco.json"
# Roboflow, and the trainers that follow it, say valid.
FOLDERS = {"train": "train", "val": "valid", "test": "test"}


@contextmanager
def write_coco(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes COCO JSON: every readable image, those without boxes included; each annotation with its score.

    Numbers are the detector's float32 in full, so that left + width gives back the right edge exactly.
    """
    with whole_file(path) as file, _coco_writer(file, info) as writer:
        add_to = _adder(info)
        yield lambda image: add_to(writer, image, image.file_name)


@contextmanager
def write_coco_folders(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes a folder for each part, with its images and `_annotations.coco.json`, as Roboflow lays them out.

    Ids are those of the file that is not split.
    """
    names = PlacedNames(one_stem=False)
    with own_folders(path, [FOLDERS[part] for part in info.parts], info) as folders, ExitStack() as stack:
        of_part = dict(zip(info.parts, folders, strict=True))
        files = [stack.enter_context((folder / ANNOTATIONS).open("wb")) for folder in folders]
        writers = [stack.enter_context(_coco_writer(file, info)) for file in files]
        writer_of = dict(zip(info.parts, writers, strict=True))
        add_to = _adder(info)

        def add(image: LabelledImage) -> None:
            name = checked_name(image)
            if info.placer is not None:
                name = names.name(name)
                info.placer.note_name(image.file_name, name)
                info.placer.place(image.file_name, of_part[image.part] / name)
            add_to(writer_of[image.part], image, name)

        yield add


def _coco_writer(file: BinaryIO, info: ExportInfo) -> AbstractContextManager[CocoWriter]:
    categories = [CocoCategory(id, name) for id, name in zip(info.ids, info.names, strict=True)]
    return coco_writer(file, categories, {"description": "Labels made by glip", "glip": info.provenance})


def _adder(info: ExportInfo) -> Callable[[CocoWriter, LabelledImage, str], None]:
    """Returns a function that writes an image under a name, and its boxes, numbered through all calls."""
    numbers = count(1)

    def add(writer: CocoWriter, image: LabelledImage, name: str) -> None:
        writer.add_image(CocoImage(image.id, name, image.width, image.height))
        for label, bbox, score in _rows(image):
            area = bbox[2] * bbox[3]
            writer.add_annotation(
                CocoAnnotation(next(numbers), image.id, info.ids[label], bbox, area=area, score=score)
            )

    return add


@contextmanager
def write_results(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes the list that COCO's evaluation reads; image ids are those of the COCO file."""
    with whole_file(path) as file, results_writer(file) as add_result:

        def add(image: LabelledImage) -> None:
            for label, bbox, score in _rows(image):
                add_result(CocoResult(image.id, info.ids[label], bbox, score))

        yield add


@contextmanager
def write_grounding(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes what grounded pre-training reads: captions, their phrases, and the boxes of each with their scores.

    Raises:
        InputError: the images were labelled with a class list.
    """
    header = {"description": "Labels made by glip", "glip": info.provenance}
    with whole_file(path) as file, grounding_writer(file, header) as writer:

        def add(image: LabelledImage) -> None:
            if image.grounded is None:
                raise InputError(
                    "These images were labelled with a class list, so there are no captions to ground. "
                    "Label with captions, or choose another format."
                )
            size_hw, grounded = (image.height, image.width), image.grounded
            writer.add(image.file_name, size_hw, grounded.caption, grounded.spans, grounded.found)

        yield add


def _rows(image: LabelledImage) -> Iterator[tuple[int, BoxXYWH, float]]:
    """Returns label, [left, top, width, height] and score of each box."""
    boxes = xyxy_to_xywh(image.found.boxes.astype(np.float64))
    return zip(image.found.labels.tolist(), map(tuple, boxes.tolist()), image.found.scores.tolist(), strict=True)
