"""COCO JSON, and COCO's results form: boxes exactly as the detector gave them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np

from glip.data.coco import (
    BoxXYWH,
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoResult,
    coco_writer,
    results_writer,
)
from glip.files import whole_file
from glip.labeling.writers.picture import AddPicture, Facts, Picture


@contextmanager
def write_coco(path: Path, facts: Facts) -> Iterator[AddPicture]:
    """Every readable picture, those without boxes too; each annotation with its score.

    Numbers are the detector's own float32 in full, so that left + width gives back the right edge exactly.
    """
    categories = [CocoCategory(id, name) for id, name in zip(facts.ids, facts.names, strict=True)]
    info = {"description": "Labels made by glip", "glip": facts.provenance}
    with whole_file(path) as file, coco_writer(file, categories, info) as writer:
        numbers = count(1)

        def add(picture: Picture) -> None:
            writer.add_image(CocoImage(picture.id, picture.file_name, picture.width, picture.height))
            for label, bbox, score in _rows(picture):
                area = bbox[2] * bbox[3]
                writer.add_annotation(
                    CocoAnnotation(next(numbers), picture.id, facts.ids[label], bbox, area=area, score=score)
                )

        yield add


@contextmanager
def write_results(path: Path, facts: Facts) -> Iterator[AddPicture]:
    """The list that COCO's evaluation takes; image ids are those of the COCO file."""
    with whole_file(path) as file, results_writer(file) as add_result:

        def add(picture: Picture) -> None:
            for label, bbox, score in _rows(picture):
                add_result(CocoResult(picture.id, facts.ids[label], bbox, score))

        yield add


def _rows(picture: Picture) -> Iterator[tuple[int, BoxXYWH, float]]:
    """Label, [left, top, width, height] and score of each box."""
    boxes = picture.found.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return zip(picture.found.labels.tolist(), map(tuple, boxes.tolist()), picture.found.scores.tolist(), strict=True)
