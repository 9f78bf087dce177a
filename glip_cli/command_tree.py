"""The commands with their options as plain data, for `glip --help-json`, configuration files and the tests of the docs.

Reads the tree that typer builds. Types come from the hints of the functions, which do not depend on typer's version.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_TYPES = {bool: "flag", int: "integer", float: "number", str: "text", Path: "path"}


@dataclass(frozen=True)
class Parameter:
    """An option or argument of a command.

    Attributes:
        name: name of the function's parameter.
        option: the longest spelling without dashes, such as 'class-conf'; for an argument its name.
        flags: all spellings, such as ('--conf',); empty for an argument.
        off_flags: spellings that switch a flag off, such as ('--no-report',).
        type: flag, integer, number, text, path or choice.
        choices: the accepted words of a choice.
        multiple: can be given several times.
        required: has no default.
        default: value without the option; None if the program decides.
        default_text: the default in words, where the program decides.
        envvar: environment variable that sets it.
        help: one or two sentences.
        panel: heading in `--help`.
        hidden: not shown by `--help`.
    """

    name: str
    option: str
    flags: tuple[str, ...]
    off_flags: tuple[str, ...]
    type: str
    choices: tuple[str, ...]
    multiple: bool
    required: bool
    default: Any
    default_text: str | None
    envvar: str | None
    help: str
    panel: str | None
    hidden: bool


@dataclass(frozen=True)
class Command:
    """A command that does something (not a group).

    Attributes:
        words: how it is called, such as ('review', 'push').
        help: what it does.
        examples: command lines of its help.
        parameters: its options and arguments, in the order of `--help`.
    """

    words: tuple[str, ...]
    help: str
    examples: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def options(self) -> tuple[Parameter, ...]:
        """Returns the options that `--help` shows."""
        return tuple(entry for entry in self.parameters if entry.flags and not entry.hidden)


def read_tree(group: Any, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """Yields every command below a group that typer built (`typer.main.get_command(app)`)."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from read_tree(command, (*words, name))
        else:
            yield read_command(command, (*words, name))


def read_command(command: Any, words: tuple[str, ...] = ()) -> Command:
    """Returns one command that typer built as plain data."""
    hints = get_type_hints(command.callback) if command.callback else {}
    texts = [command.help or "", command.epilog or ""]
    lines = [line.strip().removeprefix("$ ").strip("`") for text in texts for line in text.splitlines()]
    return Command(
        words=words,
        help=" ".join((command.help or "").split()),
        examples=tuple(line for line in lines if line.startswith("glip ")),
        parameters=tuple(_read_parameter(entry, hints.get(entry.name, bool)) for entry in command.params),
    )


def called_by(words: Sequence[str], commands: Sequence[Command]) -> Command | None:
    """Returns the command that the words of a command line call; None if they call none."""
    names = tuple(word for word in words if not word.startswith("-"))
    return next((command for command in commands if names[: len(command.words)] == command.words), None)


def tree_as_json(group: Any, version: str) -> dict[str, Any]:
    """Returns the help of all commands as plain values."""
    return {
        "program": "glip",
        "version": version,
        "help": " ".join((group.help or "").split()),
        "options": [_as_json(entry) for entry in read_command(group).options],
        "commands": [
            {
                "name": str(command),
                "help": command.help,
                "examples": list(command.examples),
                "arguments": [_as_json(entry) for entry in command.parameters if not entry.flags],
                "options": [_as_json(entry) for entry in command.options],
            }
            for command in read_tree(group)
        ],
    }


def plain(value: Any) -> Any:
    """Returns a default value for JSON: paths and enumerations become text."""
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def _read_parameter(entry: Any, hint: Any) -> Parameter:
    kind, multiple = _kind(hint)
    flags = tuple(entry.opts) if entry.opts[0].startswith("-") else ()
    return Parameter(
        name=entry.name,
        option=max(flags, key=len).lstrip("-") if flags else entry.name,
        flags=flags,
        off_flags=tuple(entry.secondary_opts),
        type="choice" if issubclass(kind, Enum) else _TYPES[kind],
        choices=tuple(str(member.value) for member in kind) if issubclass(kind, Enum) else (),
        multiple=multiple,
        required=bool(entry.required),
        default=None if callable(entry.default) else entry.default,
        default_text=entry.show_default if isinstance(entry.show_default, str) else None,
        envvar=entry.envvar,
        help=" ".join((entry.help or "").split()),
        panel=entry.rich_help_panel,
        hidden=bool(entry.hidden),
    )


def _kind(hint: Any) -> tuple[type, bool]:
    """Returns the type of one value, and whether there are several, for hints such as `list[str] | None`."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is list:
        return get_args(hint)[0], True
    return hint, False


def _as_json(entry: Parameter) -> dict[str, Any]:
    content = {
        "name": entry.option,
        "flags": [*entry.flags, *entry.off_flags],
        "type": entry.type,
        "multiple": entry.multiple,
        "required": entry.required,
        "default": plain(entry.default),
        "default_text": entry.default_text,
        "choices": list(entry.choices) or None,
        "environment": entry.envvar,
        "help": entry.help,
        "panel": entry.panel,
    }
    return content if entry.flags else {key: value for key, value in content.items() if key not in ("flags", "panel")}
