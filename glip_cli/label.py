"""`glip label`: labels images with what a prompt names, and writes annotation files."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from glip.errors import InputError
from glip_cli.classes import prompts_and_classes
from glip_cli.models import ShownOpening, model_and_adapter
from glip_cli.options import (
    FIND,
    OUTPUT,
    SPEED,
    AdapterOption,
    BatchOption,
    DeviceOption,
    ImgszOption,
    JsonOption,
    LimitOption,
    ModelOrAdaptersOption,
    OfflineOption,
    OverwriteRunOption,
    PrecisionOption,
    RunFolderOption,
)
from glip_cli.output import Progress, print_json, print_line, print_table, progress, say, say_next

if TYPE_CHECKING:
    from glip.labeling.job import LabelJob, LabelSummary
    from glip.labeling.plan import LabelPlan
    from glip.labeling.worker import ImageDone

INTERRUPTED = 130
TILES = "Tiles"
MAX_CLASSES_SHOWN, MAX_ABSENT_SHOWN, MAX_REASONS_SHOWN = 40, 10, 3


def label(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Folders, image files, patterns, .txt lists; s3://, gs:// and https:// addresses.",
        ),
    ],
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            "-p",
            help="Names to find: 'person . hard hat .', @FILE with one name per line, or @coco, @lvis, …",
            rich_help_panel=FIND,
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes",
            "-c",
            help="Class file (YAML): several prompts per class, thresholds, ids, negatives.",
            rich_help_panel=FIND,
        ),
    ] = None,
    tokens_positive: Annotated[
        str | None,
        typer.Option(
            "--tokens-positive",
            help="Read --prompt as one caption; gives the character ranges of each phrase in it: "
            "[[[0,7]],[[12,17],[20,25]]].",
            rich_help_panel=FIND,
        ),
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option(
            "--captions",
            help="Ground the phrases of each image's own caption: a .csv or .jsonl file, or 'sidecar'.",
            rich_help_panel=FIND,
        ),
    ] = None,
    phrases: Annotated[
        list[str] | None,
        typer.Option("--phrase", help="With --captions: find only this phrase. Can be repeated.", rich_help_panel=FIND),
    ] = None,
    chunker: Annotated[
        str,
        typer.Option(
            "--chunker",
            help="With --captions: finds the noun phrases; auto, spacy or textblob.",
            rich_help_panel=FIND,
        ),
    ] = "auto",
    out: RunFolderOption = Path("labels"),
    model: ModelOrAdaptersOption = None,
    adapter: AdapterOption = None,
    conf: Annotated[
        float | None,
        typer.Option(
            "--conf",
            help="Minimum score of boxes written to the annotation file.",
            show_default="the model's, usually 0.3",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    floor: Annotated[
        float,
        typer.Option(
            "--floor", help="Minimum score of recorded boxes, which `glip export` reads.", rich_help_panel=OUTPUT
        ),
    ] = 0.05,
    record: Annotated[
        str,
        typer.Option(
            "--record",
            help="Boxes to record: detections, or candidates (before suppression; large files).",
            rich_help_panel=OUTPUT,
        ),
    ] = "detections",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the backbone first. Takes a minute or more; see `glip bench --against compiled`.",
            rich_help_panel=SPEED,
        ),
    ] = False,
    batch: BatchOption = None,
    imgsz: ImgszOption = None,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            help="Also run on tiles of this size, in pixels. Finds small objects.",
            rich_help_panel=TILES,
        ),
    ] = None,
    overlap: Annotated[
        float,
        typer.Option(
            "--overlap", help="Minimum overlap of two tiles, as a share of their side.", rich_help_panel=TILES
        ),
    ] = 0.2,
    tile_merge: Annotated[
        str,
        typer.Option(
            "--tile-merge",
            help="Merge boxes of several tiles by nms, or by wbf (weighted box fusion).",
            rich_help_panel=TILES,
        ),
    ] = "nms",
    fast_decode: Annotated[
        bool,
        typer.Option(
            "--fast-decode",
            help="Decode large JPEG files at a reduced size. Faster; boxes differ slightly.",
            rich_help_panel=SPEED,
        ),
    ] = False,
    limit: LimitOption = None,
    merge: Annotated[
        Path | None,
        typer.Option(
            "--merge",
            help="COCO file with boxes of people: they stay as they are, and the model's are added. "
            "Default: corrected.coco.json in the output folder, if there is one.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    preview: Annotated[
        int,
        typer.Option("--preview", help="Draw the boxes of the first N images.", rich_help_panel=OUTPUT),
    ] = 0,
    report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report",
            help="Write report.html with counts, score histograms and a gallery.",
            rich_help_panel=OUTPUT,
        ),
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show captions, tokens, number of images and estimated time; write nothing.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: OverwriteRunOption = False,
    offline: OfflineOption = False,
    shard_size: Annotated[int | None, typer.Option("--shard-size", hidden=True)] = None,
    as_json: JsonOption = False,
) -> None:
    """Label images. Repeat the command to resume an interrupted run, or to label new images."""
    from glip.detectors.base import DetectionLimits
    from glip.detectors.spec import DetectorSpec, InferenceOptions
    from glip.labeling.image_prompts import CaptionSource
    from glip.labeling.job import CANDIDATES, LabelJob
    from glip.labeling.job import label as run
    from glip.labeling.plan import plan_label
    from glip.labeling.tiling import Tiling

    base, adapter = model_and_adapter(model, adapter)
    prompts, meaning = prompts_and_classes(prompt, classes, tokens_positive, captions, adapter)
    if isinstance(prompts, CaptionSource):
        prompts = replace(prompts, chunker=chunker, phrases=tuple(phrases or ()))  # type: ignore[arg-type]
    if record not in ("detections", "candidates"):
        raise InputError(f"--record is {record!r}; accepted are detections and candidates.")
    job = LabelJob(
        sources=tuple(sources),
        prompts=prompts,
        out=out,
        detector=DetectorSpec(base, adapter, device, precision, compiled, offline),
        limits=replace(DetectionLimits() if record == "detections" else CANDIDATES, floor=floor),
        options=InferenceOptions(imgsz, batch),
        conf=conf,
        classes=meaning,
        limit=limit,
        tiling=None if tile is None else Tiling(tile, overlap, tile_merge),  # type: ignore[arg-type]
        fast_decode=fast_decode,
        shard_size=shard_size,
        overwrite=overwrite,
        preview=preview,
        report=report,
        merge=merge,
    )
    opening = ShownOpening(job.detector)
    if dry_run:
        _show_plan(plan_label(job, detector=opening), as_json)
        return
    _show(run(job, detector=opening, watcher=Terminal()), job, as_json)


class Terminal:
    """Shows the progress of a job on stderr, and stops the job after the current batch at the first Ctrl-C."""

    def __init__(self) -> None:
        self._interrupted = Event()
        self._bar: Progress | None = None

    @contextmanager
    def labelling(self, todo: int, earlier: int) -> Iterator[None]:
        """Shows a progress bar while images are labelled.

        Args:
            todo: number of images to label.
            earlier: number of images that earlier runs labelled.
        """
        if earlier:
            say(f"{earlier} of {earlier + todo} images are already labelled.")
        before = signal.getsignal(signal.SIGINT)
        # Only Python's own handler is replaced: a process that ignores the signal (nohup) goes on ignoring it.
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            with progress("Labelling", todo) as self._bar:
                yield
        finally:
            signal.signal(signal.SIGINT, before)

    def labelled(self, image: ImageDone) -> None:
        """Counts one image as done."""
        assert self._bar is not None
        self._bar.advance()
        if image.error is not None:
            self._bar.fail()

    def stop(self) -> bool:
        """Returns whether Ctrl-C was pressed."""
        return self._interrupted.is_set()

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        say("Finishing the current batch. Press Ctrl-C again to stop now; only that batch is lost.")


def _show_plan(plan: LabelPlan, as_json: bool) -> None:
    for entry in () if as_json else plan.left_out:
        say(str(entry))
    if as_json:
        print_json(plan.to_json())
        return
    for number, prompt in enumerate(plan.prompts, start=1):
        names = " | ".join(prompt.names)
        print_line(f"caption {number}: {prompt.tokens} tokens, {len(prompt.names)} names: {names}")
        print_line(f"  {prompt.caption}")
    if plan.captions:
        shown = f", the first {len(plan.prompts)} shown" if plan.captions > len(plan.prompts) else ""
        print_line(f"{plan.captions} images have a caption{shown}; {plan.skipped} have no usable caption")
    views = f", {plan.views:.1f} views each" if plan.views > 1 else ""
    print_line(f"{plan.images} images{views}")
    if plan.seconds is None or plan.seconds_per_image is None:
        print_line("time: unknown; none of the tested images could be read")
    else:
        rate = f"{plan.seconds_per_image:.2f} seconds per image, measured now"
        print_line(f"time: about {timedelta(seconds=round(plan.seconds))} on this machine ({rate})")


def _show(summary: LabelSummary, job: LabelJob, as_json: bool) -> None:
    if as_json:
        print_json(summary.to_json())
    elif not summary.interrupted:
        _print(summary, job)
    if not as_json:
        _say_left_out(summary)
    if summary.interrupted:
        done = summary.earlier + summary.labelled
        say(f"Stopped: {done} of {summary.images} images are done. Repeat the command without --overwrite to resume.")
        raise typer.Exit(INTERRUPTED)
    if summary.failed:
        _say_failures(summary)
        raise typer.Exit(1)
    if not as_json:
        has_fiftyone = find_spec("fiftyone") is not None
        words = ("review", "push", summary.out) if has_fiftyone else ("export", summary.out, "--format", "yolo")
        say_next("glip", *words)


def _say_failures(summary: LabelSummary) -> None:
    """Says how many images failed, with the first reasons."""
    file = summary.out / "errors.jsonl"
    say(f"{summary.failed} of {summary.images} images could not be labelled; {file} has all reasons:")
    with suppress(OSError, ValueError), file.open(encoding="utf-8") as lines:
        for line in islice(lines, MAX_REASONS_SHOWN):
            entry = json.loads(line)
            say(f"  {entry['file_name']}: {entry['error']}")


def _say_left_out(summary: LabelSummary) -> None:
    for entry in summary.left_out:
        say(str(entry))
    for note, count in summary.notes.items():
        say(f"{count} {'image' if count == 1 else 'images'}: {note} (`notes` in the records name them)")
    merged = summary.merged
    if merged is not None:
        say(
            f"{merged.kept} boxes of people in {merged.file} are kept as they are; {merged.added} boxes of the model "
            f"are added, {merged.covered} left out because a person's box shows the same object."
        )
        if merged.finished:
            say(
                f"{merged.finished} images that people reviewed get no further box; the model found "
                f"{merged.withheld} in them."
            )
        if merged.elsewhere:
            say(f"{merged.elsewhere} images of that file were not labelled now; they are kept with their boxes.")


def _print(summary: LabelSummary, job: LabelJob) -> None:
    speed = f" ({summary.images_per_second:.2f} per second)" if summary.labelled else ""
    before = f", {summary.earlier} of them by earlier runs" if summary.earlier else ""
    print_line(
        f"{summary.images} images: {summary.images - summary.failed} labelled{before}, {summary.failed} failed{speed}"
    )
    ranked = sorted(((name, count) for name, count in summary.boxes.items() if count), key=lambda item: -item[1])
    if ranked:
        print_table(("class", "boxes"), ranked[:MAX_CLASSES_SHOWN])
    if without := [name for name, count in summary.boxes.items() if not count]:
        more = f", … and {len(without) - MAX_ABSENT_SHOWN} more" if len(without) > MAX_ABSENT_SHOWN else ""
        print_line(f"no boxes: {', '.join(without[:MAX_ABSENT_SHOWN])}{more}")
    if len(ranked) > MAX_CLASSES_SHOWN:
        rest = ranked[MAX_CLASSES_SHOWN:]
        print_line(f"… and {sum(count for _, count in rest)} boxes of {len(rest)} more classes")
    print_line(_threshold(summary.out, job))
    for file in summary.files:
        if file.stat().st_size:
            print_line(file)


def _threshold(out: Path, job: LabelJob) -> str:
    """Returns which boxes are in the annotation file, and how to change that."""
    from glip.labeling.records import read_run

    conf = read_run(out).job["conf"]
    origin = f", {job.detector.model}'s own" if job.conf is None else ""
    if job.classes is not None and any(value is not None for value in job.classes.conf):
        origin += ", unless the class file has another for a class"
    return f"boxes from score {conf:.2f}{origin}; `glip export {out} --conf …` changes it"
