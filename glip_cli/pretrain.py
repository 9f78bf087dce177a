"""`glip pretrain`: grounded pre-training by a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glip_cli.options import JsonOption
from glip_cli.output import print_json, progress, say


def pretrain(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; a run that is there goes on.")],
    preset: Annotated[str, typer.Option("--preset", help="What to train, on what, how: see the README.")] = "nano",
    settings: Annotated[
        Path | None, typer.Option("--settings", help="YAML file with fields of the preset to change.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="One field of the preset: fit.rates.base=0.001. Repeatable.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", help="Model folder to go on from, instead of the preset's beginning.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Folder of the data sets; not needed for nano's scenes.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that make batches.")] = 1,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Use the CPU even where there is a GPU.")] = False,
    stop_at: Annotated[
        int | None,
        typer.Option("--stop-at", min=0, help="End for now after this step, and write the model as it is then."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Pre-train a model. Several processes: `torchrun --nproc-per-node N --no-python glip pretrain …`."""
    from glip.training.presets import changed, find_preset, parse_change, read_changes
    from glip.training.pretrain import PretrainJob
    from glip.training.pretrain import pretrain as run

    chosen = changed(find_preset(preset), read_changes(settings) if settings else {})
    chosen = changed(chosen, dict(parse_change(text) for text in change or []))
    with progress("Training", chosen.fit.schedule.steps or None, unit="steps") as bar:
        done = 0

        def advance(step: int) -> None:
            nonlocal done
            bar.advance(step - done)
            done = step

        folder = run(PretrainJob(chosen, out, init, data_root, workers, offline, cpu, stop_at), advance)
    if folder is None:
        return
    if as_json:
        print_json({"model": str(folder.path), "sha256": folder.sha256})
    else:
        say(f"{folder.path} is the trained model; `glip label … --model {folder.path}` uses it.")
