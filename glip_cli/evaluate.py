"""`glip eval`: scores a model, or results of another program, on a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glip.errors import InputError
from glip_cli.label import INTERRUPTED, Terminal
from glip_cli.models import ShownOpening, model_and_adapter
from glip_cli.options import (
    DATA,
    MODEL,
    OUTPUT,
    AdapterOption,
    BatchOption,
    DataImagesOption,
    DataRootOption,
    DeviceOption,
    ImgszOption,
    JsonOption,
    LimitOption,
    MaxDetOption,
    ModelOrAdaptersOption,
    OfflineOption,
    OverwriteRunOption,
    PrecisionOption,
    RunFolderOption,
    complete_benchmarks,
)
from glip_cli.output import print_json, print_line, print_table, say

if TYPE_CHECKING:
    from glip.evaluation.results import EvaluationResult

FEW_SHOT_FILE = "odinw_few_shot_submission.json"


def evaluate(
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            help="coco, lvis-minival, odinw13, … (see --list), odinw/Aquarium, or a COCO folder or file.",
            rich_help_panel=DATA,
            autocompletion=complete_benchmarks,
        ),
    ] = None,
    data_root: DataRootOption = Path("data"),
    split: Annotated[
        str | None,
        typer.Option("--split", help="val, test, …", show_default="the benchmark's usual split", rich_help_panel=DATA),
    ] = None,
    prompts: Annotated[
        str,
        typer.Option(
            "--prompts",
            help="Wording of ODinW's classes: plain, original (caption prompts) or paper (manual prompts).",
            rich_help_panel=DATA,
        ),
    ] = "plain",
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            help="Score these results instead of running a model: COCO results, a COCO file with scores, or a folder "
            "with one SET.json per set.",
            rich_help_panel=DATA,
        ),
    ] = None,
    images: DataImagesOption = None,
    out: RunFolderOption = Path("eval"),
    model: ModelOrAdaptersOption = None,
    adapter: AdapterOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    batch: BatchOption = None,
    imgsz: ImgszOption = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Test-time augmentation: twelve scales, each also mirrored. 24 times the work, slightly more AP.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    max_det: MaxDetOption = 100,
    limit: LimitOption = None,
    gallery: Annotated[
        int,
        typer.Option("--gallery", help="Draw the N worst images of each set.", rich_help_panel=OUTPUT),
    ] = 12,
    coco_ap: Annotated[
        float | None,
        typer.Option(
            "--coco-ap",
            help="For COCO-O: the model's AP on COCO val, in percent.",
            show_default="the published one",
            rich_help_panel=DATA,
        ),
    ] = None,
    collect: Annotated[
        list[str] | None,
        typer.Option(
            "--collect",
            help="Write one submission of three few-shot runs of ODinW: SEED=DIR for each of the seeds 3, 30 and 300.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: OverwriteRunOption = False,
    offline: OfflineOption = False,
    show_list: Annotated[
        bool, typer.Option("--list", help="List the benchmarks and their files.", rich_help_panel=DATA)
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Score a model on a benchmark, next to the published scores. Repeat the command to resume an interrupted run."""
    if show_list:
        _list(data_root, as_json)
        return
    if collect:
        _collect(collect, out, as_json)
        return
    if dataset is None:
        raise InputError("--dataset is missing; give coco, for example. `glip eval --list` shows all benchmarks.")

    from glip.detectors.spec import DetectorSpec, InferenceOptions
    from glip.evaluation.run import EvalRequest
    from glip.evaluation.run import evaluate as run

    model, adapter = model_and_adapter(model, adapter)
    spec = DetectorSpec(model, adapter, device, precision, offline=offline)
    request = EvalRequest(
        dataset=dataset,
        out=out,
        data_root=data_root,
        detector=spec,
        options=InferenceOptions(imgsz, batch),
        split=split,
        prompts=prompts,  # type: ignore[arg-type]  # find_suite checks it
        predictions=predictions,
        images=images,
        limit=limit,
        max_det=max_det,
        gallery=gallery,
        coco_ap=coco_ap,
        tta=tta,
        overwrite=overwrite,
    )
    _show(run(request, detector=ShownOpening(spec), watcher=Terminal()), as_json)


def _show(result: EvaluationResult, as_json: bool) -> None:
    from glip.evaluation.report import COLUMNS, table_row

    if as_json:
        print_json({"unit": "percent", **result.to_json()})
    if result.interrupted:
        say("Stopped. Repeat the command without --overwrite to resume.")
        raise typer.Exit(INTERRUPTED)
    if as_json:
        return
    several = len(result.sets) > 1
    if result.rows:
        compared = any(row.published is not None for row in result.rows)  # else there would be columns of dashes
        columns = slice(0 if several else 1, None if compared else 3)
        print_table(COLUMNS[columns], (table_row(row)[columns] for row in result.rows))
        if any(item.classes for item in result.sets):
            print_line("AP: precision, averaged over all levels of recall and IoU 0.50 to 0.95, in percent.")
        print_line()
    for topic, words in result.protocol.items():
        print_line(f"{topic}: {words}")
    for item in result.sets:
        for note in item.notes:
            print_line(f"note: {note}")
    for entry in result.left_out:
        print_line(f"left out: {entry}")
    # Several sets have too many files for a screen; each set has a folder, which is named instead.
    own = {item.name for item in result.sets} if several else frozenset()
    for file in result.files:
        if file.parent.name not in own:
            print_line(file)
    if several and result.files:
        print_line(f"{result.files[0].parent}/SET: results, curves, confusion matrix and the worst images of each set")


def _list(data_root: Path, as_json: bool) -> None:
    from glip.data.benchmarks import known_benchmarks
    from glip.data.sources import how_to_fetch

    rows = known_benchmarks()
    if as_json:
        fields = ("name", "about", "splits", "layout", "source", "fetch")
        print_json(
            [
                {field: getattr(row, field) for field in fields}
                | {"splits": list(row.splits), "fetch": how_to_fetch(row.name, row.fetch, data_root)}
                for row in rows
            ]
        )
        return
    for row in rows:
        print_line(f"{row.name}: {row.about}")
        print_line(f"  splits  {', '.join(row.splits)}")
        print_line(f"  files   {row.layout}")
        print_line(f"  source  {row.source}")
        print_line(f"  get it  {how_to_fetch(row.name, row.fetch, data_root)}")


def _collect(runs: Sequence[str], out: Path, as_json: bool) -> None:
    from glip.evaluation.submission import results_of, write_few_shot_submission

    folders = {}
    for run in runs:
        seed, equals, folder = run.partition("=")
        if not equals or not seed.strip().isdecimal() or int(seed) in folders:
            raise InputError(f"--collect is {run!r}; give SEED=DIR, such as 3=runs/seed3, once per seed.")
        folders[int(seed)] = results_of(Path(folder).expanduser())
    path = out / FEW_SHOT_FILE
    write_few_shot_submission(path, folders)
    if as_json:
        print_json({"file": str(path)})
    else:
        print_line(path)
