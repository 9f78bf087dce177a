"""The table of commands, and the one place that shows errors."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from glip.errors import GlipError
from glip_cli import data, models, review
from glip_cli.bench import bench
from glip_cli.calibrate import calibrate
from glip_cli.evaluate import evaluate
from glip_cli.export import export
from glip_cli.finetune import finetune
from glip_cli.label import label
from glip_cli.options import FIELD_OPTIONS, with_options, with_todays_spellings
from glip_cli.output import say
from glip_cli.pretrain import pretrain

app = typer.Typer(
    name="glip",
    help="Label images with anything that can be named.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("label")(label)
app.command("export")(export)
app.command("eval")(evaluate)
app.command("calibrate")(calibrate)
app.command("finetune")(finetune)
app.command("pretrain")(pretrain)
app.command("bench")(bench)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(review.app, name="review")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"glip {version('glip')}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show more details of the work.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Label images with anything that can be named."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING, force=True)
    logging.getLogger("glip").setLevel(logging.DEBUG if verbose else logging.INFO)


def run(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits.

    The exit code is 0 if the work is done, 1 if it failed or finished with recorded failures, 2 for bad usage or input
    or a missing optional package, and 130 if it was interrupted and can be resumed.

    Args:
        arguments: the words after `glip`; None for those of this process.
    """
    # The maps of an image are tens of megabytes each, and the system clears their pages again for every tensor. In
    # large pages an image takes a fifth less time on a CPU. PyTorch reads this before its first tensor; Linux only.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    words = with_todays_spellings(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words)
    except GlipError as error:
        say(f"error: {with_options(str(error), _options_by_field(words))}")
        raise SystemExit(error.exit_code) from None


def _options_by_field(words: Sequence[str]) -> dict[str, str]:
    """Returns the options of the command that `words` call, by the name of the field they set."""
    command = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    spellings = {str(parameter.name): max(parameter.opts, key=len) for parameter in command.params}
    options = {name: spelling for name, spelling in spellings.items() if spelling.startswith("-")}
    return {field: option for field, option in FIELD_OPTIONS.items() if option in options.values()} | options


if __name__ == "__main__":
    run()
