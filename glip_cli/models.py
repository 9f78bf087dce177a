"""`glip models`: which checkpoints there are, fetching them, and taking them from one layout to another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip_cli.options import JsonOption
from glip_cli.output import Progress, print_json, print_table, progress, say

if TYPE_CHECKING:
    from glip.fetch import OnDownload

_SCENES = "synthetic scenes; ships with glip"

app = typer.Typer(help="List, fetch, convert, inspect and verify checkpoints.", no_args_is_help=True)


class Target(StrEnum):
    """The layouts that `convert` writes."""

    native = "native"
    microsoft = "microsoft"
    mmdet = "mmdet"


OutOption = Annotated[Path, typer.Option("--out", "-o", help="What to write: a folder, or a .pth/.safetensors file.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Fetch nothing; use what is on this machine.")]
HalfOption = Annotated[bool, typer.Option("--half", help="Store a model folder in float16: half the size.")]
EmaOption = Annotated[bool, typer.Option("--ema", help="Take the averaged weights of a training checkpoint.")]
TokenizerOption = Annotated[
    Path | None, typer.Option("--tokenizer", help="A vocab.txt, a tokenizer.json, or a folder with one of them.")
]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """Show the published checkpoints with their data and published numbers."""
    from dataclasses import asdict

    from glip.weights.cache import model_path
    from glip.weights.zoo import EMBEDDED, EMBEDDED_FOLDER, ZOO

    if as_json:
        rows = [
            asdict(row) | {"url": row.url, "hash_head": row.hash_head, "here": model_path(row.name).is_dir()}
            for row in ZOO.values()
        ]
        embedded = {
            "name": EMBEDDED,
            "architecture": EMBEDDED,
            "pretraining": _SCENES,
            "here": EMBEDDED_FOLDER.is_dir(),
        }
        print_json([embedded, *rows])
        return
    print_table(
        ("name", "architecture", "trained on", "COCO AP", "LVIS AP", "LVIS APr", "here"),
        (
            (EMBEDDED, EMBEDDED, _SCENES, *3 * (_number(None),), "yes" if EMBEDDED_FOLDER.is_dir() else "no"),
            *(
                (
                    row.name,
                    row.architecture,
                    row.pretraining + (f" → {row.finetuned}" if row.finetuned else ""),
                    _number(row.coco_ap),
                    _number(row.lvis_ap),
                    _number(row.lvis_apr),
                    "yes" if model_path(row.name).is_dir() else "no",
                )
                for row in ZOO.values()
            ),
        ),
    )
    say(
        "Published numbers: box AP on COCO val2017, fixed AP and APr (rare classes) on LVIS minival; zero-shot, but "
        "for rows tuned on COCO.\nThe files are hosted by OpenMMLab and on the Hugging Face hub; their licences apply."
    )


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A name of `glip models list`.")], offline: OfflineOption = False
) -> None:
    """Fetch a published checkpoint, check it, and keep it as a model folder."""
    from glip.weights.checkpoint import pull as run

    with download_shown() as on_download:
        folder = run(name, offline=offline, on_download=on_download)
    say(f"{name} is ready (sha256 {folder.sha256[:12]}…).")
    typer.echo(folder.path)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_DIR", help="A checkpoint file, or a model folder.")],
    out: OutOption,
    to: Annotated[Target, typer.Option("--to", help="The layout to write.")] = Target.native,
    tokenizer: TokenizerOption = None,
    ema: EmaOption = False,
    half: HalfOption = False,
    conf: Annotated[
        float | None,
        typer.Option("--conf", help="Score from which the model's boxes are shown."),
    ] = None,
    imgsz: Annotated[
        int | None, typer.Option("--imgsz", help="Short side in pixels that the model looks at images with.")
    ] = None,
    overwrite: OverwriteOption = False,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take a checkpoint to another layout: native (a model folder), microsoft or mmdet."""
    from glip.weights.cache import Fetching
    from glip.weights.checkpoint import convert_checkpoint

    with download_shown() as on_download:
        done = convert_checkpoint(
            source,
            out,
            to=to.value,
            tokenizer=tokenizer,
            ema=ema,
            half=half,
            conf=conf,
            imgsz=imgsz,
            overwrite=overwrite,
            fetching=Fetching(offline, on_download),
        )
    if as_json:
        print_json(done)
        return
    say(f"{done['layout']} → {to.value}: {_summary(done)}")
    for text in _remarks(done, to.value):
        say(f"  {text}")
    typer.echo(out)


@app.command()
def inspect(
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_DIR", help="A checkpoint file, or a model folder.")],
    ema: EmaOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a checkpoint file or model folder holds, without running anything in it."""
    from glip.weights.checkpoint import inspect_checkpoint

    facts = inspect_checkpoint(source, ema=ema)
    if as_json:
        print_json(facts)
    else:
        print_table(("what", "value"), ((key, _cell(value)) for key, value in facts.items()))
    if facts["problem"]:
        raise typer.Exit(1)


@app.command()
def verify(
    target: Annotated[
        str | None, typer.Argument(metavar="[NAME_OR_DIR]", help="One checkpoint; all in the cache if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read every byte of model folders and compare it with what was written. Exit code 1 if something is wrong."""
    from glip.weights.checkpoint import verify as run

    results = run(target)
    if as_json:
        print_json(results)
    elif not results:
        say("The cache holds no checkpoints; nothing to verify.")
    else:
        print_table(("folder", "state"), ((path, "; ".join(wrong) or "as written") for path, wrong in results.items()))
    if any(results.values()):
        raise typer.Exit(1)


@app.command()
def random(
    out: Annotated[Path, typer.Argument(help="The model folder to write.")],
    architecture: Annotated[str, typer.Option("--architecture", help="tiny, glip-t-a, glip-t or glip-l.")] = "glip-t",
    tokenizer: TokenizerOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other numbers.")] = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a checkpoint of pseudo-random numbers, to try the program out: its boxes mean nothing."""
    from glip.weights.random_weights import random_model

    folder = random_model(out, architecture, tokenizer=tokenizer, seed=seed, overwrite=overwrite)
    say(f"A pseudo-random {architecture}: it runs like a real one, but its boxes mean nothing.")
    typer.echo(folder.path)


@contextmanager
def download_shown() -> Iterator[OnDownload]:
    """Gives what `open_model` and `pull` want as `on_download`: a bar on stderr for every file that is fetched."""
    with ExitStack() as bars:
        shown: dict[str, tuple[Progress, int]] = {}

        def on_download(url: str, done: int, total: int | None) -> None:
            if url not in shown:
                shown[url] = bars.enter_context(progress(url.rpartition("/")[2], total, unit="bytes")), 0
            bar, before = shown[url]
            bar.advance(done - before)
            shown[url] = bar, done
            if done == total:
                bars.close()

        yield on_download


def _summary(facts: Mapping[str, Any]) -> str:
    numbers = f"{facts['tensors']} tensors, {facts['parameters'] / 1e6:.1f} M parameters"
    return f"{facts['architecture']}, {numbers}, {', '.join(facts['dtypes'])}"


def _remarks(done: Mapping[str, Any], to: str) -> Iterator[str]:
    """A line for everything that did not go from one side to the other as it was."""
    if done["constants"] and to == "native":
        yield f"left out, follows from the architecture: {_grouped(done['constants'])}"
    if done["unused"] and to != done["layout"]:
        yield f"left out, never read by detection: {_grouped(done['unused'])}"
    if done["made"]:
        yield f"made anew, native checkpoints have none: {_grouped(done['made'])}"
    if done["prompt"]:
        where = "kept in prompt.safetensors" if to == "native" else "kept under its name there"
        yield f"tuned prompt ({' x '.join(map(str, done['prompt']))}): {where}"
    yield from done["notes"]


def _grouped(names: Iterable[str]) -> str:
    """`a.{}.b (12)` for a.0.b … a.11.b."""
    counts = Counter(re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", name) for name in names)
    return ", ".join(name if count == 1 else f"{name} ({count})" for name, count in counts.items())


def _cell(value: object) -> str:
    if isinstance(value, list):
        return _grouped(map(str, value)) or "—"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(part)}" for key, part in value.items())
    return "—" if value is None else str(value)


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}"
