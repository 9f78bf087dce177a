"""What a finished run leaves beside its records: the annotation file, the list of failures, previews."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from glip.detections import Detections
from glip.files import whole_file
from glip.images import ImageFile
from glip.labeling.export import export, open_run
from glip.labeling.filtering import ExportSettings
from glip.labeling.preview import write_previews
from glip.labeling.records import read_records, read_run
from glip.labeling.report import write_report

ERRORS_FILE = "errors.jsonl"


@dataclass(frozen=True)
class Outputs:
    """What was written, and what it says.

    Attributes:
        boxes: per class, in the annotation file.
        failed: images that could not be labelled.
        files: what was written.
    """

    boxes: dict[str, int]
    failed: int
    files: tuple[Path, ...]


def write_outputs(
    folder: Path, listing: Sequence[ImageFile], conf: float, preview: int, *, report: bool = False
) -> Outputs:
    """Writes the outputs anew from the records; every file is whole, whenever the power fails.

    Args:
        folder: the output folder.
        listing: the images, for previews.
        conf: least score in the annotation file and in previews.
        preview: so many images are drawn; with 0, earlier previews stay.
        report: write report.html as well.
    """
    run, settings = read_run(folder), ExportSettings(conf=conf)
    paths = {image.name: image.path for image in listing}
    failed = _write_errors(folder)
    exported = export(folder, folder, ["coco", "grounding"] if run.by_caption else ["coco"], settings)
    drawn: list[Path] = []
    if preview:
        chooser = open_run(folder, run, settings)

        def found() -> Iterator[tuple[str, Detections]]:
            return ((record.file_name, chooser.choose(record)) for record in read_records(folder))

        drawn = write_previews(folder, found, paths, preview)
    if report:
        drawn.append(write_report(folder, paths, settings))
    return Outputs(exported.per_class, failed, (*exported.files, folder / ERRORS_FILE, *drawn))


def _write_errors(folder: Path) -> int:
    """One line an image that could not be labelled, with the reason; an empty file if there is none."""
    count = 0
    with whole_file(folder / ERRORS_FILE) as file:
        for record in read_records(folder):
            if record.error is not None:
                count += 1
                file.write(msgspec.json.encode({"file_name": record.file_name, "error": record.error}) + b"\n")
    return count
