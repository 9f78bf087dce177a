"""`glip eval`: a model, or somebody's results, on a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glip.errors import InputError
from glip_cli.label import INTERRUPTED, Terminal
from glip_cli.models import download_shown
from glip_cli.options import DeviceOption, JsonOption, ModelOption, PrecisionOption
from glip_cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from glip.evaluation.results import EvaluationResult
    from glip.labeling.job import LabelJob
    from glip.labeling.worker import ImageDetector

FEW_SHOT_FILE = "odinw_few_shot_submission.json"


def evaluate(
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            help="coco, lvis-minival, odinw13, … (--list shows all), odinw/Aquarium, or a COCO folder or file.",
        ),
    ] = None,
    data_root: Annotated[Path, typer.Option("--data-root", help="Folder that the benchmarks' files lie below.")] = Path(
        "data"
    ),
    split: Annotated[
        str | None, typer.Option("--split", help="val, test, …", show_default="the benchmark's usual one")
    ] = None,
    prompts: Annotated[
        str, typer.Option("--prompts", help="ODinW's classes: plain, original (caption prompts) or paper (manual).")
    ] = "plain",
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            help="Score these results without a model: COCO results, a COCO file with scores; a folder of SET.json.",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the images, if a COCO file does not lie beside them.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results, exactly this one.")] = Path("eval"),
    model: ModelOption = "glip-t",
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", help="What `glip finetune` has learned beside --model, on this very set."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    batch: Annotated[
        int | None, typer.Option("--batch", help="Most images that run together.", show_default="8 on a GPU, else 1")
    ] = None,
    imgsz: Annotated[
        int | None,
        typer.Option("--imgsz", help="Short side in pixels that images are resized to. [default: the model's, 800]"),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="At twelve scales, and mirrored: 24 times the work, a little more AP.")
    ] = False,
    max_det: Annotated[int, typer.Option("--max-det", help="Most boxes of an image that count.")] = 100,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Only the first so many images of each set, for a trial.")
    ] = None,
    gallery: Annotated[int, typer.Option("--gallery", help="Draw so many of the worst images of each set.")] = 12,
    coco_ap: Annotated[
        float | None,
        typer.Option("--coco-ap", help="COCO-O: the model's AP on COCO val in percent.", show_default="published"),
    ] = None,
    collect: Annotated[
        list[str] | None,
        typer.Option(
            "--collect",
            help="SEED=DIR, for the seeds 3, 30 and 300: put three few-shot runs of ODinW into one submission.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Label anew; forget what --out holds.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show the benchmarks and their files, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on a benchmark, beside the published scores. The same command again goes on where it stopped."""
    if show_list:
        _list(as_json)
        return
    if collect:
        _collect(collect, out, as_json)
        return
    if dataset is None:
        raise InputError("Say what to measure on, with --dataset coco or another; `glip eval --list` shows them all.")

    from glip.evaluation.inference import Looking
    from glip.evaluation.run import EvalRequest
    from glip.evaluation.run import evaluate as run

    look = Looking(model, device, precision, batch, imgsz, offline, overwrite, adapter, load=_load, watcher=Terminal())
    request = EvalRequest(
        dataset=dataset,
        out=out,
        data_root=data_root,
        look=look,
        split=split,
        prompts=prompts,  # type: ignore[arg-type]  # find_benchmark says which words it accepts
        predictions=predictions,
        images=images,
        limit=limit,
        max_det=max_det,
        gallery=gallery,
        coco_ap=coco_ap,
        tta=tta,
    )
    _show(run(request), as_json)


def _load(job: LabelJob) -> ImageDetector:
    from glip.labeling.job import load_model

    with download_shown() as on_download:
        return load_model(job, on_download)


def _show(result: EvaluationResult, as_json: bool) -> None:
    from glip.evaluation.report import COLUMNS, cells

    if as_json:
        print_json({"unit": "percent", **result.to_json()})
    if result.interrupted:
        say("Stopped. The same command without --overwrite goes on.")
        raise typer.Exit(INTERRUPTED)
    if as_json:
        return
    several = len(result.sets) > 1
    if result.rows:
        print_table(COLUMNS if several else COLUMNS[1:], (cells(row)[0 if several else 1 :] for row in result.rows))
        typer.echo("")
    for topic, words in result.protocol.items():
        typer.echo(f"{topic}: {words}")
    for item in result.sets:
        for note in item.notes:
            typer.echo(f"note: {note}")
    # Of several sets the files are too many for a screen: each set has a folder.
    own = {item.name for item in result.sets} if several else frozenset()
    for file in result.files:
        if file.parent.name not in own:
            typer.echo(file)
    if several:
        typer.echo(f"{result.files[0].parent}/SET: results, curves, confusion matrix and the worst misses of each set")


def _list(as_json: bool) -> None:
    from glip.data.benchmark_search import known_benchmarks

    rows = known_benchmarks()
    if as_json:
        fields = ("name", "about", "splits", "layout", "source", "fetch")
        print_json([{field: getattr(row, field) for field in fields} for row in rows])
        return
    for row in rows:
        typer.echo(f"{row.name}: {row.about}")
        typer.echo(f"  splits  {', '.join(row.splits)}")
        typer.echo(f"  files   {row.layout}")
        typer.echo(f"  source  {row.source}")
        typer.echo(f"  get it  {row.fetch}")


def _collect(runs: Sequence[str], out: Path, as_json: bool) -> None:
    from glip.evaluation.submission import results_of, write_few_shot_submission

    folders = {}
    for run in runs:
        seed, equals, folder = run.partition("=")
        if not equals or not seed.strip().isdecimal() or int(seed) in folders:
            raise InputError(f"--collect {run!r} is not SEED=DIR, such as --collect 3=runs/seed3, each seed once.")
        folders[int(seed)] = results_of(Path(folder).expanduser())
    path = out / FEW_SHOT_FILE
    write_few_shot_submission(path, folders)
    if as_json:
        print_json({"file": str(path)})
    else:
        typer.echo(path)
