"""What decides the result of a tuning run, kept in its folder: one folder holds one run, and goes on with no other.

Annotations count by their content, so that corrected ones are never answered with an old result, and a set that was
moved is still the same.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from glip.data.fewshot import few_shot_list
from glip.data.lookup import TrainingSplits
from glip.errors import InputError

if TYPE_CHECKING:
    from glip.training.finetune import FinetuneJob
    from glip.weights.folder import ModelFolder


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


def _content(source: TrainingSplits, shots: Any, seed: int) -> str:
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
