"""Checkpoints and metrics of a training run on disk. A checkpoint is complete or absent."""

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
from glip.files import read_json, whole_file, whole_folder

METRICS_FILE = "metrics.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"
_STATE = "state.json"
_KEPT = 2  # the newest, and the one before it in case the newest is damaged
_OLD_KEYS = {"pictures_per_second": "images_per_second"}  # of metrics that version 0.1.0 wrote


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
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, _file(part, group))
        content = {"step": saved.step, "groups": sorted(saved.tensors), **saved.state}
        (part / _STATE).write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    for old in _folders(out)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_newest(out: Path) -> SavedRun | None:
    """Returns the newest checkpoint of a run, or None if there is none.

    Raises:
        InputError: it is damaged.
    """
    folders = _folders(out)
    if not folders:
        return None
    newest = folders[-1]
    try:
        state = read_json(newest / _STATE, dict[str, Any], "the state of a training run")
        tensors = {group: load_file(_file(newest, group)) for group in state.pop("groups")}
    except (OSError, SafetensorError, InputError, KeyError) as error:
        raise InputError(
            f"The checkpoint {newest} is damaged ({error}). Delete this folder: the run then resumes from the "
            f"checkpoint before it, or starts again."
        ) from error
    return SavedRun(state.pop("step"), state, tensors)


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Returns the rows of `metrics.jsonl`, those of version 0.1.0 with today's keys; none if there is no file.

    Skips lines that are no complete JSON object: a process that is killed may leave one.
    """
    path = out / METRICS_FILE
    rows: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            row = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        rows.append({_OLD_KEYS.get(key, key): value for key, value in row.items()})
    return rows


def drop_metrics_after(out: Path, step: int) -> list[dict[str, Any]]:
    """Removes the rows of later steps, which a resumed run computes again, and returns the others."""
    if not (out / METRICS_FILE).is_file():
        return []
    rows = [row for row in read_metrics(out) if row["step"] <= step]
    with whole_file(out / METRICS_FILE) as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
    return rows


def add_metrics(out: Path, row: Mapping[str, Any]) -> None:
    """Appends one row to `metrics.jsonl`."""
    with (out / METRICS_FILE).open("ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")


def _folder(out: Path, step: int) -> Path:
    return out / CHECKPOINTS_FOLDER / f"step-{step:08}"


def _folders(out: Path) -> list[Path]:
    folders = (out / CHECKPOINTS_FOLDER).glob("step-*")
    return sorted(path for path in folders if path.name.removeprefix("step-").isdigit())


def _file(folder: Path, group: str) -> Path:
    return folder / f"{group}.safetensors"
