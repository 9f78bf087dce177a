"""CSV: one row per box, for spreadsheets and data frames."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

import numpy as np

from glip.csv_cells import csv_path, csv_text
from glip.files import whole_file
from glip.labeling.writers.base import AddImage, ExportInfo, LabelledImage

COLUMNS = ("file_name", "width", "height", "label", "score", "x1", "y1", "x2", "y2")


@contextmanager
def write_csv(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes UTF-8 with a header; an image without boxes has one row with the last six cells empty.

    Numbers are the shortest that give back the same float32. A file name that a spreadsheet could run as a formula
    gets `./` in front, which is the same path; a class name gets an apostrophe.
    """
    with whole_file(path) as file:
        # Detached at the end: `whole_file` flushes and closes the file.
        rows = TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(rows)
        writer.writerow(COLUMNS)
        names = [csv_text(name) for name in info.names]

        def add(image: LabelledImage) -> None:
            head = (csv_path(image.file_name), image.width, image.height)
            if not len(image.found):
                writer.writerow((*head, *[""] * 6))
            numbers = np.column_stack((image.found.scores, image.found.boxes)).astype(np.str_).tolist()
            for label, row in zip(image.found.labels.tolist(), numbers, strict=True):
                writer.writerow((*head, names[label], *row))

        yield add
        rows.detach()
