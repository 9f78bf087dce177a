"""`glip data`: lists, fetches and checks data sets, and makes training data."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from glip.errors import InputError
from glip.left_out import MAX_EXAMPLES
from glip_cli.models import download_shown
from glip_cli.options import DataRootOption, JsonOption, SeedOption
from glip_cli.output import print_json, print_line, print_table, progress, say

if TYPE_CHECKING:
    from glip.data.check import Health
    from glip.data.pull import Holding
    from glip.left_out import LeftOut

app = typer.Typer(help="List, fetch and check data sets; make training data.", no_args_is_help=True)

SCENES = 1000
IMAGES_OF_A_SET = 80


@app.callback()
def data() -> None:
    """List, fetch and check data sets; make training data."""


@app.command("list")
def list_data(
    name: Annotated[str | None, typer.Argument(help="Show one benchmark with its files.", show_default="all")] = None,
    data_root: DataRootOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """List the benchmarks: what is on this machine, what is missing, and how to get it."""
    from glip.data.lookup import name_of_benchmark
    from glip.data.pull import holdings

    wanted = None if name is None else name_of_benchmark(name)
    rows = [row for row in holdings(data_root) if wanted in (None, row.name)]
    if as_json:
        print_json([asdict(row) | {"state": row.state} for row in rows])
        return
    if wanted is not None and rows:
        _show_holding(rows[0])
        return
    print_table(
        ("name", "here", "to fetch", "how"),
        ((row.name, row.state, _to_fetch(row), row.command or "by hand") for row in rows),
        whole=(0,),
    )
    say(
        f"Below {data_root} (`--data-root`, or the environment variable GLIP_DATA). "
        "`glip data list NAME` shows the files of one."
    )


def _show_holding(row: Holding) -> None:
    print_line(f"{row.name}: {row.about}")
    print_line(f"  here    {row.state}")
    for split, is_here in row.splits.items():
        print_line(f"  split   {split}: {'here' if is_here else 'missing'}")
    if row.missing:
        print_line(f"  missing {', '.join(row.missing)}")
    print_line(f"  files   {row.layout}")
    print_line(f"  get it  {row.fetch}")


def _to_fetch(row: Holding) -> str:
    if row.unfinished:
        return f"unfinished, {_size(row.unfinished)} here"
    if not row.command or row.download == 0:
        return "—"
    return "size unknown" if row.download is None else _size(row.download)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


@app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="odinw13, odinw/Aquarium, coco, lvis-minival, …: see `glip data list`.")],
    data_root: DataRootOption = Path("data"),
    split: Annotated[
        str | None,
        typer.Option("--split", help="val, test, train, …", show_default="the benchmark's usual split"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download the files of a benchmark, check them, and lay them out. Repeat the command to resume."""
    from glip.data.pull import pull as run

    with download_shown() as on_progress:
        done = run(name, data_root, split, on_progress)
    if as_json:
        print_json(asdict(done))
    else:
        for file in done.here:
            say(f"{file}: already here")
        for file, why in (done.failed or {}).items():
            say(f"{file} failed: {why}")
        for entry in done.left_out:
            say(f"left out: {entry}")
        say(
            f"{done.name}: {len(done.fetched)} files fetched, {len(done.here)} here before, "
            f"{len(done.failed or {})} failed."
        )
        if done.is_complete:
            say(f"Next: glip eval --dataset {done.name}{_data_root_words(data_root)}{_split_words(split)}")
    if not done.is_complete:
        raise typer.Exit(1)


def _data_root_words(data_root: Path) -> str:
    return "" if data_root == Path("data") else f" --data-root {quote(str(data_root))}"


def _split_words(split: str | None) -> str:
    return "" if split is None else f" --split {split}"


@app.command("check")
def check(
    path: Annotated[
        Path, typer.Argument(metavar="FOLDER|FILE", help="An annotation file, or the folder of a data set.")
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there is any fault, warnings too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for faults: leaks between splits, duplicates, bad boxes, unreadable images, names alike, rare classes."""
    from glip.data.check import check_data, count_images

    with progress("Reading", count_images(path)) as bar:
        health = check_data(path, bar.advance)
    if as_json:
        print_json(health)
    else:
        _show_health(health)
    if strict and health.problems:
        raise typer.Exit(1)


def _show_health(health: Health) -> None:
    print_table(("split", "images", "boxes"), ((name, *counts.values()) for name, counts in health.splits.items()))
    for problem in health.problems:
        print_line(f"{problem.severity}: {problem.sentence}")
        for place in problem.places[:MAX_EXAMPLES]:
            print_line(f"  {place}")
        if problem.count > MAX_EXAMPLES:
            print_line(f"  … and {problem.count - MAX_EXAMPLES} more; --json lists all")
    errors = sum(problem.severity == "error" for problem in health.problems)
    print_line(
        f"{len(health.problems)} kinds of faults, {errors} of them errors." if health.problems else "No fault found."
    )


@app.command("synthetic")
def synthetic(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder.")],
    count: Annotated[
        int | None,
        typer.Option(
            "--count", "-n", help="Number of images; with --mini-odinw, per set.", show_default="1000, or 80 per set"
        ),
    ] = None,
    seed: SeedOption = 0,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", help="Size in pixels: 320, 640x480, or a range of sides such as 160-480.", show_default="160-480"
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="train; seen (the same objects in other scenes); 'unseen pairs' (new pairs of colour and shape); "
            "'held out' (objects that train does not contain).",
            show_default="train",
        ),
    ] = None,
    shapes: Annotated[
        float | None,
        typer.Option("--shapes", help="Share of drawn shapes among the objects, 0 to 1.", show_default="0.4"),
    ] = None,
    names: Annotated[
        int | None,
        typer.Option("--names", help="Use only the N simplest object names.", show_default="all"),
    ] = None,
    sprites: Annotated[
        Path | None,
        typer.Option(
            "--sprites",
            help="Folder of PNG files to compose; red_apple.png is named 'red apple'.",
            show_default="emoji and drawn shapes",
        ),
    ] = None,
    mini_odinw: Annotated[
        bool, typer.Option("--mini-odinw", help="Make thirteen small sets of held-out objects, laid out like ODinW.")
    ] = False,
    theme: Annotated[
        str | None,
        typer.Option(
            "--theme",
            help="Make a small set of one theme, in three splits: fruit, birds, tools, shapes, … Several with commas.",
            show_default="no",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Number of processes. The result does not depend on it.")
    ] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the content of OUT.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compose scenes of named objects (emoji and drawn shapes) with boxes and captions, as a COCO folder."""
    if mini_odinw or theme is not None:
        given = {"--size": size, "--split": split, "--shapes": shapes, "--theme": theme if mini_odinw else None}
        own = "--mini-odinw" if mini_odinw else "--theme"
        _refuse_with_sets([option for option, value in given.items() if value is not None], workers, own)
        themes = None if theme is None else [word.strip() for word in theme.split(",") if word.strip()]
        images = IMAGES_OF_A_SET if count is None else count
        summaries, left_out = _write_sets(out, images, seed, names, sprites, overwrite, themes)
        if as_json:
            print_json({"folder": str(out), "sets": summaries, "left_out": left_out})
        else:
            _show(summaries)
            for entry in left_out:
                say(f"left out: {entry}")
        return

    from glip.data.synthetic import SceneJob, write_scenes

    minimum_wh, maximum_wh = parse_size(size or "160-480")
    job = SceneJob(
        count=SCENES if count is None else count,
        seed=seed,
        split=split or "train",  # type: ignore[arg-type]  # SceneJob checks it
        minimum_wh=minimum_wh,
        maximum_wh=maximum_wh,
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


def _write_sets(
    out: Path,
    images: int,
    seed: int,
    names: int | None,
    sprites: Path | None,
    overwrite: bool,
    themes: list[str] | None,
) -> tuple[list[dict[str, object]], list[LeftOut]]:
    """Writes the sets of some themes; of all for None."""
    from glip.data.synthetic import MINI_ODINW, load_pool, sets_of_themes, write_mini_odinw

    pool = load_pool(sprites)
    sets, left_out = (MINI_ODINW, []) if themes is None else sets_of_themes(themes, pool)
    with progress("Composing", len(sets) * images) as bar:
        done = write_mini_odinw(
            out, pool.simplest(names) if names else pool, images, seed, overwrite, sets, advance=bar.advance
        )
    return [asdict(summary) for summary in done], left_out


def _refuse_with_sets(options: list[str], workers: int, own: str) -> None:
    options += ["--workers"] if workers != 1 else []
    if options:
        raise InputError(f"{' and '.join(options)} cannot be used with {own}. Leave out one or the other.")


def _show(summaries: list[dict[str, object]]) -> None:
    columns = ("folder", "images", "boxes", "classes")
    print_table(columns, ([summary[column] for column in columns] for summary in summaries))


def parse_size(text: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the minimum and maximum (width, height) of '320', '640x480', '160-480' or '160x120-640x480'.

    Raises:
        InputError: the text has another form.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?(?:-(\d+)(?:x(\d+))?)?", text.replace(" ", "").lower())
    if match is None:
        raise InputError(f"size is {text!r}; accepted are 320, 640x480, 160-480 or 160x120-640x480, for example.")
    width, height, maximum_width, maximum_height = match.groups()
    minimum = (int(width), int(height or width))
    if not maximum_width:
        return minimum, minimum
    return minimum, (int(maximum_width), int(maximum_height or maximum_width))
