"""`glip finetune`: tune a model on few examples or whole sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.errors import InputError
from glip_cli.options import JsonOption, ModelOption, PrecisionOption
from glip_cli.output import Progress, print_json, print_table, progress, say

if TYPE_CHECKING:
    from glip.training.finetune import FinetuneJob
    from glip.training.sweep import Sweep

MOST_PARAMETERS_SHOWN = 20


def finetune(
    data: Annotated[
        str,
        typer.Argument(
            metavar="[DATA]",
            help="A set of ODinW (odinw/Raccoons), odinw13, odinw35, mini-odinw, coco; a COCO folder or file; what "
            "`glip review pull` wrote.",
        ),
    ] = "odinw13",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs; what is there goes on.")] = Path(
        "tuned"
    ),
    model: ModelOption = "glip-t",
    shots: Annotated[
        str, typer.Option("--shots", help="Images a class: 0 (score only), 1, 3, 5, 10, all; 0,1,3.")
    ] = "1",
    mode: Annotated[
        str, typer.Option("--mode", help="What learns: prompt, linear, language, full; several with commas.")
    ] = "prompt",
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", help="Draws of the examples. [default: 3,30,300 as published; 3 for whole sets]"),
    ] = None,
    data_root: Annotated[
        Path, typer.Option("--data-root", help="Folder of the known sets: DATA-ROOT/odinw/…, DATA-ROOT/coco/….")
    ] = Path("data"),
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the images of a COCO file, if not beside it.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", help="ODinW's wording: plain, original or paper. [default: original]"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="coco, coco-mmdet, coco-mmdet-a. [default: ODinW's of mode and shots]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Most epochs. [default: the recipe's, 200]")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Images a step. [default: the recipe's, 4]")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate. [default: the recipe's]")] = None,
    copies: Annotated[
        int | None, typer.Option("--copies", help="Times an image comes in an epoch. [default: the recipe's]")
    ] = None,
    augment: Annotated[
        bool, typer.Option("--augment/--no-augment", help="Resize and mirror the comparisons, as published.")
    ] = True,
    imgsz: Annotated[
        int | None, typer.Option("--imgsz", help="Short side in pixels. [default: the model's, 800]")
    ] = None,
    scenes: Annotated[
        int, typer.Option("--scenes", help="Score so many synthetic scenes too: what was forgotten.")
    ] = 0,
    comparisons: Annotated[int, typer.Option("--comparisons", help="Draw so many comparisons before and after.")] = 4,
    precision: PrecisionOption = "fp32",
    workers: Annotated[int, typer.Option("--workers", help="Processes that make batches.")] = 0,
    cpu: Annotated[bool, typer.Option("--cpu", help="Use the CPU even where there is a GPU.")] = False,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Compute once what the mode freezes.")] = True,
    memory: Annotated[float, typer.Option("--memory", help="Gigabytes of memory for that; the rest goes to disk.")] = 4,
    disk: Annotated[float, typer.Option("--disk", help="Gigabytes of disk for that, in OUT.")] = 32,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs and every parameter that would learn; write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tune on few examples or whole sets; the best epoch is kept and scored. The same command again goes on."""
    from glip.training.finetune_data import find_sources
    from glip.training.sweep import Sweep, plan_sweep, run_sweep

    wanted = (("epochs", epochs), ("batch_size", batch), ("lr", lr), ("copies", copies))
    sources, missing = find_sources(data, data_root, _prompts(prompts), images)  # type: ignore[arg-type]
    sweep = Sweep(
        sources=tuple(sources),
        out=out,
        model=model,
        shots=tuple(_shots(word) for word in _words(shots)),
        modes=tuple(_words(mode)),
        seeds=None if seeds is None else tuple(_number(word, "--seeds") for word in _words(seeds)),
        recipe=recipe,
        changes={name: value for name, value in wanted if value is not None},
        augment=augment,
        imgsz=imgsz,
        precision=_precision(precision),
        workers=workers,
        cpu=cpu,
        cache=cache,
        scenes=scenes,
        compared=comparisons,
        offline=offline,
        memory=_bytes(memory, "--memory"),
        disk=_bytes(disk, "--disk"),
        missing=tuple(missing),
    )
    for sentence in missing:
        say(f"Missing: {sentence}")
    if dry_run:
        _show_plan(plan_sweep(sweep), as_json)
        return
    shown = _Shown()
    try:
        result = run_sweep(sweep, advance=shown.advance)
    finally:
        shown.close()
    _show(sweep, result, as_json)


class _Shown:
    """A bar for the run that is going on."""

    def __init__(self) -> None:
        self._run: Path | None = None
        self._bar: Progress | None = None
        self._context: Any = None
        self._done = 0

    def advance(self, job: FinetuneJob, done: int, steps: int) -> None:
        if job.out != self._run:
            self.close()
            shots = "all" if job.shots == "all" else f"{job.shots}-shot"
            self._context = progress(f"{job.source.name} {job.mode} {shots} seed {job.seed}", steps, unit="steps")
            self._bar, self._run, self._done = self._context.__enter__(), job.out, 0
        assert self._bar is not None
        self._bar.advance(done - self._done)
        self._done = done

    def close(self) -> None:
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
    for run in result.runs:
        for file in run.files:
            if file == "adapter.safetensors":
                say(f"`glip label … --model {sweep.model} --adapter {_place(sweep, run)}/{file}` uses it.")
                return
            if file == "model":
                say(f"`glip label … --model {_place(sweep, run)}/{file}` uses it.")
                return


def _place(sweep: Sweep, run: Any) -> Path:
    shots = "all" if run.shots == "all" else f"{run.shots}-shot"
    return sweep.out / run.set / run.mode / shots / f"seed-{run.seed}"


def _show_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    columns = ("set", "mode", "shots", "seed", "images", "boxes", "most_epochs", "most_steps", "out")
    print_table(columns, ([row.get(column, "—") for column in columns] for row in plan["runs"]))
    for note in plan["notes"]:
        say(note)
    for mode, parameters in plan["trainable"].items():
        values = sum(_product(row["shape"]) for row in parameters)
        typer.echo(f"{mode}: {len(parameters)} tensors learn, {values} values")
        for row in parameters[:MOST_PARAMETERS_SHOWN]:
            typer.echo(f"  {row['name']} {'×'.join(map(str, row['shape']))}")
        if len(parameters) > MOST_PARAMETERS_SHOWN:
            typer.echo(f"  … and {len(parameters) - MOST_PARAMETERS_SHOWN} more; --json lists all")


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _shots(word: str) -> Any:
    return "all" if word == "all" else _number(word, "--shots")


def _number(word: str, option: str) -> int:
    try:
        return int(word)
    except ValueError:
        also = " or 'all'" if option == "--shots" else ""
        raise InputError(f"{option} has {word!r}; whole numbers{also}, with commas between, are accepted.") from None


def _bytes(gigabytes: float, option: str) -> int:
    if not 0 <= gigabytes < 1e6:
        raise InputError(f"{option} is {gigabytes:g}; accepted are gigabytes from 0, which keeps nothing there.")
    return int(gigabytes * 2**30)


def _prompts(word: str | None) -> str | None:
    if word not in (None, "plain", "original", "paper"):
        raise InputError(f"--prompts is {word!r}; accepted are plain, original, paper.")
    return word


def _precision(word: str) -> Any:
    if word not in ("fp32", "bf16", "fp16"):
        raise InputError(f"--precision is {word!r}; accepted are fp32, bf16, fp16.")
    return word
