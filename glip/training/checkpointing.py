"""Checkpoints and metrics of a training run on disk. A checkpoint is complete or absent."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from glip.errors import InputError, JobFailed
from glip.files import read_json, whole_file, whole_folder
from glip.weights.state_file import save_tensors

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"
_STATE = "state.json"
_GROUPS = {"learned", "optimizer", "average", "best"}
_STEP_FOLDER = re.compile(r"step-[0-9]{1,18}")
_KEPT = 2  # the newest, and the one before it in case the newest is damaged
_OLD_KEYS = {"pictures_per_second": "images_per_second"}  # of metrics that version 0.1.0 wrote


class _PlateauState(msgspec.Struct):
    factor: float
    best: float | None
    bad: int


class _State(msgspec.Struct):
    """The content of `state.json`: the values of `SavedRun.state`, with the step and the groups of tensors."""

    step: Annotated[int, msgspec.Meta(ge=0)]
    groups: list[str]
    plateau: _PlateauState
    best_score: float | None
    best_step: int | None
    worse: int
    seconds: float
    scaler: dict[str, int | float] | None


class _Row(msgspec.Struct):
    """The values of a row of metrics that are read again."""

    step: int
    loss: float | None = None  # null where it was not finite
    score: float = 0.0
    seconds: float = 0.0
    zero_shot: float | None = None


@dataclass(frozen=True, eq=False)
class SavedRun:
    """The state of a run at one step.

    Attributes:
        step: number of finished steps.
        state: plain values.
        tensors: by group and name; the groups are 'learned', 'optimizer' and, where they exist, 'average' and 'best'.
    """

    step: int
    state: dict[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]


def save_checkpoint(out: Path, saved: SavedRun) -> None:
    """Writes a checkpoint, then removes all but the newest two.

    Raises:
        JobFailed: it cannot be written.
    """
    with whole_folder(_folder(out, saved.step)) as part:
        for group, tensors in saved.tensors.items():
            save_tensors(_file(part, group), {name: value.detach().cpu() for name, value in tensors.items()})
        content = {"step": saved.step, "groups": sorted(saved.tensors), **saved.state}
        (part / _STATE).write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    for old in _folders(out)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_newest(out: Path) -> SavedRun | None:
    """Returns the newest checkpoint of a run that is not damaged, or None if the run has none.

    Raises:
        InputError: all of them are damaged.
    """
    folders = _folders(out)
    problems = []
    for folder in reversed(folders):
        try:
            found = _load(folder)
        except (OSError, SafetensorError, InputError) as error:
            problems.append(f"{folder}: {error}")
            continue
        for problem in problems:
            logger.warning("A damaged checkpoint is not used, but the one before it: %s", problem)
        return found
    if folders:
        raise InputError(
            f"No checkpoint of this run can be read; of the newest, {problems[0]} Delete {folders[-1].parent} to start "
            f"the run again."
        )
    return None


def _load(folder: Path) -> SavedRun:
    state = read_json(folder / _STATE, _State, "the state of a training run")
    if unknown := set(state.groups) - _GROUPS:
        raise InputError(f"{folder / _STATE} names the group {sorted(unknown)[0][:60]!r}, which no checkpoint has.")
    if not {"learned", "optimizer"} <= set(state.groups):
        raise InputError(f"{folder / _STATE} names no learned values or no optimiser.")
    if state.step != int(folder.name.removeprefix("step-")):
        raise InputError(f"{folder / _STATE} is of step {state.step}.")
    tensors = {group: load_file(_file(folder, group)) for group in state.groups}
    plain = msgspec.to_builtins(state)
    return SavedRun(state.step, {key: value for key, value in plain.items() if key not in ("step", "groups")}, tensors)


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Returns the rows of `metrics.jsonl`, those of version 0.1.0 with today's keys; none if there is no file.

    Skips lines that are no row of metrics: a process that is killed may leave one.
    """
    return _read_metrics(out)[0]


def _read_metrics(out: Path) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows, and the number of other lines."""
    path = out / METRICS_FILE
    rows: list[dict[str, Any]] = []
    skipped = 0
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    for line in filter(None, content.split(b"\n")):
        try:
            msgspec.json.decode(line, type=_Row)  # checks the values that are read again
            row = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            skipped += 1
            continue
        rows.append({_OLD_KEYS.get(key, key): value for key, value in row.items()})
    return rows, skipped


def drop_metrics_after(out: Path, step: int) -> list[dict[str, Any]]:
    """Removes the rows of later steps, which a resumed run computes again, and returns the others."""
    if not (out / METRICS_FILE).is_file():
        return []
    found, skipped = _read_metrics(out)
    if skipped:
        logger.warning("%d lines of %s are cut off or damaged and were dropped.", skipped, out / METRICS_FILE)
    rows = [row for row in found if row["step"] <= step]
    with whole_file(out / METRICS_FILE) as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
    return rows


def add_metrics(out: Path, row: Mapping[str, Any]) -> None:
    """Appends one row to `metrics.jsonl`.

    Raises:
        JobFailed: it cannot be written.
    """
    try:
        with (out / METRICS_FILE).open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")
    except OSError as error:
        raise JobFailed(
            f"Cannot write {out / METRICS_FILE}: {error.strerror or error}. Once this is repaired, the same command "
            f"resumes from the last checkpoint."
        ) from error


def _folder(out: Path, step: int) -> Path:
    return out / CHECKPOINTS_FOLDER / f"step-{step:08}"


def _folders(out: Path) -> list[Path]:
    folders = (out / CHECKPOINTS_FOLDER).glob("step-*")
    return sorted(path for path in folders if _STEP_FOLDER.fullmatch(path.name))


def _file(folder: Path, group: str) -> Path:
    return folder / f"{group}.safetensors"
