"""`glip bench`: images per second on this machine, stage by stage, compared with the original and another detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from glip.errors import InputError
from glip_cli.options import MODEL, SPEED, DeviceOption, JsonOption, OfflineOption
from glip_cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from glip.bench import Measurement


def bench(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Checkpoint to measure, see `glip models list`.",
            show_default="random weights",
            rich_help_panel=MODEL,
        ),
    ] = None,
    architecture: Annotated[
        str,
        typer.Option(
            "--architecture",
            help="Architecture of random weights: glip-t, glip-l, glip-t-a, nano or tiny.",
            rich_help_panel=MODEL,
        ),
    ] = "glip-t",
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            help="Also measure plain (the original's order of operations), compiled (torch.compile) or "
            "grounding-dino. Can be repeated.",
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            help="fp32, bf16, or fp16 (not on a CPU). Can be repeated.",
            show_default="fp32",
            rich_help_panel=SPEED,
        ),
    ] = None,
    names: Annotated[
        list[int] | None,
        typer.Option(
            "--names",
            help="Number of names in the prompt; more than 80 run in chunks of 40. Can be repeated.",
            show_default="2 and 80",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="Height x width in pixels, such as 800x1333.", show_default="the model's"),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", "-b", min=1, help="Number of images that run together.", rich_help_panel=SPEED)
    ] = 1,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Number of measurements of each case; the fastest one counts.")
    ] = 3,
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast a model is on this machine. The images are noise; their content does not change the time."""
    size_hw = None if size is None else _size(size)
    _check(model, architecture, precision or (), device, offline)
    from glip.bench import BenchJob, cases, machine
    from glip.bench import bench as run

    job = BenchJob(
        model=model,
        architecture=architecture,
        forms=("fast", *dict.fromkeys(against or ())),
        precisions=tuple(dict.fromkeys(precision or ("fp32",))),
        names=tuple(dict.fromkeys(names or (2, 80))),
        size_hw=size_hw,
        batch_size=batch,
        rounds=rounds,
        device=device,
        offline=offline,
    )
    total = len(cases(job)) * (rounds + 1)
    with progress("Measuring", total, "runs") as bar:
        rows = run(job, bar.advance_to)
    if as_json:
        print_json({"machine": machine(), "job": vars(job), "rows": rows})
        return
    _show(rows, batch)


def _check(model: str | None, architecture: str, precisions: Sequence[str], device: str, offline: bool) -> None:
    """Refuses words before torch is loaded."""
    from glip.detectors.spec import DetectorSpec
    from glip.weights.locate import check_model
    from glip.weights.zoo import check_architecture

    for precision in precisions or ("fp32",):
        DetectorSpec(device=device, precision=precision)
    if model is None:
        check_architecture(architecture)
    else:
        check_model(model, offline=offline)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"size is {text!r}; give height x width in pixels, such as 800x1333.")
    return int(height), int(width)


def _show(rows: list[Measurement], batch_size: int) -> None:
    from glip.bench import STAGES, machine

    facts = machine()
    say(f"{facts['gpu'] or facts['processor']}, {facts['threads']} threads, {facts['day']}")
    stages = [stage for stage in STAGES if any(stage in row.stages for row in rows)]
    print_table(
        (
            "form",
            "precision",
            "names",
            "tokens",
            "images/s",
            "ms",
            "cpu ms",
            "first s",
            *stages,
            "peak MB",
            "faster than (wall, cpu)",
        ),
        (
            (
                row.case.form,
                row.case.precision,
                row.case.names if row.chunks == 1 else f"{row.case.names} in {row.chunks}",
                row.tokens,
                f"{row.images_per_second:.2f}",
                _ms(row.seconds / batch_size),
                _ms(row.cpu_seconds / batch_size),
                f"{row.first_seconds:.1f}",
                *(_ms(row.stages[stage] / batch_size) if stage in row.stages else "" for stage in stages),
                "?" if row.peak_bytes is None else row.peak_bytes >> 20,
                ", ".join(f"{name} {wall:.1f}x {cpu:.1f}x" for name, (wall, cpu) in row.faster.items())
                if row.case.form == "fast"
                else "",
            )
            for row in rows
        ),
    )
    say("ms: per image. The fast form computes `text` once per prompt; ms does not include it.")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
