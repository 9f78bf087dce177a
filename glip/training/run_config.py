"""What decides the result of a run, kept in its folder: one folder holds one run, and goes on with no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from glip.errors import InputError
from glip.files import whole_file

RUN_FILE = "run.json"
_SHOWN = 60  # characters of a value in a message


def settle(out: Path, question: Mapping[str, Any]) -> None:
    """Writes down what this folder's run is, or refuses to go on with another.

    Raises:
        InputError: the folder holds a run of another question.
        JobFailed: nothing can be written.
    """
    path = out / RUN_FILE
    now = msgspec.json.decode(msgspec.json.encode(question))
    if path.is_file():
        differing = _differences(_read(path), now)
        if differing:
            raise InputError(
                f"{out} holds a run with another {' and '.join(differing)}. Choose another --out, or give the same "
                f"settings to go on."
            )
        return
    with whole_file(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(question)))


def _read(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(
            f"{path} cannot be read ({error}), so nobody can say which run {path.parent} holds. Choose another --out, "
            f"or delete the folder."
        ) from error


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], group: str | None = None) -> list[str]:
    """'seed (3 there, 30 now)' for each value that differs; those inside of a group as `--set` names them."""
    found = []
    for key, value in now.items():
        there = before.get(key)
        if there == value:
            continue
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            found += _differences(there, value, "" if group is None else f"{group}{key}.")
        else:
            found.append(f"{group or ''}{key} ({_shown(there)} there, {_shown(value)} now)")
    return found


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
