"""The commands as plain data, and `glip --help-json`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from glip_cli.command_tree import called_by, read_tree
from glip_cli.main import app
from tests.conftest import CommandResult


def test_the_json_holds_every_command_and_what_its_options_accept(glip: Callable[..., CommandResult]) -> None:
    content = glip("--help-json").json
    commands = {command["name"]: command for command in content["commands"]}
    assert {"label", "eval", "review push", "models convert", "config show"} <= commands.keys()
    options = {option["name"]: option for option in commands["label"]["options"]}
    assert options["conf"]["type"] == "number"
    assert options["conf"]["default_text"]
    assert options["out"] | {"help": "", "panel": ""} == {
        "name": "out",
        "flags": ["--out", "-o"],
        "type": "path",
        "multiple": False,
        "required": False,
        "default": "labels",
        "default_text": None,
        "choices": None,
        "environment": None,
        "help": "",
        "panel": "",
    }
    assert options["phrase"]["multiple"]
    assert options["report"]["flags"] == ["--report", "--no-report"]
    assert "shard-size" not in options, "hidden options stay hidden"
    (sources,) = commands["label"]["arguments"]
    assert (sources["type"], sources["multiple"], sources["required"]) == ("text", True, True)
    to = next(option for option in commands["models convert"]["options"] if option["name"] == "to")
    assert (to["choices"], to["default"]) == (["native", "microsoft", "mmdet"], "native")
    root = next(option for option in commands["eval"]["options"] if option["name"] == "data-root")
    assert root["environment"] == "GLIP_DATA"


def test_examples_of_a_help_text_are_found() -> None:
    example = typer.Typer()

    @example.callback()
    def group() -> None: ...

    @example.command("copy", epilog="Examples:\n\n$ glip copy a b\n\nglip copy c d")
    def copy(source: Annotated[Path, typer.Argument()], fast: bool = False) -> None:
        """Copy."""

    (command,) = read_tree(typer.main.get_command(example))
    assert command.examples == ("glip copy a b", "glip copy c d")
    assert [(entry.type, entry.flags) for entry in command.parameters] == [("path", ()), ("flag", ("--fast",))]


def test_a_command_line_calls_a_command() -> None:
    tree = list(read_tree(typer.main.get_command(app)))
    assert str(called_by(["-v", "review", "push", "x"], tree)) == "review push"
    assert called_by(["--version"], tree) is None
