"""The table of commands, and the one place that shows errors."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from glip.errors import GlipError
from glip_cli import config, data, models, review
from glip_cli.bench import bench
from glip_cli.calibrate import calibrate
from glip_cli.command_tree import read_tree, tree_as_json
from glip_cli.doctor import doctor
from glip_cli.evaluate import evaluate
from glip_cli.export import export
from glip_cli.finetune import finetune
from glip_cli.label import label
from glip_cli.options import FIELD_OPTIONS, with_options, with_todays_spellings
from glip_cli.output import be_quiet, print_json, print_line, say, show_exception, show_logs_and_warnings
from glip_cli.pretrain import pretrain
from glip_cli.streams import problem_of_stdout, secure_streams

_TYPE_EXPECTED = "Input should be "

# The commands in the order and the panels of `glip --help`, with the examples that the help of each shows.
LABEL, MEASURE, TUNE, REVIEW, ADVANCED = "Label", "Measure", "Tune", "Review", "Advanced"


class _Ordered(TyperGroup):
    """Lists the commands by panel; typer would list groups before commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names of the commands in the order of their panels."""
        panels = (LABEL, MEASURE, TUNE, REVIEW, ADVANCED)
        return sorted(self.commands, key=lambda name: panels.index(getattr(self.commands[name], "rich_help_panel")))  # noqa: B009


def _examples(*lines: str) -> str:
    """Returns the text below the options: one example a line."""
    return "\n\n".join(("Examples:" if len(lines) > 1 else "Example:", *(f"$ {line}" for line in lines)))


app = typer.Typer(
    name="glip",
    cls=_Ordered,
    help="Label images with anything that can be named.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _panel, _command, _lines in (
    (
        "label",
        LABEL,
        label,
        ("glip label photos -p 'person . hard hat .'", "glip label scenes -p 'apple' --model nano"),
    ),
    ("export", LABEL, export, ("glip export labels -f yolo --conf 0.4 --out yolo",)),
    ("eval", MEASURE, evaluate, ("glip eval --dataset coco --limit 100", "glip eval --dataset mydata/test.json")),
    ("calibrate", MEASURE, calibrate, ("glip calibrate few.json --records labels --target-precision 0.9",)),
    ("bench", MEASURE, bench, ("glip bench --model nano --names 2",)),
    ("finetune", TUNE, finetune, ("glip finetune odinw/Raccoons --shots 3", "glip finetune mydata --epochs 12")),
    ("pretrain", TUNE, pretrain, ("glip pretrain --out run --preset nano",)),
    ("doctor", ADVANCED, doctor, ("glip doctor --json",)),
):
    app.command(_name, rich_help_panel=_panel, epilog=_examples(*_lines))(_command)
app.add_typer(review.app, name="review", rich_help_panel=REVIEW)
app.add_typer(data.app, name="data", rich_help_panel=ADVANCED)
app.add_typer(models.app, name="models", rich_help_panel=ADVANCED)
app.add_typer(config.app, name="config", rich_help_panel=ADVANCED)

# Words that only ask for information. They work whatever a configuration file holds.
QUESTIONS = frozenset({"-h", "--help", "--help-json", "--version"})


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print_line(f"glip {version('glip')}")
        raise typer.Exit


def _show_help_json(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print_json(tree_as_json(command_line(), version("glip")))
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show more details of the work.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show results, warnings and errors only: no progress, no next step.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    help_json: Annotated[
        bool,
        typer.Option(
            "--help-json",
            callback=_show_help_json,
            is_eager=True,
            help="Show the help of all commands as JSON: options, types, defaults, choices and examples.",
        ),
    ] = False,
) -> None:
    """Label images with anything that can be named."""
    be_quiet(quiet)
    show_logs_and_warnings(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


@cache
def command_line() -> Any:
    """Returns the commands as typer builds them. Flags take no value, so their help names no type."""
    built = typer.main.get_command(app)

    def strip(command: Any, context: Any) -> None:
        for parameter in command.get_params(context):
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        for name, below in getattr(command, "commands", {}).items():
            strip(below, typer.Context(below, info_name=name, parent=context))

    strip(built, typer.Context(built, info_name="glip", **app.info.context_settings))  # type: ignore[arg-type]
    return built


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
    secure_streams()
    code = _run(with_todays_spellings(sys.argv[1:] if arguments is None else arguments))
    if (problem := problem_of_stdout()) is not None:
        say(f"error: Cannot write to stdout: {problem}. Files that the command wrote are complete.")
        code = code or 1
    raise SystemExit(code)


def _run(words: Sequence[str]) -> int:
    """Runs one command, shows its error, and returns its exit code."""
    try:
        defaults = {} if QUESTIONS.intersection(words) else _configured(words)
        return command_line().main(args=words, prog_name="glip", standalone_mode=False, default_map=defaults) or 0
    except GlipError as error:
        say(f"error: {with_options(str(error), _options_by_field(words))}")
        return error.exit_code
    except typer.TyperException as error:  # words that are no command line
        if message := _usage_problem(error, words):  # a group without a command has shown its help instead
            say(f"error: {message.rstrip('.')}{'' if message.endswith('?') else '.'} See `{_help_of(words)}`.")
        return error.exit_code
    except typer.Abort:
        say("Aborted.")
        return 1
    except Exception as error:  # noqa: BLE001  # a mistake of this program: shown like everything else, for a report
        show_exception(error)
        return 1


def _configured(words: Sequence[str]) -> dict[str, Any]:
    """Returns the defaults of all commands that a configuration file sets, and says which of them count now."""
    commands = list(read_tree(command_line()))
    configuration = config.read_configuration(commands)
    configuration.announce(words, commands)
    return configuration.default_map()


def _usage_problem(error: typer.TyperException, words: Sequence[str]) -> str:
    """Returns what is wrong with a command line, on one line and with the value, which typer leaves out."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name in names and error.message.startswith(_TYPE_EXPECTED):
            expected = error.message.removeprefix(_TYPE_EXPECTED).partition(",")[0]
            return f"{name} is {value if equals else following!r}; it must be {expected}"
    message = " ".join(error.format_message().split()).replace("?.", "?")
    return re.sub(r" ?\(Possible options: ([^)]*)\)", lambda match: f". Did you mean {_or(match[1])}?", message)


def _or(names: str) -> str:
    return " or ".join(name.strip() for name in names.split(","))


def _help_of(words: Sequence[str]) -> str:
    """Returns the command line that shows the help of the command that `words` call."""
    command, path = command_line(), ["glip"]
    for word in words:
        below = getattr(command, "commands", {}).get(word)
        if below is not None:
            command, path = below, [*path, word]
    return " ".join([*path, "--help"])


def _options_by_field(words: Sequence[str]) -> dict[str, str]:
    """Returns the options of the command that `words` call, by the name of the field they set."""
    command = command_line()
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    spellings = {str(parameter.name): max(parameter.opts, key=len) for parameter in command.params}
    options = {name: spelling for name, spelling in spellings.items() if spelling.startswith("-")}
    return {field: option for field, option in FIELD_OPTIONS.items() if option in options.values()} | options


if __name__ == "__main__":
    run()
