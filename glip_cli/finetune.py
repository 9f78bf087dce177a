"""`glip finetune`: tunes a model on a few examples or on whole data sets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.errors import InputError
from glip_cli.options import (
    DATA,
    OUTPUT,
    SPEED,
    DataImagesOption,
    DataRootOption,
    DeviceOption,
    ImgszOption,
    JsonOption,
    ModelOption,
    OfflineOption,
    PrecisionOption,
    RunFolderOption,
    WorkersOption,
    complete_benchmarks,
)
from glip_cli.output import Progress, print_json, print_line, print_table, progress, say, say_next

if TYPE_CHECKING:
    from glip.training.finetune_job import FinetuneJob
    from glip.training.sweep import Sweep

MAX_PARAMETERS_SHOWN = 20
INTERRUPTED = 130
TRAINING = "Training"


def finetune(
    data: Annotated[
        str,
        typer.Argument(
            metavar="[DATA]",
            help="A set of ODinW (odinw/Raccoons), odinw13, odinw35, mini-odinw, coco, a COCO folder or file, or the "
            "output folder of `glip review pull`.",
            autocompletion=complete_benchmarks,
        ),
    ] = "odinw13",
    out: RunFolderOption = Path("tuned"),
    model: ModelOption = "glip-t",
    shots: Annotated[
        str,
        typer.Option(
            "--shots",
            help="Number of examples per class: 0 (only score), 1, 3, 5, 10 or all. Several with commas.",
            rich_help_panel=TRAINING,
        ),
    ] = "1",
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="Parameters to tune: prompt, linear, language or full. Several with commas.",
            rich_help_panel=TRAINING,
        ),
    ] = "prompt",
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            help="Random seeds of the few-shot draws. Several with commas.",
            show_default="3,30,300 as published; 3 for whole sets",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    data_root: DataRootOption = Path("data"),
    images: DataImagesOption = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            help="Wording of ODinW's classes: plain, original or paper.",
            show_default="original",
            rich_help_panel=DATA,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="coco, coco-mmdet or coco-mmdet-a.",
            show_default="ODinW's for the mode and the shots",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            help="Maximum number of epochs.",
            show_default="the recipe's, 200",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", help="Number of images per step.", show_default="the recipe's, 4", rich_help_panel=TRAINING
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Learning rate.", show_default="the recipe's", rich_help_panel=TRAINING),
    ] = None,
    copies: Annotated[
        int | None,
        typer.Option(
            "--copies",
            help="Number of times that an image is used per epoch.",
            show_default="the recipe's",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    augment: Annotated[
        bool,
        typer.Option(
            "--augment/--no-augment", help="Resize and mirror the images at random.", rich_help_panel=TRAINING
        ),
    ] = True,
    imgsz: ImgszOption = None,
    scenes: Annotated[
        int,
        typer.Option(
            "--scenes",
            help="Number of synthetic scenes that are scored before and after, to measure forgetting.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    comparisons: Annotated[
        int,
        typer.Option(
            "--comparisons",
            help="Number of test images that are drawn with their boxes before and after tuning.",
            rich_help_panel=OUTPUT,
        ),
    ] = 4,
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache", help="Cache the features of the frozen parts of the model.", rich_help_panel=SPEED
        ),
    ] = True,
    memory: Annotated[
        float,
        typer.Option(
            "--memory", help="Maximum size of the cache in memory, in GB; more goes to disk.", rich_help_panel=SPEED
        ),
    ] = 4,
    disk: Annotated[
        float,
        typer.Option(
            "--disk", help="Maximum size of the cache on disk (in the output folder), in GB.", rich_help_panel=SPEED
        ),
    ] = 32,
    offline: OfflineOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the runs and all parameters that would be tuned; write nothing.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tune a model on a few examples or whole data sets. The best epoch is kept and scored."""
    from glip.data.lookup import find_training_splits
    from glip.training.sweep import Sweep, plan_sweep, run_sweep

    wanted = (("epochs", epochs), ("batch_size", batch), ("lr", lr), ("copies", copies))
    sources, left_out = find_training_splits(data, data_root, _prompts(prompts), images)  # type: ignore[arg-type]
    sweep = Sweep(
        data=tuple(sources),
        out=out,
        model=model,
        shots=tuple(_shots(word) for word in _words(shots)),
        modes=tuple(_words(mode)),
        seeds=None if seeds is None else tuple(_number(word, "--seeds") for word in _words(seeds)),
        recipe=recipe,
        changes={name: value for name, value in wanted if value is not None},
        augment=augment,
        imgsz=imgsz,
        precision=precision,  # type: ignore[arg-type]  # Sweep checks it
        workers=workers,
        device=device,
        cache=cache,
        scenes=scenes,
        comparisons=comparisons,
        offline=offline,
        memory=_bytes(memory, "--memory"),
        disk=_bytes(disk, "--disk"),
        missing=tuple(map(str, left_out)),
    )
    for entry in left_out:
        say(f"Missing: {entry}")
    if dry_run:
        _show_plan(plan_sweep(sweep), as_json)
        return
    bars = _RunBars()
    try:
        result = run_sweep(sweep, advance=bars.advance)
    except KeyboardInterrupt:
        bars.close()
        say(f"Stopped. Repeat the command to resume from the last checkpoint in {out}.")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        bars.close()
    _show(sweep, result, as_json)


class _RunBars:
    """Shows a progress bar for the current run of a sweep."""

    def __init__(self) -> None:
        self._run: Path | None = None
        self._bar: Progress | None = None
        self._context: Any = None

    def advance(self, job: FinetuneJob, done: int, steps: int) -> None:
        """Shows that `done` of `steps` steps of a run are done."""
        if job.out != self._run:
            self.close()
            shots = "all" if job.shots == "all" else f"{job.shots}-shot"
            self._context = progress(f"{job.data.name} {job.mode} {shots} seed {job.seed}", steps, unit="steps")
            self._bar, self._run = self._context.__enter__(), job.out
        assert self._bar is not None
        self._bar.advance_to(done)

    def close(self) -> None:
        """Ends the current bar."""
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None


def _show(sweep: Sweep, result: Any, as_json: bool) -> None:
    import msgspec

    from glip.training.results_table import columns_of, lines_of

    if as_json:
        print_json({"unit": "percent", **msgspec.to_builtins(result)})
        return
    print_table(columns_of(result.table), lines_of(result.table))
    say("AP 0.50:0.95 on the test images, in percent; mean ± standard deviation over the seeds.")
    trained = [run for run in result.runs if run.files]
    if not trained:
        return
    best = max(trained, key=lambda run: -1.0 if run.validation is None else run.validation)
    folder = _folder(sweep, best)
    ap = "" if best.validation is None else f", AP {best.validation:.1f} on its validation images"
    say(f"best run: {folder}{ap}, best epoch {best.best_epoch:g} of {best.epochs:g}")
    for file in (*(folder / name for name in best.files), sweep.out / "table.md"):
        say(str(file))
    what = ("--adapter", folder) if "adapter.safetensors" in best.files else ("--model", folder / "model")
    say(f"To use it: `glip label IMAGES {what[0]} {what[1]}`.")
    say_next("glip", "label", "IMAGES", *what, "--out", "labels-tuned")


def _folder(sweep: Sweep, run: Any) -> Path:
    shots = "all" if run.shots == "all" else f"{run.shots}-shot"
    return sweep.out / run.set / run.mode / shots / f"seed-{run.seed}"


def _show_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    columns = ("set", "mode", "shots", "seed", "images", "boxes", "max_epochs", "max_steps", "out")
    print_table(columns, ([row.get(column, "—") for column in columns] for row in plan["runs"]))
    for note in plan["notes"]:
        say(note)
    for mode, parameters in plan["trainable"].items():
        values = sum(math.prod(row["shape"]) for row in parameters)
        print_line(f"{mode}: {values} parameters in {len(parameters)} tensors are tuned")
        for row in parameters[:MAX_PARAMETERS_SHOWN]:
            print_line(f"  {row['name']} {'×'.join(map(str, row['shape']))}")
        if len(parameters) > MAX_PARAMETERS_SHOWN:
            print_line(f"  … and {len(parameters) - MAX_PARAMETERS_SHOWN} more; --json lists all")


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _shots(word: str) -> Any:
    return "all" if word == "all" else _number(word, "--shots")


def _number(word: str, option: str) -> int:
    try:
        return int(word)
    except ValueError:
        also = ", or 'all'" if option == "--shots" else ""
        raise InputError(f"{option} has {word!r}; accepted are whole numbers, separated by commas{also}.") from None


def _bytes(gigabytes: float, option: str) -> int:
    if not 0 <= gigabytes < 1e6:
        raise InputError(f"{option} is {gigabytes:g}; it must be 0 or more, in GB. 0 switches it off.")
    return int(gigabytes * 2**30)


def _prompts(word: str | None) -> str | None:
    if word not in (None, "plain", "original", "paper"):
        raise InputError(f"--prompts is {word!r}; accepted are plain, original and paper.")
    return word
