"""What decides the result of a tuning run, kept in its folder: one folder holds one run, and goes on with no other.

Annotations count by their content, so that corrected ones are never answered with an old result, and a set that was
moved is still the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from glip.errors import InputError
from glip.files import whole_file
from glip.training.tuning_data import Source, few_shot_list

if TYPE_CHECKING:
    from glip.training.finetune import FinetuneJob
    from glip.weights.folder import ModelFolder

RUN_FILE = "run.json"
_SHOWN = 60  # characters of a value in a message


def question_of(job: FinetuneJob, folder: ModelFolder) -> dict[str, Any]:
    """All that decides the result; printable.

    Raises:
        InputError: a file of annotations cannot be read.
    """
    return {
        "set": job.source.name,
        "annotations": _content(job.source, job.shots, job.seed),
        "shots": job.shots,
        "mode": job.mode,
        "seed": job.seed,
        "model": folder.identity,
        "recipe": None if job.shots == 0 else msgspec.to_builtins(job.recipe),
        "prompts": msgspec.to_builtins(job.source.train.wordings),
        "imgsz": job.imgsz or folder.config.imgsz,
        "precision": job.precision,
        "scenes": job.scenes,
    }


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


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """'seed (3 there, 30 now)' for each value that differs, those inside of the recipe by their own names."""
    found = []
    for key, value in now.items():
        there = before.get(key)
        if there == value:
            continue
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            found += _differences(there, value)
        else:
            found.append(f"{key} ({_shown(there)} there, {_shown(value)} now)")
    return found


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _content(source: Source, shots: Any, seed: int) -> str:
    """A name for all annotations that a run reads."""
    digest = hashlib.sha256()
    for split, item in (("train", source.train), ("val", source.val), ("test", source.test)):
        listed = None if item is None else few_shot_list(item.annotations, split, shots, seed)
        paths = () if item is None else (item.annotations, *(() if listed is None else (listed,)))
        for path in paths:
            digest.update(f"{split} {_digest_of(path)} ".encode())
    return digest.hexdigest()[:16]


def _digest_of(path: Path) -> str:
    try:
        status = path.stat()
        return _digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


@lru_cache(maxsize=256)  # a sweep asks for the same files once a run
def _digest(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
