"""`glip label`: images and a prompt become an annotation file."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from glip.errors import InputError
from glip_cli.classes import classes_of_adapter, names_and_classes, spans_and_phrases
from glip_cli.models import download_shown
from glip_cli.options import DeviceOption, JsonOption, ModelOption, PrecisionOption
from glip_cli.output import Progress, print_json, print_table, progress, say

if TYPE_CHECKING:
    from glip.labeling.captions import Spans
    from glip.labeling.job import LabelSummary
    from glip.labeling.plan import LabelPlan
    from glip.labeling.records import Record
    from glip.labeling.worker import ImageDetector

INTERRUPTED = 130
MOST_CLASSES_SHOWN = 40


def label(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE…", help="Folders, images, patterns, .txt lists; s3://, gs://, https://."),
    ],
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", help="What to find: 'person . hard hat .', @FILE with a name a line, or @coco, @lvis, …"
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", "-c", help="Class file (YAML): several prompts a class, thresholds, ids, negatives."),
    ] = None,
    tokens_positive: Annotated[
        str | None,
        typer.Option(
            "--tokens-positive",
            help="Take --prompt as one caption, with the character ranges of each phrase: [[[0,7]],[[12,17],[20,25]]]",
        ),
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option("--captions", help="Ground each image's own caption: a .csv or .jsonl file, or 'sidecar'."),
    ] = None,
    phrases: Annotated[
        list[str] | None, typer.Option("--phrase", help="With --captions: look for this phrase only; may be repeated.")
    ] = None,
    chunker: Annotated[
        str, typer.Option("--chunker", help="With --captions, finds noun phrases: auto, spacy or textblob.")
    ] = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results, exactly this one.")] = Path(
        "labels"
    ),
    model: ModelOption = "glip-t",
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", help="What `glip finetune` has learned beside --model; asks for its own classes."),
    ] = None,
    conf: Annotated[
        float | None,
        typer.Option("--conf", help="Least score in the annotation file. [default: the model's, mostly 0.3]"),
    ] = None,
    floor: Annotated[float, typer.Option("--floor", help="Least score that is recorded for `glip export`.")] = 0.05,
    record: Annotated[
        str, typer.Option("--record", help="What to record: detections, or candidates before suppression (large).")
    ] = "detections",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the backbone first: a minute or more, see `glip bench --against compiled`."
        ),
    ] = False,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Most images that run together.", show_default="8 on a GPU, else 1")
    ] = None,
    imgsz: Annotated[
        int | None,
        typer.Option("--imgsz", help="Short side in pixels that images are resized to. [default: the model's, 800]"),
    ] = None,
    tile: Annotated[
        int | None, typer.Option("--tile", help="Look at tiles of so many pixels as well, for small objects.")
    ] = None,
    overlap: Annotated[float, typer.Option("--overlap", help="Least overlap of tiles, as a part of their side.")] = 0.2,
    tile_merge: Annotated[
        str, typer.Option("--tile-merge", help="Merge what several tiles see by nms, or wbf (weighted box fusion).")
    ] = "nms",
    fast_decode: Annotated[
        bool,
        typer.Option(
            "--fast-decode", help="Decode large JPEG files at a part of their size: faster, boxes differ a bit."
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many images.")] = None,
    preview: Annotated[int, typer.Option("--preview", help="Draw so many images with their boxes.")] = 0,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html, to look through.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show captions, tokens, images and the time it may take; write nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew; forget what --out holds.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
    shard_size: Annotated[int | None, typer.Option("--shard-size", hidden=True)] = None,
    as_json: JsonOption = False,
) -> None:
    """Label images. The same command again goes on where it stopped, and picks up new images."""
    from glip.labeling.asking import CaptionSource
    from glip.labeling.job import LabelJob, load_model
    from glip.labeling.job import label as run
    from glip.labeling.plan import plan_label
    from glip.labeling.tiling import Tiling

    def load(job: LabelJob) -> ImageDetector:
        with download_shown() as on_download:
            return load_model(job, on_download)

    if captions is not None and (prompt or classes):
        raise InputError("--captions asks each image for its own phrases; leave out --prompt and --classes.")
    spans: Spans = ()
    names: tuple[str, ...]
    caption = prompt
    if adapter is not None and prompt is None and classes is None and captions is None:
        names, meaning, caption, spans = classes_of_adapter(adapter)
    elif captions is not None:
        names, meaning = (), None
    elif tokens_positive is not None:
        spans, names = spans_and_phrases(prompt, classes, tokens_positive)
        meaning = None
    else:
        names, meaning = names_and_classes(prompt, classes)
    job = LabelJob(
        sources=tuple(sources),
        names=names,
        model=model,
        out=out,
        floor=floor,
        conf=conf,
        device=device,
        precision=precision,
        batch=batch,
        imgsz=imgsz,
        limit=limit,
        record=record,  # type: ignore[arg-type]  # LabelJob says which words it accepts
        overwrite=overwrite,
        preview=preview,
        shard_size=shard_size,
        offline=offline,
        classes=meaning,
        caption=caption if spans else None,
        spans=spans,
        captions=None if captions is None else CaptionSource(captions, chunker, tuple(phrases or ())),  # type: ignore[arg-type]
        tiling=None if tile is None else Tiling(tile, overlap, tile_merge),  # type: ignore[arg-type]
        fast_decode=fast_decode,
        report=report,
        adapter=adapter,
        compiled=compiled,
    )
    if dry_run:
        _show_plan(plan_label(job, load), as_json)
        return
    _show(run(job, load=load, watcher=Terminal()), as_json)


class Terminal:
    """Shows a job's progress on stderr, and ends it in good order at the first Ctrl-C."""

    def __init__(self) -> None:
        self._asked = Event()
        self._bar: Progress | None = None

    @contextmanager
    def labelling(self, todo: int, earlier: int) -> Iterator[None]:
        if earlier:
            say(f"{earlier} of {earlier + todo} images are labelled already.")
        before = signal.getsignal(signal.SIGINT)
        # Only instead of Python's own handler: whoever has the signal ignored (nohup) means it.
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            with progress("Labelling", todo) as self._bar:
                yield
        finally:
            signal.signal(signal.SIGINT, before)

    def labelled(self, record: Record) -> None:
        assert self._bar is not None
        self._bar.advance()
        if record.error is not None:
            self._bar.fail()

    def stop(self) -> bool:
        return self._asked.is_set()

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        say("Finishing what is in work. Ctrl-C again stops at once, and costs these images only.")


def _show_plan(plan: LabelPlan, as_json: bool) -> None:
    if as_json:
        print_json(plan.to_json())
        return
    for number, prompt in enumerate(plan.prompts, start=1):
        names = " | ".join(prompt.names)
        typer.echo(f"caption {number}: {prompt.tokens} tokens, {len(prompt.names)} names: {names}")
        typer.echo(f"  {prompt.caption}")
    if plan.captions:
        shown = f", the first {len(plan.prompts)} shown" if plan.captions > len(plan.prompts) else ""
        typer.echo(f"{plan.captions} images have a caption{shown}; {plan.unasked} have none that can be asked")
    views = f", {plan.views:.1f} views each" if plan.views > 1 else ""
    typer.echo(f"{plan.images} images{views}")
    if plan.seconds is None or plan.seconds_per_image is None:
        typer.echo("time: unknown, none of the images that were tried could be read")
    else:
        rate = f"{plan.seconds_per_image:.2f} seconds an image, tried just now"
        typer.echo(f"time: about {timedelta(seconds=round(plan.seconds))} here ({rate})")


def _show(summary: LabelSummary, as_json: bool) -> None:
    if as_json:
        print_json(summary.to_json())
    elif not summary.interrupted:
        _print(summary)
    if summary.interrupted:
        done = summary.earlier + summary.labelled
        say(f"Stopped: {done} of {summary.images} images are done. The same command without --overwrite goes on.")
        raise typer.Exit(INTERRUPTED)
    if summary.failed:
        why = summary.out / "errors.jsonl"
        say(f"{summary.failed} of {summary.images} images could not be labelled; {why} says why.")
        raise typer.Exit(1)


def _print(summary: LabelSummary) -> None:
    typer.echo(
        f"{summary.images} images: {summary.labelled} labelled now ({summary.images_per_second:.2f} a second), "
        f"{summary.earlier} before, {summary.failed} failed"
    )
    ranked = sorted(summary.boxes.items(), key=lambda item: -item[1])
    print_table(("class", "boxes"), ranked[:MOST_CLASSES_SHOWN])
    if len(ranked) > MOST_CLASSES_SHOWN:
        rest = ranked[MOST_CLASSES_SHOWN:]
        typer.echo(f"… and {sum(count for _, count in rest)} boxes of {len(rest)} more classes")
    for file in summary.to_json()["files"]:
        typer.echo(file)
