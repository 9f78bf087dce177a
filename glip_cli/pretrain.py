"""`glip pretrain`: grounded pre-training by a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glip.errors import InputError
from glip_cli.options import DATA, DeviceOption, JsonOption, OfflineOption, RunFolderOption, WorkersOption
from glip_cli.output import print_json, progress, say


def pretrain(
    out: RunFolderOption,
    preset: Annotated[
        str, typer.Option("--preset", help="nano, glip-t-a, glip-t-b, glip-t-c, glip-t or glip-l.")
    ] = "nano",
    settings: Annotated[
        Path | None, typer.Option("--settings", help="YAML file with fields that replace those of the preset.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace one field of the preset: fit.rates.base=0.001. Can be repeated."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Model folder with the initial weights.", show_default="those of the preset"),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root",
            envvar="GLIP_DATA",
            help="Folder that holds the data sets. Without it, nano trains on drawn scenes only.",
            rich_help_panel=DATA,
        ),
    ] = None,
    workers: WorkersOption = 1,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
    stop_at: Annotated[
        int | None,
        typer.Option("--stop-at", min=0, help="Stop after this step and write the model; can be resumed."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Pre-train a model. For several processes: `torchrun --nproc-per-node N --no-python glip pretrain …`."""
    from glip.detectors.spec import DetectorSpec
    from glip.training.presets import changed, find_preset, parse_change, read_changes

    chosen = changed(find_preset(preset), read_changes(settings) if settings else {})
    chosen = changed(chosen, dict(parse_change(text) for text in change or []))
    DetectorSpec(device=device)  # checks the word
    for name, path in (("init", init), ("data_root", data_root)):
        if path is not None and not path.is_dir():
            raise InputError(f"`{name}` is {path}, which is no folder.")

    from glip.training.pretrain import PretrainJob
    from glip.training.pretrain import pretrain as run

    job = PretrainJob(chosen, out, init, data_root, workers, offline, device, stop_at)
    with progress("Training", chosen.fit.schedule.steps or None, unit="steps") as bar:
        folder = run(job, bar.advance_to)
    if folder is None:  # another process of this run writes the model
        return
    if as_json:
        print_json({"model": str(folder.path), "sha256": folder.sha256})
    else:
        say(f"The trained model is {folder.path}. To use it: `glip label … --model {folder.path}`.")
