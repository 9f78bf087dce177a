"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", help="Name of a checkpoint (`glip models list`), a model folder, or a .pth file."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, mps, cuda or cuda:N.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32 (exact), bf16, or fp16 (not on a CPU).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
