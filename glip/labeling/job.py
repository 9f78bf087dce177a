"""The labelling job: images + prompts → records and an annotation file.

    list images → lock the folder → compare the configuration → plan shards → label → export

The output folder is all the state there is, so the same job resumes wherever an earlier one ended. What travels to
another process is picklable: a detector spec, `LabelSettings` and shards.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import msgspec

from glip.detectors.base import DetectionLimits, ObjectDetector, OpenedOnce, OpensDetector
from glip.detectors.spec import DetectorSpec, InferenceOptions
from glip.engine import Engine
from glip.engine.local import LocalEngine
from glip.errors import InputError, JobFailed
from glip.files import path_text
from glip.images import ImageFile, Listing, RemoteFile, is_remote, list_sources, shown
from glip.labeling.classes import ClassFile
from glip.labeling.export import PREVIEW_FOLDER, write_outputs
from glip.labeling.image_prompts import PromptPlan, describe_plan, resolve_prompts
from glip.labeling.merging import MergeCounts, People, find_people, open_people
from glip.labeling.records import DoubledLines, foreign_files
from glip.labeling.run_config import OUTPUT_FILES, begin_run, describe_run
from glip.labeling.shards import find_labelled, plan_shards, remove_leftovers, write_listing
from glip.labeling.tiling import Tiling
from glip.labeling.worker import ImageDone, LabelSettings, LabelWorker
from glip.left_out import LeftOut, first_examples
from glip.names import names_read_alike
from glip.run_folder import RUN_FILE, lock_folder

logger = logging.getLogger(__name__)

# Records every candidate, so that `glip export` can apply any suppression.
CANDIDATES = DetectionLimits(suppress=False, max_detections=None)


@dataclass(frozen=True)
class LabelJob:
    """Everything that decides what a labelling run does.

    Attributes:
        sources: folders, images, patterns, list files or addresses; see `list_images`.
        prompts: what to look for: a tuple of names, or another plan of `glip.labeling.image_prompts`.
        out: the output folder; everything is written into it.
        detector: which detector to open, and how.
        limits: which boxes are recorded. More than the 100 of the published models, so that `glip export --max-det` has
            a choice; `CANDIDATES` records boxes before suppression.
        options: how images run through the detector. With prompts per image, images run one by one.
        conf: minimum score in the annotation file; None for the detector's own, or the floor if that is higher.
        classes: which of the names belong to which class; None makes every name a class.
        limit: label only the first N images; None for all.
        tiling: run on tiles of each image as well; None for whole images only.
        fast_decode: decode JPEG files at a reduced size; boxes then differ slightly.
        shard_size: number of images in one file of records, the maximum that a crash can cost; None for eight batches,
            at least 16.
        overwrite: delete the records and outputs of an earlier run first.
        preview: number of images to draw with their boxes.
        report: write report.html.
        merge: an annotation file in COCO's form with boxes of people, which stay as they are
            (`glip.labeling.merging`); None for the corrected file in the output folder, if a review wrote one there.

    Raises:
        InputError: a value is out of range, or two exclude each other.
    """

    sources: tuple[str, ...]
    prompts: PromptPlan
    out: Path = Path("labels")
    detector: DetectorSpec = field(default_factory=DetectorSpec)
    limits: DetectionLimits = field(default_factory=DetectionLimits)
    options: InferenceOptions = field(default_factory=InferenceOptions)
    conf: float | None = None
    classes: ClassFile | None = None
    limit: int | None = None
    tiling: Tiling | None = None
    fast_decode: bool = False
    shard_size: int | None = None
    overwrite: bool = False
    preview: int = 0
    report: bool = True
    merge: Path | None = None

    def __post_init__(self) -> None:
        if self.conf is not None and not 0 <= self.conf <= 1:
            raise InputError(f"conf is {self.conf}; it must lie between 0 and 1.")
        if self.conf is not None and self.conf < self.limits.floor:
            raise InputError(
                f"conf is {self.conf}, below the floor of {self.limits.floor}: weaker boxes are not recorded. "
                f"Use a floor of {self.conf} or less."
            )
        for name, number, minimum in (
            ("limit", self.limit, 1),
            ("preview", self.preview, 0),
            ("shard_size", self.shard_size, 1),
        ):
            if number is not None and number < minimum:
                raise InputError(f"{name} is {number}; it must be {minimum} or more.")
        if self.tiling is not None and not self.limits.suppress:
            raise InputError(
                "tiling and recording candidates exclude each other: boxes of several tiles are merged before they "
                "are recorded. Leave one of them out."
            )
        if self.tiling is not None and self.fast_decode:
            raise InputError(
                "tiling and fast_decode exclude each other: tiles are cut from the image at its full size. "
                "Leave one of them out."
            )

    def to_json(self) -> dict[str, Any]:
        """Returns the job as plain values for run.json."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        plain: dict[str, Any] = msgspec.to_builtins(
            values | {"prompts": describe_plan(self.prompts)}, enc_hook=path_text
        )
        return plain


@dataclass(frozen=True)
class LabelSummary:
    """Result of a labelling run.

    Attributes:
        out: the output folder.
        images: number of images of the job.
        labelled: number of them labelled by this run, failed ones included.
        earlier: number of them labelled by earlier runs.
        failed: number of them that could not be labelled, in any run; `errors.jsonl` lists them with the reason. After
            an interruption, those of this run.
        boxes: number of boxes of each class in the annotation file; empty after an interruption.
        files: what was written beside the records.
        seconds: time spent on labelling.
        interrupted: the run was stopped before all images were labelled.
        left_out: what was passed over or not read.
        notes: number of images of which something is to be said, by the note; the records have it as well.
        merged: counts of people's boxes that were kept; None if there were none to keep.
    """

    out: Path
    images: int
    labelled: int
    earlier: int
    failed: int
    boxes: dict[str, int]
    files: tuple[Path, ...]
    seconds: float
    interrupted: bool
    left_out: tuple[LeftOut, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)
    merged: MergeCounts | None = None

    @property
    def images_per_second(self) -> float:
        """Returns the speed of this run; 0 if every image was labelled before."""
        return self.labelled / self.seconds if self.labelled else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns the summary as plain values for JSON."""
        return {**msgspec.to_builtins(self, enc_hook=path_text), "images_per_second": self.images_per_second}


class Watcher(Protocol):
    """Follows a job in the process that started it, and can stop it."""

    def labelling(self, todo: int, earlier: int) -> AbstractContextManager[object]:
        """Returns a context for the time of labelling `todo` images; earlier runs labelled `earlier` of them."""
        ...

    def labelled(self, image: ImageDone) -> None:
        """Receives the result of each image."""
        ...

    def stop(self) -> bool:
        """Returns True to stop the job. The current batch is finished and written first."""
        ...


class _NoWatcher:
    def labelling(self, todo: int, earlier: int) -> AbstractContextManager[object]:
        logger.debug("%d images to label, %d labelled before", todo, earlier)
        return nullcontext()

    def labelled(self, image: ImageDone) -> None:
        logger.debug("%s: %s", image.file_name, image.error or f"{image.boxes} boxes")

    def stop(self) -> bool:
        return False


def label(
    job: LabelJob,
    *,
    detector: OpensDetector | None = None,
    engine: Engine | None = None,
    watcher: Watcher | None = None,
) -> LabelSummary:
    """Labels the images of a job that are not labelled yet, and writes the outputs for all of them.

    Args:
        job: what to label, and how.
        detector: opens the detector; None for `job.detector`.
        engine: where the workers run; None for this process.
        watcher: follows the job.

    Raises:
        InputError: there are no images, the folder holds another configuration, another run is writing into it, or a
            value cannot be used.
        JobFailed: the disk or the network failed. What was finished before is kept.
    """
    if job.merge is not None:
        open_people(job.merge)  # a bad file is refused before any work
    listing = list_job_images(job)
    try:
        job.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobFailed(f"Cannot create the output folder {job.out}: {error.strerror}. Choose another.") from error
    with lock_folder(job.out):
        return _label(
            job, listing, OpenedOnce(detector or job.detector), engine or LocalEngine(), watcher or _NoWatcher()
        )


def list_job_images(job: LabelJob) -> Listing:
    """Returns all images of the sources, in natural order of names, without those that earlier runs wrote.

    Raises:
        InputError: there are none.
    """
    out = job.out.resolve()
    if job.detector.offline:
        _refuse_remote(job.sources)
    inside = any(_absolute(source).is_relative_to(out) for source in job.sources if not is_remote(source))
    # If the output folder itself is a source, its images are labelled, but never the previews.
    own = out / PREVIEW_FOLDER if inside else out
    folders: dict[Path, bool] = {}

    def is_own(image: ImageFile) -> bool:
        if isinstance(image.path, RemoteFile):
            return False
        parent = image.path.parent
        if parent not in folders:
            # Previews of another run are not labelled either.
            previews = parent.name == PREVIEW_FOLDER and (parent.parent / RUN_FILE).is_file()
            folders[parent] = previews or parent.resolve().is_relative_to(own)
        return folders[parent]

    listing = list_sources(job.sources)
    images = [image for image in listing.images if not is_own(image)]
    if job.detector.offline:
        _refuse_remote(str(image.path) for image in images if isinstance(image.path, RemoteFile))
    if not images:
        raise InputError(f"There are no images in {', '.join(map(shown, job.sources))}.")
    return Listing(images, listing.left_out)


def _refuse_remote(sources: Iterable[str]) -> None:
    remote = next(filter(is_remote, sources), None)
    if remote is not None:
        raise InputError(f"offline is set, but {shown(remote)!r} is on the network. Leave one of them out.")


def settings_of(job: LabelJob, detector: ObjectDetector, images: Sequence[ImageFile]) -> LabelSettings:
    """Returns the settings of a job for one detector and its images.

    Raises:
        InputError: the prompts cannot be used.
    """
    prompts = resolve_prompts(job.prompts, detector, images)
    return LabelSettings(
        out=job.out,
        prompts=prompts,
        limits=job.limits,
        imgsz=job.options.imgsz_for(detector),
        # Two images hardly ever share a caption; a larger batch would only make them wait.
        batch=1 if prompts.by_caption else job.options.batch_for(detector),
        tiling=job.tiling,
        fast_decode=job.fast_decode,
    )


def _label(job: LabelJob, listing: Listing, detector: OpensDetector, engine: Engine, watcher: Watcher) -> LabelSummary:
    """Runs the job in a locked folder."""
    everything, left_out = listing.images, list(listing.left_out)
    people = _people_of(job)
    opened = detector.open()
    settings = settings_of(job, opened, everything)
    conf = max(opened.conf, job.limits.floor) if job.conf is None else job.conf
    # With absolute sources, run.json leads to the images from any working folder.
    noted = replace(job, sources=tuple(map(_absolute_text, job.sources)), conf=conf)
    begin_run(
        job.out,
        describe_run(settings, opened, job.detector.model, noted.to_json()),
        overwrite=job.overwrite,
        keep=() if people is None else (people.path,),
    )
    remove_leftovers(job.out, OUTPUT_FILES)
    doubled = DoubledLines()
    labelled, unlisted = find_labelled(job.out, everything, settings.prompts.mark, doubled)
    left_out += (
        *read_alike(settings.prompts.names),
        *_no_longer_listed(unlisted),
        *doubled.entries(),
        *foreign_files(job.out),
    )
    images, labelled = everything[: job.limit], labelled[: job.limit]
    write_listing(job.out, images)
    shards = plan_shards(job.out, images, labelled, job.shard_size or max(16, 8 * settings.batch))

    earlier, now, failed, started = sum(labelled), 0, 0, monotonic()
    with watcher.labelling(len(images) - earlier, earlier):
        results = engine.map(partial(LabelWorker, detector, settings), shards)
        for done in results:
            now, failed = now + 1, failed + (done.error is not None)
            watcher.labelled(done)
            # A resumed run must rebuild the same batches, since the arithmetic of an image depends, in its last digits,
            # on the others in its batch. So only a batch size of 1 can stop in the middle of a shard.
            if watcher.stop() and (settings.batch == 1 or not done.remaining):
                results.close()
    seconds = monotonic() - started
    if earlier + now < len(images):
        left_out_now = tuple(left_out)
        return LabelSummary(
            *(job.out, len(images), now, earlier, failed, {}, (), seconds), interrupted=True, left_out=left_out_now
        )
    outputs = write_outputs(job.out, images, conf, job.preview, report=job.report, people=people)
    return LabelSummary(
        *(job.out, len(images), now, earlier, outputs.failed, outputs.boxes, outputs.files, seconds),
        interrupted=False,
        left_out=tuple(left_out),
        notes=outputs.notes,
        merged=outputs.merged,
    )


def _people_of(job: LabelJob) -> People | None:
    """Returns the boxes of people that the annotation file must keep."""
    path = find_people(job.out) if job.merge is None else job.merge
    return None if path is None else open_people(path)


def read_alike(names: Sequence[str]) -> tuple[LeftOut, ...]:
    """Returns the entry about names that the model cannot tell apart; () if there are none."""
    groups = names_read_alike(dict.fromkeys(names))
    if not groups:
        return ()
    count = len(groups)
    sentence = (
        f"{count} {'group' if count == 1 else 'groups'} of names in the prompt read alike: the model cannot tell them "
        f"apart, and every object gets a box for each name. Keep one name of a group."
    )
    examples = first_examples(" = ".join(map(repr, group)) for group in groups)
    return (LeftOut(kind="names_read_alike", count=count, sentence=sentence, examples=examples),)


def _no_longer_listed(count: int) -> tuple[LeftOut, ...]:
    if not count:
        return ()
    what = "image labelled before is" if count == 1 else "images labelled before are"
    sentence = f"{count} {what} no longer among the sources and left out of the results; the records keep them."
    return (LeftOut(kind="no_longer_listed", count=count, sentence=sentence),)


def _absolute_text(source: str) -> str:
    return shown(source) if is_remote(source) else path_text(_absolute(source))


def _absolute(source: str) -> Path:
    return Path(source).expanduser().resolve()
