"""What a tuning run gave, as a file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from glip.training.recipes import Shots

RESULT_FILE = "metrics.json"
ZERO = "zero-shot"  # the mode of a run that learns nothing


class Tuned(msgspec.Struct, frozen=True):
    """What a run gave. Scores are in percent; one that cannot be computed is None.

    Attributes:
        set, mode, shots, seed, model: of the job.
        base: identity of the model that it began with.
        test_split: what was scored at the end.
        test: its numbers, AP first.
        per_class: AP of each class.
        validation: AP of the best epoch on the validation images; None without learning.
        best_epoch, epochs: which, and how many were done.
        steps: done.
        train_images, train_boxes: learned from.
        tensors, values: that learned.
        scenes_before, scenes_after: AP on synthetic scenes of other things.
        seconds: of the steps, without validations.
        notes: what was odd.
        files: written, relative to the run's folder.
    """

    set: str
    mode: str
    shots: Shots
    seed: int
    model: str
    base: str
    test_split: str
    test: dict[str, float | None]
    per_class: dict[str, float | None]
    validation: float | None = None
    best_epoch: float | None = None
    epochs: float = 0
    steps: int = 0
    train_images: int = 0
    train_boxes: int = 0
    tensors: int = 0
    values: int = 0
    scenes_before: float | None = None
    scenes_after: float | None = None
    seconds: float = 0
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def read_result(out: Path, question: Mapping[str, Any] | None = None) -> Tuned | None:
    """The result of a finished run; None if there is none, or with a question: none of it."""
    try:
        content = msgspec.json.decode((out / RESULT_FILE).read_bytes())
        if question is not None and content["question"] != msgspec.json.decode(msgspec.json.encode(question)):
            return None
        return msgspec.convert(content, Tuned)
    except (OSError, KeyError, msgspec.MsgspecError):
        return None
