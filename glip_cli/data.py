"""`glip data`: makes data to learn from."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from glip.errors import InputError
from glip_cli.options import JsonOption
from glip_cli.output import print_json, print_table, progress

app = typer.Typer(help="Make data to learn from.", no_args_is_help=True)

SCENES = 1000
IMAGES_OF_A_SET = 80


@app.callback()
def data() -> None:
    """Make data to learn from."""


@app.command("synthetic")
def synthetic(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write, exactly this one.")],
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", help="Images; of each set with --mini-odinw. [default: 1000, or 80 a set]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives other images of the same kind.")] = 0,
    size: Annotated[
        str | None, typer.Option("--size", help="Pixels: 320, 640x480, or a range of sides. [default: 160-480]")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="train; seen: the same things, other scenes; 'unseen pairs' of colour and shape; 'held out' things. "
            "[default: train]",
        ),
    ] = None,
    shapes: Annotated[float | None, typer.Option("--shapes", help="Share of drawn shapes. [default: 0.4]")] = None,
    names: Annotated[int | None, typer.Option("--names", help="Only the so many simplest names of images.")] = None,
    sprites: Annotated[
        Path | None, typer.Option("--sprites", help="Folder of PNGs to compose: red_apple.png is a 'red apple'.")
    ] = None,
    mini_odinw: Annotated[
        bool, typer.Option("--mini-odinw", help="Thirteen small sets of held out things, in ODinW's layout.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", help="Processes. The result does not depend on it.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace all that OUT holds.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compose scenes of named images (emoji, drawn shapes), with boxes and captions, as a COCO folder."""
    if mini_odinw:
        given = {"--size": size, "--split": split, "--shapes": shapes}
        _refuse_with_mini_odinw([option for option, value in given.items() if value is not None], workers)
        summaries = _write_mini_odinw(out, IMAGES_OF_A_SET if count is None else count, seed, names, sprites, overwrite)
        if as_json:
            print_json({"folder": str(out), "sets": summaries})
        else:
            _show(summaries)
        return

    from glip.data.synthetic import SceneJob, write_scenes

    least_wh, most_wh = parse_size(size or "160-480")
    job = SceneJob(
        count=SCENES if count is None else count,
        seed=seed,
        split=split or "train",  # type: ignore[arg-type]  # the split is checked where it is used
        least_wh=least_wh,
        most_wh=most_wh,
        shapes=0.4 if shapes is None else shapes,
        names=names,
        sprites=sprites,
        workers=workers,
    )
    with progress("Composing", job.count) as bar:
        summary = asdict(write_scenes(job, out, overwrite, bar.advance))
    if as_json:
        print_json(summary)
    else:
        _show([summary])


def _write_mini_odinw(
    out: Path, images: int, seed: int, names: int | None, sprites: Path | None, overwrite: bool
) -> list[dict[str, object]]:
    from glip.data.synthetic import MINI_ODINW, load_pool, write_mini_odinw

    pool = load_pool(sprites)
    with progress("Composing", len(MINI_ODINW) * images) as bar:
        done = write_mini_odinw(
            out, pool.simplest(names) if names else pool, images, seed, overwrite, advance=bar.advance
        )
    return [asdict(summary) for summary in done]


def _refuse_with_mini_odinw(options: list[str], workers: int) -> None:
    options += ["--workers"] if workers != 1 else []
    if options:
        raise InputError(
            f"{' and '.join(options)} cannot be used with --mini-odinw, whose sets have their own. Leave out."
        )


def _show(summaries: list[dict[str, object]]) -> None:
    columns = ("folder", "images", "boxes", "classes")
    print_table(columns, ([summary[column] for column in columns] for summary in summaries))


def parse_size(text: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest (width, height): '320', '640x480', '160-480', '160x120-640x480'.

    Raises:
        InputError: it is none of these.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?(?:-(\d+)(?:x(\d+))?)?", text.replace(" ", "").lower())
    if match is None:
        raise InputError(f"The size {text!r} is not understood. Accepted: 320, 640x480, 160-480, 160x120-640x480.")
    width, height, most_width, most_height = match.groups()
    least = (int(width), int(height or width))
    return least, (int(most_width), int(most_height or most_width)) if most_width else least
