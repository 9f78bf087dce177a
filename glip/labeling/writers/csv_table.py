"""CSV: one row per box, for spreadsheets and data frames."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

import numpy as np

from glip.files import whole_file
from glip.labeling.writers.base import AddImage, ExportInfo, LabelledImage

COLUMNS = ("file_name", "width", "height", "label", "score", "x1", "y1", "x2", "y2")
# Spreadsheets run a cell that begins like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def write_csv(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes UTF-8 with a header; an image without boxes has one row with the last six cells empty.

    Numbers are the shortest that give back the same float32. The name of an image must not run as a formula in a
    spreadsheet: a file name that begins like one gets `./` in front, which is the same path. Class names are written
    as given.
    """
    with whole_file(path) as file:
        # Detached at the end: `whole_file` flushes and closes the file.
        rows = TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(rows)
        writer.writerow(COLUMNS)

        def add(image: LabelledImage) -> None:
            name = f"./{image.file_name}" if image.file_name.startswith(_FORMULA) else image.file_name
            head = (name, image.width, image.height)
            if not len(image.found):
                writer.writerow((*head, *[""] * 6))
            numbers = np.column_stack((image.found.scores, image.found.boxes)).astype(np.str_).tolist()
            for label, row in zip(image.found.labels.tolist(), numbers, strict=True):
                writer.writerow((*head, info.names[label], *row))

        yield add
        rows.detach()
