"""`glip models`: lists, downloads, converts, inspects and verifies checkpoints."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip_cli.options import JsonOption, OfflineOption, OverwriteOption, SeedOption
from glip_cli.output import Progress, print_json, print_line, print_table, progress, say

if TYPE_CHECKING:
    from glip.detectors.base import ObjectDetector
    from glip.detectors.spec import DetectorSpec
    from glip.fetch import OnDownload

_SCENES = "synthetic scenes; ships with glip"

app = typer.Typer(help="List, download, convert, inspect and verify checkpoints.", no_args_is_help=True)


class Target(StrEnum):
    """The layouts that `convert` can write."""

    native = "native"
    microsoft = "microsoft"
    mmdet = "mmdet"


HalfOption = Annotated[
    bool, typer.Option("--half", help="Store the weights of a model folder in float16, at half the size.")
]
EmaOption = Annotated[bool, typer.Option("--ema", help="Use the averaged weights (EMA) of a training checkpoint.")]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        help="A vocab.txt, a tokenizer.json, or a folder with one of them.",
    ),
]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the published checkpoints with their training data and published scores."""
    from dataclasses import asdict

    from glip.weights.cache import cache_home, folder_bytes, model_path, unfinished_bytes
    from glip.weights.zoo import EMBEDDED, EMBEDDED_FOLDER, WEIGHT_BYTES, ZOO

    sizes = {row.name: folder_bytes(model_path(row.name)) for row in ZOO.values()}
    unfinished = {row.name: unfinished_bytes(row.file_name) for row in ZOO.values()}
    if as_json:
        rows = [
            asdict(row)
            | {
                "url": row.url,
                "hash_head": row.hash_head,
                "here": model_path(row.name).is_dir(),
                "weight_bytes": WEIGHT_BYTES[row.architecture],
                "bytes_here": sizes[row.name],
                "unfinished_bytes": unfinished[row.name],
            }
            for row in ZOO.values()
        ]
        embedded = {
            "name": EMBEDDED,
            "architecture": EMBEDDED,
            "pretraining": _SCENES,
            "here": EMBEDDED_FOLDER.is_dir(),
            "bytes_here": folder_bytes(EMBEDDED_FOLDER),
        }
        print_json([embedded, *rows])
        return

    def here(name: str) -> str:
        if unfinished[name]:
            return f"part, {_megabytes(unfinished[name])}"
        return "yes" if sizes[name] else "no"

    print_table(
        ("name", "trained on", "COCO", "LVIS", "rare", "weights", "here"),
        (
            (EMBEDDED, _SCENES, *3 * (_number(None),), _megabytes(folder_bytes(EMBEDDED_FOLDER)), "yes"),
            *(
                (
                    row.name,
                    (row.pretraining + (f" → {row.finetuned}" if row.finetuned else "")).replace(",", ", "),
                    _number(row.coco_ap),
                    _number(row.lvis_ap),
                    _number(row.lvis_apr),
                    _megabytes(WEIGHT_BYTES[row.architecture]),
                    here(row.name),
                )
                for row in ZOO.values()
            ),
        ),
        whole=(0, 5, 6),
    )
    say(
        "Published scores: box AP on COCO val2017; fixed AP, and that of rare classes, on LVIS minival. Zero-shot, "
        "except for checkpoints tuned on COCO. A download is at least as large as the weights."
    )
    say("OpenMMLab and the Hugging Face hub host the files; their licences apply.")
    say(f"Cache: {cache_home()}, {_megabytes(folder_bytes(cache_home()))}. `glip models remove NAME` frees space.")


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Checkpoints, or model folders of the cache.")],
    as_json: JsonOption = False,
) -> None:
    """Delete downloaded checkpoints, and their unfinished downloads, from the cache."""
    from glip.errors import InputError
    from glip.weights.cache import remove_model
    from glip.weights.zoo import EMBEDDED, ZOO

    freed: dict[str, int] = {}
    for name in names:
        if name == EMBEDDED:
            raise InputError(f"{EMBEDDED} is a part of glip and cannot be removed.")
        freed[name] = remove_model(name, ZOO[name].file_name if name in ZOO else None)
        say(f"{name} removed, {_megabytes(freed[name])} freed.")
    if as_json:
        print_json({"freed_bytes": freed})


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="Name of a checkpoint, see `glip models list`.")],
    offline: OfflineOption = False,
) -> None:
    """Download a published checkpoint, verify it, and keep it as a model folder."""
    from glip.weights.locate import check_model
    from glip.weights.zoo import EMBEDDED, find

    if name != EMBEDDED:
        find(name)
    check_model(name, offline=offline)
    from glip.weights.checkpoint import pull as run

    with download_shown() as on_download:
        folder = run(name, offline=offline, on_download=on_download)
    say(f"{name} is ready (sha256 {folder.sha256[:12]}…).")
    print_line(folder.path)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_DIR", help="A checkpoint file, or a model folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder, or a .pth or .safetensors file.")],
    to: Annotated[Target, typer.Option("--to", help="Layout to write.")] = Target.native,
    tokenizer: TokenizerOption = None,
    ema: EmaOption = False,
    half: HalfOption = False,
    conf: Annotated[
        float | None,
        typer.Option("--conf", help="Default score threshold of the model.", show_default="unchanged"),
    ] = None,
    imgsz: Annotated[
        int | None,
        typer.Option("--imgsz", help="Default short side of images, in pixels.", show_default="unchanged"),
    ] = None,
    overwrite: OverwriteOption = False,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert a checkpoint to another layout: native (a model folder), microsoft or mmdet."""
    from glip.weights.cache import Fetching
    from glip.weights.locate import check_conversion

    check_conversion(source, out, to=to.value, half=half, conf=conf, imgsz=imgsz, overwrite=overwrite)
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
    print_line(out)


@app.command()
def inspect(
    source: Annotated[
        str,
        typer.Argument(metavar="NAME_OR_PATH", help="Name of a checkpoint, a checkpoint file, or a model folder."),
    ],
    ema: EmaOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the content of a checkpoint file or model folder. Runs no code stored in it."""
    from glip.weights.locate import check_here

    check_here(source)
    from glip.weights.checkpoint import inspect_checkpoint

    facts = inspect_checkpoint(source, ema=ema)
    if as_json:
        print_json(facts)
    else:
        print_table(("property", "value"), ((key, _cell(value)) for key, value in facts.items()))
    if facts["problem"]:
        raise typer.Exit(1)


@app.command()
def verify(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME_OR_DIR]", help="Name of a checkpoint, or a model folder.", show_default="all in the cache"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the checksums of model folders with those stored in them. Exits with 1 if a file is damaged."""
    from glip.weights.checkpoint import verify as run

    results = run(target)
    if as_json:
        print_json(results)
    elif not results:
        say("The cache holds no checkpoints.")
    else:
        print_table(("folder", "state"), ((path, "; ".join(wrong) or "intact") for path, wrong in results.items()))
    if any(results.values()):
        raise typer.Exit(1)


@app.command()
def random(
    out: Annotated[Path, typer.Argument(help="Model folder to write.")],
    architecture: Annotated[str, typer.Option("--architecture", help="tiny, glip-t-a, glip-t or glip-l.")] = "glip-t",
    tokenizer: TokenizerOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a checkpoint with random weights, to try the program. Its boxes mean nothing."""
    from glip.weights.locate import check_target
    from glip.weights.zoo import check_architecture

    check_architecture(architecture)
    check_target(out, overwrite=overwrite)
    from glip.weights.random_weights import random_model

    folder = random_model(out, architecture, tokenizer=tokenizer, seed=seed, overwrite=overwrite)
    say(f"{architecture} with random weights: it runs like a trained model, but its boxes mean nothing.")
    print_line(folder.path)


@dataclass(frozen=True)
class ShownOpening:
    """Opens a detector and shows a progress bar for every file that is downloaded."""

    spec: DetectorSpec

    def open(self, on_download: OnDownload | None = None) -> ObjectDetector:
        """Opens the detector in this process."""
        with download_shown() as shown:
            return self.spec.open(on_download or shown)


def model_and_adapter(model: str | None, adapter: Path | None) -> tuple[str, Path | None]:
    """Returns the model and the adapter file that two options mean; says which adapter of a run folder is used.

    Raises:
        InputError: there is no adapter, or its model is not here.
    """
    from glip.weights.locate import find_adapter, model_of_adapter
    from glip.weights.zoo import DEFAULT

    if adapter is None:
        return model or DEFAULT, None
    file = find_adapter(adapter)
    base = model or model_of_adapter(file)
    if model is None or file != adapter:
        say(f"Adapter {file} on the model {base}.")
    return base, file


@contextmanager
def download_shown() -> Iterator[OnDownload]:
    """Yields an `on_download` callback that shows a progress bar on stderr for every file."""
    with ExitStack() as bars:
        shown: dict[str, Progress] = {}

        def on_download(url: str, done: int, total: int | None) -> None:
            if url not in shown:
                shown[url] = bars.enter_context(progress(url.rpartition("/")[2], total, unit="bytes"))
            shown[url].advance_to(done)
            if done == total:
                bars.close()

        yield on_download


def _summary(facts: Mapping[str, Any]) -> str:
    numbers = f"{facts['tensors']} tensors, {facts['parameters'] / 1e6:.1f} M parameters"
    return f"{facts['architecture']}, {numbers}, {', '.join(facts['dtypes'])}"


def _remarks(done: Mapping[str, Any], to: str) -> Iterator[str]:
    """Yields one line for each kind of tensor that was not converted as it is."""
    if done["constants"] and to == "native":
        yield f"left out, the architecture implies them: {_grouped(done['constants'])}"
    if done["unused"] and to != done["layout"]:
        yield f"left out, detection does not read them: {_grouped(done['unused'])}"
    if done["made"]:
        yield f"created, native checkpoints do not store them: {_grouped(done['made'])}"
    if done["prompt"]:
        where = "stored in prompt.safetensors" if to == "native" else "stored under its own name"
        yield f"tuned prompt ({' x '.join(map(str, done['prompt']))}): {where}"
    yield from done["notes"]


def _grouped(names: Iterable[str]) -> str:
    """Returns names as one text, in which `a.{}.b (12)` stands for a.0.b … a.11.b."""
    counts = Counter(re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", name) for name in names)
    return ", ".join(name if count == 1 else f"{name} ({count})" for name, count in counts.items())


def _cell(value: object) -> str:
    if isinstance(value, list):
        return _grouped(map(str, value)) or "—"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(part)}" for key, part in value.items())
    return "—" if value is None else str(value)


def _megabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}"
