"""Makes folders as a labelling run leaves them, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from glip.detections import Detections
from glip.files import natural_order
from glip.images import RemoteFile
from glip.labeling.export import ExportSummary, export
from glip.labeling.filtering import ExportSettings, open_run
from glip.labeling.records import (
    RECORDS_FOLDER,
    CaptionPlan,
    Record,
    RunInfo,
    encode,
    read_records,
    read_run,
)
from glip.labeling.report import ReportBuilder
from glip.labeling.writers import FORMATS
from glip.run_folder import RUN_FILE

NAMES = ("person", "dog", "traffic light")


def a_record(
    file_name: str,
    boxes: Sequence[Sequence[float]] = (),
    scores: Sequence[float] = (),
    labels: Sequence[int] = (),
    size_hw: tuple[int, int] = (480, 640),
) -> Record:
    """A labelled image; scores best first, as the detector gives them."""
    found = Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64), NAMES * 30
    )
    return Record.of(found, file_name=file_name, stamp="1-1", size_hw=size_hw)


def broken(file_name: str, why: str = "it is empty") -> Record:
    """An image that could not be read."""
    return Record(file_name, "1-1", error=why)


def a_run(**changes: Any) -> RunInfo:
    """What run.json says after the published post-processing."""
    fields: dict[str, Any] = {
        "model_sha256": "ab" * 32,
        "names": NAMES,
        "captions": (CaptionPlan(". ".join(NAMES), NAMES),),
        "floor": 0.05,
        "imgsz": 800,
        "nms_iou": 0.6,
        "max_detections": 300,
        "record": "detections",
        "precision": "fp32",
        "model": "glip-t",
        "device": "cpu",
        "created": "2020-01-01T00:00:00+00:00",
        "versions": {"glip": "1.2.3"},
        "job": {},
    }
    return RunInfo(**(fields | changes))


def write_run(folder: Path, records: Iterable[Record], **changes: Any) -> Path:
    """The folder of a run with these records; gives the folder back."""
    place = folder / RECORDS_FOLDER
    place.mkdir(parents=True)
    run = a_run(**({"captions": ()} | changes if "names" in changes else changes))
    (folder / RUN_FILE).write_bytes(msgspec.json.encode(run))
    ordered = sorted(records, key=lambda record: natural_order(record.file_name))
    (place / "listing.txt").write_bytes(b"".join(msgspec.json.encode(record.file_name) + b"\n" for record in ordered))
    (place / "000001-000000.jsonl").write_bytes(b"".join(map(encode, ordered)))
    return folder


# Overlapping finds, an empty image, sub-folders, a stem that stands twice, letters and signs that need care.
RECORDS = (
    a_record(
        "a.jpg",
        [[10.25, 20.5, 110.75, 220.125], [12, 22, 108, 215], [300, 100, 400.1, 250.7], [305, 100, 400, 250]],
        [0.9, 0.7, 0.5, 0.31],
        [0, 1, 1, 0],
    ),
    a_record("sub/a.jpg", [[-3.5, -2, 650, 490]], [0.8], [2]),
    a_record("sub/empty.png"),
    a_record('ünï "quoted", & <b>.jpg', [[0, 0, 640, 480], [1, 1, 2, 2]], [0.61, 0.2], [0, 1]),
    a_record("=cmd.jpg", [[5, 5, 50, 50]], [0.45], [1], size_hw=(100, 60)),
    broken("zz/broken.jpg"),
)
READABLE = [record for record in RECORDS if record.error is None]

LOW = ExportSettings(conf=0.05)
BOX_FORMATS = [name for name in FORMATS if name != "grounding"]  # which is about captions


def write(run: Path, *formats: str, settings: ExportSettings = LOW) -> Path:
    """Exports a run into its folder `out`, and gives that back."""
    export(run, run / "out", formats, settings)
    return run / "out"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_report(
    run: Path, images: Mapping[str, Path | RemoteFile], settings: ExportSettings, out: Path | None = None, **limits: Any
) -> Path:
    """Writes the report about a run; returns its path. `limits` are those of `ReportBuilder`."""
    info = read_run(run)
    chooser = open_run(run, info, settings)
    builder = ReportBuilder(info, settings, chooser, **limits)
    for record in read_records(run):
        if record.error is None:
            builder.add(record, chooser.choose(record))
        else:
            builder.add_error(record)
    return builder.write(out or run, images)


def a_box(number: int) -> list[list[float]]:
    """A box that no other image has."""
    return [[1.0, 2.0, 20.0 + number, 30.0 + number]]


class LabelledFolder:
    """A labelled run and its images, each with its own color."""

    def __init__(self, root: Path, names: Sequence[str], labels: Sequence[int] = (0,)) -> None:
        self.images = {name: root / "photos" / name for name in names}
        records: list[Record] = []
        for number, (name, path) in enumerate(self.images.items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (90, 80), (5 * number % 256, 50, 90)).save(
                path, "PNG" if path.suffix == ".png" else "JPEG"
            )
            label = labels[number % len(labels)]
            records.append(a_record(name, a_box(number), [0.9], [label], size_hw=(80, 90)))
        self.run = write_run(root / "labels", records)
        self.out = root / "out"

    def export(self, *formats: str, images: bool = True, **words: Any) -> ExportSummary:
        return export(self.run, self.out, formats, LOW, images=self.images if images else None, **words)
