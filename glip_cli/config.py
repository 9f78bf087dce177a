"""Options from a file: `glip.toml`, or `[tool.glip]` of pyproject.toml, and `glip config show`.

The nearest file counts, from the working folder upwards. It has a table for each command, with the names of its options
without dashes. An option of the command line wins over an environment variable, and that over the file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from glip.errors import InputError, did_you_mean
from glip_cli.command_tree import Command, Parameter, called_by, plain, read_tree
from glip_cli.options import JsonOption
from glip_cli.output import print_json, print_line, print_table, say

FILE, PROJECT_FILE, TABLE = "glip.toml", "pyproject.toml", "tool.glip"
MAX_BYTES = 1_000_000
# What deletes or replaces something is asked for at the moment it happens, never by a file that lies around.
COMMAND_LINE_ONLY = ("overwrite", "yes")
# Options whose value is text because it may also be a name: here a path begins with ./ or ../ (or @./ for a list).
_PATH_STARTS = ("./", "../", "@./", "@../")
_TOML_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "an array"}
_ACCEPTED = {
    "flag": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "text": "text in quotes",
    "path": "a path in quotes",
}

app = typer.Typer(help="Show the options that a configuration file sets.", no_args_is_help=True)


@dataclass(frozen=True)
class Configuration:
    """The options that a file sets.

    Attributes:
        path: the file; None if there is none.
        values: by command ('review push') and parameter name, as the command receives them.
    """

    path: Path | None
    values: Mapping[str, Mapping[str, Any]]

    def default_map(self) -> dict[str, Any]:
        """Returns the values as typer takes them: nested by the words of a command."""
        nested: dict[str, Any] = {}
        for command, options in self.values.items():
            below = nested
            for word in command.split():
                below = below.setdefault(word, {})
            below |= options
        return nested

    def announce(self, words: Sequence[str], commands: Sequence[Command]) -> None:
        """Prints which options of the command that `words` call come from the file."""
        command = called_by(words, commands)
        options = self.values.get(str(command), {})
        given = {word.partition("=")[0] for word in words}
        used = [
            f"--{entry.option} {_shown(options[entry.name])}"
            for entry in (command.options if command else ())
            if entry.name in options and not given & {*entry.flags, *entry.off_flags}
        ]
        if used:
            say(f"{self.path} sets {', '.join(used)}.")


def read_configuration(commands: Sequence[Command], folder: Path | None = None) -> Configuration:
    """Finds and reads the configuration file.

    Args:
        commands: all commands.
        folder: where the search begins; None for the working folder. The folders above it follow.

    Raises:
        InputError: the file cannot be read, or has a table, an option or a value that no command knows.
    """
    try:
        folder = Path.cwd() if folder is None else folder
    except OSError:  # the working folder was deleted
        return Configuration(None, {})
    for place in (folder, *folder.parents):
        for name in (FILE, PROJECT_FILE):
            path = place / name
            tables = _read(path) if _is_file(path) else None
            if tables is not None:
                return Configuration(path, dict(_check(path, tables, commands)))
    return Configuration(None, {})


@app.callback()
def config() -> None:
    """Show the options that a configuration file sets."""


@app.command("show")
def show(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]", help="One command, such as label or review push.", show_default="all"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print every option with its value, and where it comes from: the file, the environment, or the default."""
    commands = list(read_tree(context.find_root().command))
    wanted = " ".join(command or ())
    chosen = [entry for entry in commands if not wanted or f"{entry} ".startswith(f"{wanted} ")]
    if not chosen:
        names = [str(entry) for entry in commands]
        raise InputError(
            f"There is no command {wanted!r}.{did_you_mean(wanted, names)} Commands are {', '.join(names)}."
        )
    found = read_configuration(commands)
    rows = [(entry, option, *_value_and_source(entry, option, found)) for entry in chosen for option in entry.options]
    if as_json:
        print_json(
            {
                "file": None if found.path is None else str(found.path),
                "options": [
                    {"command": str(entry), "option": option.option, "value": plain(value), "from": source}
                    for entry, option, value, source in rows
                ],
            }
        )
        return
    print_line(f"file: {found.path}" if found.path else f"file: none ({FILE}, or [{TABLE}] of {PROJECT_FILE})")
    several = len(chosen) > 1
    print_table(
        ("command", "option", "value", "from")[0 if several else 1 :],
        (
            (str(entry), f"--{option.option}", _shown(value, option), source)[0 if several else 1 :]
            for entry, option, value, source in rows
        ),
    )


def _value_and_source(command: Command, option: Parameter, found: Configuration) -> tuple[Any, str]:
    if option.envvar and os.environ.get(option.envvar):
        return os.environ[option.envvar], f"environment {option.envvar}"
    values = found.values.get(str(command), {})
    if option.name in values:
        return values[option.name], found.path.name if found.path else ""
    return option.default, "default"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder above the working folder may be closed to this user
        return False


def _read(path: Path) -> dict[str, Any] | None:
    """Returns the tables of a file; None for a pyproject.toml without a table of glip."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}. Make it readable, or move it away.") from error
    is_project = path.name == PROJECT_FILE
    if is_project and b"glip" not in content:  # a project of something else; whether it is valid is not our affair
        return None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES} bytes; a configuration is a few lines. Move it away.")
    try:
        tables = tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not TOML, a number of thousands of digits
        raise InputError(f"{path} is not valid TOML: {error}. Correct it, or move it away.") from error
    if not is_project:
        return tables
    tool = tables.get("tool")
    table = tool.get("glip") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise InputError(f"{path}: tool.glip is {_toml_name(table)}; accepted is a table, such as [{TABLE}.label].")
    return table


def _check(
    path: Path, table: Mapping[str, Any], commands: Sequence[Command], words: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the values of each command that has a table in the file."""
    depth = len(words)
    below = list(dict.fromkeys(entry.words[depth] for entry in commands if entry.words[:depth] == words))
    for key, value in table.items():
        path_words = (*words, key)
        where = ".".join(path_words)
        if key not in below:
            kind = "command" if isinstance(value, dict) else "table of a command"
            raise InputError(
                f"{path}: {where!r} is no {kind} of glip.{did_you_mean(key, below)} Accepted are {', '.join(below)}."
            )
        if not isinstance(value, dict):
            raise InputError(f"{path}: {where!r} is {_toml_name(value)}; accepted is a table: [{where}].")
        command = next((entry for entry in commands if entry.words == path_words), None)
        if command is None:
            yield from _check(path, value, commands, path_words)
        else:
            yield str(command), _check_options(path, value, command)


def _check_options(path: Path, table: Mapping[str, Any], command: Command) -> dict[str, Any]:
    """Returns the values of one command's table by parameter name."""
    known = {option.option: option for option in command.options}
    values: dict[str, Any] = {}
    for key, value in table.items():
        option = known.get(key.replace("_", "-"))
        where = f"{path}: {'.'.join((*command.words, key))}"
        if option is None:
            arguments = {entry.name for entry in command.parameters if not entry.flags}
            meant = "" if key in arguments else did_you_mean(key.replace("_", "-"), list(known))
            raise InputError(
                f"{where} is no option of `glip {command}`.{meant} `glip config show {command}` lists all options."
            )
        if option.option in COMMAND_LINE_ONLY:
            raise InputError(f"{where} cannot be set by a file. Give --{option.option} on the command line.")
        if option.name in values:
            raise InputError(f"{where} is set twice, with - and with _ in its name. Leave one of them out.")
        values[option.name] = _checked(where, value, option, path.parent)
    return values


def _checked(where: str, value: Any, option: Parameter, folder: Path) -> Any:
    """Returns a value as the command receives it."""
    if option.multiple:
        if not isinstance(value, list):
            raise InputError(f"{where} is {_toml_name(value)}; accepted is an array, such as [{_example(option)}].")
        return [_checked_one(where, item, option, folder) for item in value]
    return _checked_one(where, value, option, folder)


def _checked_one(where: str, value: Any, option: Parameter, folder: Path) -> Any:
    if option.type == "choice":
        if value not in option.choices:
            meant = did_you_mean(str(value), option.choices)
            raise InputError(f"{where} is {value!r}; accepted are {', '.join(option.choices)}.{meant}")
        return value
    types = {"flag": bool, "integer": int, "number": (int, float), "text": str, "path": str}[option.type]
    if not isinstance(value, types) or (isinstance(value, bool) and option.type != "flag"):  # type: ignore[arg-type]
        raise InputError(f"{where} is {_toml_name(value)}; accepted is {_ACCEPTED[option.type]}.")
    if isinstance(value, str):
        if "\0" in value:
            raise InputError(f"{where} is {value!r}; a value cannot contain the character NUL.")
        is_path = option.type == "path" or option.option == "images"
        return _relative_to(folder, value) if is_path or value.startswith(_PATH_STARTS) else value
    return value


def _relative_to(folder: Path, value: str) -> str:
    at, path = ("@", value[1:]) if value.startswith("@") else ("", value)
    expanded = os.path.expanduser(path)  # noqa: PTH111  # a folder of unknown users stays as it is
    return f"{at}{folder / expanded}" if "://" not in path else value


def _toml_name(value: Any) -> str:
    """Returns a value with its type, for a message."""
    name = next((name for kind, name in _TOML_NAMES.items() if type(value) is kind), "a table")
    if not isinstance(value, (bool, int, float, str)):
        return name if isinstance(value, (list, dict)) else f"{value} (a date or time)"
    text = repr(value) if isinstance(value, str) else str(value).lower()
    return f"{text[:80]} ({name})"


def _example(option: Parameter) -> str:
    return {"integer": "1", "number": "0.5"}.get(option.type, '"…"')


def _shown(value: Any, option: Parameter | None = None) -> str:
    if value is None:
        return (option.default_text if option else None) or "—"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(plain(value))
