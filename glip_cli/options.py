"""Options that several commands share, declared once so that they mean the same everywhere.

Also holds the option names of version 0.1.0 that still work, and shows a field of the library as an option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer


def complete_models(incomplete: str) -> list[str]:
    """Returns the checkpoints that begin with a word, for completion in a shell."""
    from glip.weights.zoo import EMBEDDED, ZOO

    return [name for name in (EMBEDDED, *ZOO) if name.startswith(incomplete)]


def complete_benchmarks(incomplete: str) -> list[str]:
    """Returns the benchmarks, and the sets of ODinW, that begin with a word."""
    from glip.data.benchmarks import known_benchmarks
    from glip.data.odinw import odinw_sets

    names = (*(row.name for row in known_benchmarks()), *(f"odinw/{row.name}" for row in odinw_sets()))
    return [name for name in names if name.startswith(incomplete)]


def complete_runs(incomplete: str) -> list[str]:
    """Returns the output folders of `glip label` near the working folder that begin with a word."""
    paths = (path.parent for path in Path().glob("*/run.json"))
    return sorted(str(path) for path in paths if str(path).startswith(incomplete))


# Panels of `--help`.
FIND = "What to find"
MODEL = "Model"
DATA = "Data"
SPEED = "Device and speed"
OUTPUT = "Output"

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Name of a checkpoint (see `glip models list`), a model folder, or a .pth file.",
        rich_help_panel=MODEL,
        autocompletion=complete_models,
    ),
]
ModelOrAdaptersOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name of a checkpoint (see `glip models list`), a model folder, or a .pth file.",
        show_default="glip-t, or the adapter's own",
        rich_help_panel=MODEL,
        autocompletion=complete_models,
    ),
]
AdapterOption = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        help="Adapter of `glip finetune`: a file, or a run folder, whose best one is taken. Brings its own model.",
        rich_help_panel=MODEL,
    ),
]
ImgszOption = Annotated[
    int | None,
    typer.Option(
        "--imgsz",
        help="Size in pixels to which the short side of an image is resized.",
        show_default="the model's, 800 for GLIP",
        rich_help_panel=MODEL,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, mps, cuda or cuda:N. auto takes a GPU if there is one.",
        rich_help_panel=SPEED,
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", help="fp32 (exact), bf16, or fp16 (not on a CPU).", rich_help_panel=SPEED),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--batch",
        help="Maximum number of images that run together.",
        show_default="8 on a GPU, else 1",
        rich_help_panel=SPEED,
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", help="Number of processes that prepare batches.", rich_help_panel=SPEED)
]
OfflineOption = Annotated[
    bool,
    typer.Option("--offline", help="Never use the network; use only files on this machine.", rich_help_panel=MODEL),
]
DataRootOption = Annotated[
    Path,
    typer.Option(
        "--data-root",
        envvar="GLIP_DATA",
        help="Folder that holds the known data sets, such as coco/ and odinw/.",
        rich_help_panel=DATA,
    ),
]
DataImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="Folder of the images of a COCO file, if they are not beside it.",
        rich_help_panel=DATA,
    ),
]
MovedImagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--images", help="Folder of the images, if they were moved since they were labelled. Can be repeated."
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", help="Process only the first N images.", rich_help_panel=DATA)
]
ClassConfOption = Annotated[
    list[str] | None,
    typer.Option("--class-conf", help="Minimum score of single classes: person=.5,dog=.3. Can be repeated."),
]
MaxDetOption = Annotated[
    int, typer.Option("--max-det", help="Maximum number of boxes per image; the best scores are kept.")
]
RunFolderOption = Annotated[
    Path,
    typer.Option("--out", "-o", help="Output folder. An existing run in it is resumed.", rich_help_panel=OUTPUT),
]
OverwriteRunOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Start again; delete the results in the output folder.", rich_help_panel=OUTPUT),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Random seed.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=OUTPUT)]

# Fields of the library whose option has another name. Other fields have the name of their parameter.
FIELD_OPTIONS = {
    "batch_size": "--batch",
    "merge": "--tile-merge",
    "modes": "--mode",
    "precision": "--target-precision",
    "tiling": "--tile",
}

# Option names of 0.1.0 by command, and today's. They work through 0.2 and are not shown by `--help`.
OLD_SPELLINGS: Mapping[str, Mapping[str, str]] = {
    "bench": {"--batch-size": "--batch"},
    "calibrate": {"--precision": "--target-precision"},
    "export": {"--pictures": "--images"},
    "finetune": {"--pictures": "--comparisons", "--cpu": "--device=cpu"},
    "pretrain": {"--cpu": "--device=cpu"},
    "review push": {"--pictures": "--images"},
}


def with_todays_spellings(words: Sequence[str]) -> list[str]:
    """Returns the words of a command line with the option names of 0.1.0 replaced by today's."""
    known = OLD_SPELLINGS.get(" ".join(_command(words)), {})
    replaced: list[str] = []
    for index, word in enumerate(words):
        if word == "--":  # what follows are arguments
            return [*replaced, *words[index:]]
        name, equals, value = word.partition("=")
        replaced.append(known.get(name, name) + equals + value)
    return replaced


def _command(words: Sequence[str]) -> list[str]:
    names = [word for word in words if not word.startswith("-")]
    return names[: 2 if names[:1] == ["review"] else 1]


def with_options(message: str, options: Mapping[str, str]) -> str:
    """Returns an error message of the library with options in place of its field names.

    The library names a field at the beginning of a message (`conf is 1.5; …`) or in backticks.

    Args:
        message: one or two sentences.
        options: option by field name, such as `--data-root` for `data_root`.
    """

    def option(match: re.Match[str]) -> str:
        return options.get(match[1] or match[2], match[0])

    return re.sub(r"\A([a-z_]+)(?= )|`([a-z_]+)`", option, message)
