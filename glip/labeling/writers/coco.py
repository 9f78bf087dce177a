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
from glip.labeling.writers.base import AddImage, Facts, Image


@contextmanager
def write_coco(path: Path, facts: Facts) -> Iterator[AddImage]:
    """Every readable image, those without boxes too; each annotation with its score.

    Numbers are the detector's own float32 in full, so that left + width gives back the right edge exactly.
    """
    categories = [CocoCategory(id, name) for id, name in zip(facts.ids, facts.names, strict=True)]
    info = {"description": "Labels made by glip", "glip": facts.provenance}
    with whole_file(path) as file, coco_writer(file, categories, info) as writer:
        numbers = count(1)

        def add(image: Image) -> None:
            writer.add_image(CocoImage(image.id, image.file_name, image.width, image.height))
            for label, bbox, score in _rows(image):
                area = bbox[2] * bbox[3]
                writer.add_annotation(
                    CocoAnnotation(next(numbers), image.id, facts.ids[label], bbox, area=area, score=score)
                )

        yield add


@contextmanager
def write_results(path: Path, facts: Facts) -> Iterator[AddImage]:
    """The list that COCO's evaluation takes; image ids are those of the COCO file."""
    with whole_file(path) as file, results_writer(file) as add_result:

        def add(image: Image) -> None:
            for label, bbox, score in _rows(image):
                add_result(CocoResult(image.id, facts.ids[label], bbox, score))

        yield add


def _rows(image: Image) -> Iterator[tuple[int, BoxXYWH, float]]:
    """Label, [left, top, width, height] and score of each box."""
    boxes = image.found.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return zip(image.found.labels.tolist(), map(tuple, boxes.tolist()), image.found.scores.tolist(), strict=True)
