"""The labelling job: many images and one question → an annotation file.

    list the images → take the folder → is the question the same? → plan shards → label → write the outputs

The folder is all the state there is, so the same call goes on wherever an earlier one ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, get_args

import msgspec

from glip.engine.local import Engine, LocalEngine
from glip.errors import InputError, JobFailed
from glip.images import ImageFile, RemoteFile, is_remote, list_images, resized_hw, shown
from glip.labeling.asking import Asked, CaptionSource, one_caption, what_to_ask
from glip.labeling.captions import Spans
from glip.labeling.classes import ClassFile
from glip.labeling.outputs import write_outputs
from glip.labeling.preview import PREVIEW_FOLDER
from glip.labeling.records import RUN_FILE, Record, RecordKind
from glip.labeling.run_config import answer_only, describe_run
from glip.labeling.shards import find_labelled, plan_shards, remove_leftovers, write_listing
from glip.labeling.tiling import Tiling
from glip.labeling.worker import ImageDetector, LabelSettings, LabelWorker
from glip.model.postprocess import PUBLISHED
from glip.run_folder import lock_folder

RECORDED_DETECTIONS = 300  # more than the 100 published, so that `glip export --max-det` has a choice
GPU_BATCH = 8

Settle = Callable[[ImageDetector, Sequence[ImageFile]], LabelSettings]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelJob:
    """Everything that a run of `glip label` is told.

    Attributes:
        sources: folders, images, globs and list files; addresses, see `list_images`.
        names: what to find: class names, or every phrase of the class file; () where there are captions.
        model: name of a checkpoint, a model folder or a file.
        adapter: what `glip finetune` has learned beside it; None: nothing.
        out: the folder that everything is written into.
        floor: least score that is recorded.
        conf: least score that the annotation file shows; None: the model's own, or the floor if that is higher.
        device: auto, cpu, mps, cuda or cuda:N.
        precision: fp32, bf16 or fp16.
        compiled: let `torch.compile` make a program of the backbone, see `load_detector`.
        batch: most images that run together; None: 8 on a GPU, else 1.
        imgsz: short side in pixels that images are resized to; None: what the model is meant for.
        limit: only the first so many images; None: all.
        record: what is recorded: `detections`, or `candidates` before NMS.
        overwrite: forget what the folder holds.
        preview: so many images are drawn with their boxes.
        shard_size: images in one file of records, the most that a crash can cost; None: eight batches, at least 16.
        offline: never touch the network.
        classes: which of the names stand for which class; None: every name is a class.
        caption: one text for all images, in which `spans` say where the names stand; None: the names make it.
        spans: for each name its character ranges in `caption`.
        captions: each image is asked for the phrases of its own caption instead.
        tiling: images are looked at in tiles as well.
        fast_decode: decode JPEG files no larger than needed; boxes then differ slightly.
        report: write report.html.
    """

    sources: tuple[str, ...]
    names: tuple[str, ...] = ()
    model: str = "glip-t"
    out: Path = Path("labels")
    floor: float = 0.05
    conf: float | None = None
    device: str = "auto"
    precision: str = "fp32"
    batch: int | None = None
    imgsz: int | None = None
    limit: int | None = None
    record: RecordKind = "detections"
    overwrite: bool = False
    preview: int = 0
    shard_size: int | None = None
    offline: bool = False
    classes: ClassFile | None = None
    caption: str | None = None
    spans: Spans = ()
    captions: CaptionSource | None = None
    tiling: Tiling | None = None
    fast_decode: bool = False
    report: bool = True
    adapter: Path | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        for option, value in (("floor", self.floor), ("conf", self.conf)):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"--{option} is {value}; it must lie between 0 and 1.")
        if self.conf is not None and self.conf < self.floor:
            raise InputError(
                f"--conf {self.conf} is below --floor {self.floor}, the least score that is recorded. "
                f"Give a --floor of {self.conf} or less."
            )
        if self.record not in get_args(RecordKind):
            raise InputError(f"--record is {self.record!r}; accepted are {' and '.join(get_args(RecordKind))}.")
        for option, number, least in (
            ("batch", self.batch, 1),
            ("limit", self.limit, 1),
            ("preview", self.preview, 0),
            ("shard-size", self.shard_size, 1),
        ):
            if number is not None and number < least:
                raise InputError(f"--{option} is {number}; it must be {least} or more.")
        if bool(self.names) == (self.captions is not None):
            raise InputError("Give names to find (--prompt or --classes), or --captions: one of them.")
        if self.tiling is not None and self.record == "candidates":
            raise InputError(
                "--tile and --record candidates exclude each other: what several tiles see of one object is merged "
                "before it is recorded. Leave one of them out."
            )
        if self.tiling is not None and self.fast_decode:
            raise InputError(
                "--tile and --fast-decode exclude each other: tiles are cut out of the whole image. "
                "Leave one of them out."
            )
        if self.imgsz is not None:
            resized_hw((1, 1), self.imgsz)  # refuses a size that no image could be resized to

    def to_json(self) -> dict[str, Any]:
        """The job as plain values that JSON can carry."""
        return msgspec.to_builtins(self, enc_hook=_printable)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LabelJob:
        """The job that `to_json` was called on.

        Raises:
            InputError: a field is missing, unknown in type, or out of range.
        """
        try:
            return msgspec.convert(values, cls, dec_hook=lambda kind, value: kind(value))
        except msgspec.ValidationError as error:
            raise InputError(f"These are not the settings of a labelling job: {error}.") from error


@dataclass(frozen=True)
class LabelSummary:
    """What a run did.

    Attributes:
        out: the output folder.
        images: that the command is about.
        labelled: of these, in this run (failed ones included).
        earlier: of these, by earlier runs.
        failed: images of the command that could not be labelled, by any run; `errors.jsonl` says why. Of an
            interrupted run: in this run.
        boxes: per class, in the annotation file; empty if the run was interrupted.
        files: what was written beside the records.
        seconds: spent on labelling.
        interrupted: the run was asked to stop before all images were labelled.
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

    @property
    def images_per_second(self) -> float:
        """The rate of this run; 0 if it found everything done."""
        return self.labelled / self.seconds if self.labelled else 0.0

    def to_json(self) -> dict[str, Any]:
        """The summary as plain values that JSON can carry."""
        return {**msgspec.to_builtins(self, enc_hook=_printable), "images_per_second": self.images_per_second}


class Watcher(Protocol):
    """Follows a job, and may end it."""

    def labelling(self, todo: int, earlier: int) -> AbstractContextManager[object]:
        """Entered while images are labelled: `todo` of them, after `earlier` ones by earlier runs."""
        ...

    def labelled(self, record: Record) -> None:
        """An image is labelled, or has failed."""
        ...

    def stop(self) -> bool:
        """Asked now and then; once True, what is in work is finished and written, and the job ends."""
        ...


class _NoWatcher:
    def labelling(self, todo: int, earlier: int) -> AbstractContextManager[object]:
        logger.debug("%d images to label, %d labelled before", todo, earlier)
        return nullcontext()

    def labelled(self, record: Record) -> None:
        logger.debug("%s: %s", record.file_name, record.error or f"{len(record.scores)} boxes")

    def stop(self) -> bool:
        return False


def label(
    job: LabelJob,
    *,
    load: Callable[[LabelJob], ImageDetector] | None = None,
    engine: Engine | None = None,
    watcher: Watcher | None = None,
    settle: Settle | None = None,
) -> LabelSummary:
    """Labels the images of a job that are not labelled yet, and writes the outputs about all of them.

    Args:
        job: what to do.
        load: opens the model; without it, `glip.detectors.glip.load_detector`.
        engine: where to work; without it, here.
        watcher: follows the job.
        settle: what the job means for a detector and the images; without it, `settings_of`. A benchmark asks and
            limits as its protocol says, which no option can.

    Raises:
        InputError: no images, a changed question, another run in the folder, an option that cannot be used.
        JobFailed: the disk or the network failed. What was finished before is kept.
    """
    listing = list_job_images(job)
    try:
        job.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobFailed(f"Cannot make the folder {job.out}: {error.strerror}. Choose another with --out.") from error
    with lock_folder(job.out):
        detector = (load or load_model)(job)
        settings = (settle or partial(settings_of, job))(detector, listing)
        return _label(job, listing, detector, settings, engine or LocalEngine(), watcher or _NoWatcher())


def load_model(job: LabelJob, on_download: Callable[[str, int, int | None], None] | None = None) -> ImageDetector:
    """Opens the job's checkpoint; see `load_detector`."""
    from glip.detectors.glip import load_detector

    return load_detector(
        job.model,
        adapter=job.adapter,
        device=job.device,
        precision=job.precision,
        compiled=job.compiled,
        offline=job.offline,
        on_download=on_download,
    )


def list_job_images(job: LabelJob) -> list[ImageFile]:
    """All images of the sources, in natural order of names, without those that earlier runs wrote.

    Raises:
        InputError: there are none.
    """
    out = job.out.resolve()
    if job.offline:
        _refuse_remote(job.sources)
    inside = any(_absolute(source).is_relative_to(out) for source in job.sources if not is_remote(source))
    # Who labels the output folder itself means its images, but never the previews.
    own = out / PREVIEW_FOLDER if inside else out
    folders: dict[Path, bool] = {}

    def is_own(image: ImageFile) -> bool:
        if isinstance(image.path, RemoteFile):
            return False
        parent = image.path.parent
        if parent not in folders:
            # Previews of another run are no images to label either.
            previews = parent.name == PREVIEW_FOLDER and (parent.parent / RUN_FILE).is_file()
            folders[parent] = previews or parent.resolve().is_relative_to(own)
        return folders[parent]

    listing = [image for image in list_images(job.sources) if not is_own(image)]
    if job.offline:
        _refuse_remote(str(image.path) for image in listing if isinstance(image.path, RemoteFile))
    if not listing:
        raise InputError(f"There are no images in {', '.join(map(shown, job.sources))}.")
    return listing


def _refuse_remote(sources: Iterable[str]) -> None:
    far = next(filter(is_remote, sources), None)
    if far is not None:
        raise InputError(f"--offline forbids the network, and {shown(far)!r} lies there. Leave one of them out.")


def _label(
    job: LabelJob,
    everything: Sequence[ImageFile],
    detector: ImageDetector,
    settings: LabelSettings,
    engine: Engine,
    watcher: Watcher,
) -> LabelSummary:
    """The job, in a folder that is ours."""
    conf = max(detector.conf, job.floor) if job.conf is None else job.conf
    # Whoever reads run.json later, elsewhere, still finds the images.
    noted = replace(job, sources=tuple(map(_noted, job.sources)), conf=conf)
    answer_only(job.out, describe_run(settings, detector, job.model, job.record, noted.to_json()), anew=job.overwrite)
    remove_leftovers(job.out)
    labelled, unlisted = find_labelled(job.out, everything, settings.asked.mark)
    if unlisted:
        logger.warning("%d images labelled before are not among the sources now: the outputs leave them out.", unlisted)
    listing, labelled = everything[: job.limit], labelled[: job.limit]
    write_listing(job.out, listing)
    shards = plan_shards(job.out, listing, labelled, job.shard_size or max(16, 8 * settings.batch))

    earlier, now, failed, started = sum(labelled), 0, 0, monotonic()
    with watcher.labelling(len(listing) - earlier, earlier):
        for done in engine.map(lambda: LabelWorker(detector, settings, watcher.labelled, watcher.stop), shards):
            now, failed = now + done.images, failed + done.failed
            if watcher.stop():
                break
    seconds = monotonic() - started
    if earlier + now < len(listing):
        return LabelSummary(job.out, len(listing), now, earlier, failed, {}, (), seconds, interrupted=True)
    outputs = write_outputs(job.out, listing, conf, job.preview, report=job.report)
    return LabelSummary(
        *(job.out, len(listing), now, earlier, outputs.failed, outputs.boxes, outputs.files, seconds),
        interrupted=False,
    )


def _asked(job: LabelJob, detector: ImageDetector, listing: Sequence[ImageFile]) -> Asked:
    if job.caption is not None:
        return one_caption(job.caption, job.spans, job.names, detector.tokenizer)
    return what_to_ask(job.names, job.captions, listing, detector.tokenizer)


def settings_of(job: LabelJob, detector: ImageDetector, listing: Sequence[ImageFile]) -> LabelSettings:
    """What the job means for this detector and these images."""
    threshold = min(job.floor, PUBLISHED.candidate_threshold)
    if job.record == "candidates":
        selection = replace(PUBLISHED, candidate_threshold=threshold, nms_iou=None, max_detections=None)
    else:
        selection = replace(PUBLISHED, candidate_threshold=threshold, max_detections=RECORDED_DETECTIONS)
    return LabelSettings(
        out=job.out,
        asked=_asked(job, detector, listing),
        selection=selection,
        floor=job.floor,
        imgsz=job.imgsz or detector.imgsz,
        # A caption is hardly ever shared: images would only wait for company.
        batch=1 if job.captions else job.batch or (GPU_BATCH if detector.device.type == "cuda" else 1),
        tiling=job.tiling,
        fast_decode=job.fast_decode,
    )


def _noted(source: str) -> str:
    return shown(source) if is_remote(source) else _printable(_absolute(source))


def _absolute(source: str) -> Path:
    return Path(source).expanduser().resolve()


def _printable(path: Path) -> str:
    """A path as text; its bytes that are none are spelt out, since JSON takes nothing else."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
