"""From the records of a run to its output files: annotation files, errors, previews and report.

The records are read once, and every output takes what it needs from that pass. Needs no model.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from glip.detections import Detections
from glip.errors import GlipError, InputError, did_you_mean
from glip.files import whole_file
from glip.labeling.filtering import Chooser, ExportSettings, open_run
from glip.labeling.merging import MergeCounts, Merger, People
from glip.labeling.records import (
    DoubledLines,
    Record,
    RunInfo,
    foreign_files,
    read_listing,
    read_records,
    read_run,
)
from glip.labeling.report import ReportBuilder
from glip.labeling.splitting import Split, divide
from glip.labeling.writers import FORMATS, SPLIT_FORMATS, UNCLIPPED, WITH_IMAGES
from glip.labeling.writers.base import ExportInfo, GroundedCaption, LabelledImage, OpenFormat
from glip.labeling.writers.images import ImagePlacer
from glip.left_out import MAX_EXAMPLES, LeftOut, first_examples

if TYPE_CHECKING:
    from glip.images import ImageFile, RemoteFile

ERRORS_FILE = "errors.jsonl"
PREVIEW_FOLDER = "preview"
_PREVIEW_NAME = re.compile(r"\d{3,}-.*\.jpg", re.DOTALL)
_PREVIEW_POOL = 1024  # images with boxes that previews are chosen from

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportSummary:
    """Result of an export.

    Attributes:
        images: number of images in the files, those without boxes included.
        empty: number of them without a box.
        unreadable: number of images left out because they could not be read; errors.jsonl of the run has the reasons.
        unlabelled: number of images left out because they are not labelled yet.
        boxes: number of boxes.
        per_class: number of boxes of each class, in the order of the classes.
        files: the files and folders written.
        parts: number of images in each part of a split export; empty for one that is not split.
        left_out: what the files lack, counted and named.
    """

    images: int
    empty: int
    unreadable: int
    unlabelled: int
    boxes: int
    per_class: dict[str, int]
    files: tuple[Path, ...]
    parts: dict[str, int] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the summary as plain values for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return plain


@dataclass(frozen=True)
class Outputs:
    """The outputs of a finished labelling run.

    Attributes:
        boxes: number of boxes of each class in the annotation file.
        failed: number of images that could not be labelled.
        files: the files written.
        notes: number of images with a note about their file, by the note.
        merged: counts of people's boxes in the annotation file; None without any.
    """

    boxes: dict[str, int]
    failed: int
    files: tuple[Path, ...]
    notes: dict[str, int]
    merged: MergeCounts | None


def export(
    folder: Path,
    out: Path,
    formats: Sequence[str],
    settings: ExportSettings,
    advance: Callable[[int], object] = lambda count: None,
    *,
    report_images: Mapping[str, Path | RemoteFile] | None = None,
    images: Mapping[str, Path | RemoteFile] | None = None,
    copy_images: bool = False,
    split: Split | None = None,
) -> ExportSummary:
    """Writes the labels of a run in the given formats, each whole or not at all.

    Args:
        folder: of the run.
        out: folder for the files; `FORMATS` has their names.
        formats: names in `FORMATS`.
        settings: which boxes.
        advance: called with the number of records done since the last call.
        report_images: writes report.html as well, with the images found here by name; None writes none.
        images: where the images are, by name. They are placed beside the labels in the formats that have a place for
            them (`placing`); None writes labels only.
        copy_images: copy them instead of linking them.
        split: divide the images into parts in the formats of `SPLIT_FORMATS`; None writes them as one.

    Raises:
        InputError: a format or class is unknown, no format can be split, or the records do not hold what the settings
            need.
        JobFailed: a file cannot be written.
    """
    targets = {name: _target(name, split is not None) for name in formats}
    if split is not None and not SPLIT_FORMATS.keys() & targets.keys():
        raise InputError(f"split_ratio is given, but {', '.join(targets)} has no parts; {', '.join(SPLIT_FORMATS)} do.")
    run = read_run(folder)
    chooser = open_run(folder, run, settings)
    part_of = {} if split is None else divide(_chosen(folder, chooser), split, images)
    placer = None if images is None or not placing(formats, split) else ImagePlacer(images, copy=copy_images)
    info = ExportInfo(
        *(chooser.classes.names, chooser.classes.ids, provenance(run, settings, chooser), settings.image_prefix),
        placer=placer,
        parts=() if split is None else split.parts,
    )
    report = None if report_images is None else ReportBuilder(run, settings, chooser, run_folder=folder)
    counts, _ = _pass_over(folder, out, targets, info, chooser, part_of=part_of, report=report, advance=advance)
    unlabelled = sum(1 for _ in read_listing(folder)) - counts.images - counts.unreadable
    files = [out / name for name, _ in targets.values()]
    if report is not None:
        files.append(report.write(out, report_images or {}))
    return ExportSummary(
        images=counts.images,
        empty=counts.empty,
        unreadable=counts.unreadable,
        unlabelled=unlabelled,
        boxes=counts.boxes.total(),
        per_class={name: counts.boxes[label] for label, name in enumerate(chooser.classes.names)},
        files=tuple(files),
        parts={part: list(part_of.values()).count(part) for part in info.parts},
        left_out=(
            *_left_out(counts, unlabelled, targets, info),
            *counts.doubled.entries(),
            *foreign_files(folder),
        ),
    )


def placing(formats: Sequence[str], split: Split | None) -> list[str]:
    """Returns the formats that have a place for images."""
    return [name for name in formats if name in WITH_IMAGES or (split is not None and name in SPLIT_FORMATS)]


def write_outputs(
    folder: Path,
    images: Sequence[ImageFile],
    conf: float,
    preview: int,
    *,
    report: bool = False,
    people: People | None = None,
) -> Outputs:
    """Writes the outputs of a labelling run from its records; every file is whole, even if the power fails.

    Args:
        folder: the output folder.
        images: the images of the run, for previews and report.
        conf: minimum score in the annotation file and in previews.
        preview: number of images to draw; 0 keeps earlier previews.
        report: write report.html as well.
        people: boxes that the annotation file keeps as they are; previews and report show those of the model only.

    Raises:
        InputError: a record is damaged.
        JobFailed: a file cannot be written.
    """
    run, settings = read_run(folder), ExportSettings(conf=conf)
    chooser = open_run(folder, run, settings)
    paths = {image.name: image.path for image in images}
    targets = {name: _target(name) for name in (["coco", "grounding"] if run.by_caption else ["coco"])}
    merger = None if people is None else Merger(people)
    if merger is not None:
        targets["coco"] = (targets["coco"][0], merger.write)
    builder = ReportBuilder(run, settings, chooser) if report else None
    info = ExportInfo(chooser.classes.names, chooser.classes.ids, provenance(run, settings, chooser))
    with whole_file(folder / ERRORS_FILE) as errors:
        counts, previews = _pass_over(
            folder, folder, targets, info, chooser, report=builder, errors=errors, preview=preview
        )
    written = [*(folder / name for name, _ in targets.values()), folder / ERRORS_FILE]
    if preview:
        written += previews.draw(folder / PREVIEW_FOLDER, paths)
    if builder is not None:
        written.append(builder.write(folder, paths))
    per_class = {name: counts.boxes[label] for label, name in enumerate(chooser.classes.names)}
    merged = None
    if merger is not None:
        per_class, merged = dict.fromkeys(per_class, 0) | merger.per_class, merger.counts()
    return Outputs(per_class, counts.unreadable, tuple(written), dict(counts.notes), merged)


def provenance(run: RunInfo, settings: ExportSettings, chooser: Chooser) -> dict[str, Any]:
    """Returns the origin of the labels, for the output files. It contains no time: equal exports are equal bytes."""
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


@dataclass
class _Counts:
    images: int = 0
    empty: int = 0
    unreadable: int = 0
    unreadable_names: list[str] = field(default_factory=list)
    outside: int = 0
    outside_names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.boxes: Counter[int] = Counter()
        self.notes: Counter[str] = Counter()
        self.doubled = DoubledLines()

    def add_outside(self, image: LabelledImage) -> None:
        """Counts the boxes without area inside the image, which formats that clip leave out."""
        if count := len(image.found) - len(image.visible_boxes()[1]):
            self.outside += count
            if len(self.outside_names) <= MAX_EXAMPLES:
                self.outside_names.append(image.file_name)


def _left_out(
    counts: _Counts, unlabelled: int, targets: Mapping[str, tuple[str, OpenFormat]], info: ExportInfo
) -> Iterator[LeftOut]:
    if counts.unreadable:
        yield LeftOut(
            kind="unreadable_images",
            count=counts.unreadable,
            sentence=f"{counts.unreadable} images could not be labelled and are in no file; {ERRORS_FILE} of the run "
            f"has the reasons.",
            examples=first_examples(counts.unreadable_names),
        )
    if unlabelled:
        yield LeftOut(
            kind="unlabelled_images",
            count=unlabelled,
            sentence=f"{unlabelled} images are not labelled yet and are in no file; `glip label` resumes the run.",
        )
    if counts.outside:
        clipping = ", ".join(name for name in targets if name not in UNCLIPPED)
        yield LeftOut(
            kind="boxes_outside",
            count=counts.outside,
            sentence=f"{counts.outside} boxes have no area inside their image and are left out of {clipping}.",
            examples=first_examples(counts.outside_names),
        )
    if info.parts and (whole := [name for name in targets if name not in SPLIT_FORMATS]):
        yield LeftOut(
            kind="formats_not_split",
            count=len(whole),
            sentence=f"{', '.join(whole)}: this format has no parts and holds all images.",
        )
    yield from info.left_out
    if info.placer is not None:
        yield from info.placer.left_out()


def _chosen(folder: Path, chooser: Chooser) -> Iterator[tuple[str, Detections, tuple[int, int]]]:
    for record in read_records(folder):
        if record.error is None:
            yield record.file_name, chooser.choose(record), (record.height, record.width)


def _pass_over(
    folder: Path,
    out: Path,
    targets: Mapping[str, tuple[str, OpenFormat]],
    info: ExportInfo,
    chooser: Chooser,
    *,
    part_of: Mapping[str, str] | None = None,
    report: ReportBuilder | None = None,
    errors: BinaryIO | None = None,
    preview: int = 0,
    advance: Callable[[int], object] = lambda count: None,
) -> tuple[_Counts, PreviewPool]:
    """Reads the records once and gives each to every output; finishes the files of the formats."""
    clips = not targets.keys() <= UNCLIPPED
    counts, previews = _Counts(), PreviewPool(preview)
    with ExitStack() as stack:
        adds = [stack.enter_context(opened(out / name, info)) for name, opened in targets.values()]
        for record in read_records(folder, counts.doubled):
            advance(1)
            if record.error is not None:
                counts.unreadable += 1
                if len(counts.unreadable_names) <= MAX_EXAMPLES:
                    counts.unreadable_names.append(record.file_name)
                if errors is not None:
                    errors.write(msgspec.json.encode({"file_name": record.file_name, "error": record.error}) + b"\n")
                if report is not None:
                    report.add_error(record)
                continue
            counts.images += 1
            counts.notes.update(record.notes)
            found = chooser.choose(record)
            counts.empty += not len(found)
            counts.boxes.update(found.labels.tolist())
            image = _labelled(counts.images, record, found, chooser, (part_of or {}).get(record.file_name, ""))
            for add in adds:
                add(image)
            if clips:
                counts.add_outside(image)
            previews.add(record.file_name, found)
            if report is not None:
                report.add(record, found)
    return counts, previews


def _labelled(id: int, record: Record, found: Detections, chooser: Chooser, part: str) -> LabelledImage:
    caption = None
    if record.caption is not None:
        caption = GroundedCaption(record.caption, record.spans, chooser.grounded(record))
    return LabelledImage(id, record.file_name, record.width, record.height, found, caption, part)


def _target(name: str, split: bool = False) -> tuple[str, OpenFormat]:
    if name not in FORMATS:
        raise InputError(
            f"There is no format {name!r}.{did_you_mean(name, list(FORMATS))} Formats: {', '.join(FORMATS)}."
        )
    return SPLIT_FORMATS.get(name, FORMATS[name]) if split else FORMATS[name]


class PreviewPool:
    """Collects images with boxes, evenly spread over all that have some, in bounded memory.

    Args:
        count: number of images to draw.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._step, self._seen = 1, 0
        self._pool: list[tuple[str, Detections]] = []
        self._last: tuple[str, Detections] | None = None

    def add(self, name: str, found: Detections) -> None:
        """Keeps every `step`-th image with boxes; the step doubles whenever the pool is full."""
        if not self._count or not len(found):
            return
        self._last = name, found
        if self._seen % self._step == 0:
            self._pool.append(self._last)
        self._seen += 1
        if len(self._pool) >= max(_PREVIEW_POOL, 2 * self._count):
            self._pool, self._step = self._pool[::2], 2 * self._step

    def chosen(self) -> list[tuple[str, Detections]]:
        """Returns the images to draw: the first, the last, and evenly spread ones between."""
        pool = list(self._pool)
        if self._last is not None and pool[-1] is not self._last:
            pool.append(self._last)
        count = min(self._count, len(pool))
        return [pool[round(step * (len(pool) - 1) / max(1, count - 1))] for step in range(count)]

    def draw(self, folder: Path, paths: Mapping[str, Path | RemoteFile]) -> list[Path]:
        """Draws the chosen images with their boxes; returns the files. Earlier previews are deleted.

        Args:
            folder: for the files.
            paths: of the images, by name.
        """
        from glip.images import read_image

        for old in folder.glob("*.jpg"):
            if _PREVIEW_NAME.fullmatch(old.name):
                old.unlink()
        drawn = []
        for number, (name, found) in enumerate(self.chosen(), start=1):
            path = folder / f"{number:03d}-{Path(name).stem[:80]}.jpg"
            try:
                image = read_image(paths[name])
            except GlipError as error:  # it was readable when it was labelled
                logger.warning("No preview of %s: %s", name, error)
                continue
            jpeg = BytesIO()
            found.draw(image).save(jpeg, "JPEG", quality=90)
            with whole_file(path) as file:
                file.write(jpeg.getvalue())
            drawn.append(path)
        return drawn
