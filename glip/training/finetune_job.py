"""A fine-tuning run as data: the job, the configuration that its folder records, and its result.

The configuration identifies annotations by their content: corrected annotations are another configuration, and a data
set that was moved is the same one. Files that version 0.1.0 wrote are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from glip.data.fewshot import few_shot_list
from glip.data.lookup import TrainingSplits
from glip.errors import InputError
from glip.files import read_json, whole_file
from glip.left_out import LeftOut
from glip.run_folder import read_run_file, refuse_change
from glip.training.recipes import Recipe, Shots

if TYPE_CHECKING:
    from glip.weights.folder import ModelFolder

RESULT_FILE = "metrics.json"
ZERO_SHOT = "zero-shot"  # the mode of a run without training
_OLD_KEYS = {"train_pictures": "train_images"}  # of results that version 0.1.0 wrote


@dataclass(frozen=True)
class FinetuneJob:
    """A fine-tuning run.

    Attributes:
        data: the data set.
        out: output folder of this run alone.
        model: the base model: name of a checkpoint, a model folder or a file.
        shots: images per class, 'all', or 0 to score the base model without training.
        seed: of the few-shot examples, the order of the images, and dropout.
        recipe: the settings of training.
        imgsz: short side in pixels; None: the model's own.
        precision: fp32, bf16 or fp16.
        workers: processes that prepare batches; 0: this process.
        device: auto, cpu, mps, cuda or cuda:N.
        cache: compute frozen parts once.
        scenes: number of synthetic scenes that are scored before and after, to measure forgetting.
        comparisons: number of validation images that are drawn with their boxes before and after.
        offline: never use the network.
    """

    data: TrainingSplits
    out: Path
    model: str
    shots: Shots
    seed: int
    recipe: Recipe
    imgsz: int | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    workers: int = 0
    device: str = "auto"
    cache: bool = True
    scenes: int = 0
    comparisons: int = 4
    offline: bool = False

    @property
    def mode(self) -> str:
        """What is trained."""
        return ZERO_SHOT if self.shots == 0 else self.recipe.mode

    def configuration(self, folder: ModelFolder) -> dict[str, Any]:
        """Returns everything that decides the result, as plain values.

        Args:
            folder: the base model.

        Raises:
            InputError: an annotation file cannot be read.
        """
        return {
            "set": self.data.name,
            "annotations": _annotations_hash(self.data, self.shots, self.seed),
            "shots": self.shots,
            "mode": self.mode,
            "seed": self.seed,
            "model": folder.identity,
            "recipe": None if self.shots == 0 else msgspec.to_builtins(self.recipe),
            "prompts": msgspec.to_builtins(self.data.train.wordings),
            "imgsz": self.imgsz or folder.config.imgsz,
            "precision": self.precision,
            "scenes": self.scenes,
        }


class FinetuneResult(msgspec.Struct, frozen=True):
    """The result of a run. Scores are in percent; a score that cannot be computed is None.

    Attributes:
        set, mode, shots, seed, model: of the job.
        base: identity of the base model.
        test_split: the split that was scored at the end.
        test: its scores, AP first.
        per_class: AP by class.
        validation: AP of the best epoch on the validation images; None without training.
        best_epoch, epochs: the end of the best epoch, and of training, in passes over the examples; at most the
            recipe's `epochs`. Where an epoch is no whole number of steps, validations fall between the ends of epochs.
        steps: number of finished steps.
        train_images, train_boxes: number of training examples.
        tensors, values: number of trained tensors, and of their values.
        scenes_before, scenes_after: AP on synthetic scenes of other things.
        seconds: of the training steps, without validation.
        notes: what a reader of the scores should know, in sentences.
        left_out: what of the data was not learned or not scored.
        files: written files, relative to the output folder.
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
    left_out: tuple[LeftOut, ...] = ()
    files: tuple[str, ...] = ()


def read_result(out: Path) -> FinetuneResult | None:
    """Returns the result in an output folder; None if its run is not finished."""
    try:
        content = read_json(out / RESULT_FILE, dict[str, Any], "the result of a run")
        return msgspec.convert({_OLD_KEYS.get(key, key): value for key, value in content.items()}, FinetuneResult)
    except (InputError, msgspec.ValidationError):
        return None


def finished_result(out: Path, configuration: Mapping[str, Any]) -> FinetuneResult | None:
    """Returns the result in an output folder; None if its run is not finished or not started.

    Raises:
        InputError: the folder holds a run with another configuration. The message names all fields that differ.
    """
    earlier = read_run_file(out)
    if earlier is None:
        return None
    refuse_change(out, earlier, configuration)
    return read_result(out)


def write_result(out: Path, result: FinetuneResult) -> None:
    """Writes the result of a finished run.

    Raises:
        JobFailed: it cannot be written.
    """
    content = msgspec.json.encode({"unit": "percent", **msgspec.to_builtins(result)})
    with whole_file(out / RESULT_FILE) as file:
        file.write(msgspec.json.format(content) + b"\n")


def _annotations_hash(data: TrainingSplits, shots: Shots, seed: int) -> str:
    """Returns a hash of all annotation files that a run reads."""
    digest = hashlib.sha256()
    for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        listed = None if split is None else few_shot_list(split.annotations, name, shots, seed)
        paths = () if split is None else (split.annotations, *(() if listed is None else (listed,)))
        for path in paths:
            digest.update(f"{name} {_file_hash(path)} ".encode())
    return digest.hexdigest()[:16]


def _file_hash(path: Path) -> str:
    try:
        status = path.stat()
        return _hash_of_version(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


@lru_cache(maxsize=256)  # a sweep hashes the same files for every run
def _hash_of_version(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
