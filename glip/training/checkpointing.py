"""Where a training run stands, on disk: whole or absent, and the numbers it has printed so far."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glip.errors import InputError
from glip.files import whole_file, whole_folder

METRICS_FILE = "metrics.jsonl"
_FOLDER = "checkpoints"
_STATE = "state.json"
_KEPT = 2  # the newest, and the one before it should the newest be damaged


@dataclass(frozen=True, eq=False)
class Saved:
    """A point to go on from.

    Attributes:
        step: the number of finished steps.
        state: plain values.
        tensors: groups of tensors by the name of their group: 'learned', 'average', 'optimizer'.
    """

    step: int
    state: dict[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]


def save(out: Path, saved: Saved) -> None:
    """Writes a checkpoint; older ones but the last go once it is complete.

    Raises:
        JobFailed: it cannot be written.
    """
    with whole_folder(_place(out, saved.step)) as part:
        for group, tensors in saved.tensors.items():
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, _file(part, group))
        content = {"step": saved.step, "groups": sorted(saved.tensors), **saved.state}
        (part / _STATE).write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    for old in _all(out)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_newest(out: Path) -> Saved | None:
    """The last checkpoint of a run, None if it has none yet.

    Raises:
        InputError: it is damaged.
    """
    places = _all(out)
    if not places:
        return None
    place = places[-1]
    try:
        state: dict[str, Any] = msgspec.json.decode((place / _STATE).read_bytes())
        tensors = {group: load_file(_file(place, group)) for group in state.pop("groups")}
    except (OSError, SafetensorError, msgspec.DecodeError, KeyError) as error:
        raise InputError(
            f"The checkpoint {place} is damaged ({error}). Delete that folder: the run then goes on from the one "
            f"before it, or begins anew."
        ) from error
    return Saved(state.pop("step"), state, tensors)


def cut_metrics(out: Path, step: int) -> list[dict[str, Any]]:
    """Forgets the numbers of steps after `step`, which are made again, and gives those before."""
    path = out / METRICS_FILE
    if not path.is_file():
        return []
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row: dict[str, Any] = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue  # a line that a kill has cut
        if row["step"] <= step:
            rows.append(row)
    with whole_file(path) as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
    return rows


def add_metrics(out: Path, row: Mapping[str, Any]) -> None:
    """One more line of numbers."""
    with (out / METRICS_FILE).open("ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")


def _place(out: Path, step: int) -> Path:
    return out / _FOLDER / f"step-{step:08}"


def _all(out: Path) -> list[Path]:
    return sorted(path for path in (out / _FOLDER).glob("step-*") if path.name.removeprefix("step-").isdigit())


def _file(place: Path, group: str) -> Path:
    return place / f"{group}.safetensors"
