"""From the records of a run to annotation files, in any number of formats, in one pass and without the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from glip.errors import InputError
from glip.labeling.classes import ClassFile, comparable
from glip.labeling.filtering import Chooser, ExportSettings, nearest_name
from glip.labeling.records import RunInfo, read_listing, read_records, read_run
from glip.labeling.writers import FORMATS
from glip.labeling.writers.base import Facts, Grounded, Image, OpenFormat


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote.

    Attributes:
        images: in the files, those without boxes included.
        empty: of these, without a box.
        unreadable: left out; errors.jsonl of the run says why.
        unlabelled: left out, because the run has not come to them yet.
        boxes: all together.
        per_class: boxes of each class, in the order of the classes.
        files: what was written, files and folders.
    """

    images: int
    empty: int
    unreadable: int
    unlabelled: int
    boxes: int
    per_class: dict[str, int]
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """The summary as plain values that JSON can carry."""
        plain: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return plain


def export(
    folder: Path,
    out: Path,
    formats: Sequence[str],
    settings: ExportSettings,
    advance: Callable[[int], object] = lambda count: None,
) -> ExportSummary:
    """Writes the labels of a run in the given formats, each whole or not at all.

    Args:
        folder: of the run, as given to `glip label --out`.
        out: where the files go; see `FORMATS` for their names.
        formats: names in `FORMATS`.
        settings: which boxes.
        advance: called with the number of records done since the last call.

    Raises:
        InputError: a format or class is unknown, or the records do not hold what the settings ask for.
        JobFailed: a file cannot be written.
    """
    targets = {name: _target(name) for name in formats}
    run = read_run(folder)
    chooser = open_run(folder, run, settings)
    facts = Facts(
        names=chooser.classes.names,
        ids=chooser.classes.ids,
        provenance=provenance(run, settings, chooser),
        image_prefix=settings.image_prefix,
    )
    images = empty = unreadable = 0
    boxes: Counter[int] = Counter()
    with ExitStack() as stack:
        adds = [stack.enter_context(opened(out / name, facts)) for name, opened in targets.values()]
        for record in read_records(folder):
            advance(1)
            if record.error is not None:
                unreadable += 1
                continue
            images += 1
            found = chooser.choose(record)
            grounded = (
                None if record.caption is None else Grounded(record.caption, record.spans, chooser.grounded(record))
            )
            image = Image(images, record.file_name, record.width, record.height, found, grounded)
            for add in adds:
                add(image)
            empty += not len(found)
            boxes.update(found.labels.tolist())
    return ExportSummary(
        images=images,
        empty=empty,
        unreadable=unreadable,
        unlabelled=sum(1 for _ in read_listing(folder)) - images - unreadable,
        boxes=boxes.total(),
        per_class={name: boxes[label] for label, name in enumerate(facts.names)},
        files=tuple(out / name for name, _ in targets.values()),
    )


def open_run(folder: Path, run: RunInfo, settings: ExportSettings) -> Chooser:
    """Brings the settings and the records of a run together.

    Raises:
        InputError: they do not fit.
    """
    names = run.names or _names_of_captions(folder)
    asked = settings.classes or _classes_of(run)
    classes = ClassFile.from_phrases(names) if asked is None else asked.for_phrases(names)
    return Chooser(settings, classes, run)


def provenance(run: RunInfo, settings: ExportSettings, chooser: Chooser) -> dict[str, Any]:
    """What is written beside the labels. It has no times in it: the same question gives the same bytes."""
    return {
        "glip": run.versions.get("glip"),
        "model": run.model,
        "model_sha256": run.model_sha256,
        "captions": [plan.caption for plan in run.captions],
        "precision": run.precision,
        "imgsz": run.imgsz,
        "record": run.record,
        "floor": run.floor,
        "conf": settings.conf,
        "class_conf": {
            name: conf for name, conf in zip(chooser.classes.names, chooser.conf, strict=True) if conf != settings.conf
        },
        "nms": settings.nms,
        "iou": settings.iou,
        "max_det": settings.max_det,
    }


def _target(name: str) -> tuple[str, OpenFormat]:
    if name not in FORMATS:
        raise InputError(
            f"There is no format {name!r}.{nearest_name(name, list(FORMATS))} Formats: {', '.join(FORMATS)}."
        )
    return FORMATS[name]


def _classes_of(run: RunInfo) -> ClassFile | None:
    """The class file that the images were labelled with, if they were."""
    plain = run.job.get("classes")
    return None if plain is None else msgspec.convert(plain, ClassFile)


def _names_of_captions(folder: Path) -> tuple[str, ...]:
    """Every phrase that stands in some image's caption, where images have their own; one pass over the records."""
    found: dict[str, str] = {}
    for record in read_records(folder):
        for name in record.names or ():
            found.setdefault(comparable(name), name)
    return tuple(sorted(found.values()))
