"""Many tuning runs: sets × modes × shots × seeds, one after the other or on an engine, and one table at the end.

    OUT/SET/MODE/SHOTS/seed-N/     a run each, see `finetune`
    OUT/SET/zero-shot/             the base as it is
    OUT/results.json, table.md     all of them, published scores beside

What is finished is done: the same command goes on, and a larger one does what is missing.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname
from tempfile import TemporaryFile
from typing import Any, Literal

import msgspec

from glip.data.fewshot import SEEDS
from glip.data.lookup import TrainingSplits
from glip.engine.local import Engine, LocalEngine
from glip.errors import InputError
from glip.files import whole_file
from glip.training.distributed import Processes
from glip.training.feature_cache import DISK, MEMORY, FeatureStore
from glip.training.finetune import (
    FinetuneJob,
    Shared,
    finetune,
    prompts_of,
    trainable,
    training_stream,
)
from glip.training.finetune_checks import Known
from glip.training.finetune_config import question_of
from glip.training.finetune_data import look_at_images, open_tuning_set
from glip.training.recipes import MODES, Recipe, Shots, find_recipe
from glip.training.result import Tuned, read_result
from glip.training.results_table import markdown, table_of
from glip.weights.checkpoint import open_model

RESULTS_FILE = "results.json"
TABLE_FILE = "table.md"
FEATURES_FOLDER = "features"

logger = logging.getLogger(__name__)

Advance = Callable[[FinetuneJob, int, int], None]


@dataclass(frozen=True)
class Sweep:
    """What to run.

    Attributes:
        sources: the sets.
        out: folder of all runs.
        model: the base.
        shots: numbers of examples, each 0, a number, or 'all'.
        modes: what learns.
        seeds: of the draws; None: the published 3, 30 and 300, and only the first of them for whole sets.
        recipe: a preset by name; None: the published one of each mode and number of shots.
        changes: fields of the recipe to set; 'lr' sets `rates.base`.
        augment: whether images are resized and mirrored.
        imgsz, precision, workers, device, cache, scenes, comparisons, offline: of every run, see `FinetuneJob`.
        memory, disk: bytes for features that are kept.
        missing: sets of a group that were not found; for the table.
    """

    sources: tuple[TrainingSplits, ...]
    out: Path
    model: str
    shots: tuple[Shots, ...] = (1,)
    modes: tuple[str, ...] = ("prompt",)
    seeds: tuple[int, ...] | None = None
    recipe: str | None = None
    changes: Mapping[str, int | float] | None = None
    augment: bool = True
    imgsz: int | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    workers: int = 0
    device: str = "auto"
    cache: bool = True
    scenes: int = 0
    comparisons: int = 4
    offline: bool = False
    memory: int = MEMORY
    disk: int = DISK
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for mode in self.modes:
            if mode not in MODES:
                raise InputError(f"No way to tune is called {mode!r}; known: {', '.join(MODES)}.")
        for what, values in (("--shots", self.shots), ("--mode", self.modes), ("--seeds", self.seeds)):
            if values is not None and not values:
                raise InputError(f"{what} names nothing. Give at least one.")
        for shots in self.shots:
            if shots != "all" and shots < 0:
                raise InputError(f"--shots is {shots}; it must be 0, a number of examples, or 'all'.")
        for seed in self.seeds or ():
            if not 0 <= seed < 2**31:
                raise InputError(f"--seeds has {seed}; a seed is a whole number from 0 to {2**31 - 1}.")
        if self.imgsz is not None and not 32 <= self.imgsz <= 4096:
            raise InputError(f"--imgsz is {self.imgsz}; it must be a whole number from 32 to 4096.")
        if self.scenes < 0 or self.comparisons < 0 or self.workers < 0:
            numbers = f"{self.scenes}, {self.comparisons} and {self.workers}"
            raise InputError(f"--scenes, --images and --workers are {numbers}; accepted are whole numbers from 0.")

    def seeds_of(self, shots: Shots) -> tuple[int, ...]:
        """The draws of a number of examples; without any there is nothing to draw."""
        if shots == 0:
            return (0,)
        if self.seeds is not None:
            return self.seeds
        return SEEDS[:1] if shots == "all" else SEEDS

    def recipe_of(self, mode: str, shots: Shots) -> Recipe:
        """How a run learns.

        Raises:
            InputError: the recipe is unknown, or a change does not fit.
        """
        recipe = find_recipe(self.recipe, mode, shots)
        changes: dict[str, Any] = dict(self.changes or {})
        if "lr" in changes:
            recipe = replace(recipe, rates=replace(recipe.rates, base=float(changes.pop("lr"))))
        recipe = replace(recipe, **changes)
        return recipe if self.augment else recipe.without_augmentation()


class SweepResult(msgspec.Struct, frozen=True):
    """What a sweep gave.

    Attributes:
        runs: every one, in the order of the plan.
        table: its rows, see `tuning_table`.
        missing: sets that were not found.
        out: the folder.
    """

    runs: tuple[Tuned, ...]
    table: list[dict[str, Any]]
    missing: tuple[str, ...]
    out: str


def jobs_of(sweep: Sweep) -> list[FinetuneJob]:
    """The runs, in order; a run without learning comes once a set, and first."""
    jobs = []
    for source in sweep.sources:
        folder = sweep.out / source.name
        if 0 in sweep.shots:
            recipe = sweep.recipe_of(sweep.modes[0], "all")
            jobs.append(_job(sweep, source, folder / "zero-shot", 0, 0, recipe))
        # Every seed of one setting before the next setting: a table grows row by row.
        for mode in _modes(sweep):
            for shots in (value for value in sweep.shots if value != 0):
                recipe = sweep.recipe_of(mode, shots)
                place = folder / recipe.mode / (shots if shots == "all" else f"{shots}-shot")
                jobs += [
                    _job(sweep, source, place / f"seed-{seed}", shots, seed, recipe) for seed in sweep.seeds_of(shots)
                ]
    return jobs


def _modes(sweep: Sweep) -> tuple[str, ...]:
    # A preset says what learns; several modes would be the same run.
    return sweep.modes[:1] if sweep.recipe is not None else sweep.modes


def _job(sweep: Sweep, source: TrainingSplits, out: Path, shots: Shots, seed: int, recipe: Recipe) -> FinetuneJob:
    return FinetuneJob(
        source,
        out,
        sweep.model,
        shots,
        seed,
        recipe,
        sweep.imgsz,
        sweep.precision,
        sweep.workers,
        sweep.device,
        sweep.cache,
        sweep.scenes,
        sweep.comparisons,
        sweep.offline,
    )


def run_sweep(sweep: Sweep, engine: Engine | None = None, advance: Advance | None = None) -> SweepResult:
    """Does what is not done yet, and writes the table.

    Args:
        sweep: what to run.
        engine: where to work; None: here.
        advance: told of every step, with the run and its number of steps; here only, an engine elsewhere cannot.

    Raises:
        InputError: a set, the model or a setting cannot be used. Everything is looked at before anything is learned.
        JobFailed: learning failed, or nothing can be written. What was finished before is kept.
    """
    jobs = jobs_of(sweep)
    for note in _look_ahead(sweep, jobs):
        logger.info("%s", note)
    done: dict[str, Tuned] = {}
    make = _Maker(
        sweep.out / FEATURES_FOLDER, sweep.memory, sweep.disk, _quietly if engine or advance is None else advance
    )
    try:
        for job, tuned in (engine or LocalEngine()).map(make, jobs):
            done[str(job.out)] = tuned
            logger.info("%s", _sentence(tuned))
    finally:
        shutil.rmtree(sweep.out / FEATURES_FOLDER, ignore_errors=True)
    runs = tuple(done[str(job.out)] for job in jobs)
    result = SweepResult(runs, table_of(runs), sweep.missing, str(sweep.out))
    if not Processes(sweep.precision, sweep.device).is_main:
        return result
    with whole_file(sweep.out / RESULTS_FILE) as file:
        file.write(msgspec.json.format(msgspec.json.encode({"unit": "percent", **msgspec.to_builtins(result)})) + b"\n")
    with whole_file(sweep.out / TABLE_FILE) as file:
        file.write(markdown(result.table, sweep.missing).encode())
    return result


def _look_ahead(sweep: Sweep, jobs: Iterable[FinetuneJob]) -> list[str]:
    """What is odd about the data of all runs that are not finished.

    Raises:
        InputError: one of them cannot be done. What is wrong with the last set is said before hours are spent on the
            first.
    """
    folder = open_model(sweep.model, offline=sweep.offline)
    tokenizer = folder.tokenizer()
    todo: dict[tuple[str, Shots, int], list[FinetuneJob]] = {}
    for job in jobs:
        if read_result(job.out, question_of(job, folder)) is None:
            todo.setdefault((job.source.name, job.shots, job.seed), []).append(job)
    notes: dict[str, None] = {}
    known: Known = {}
    for some in todo.values():  # all modes of the same examples
        job = some[0]
        data = open_tuning_set(job.source, job.shots, job.seed)
        notes |= dict.fromkeys((*data.notes, *look_at_images(data, job.shots, known)))
        for mode in {one.mode for one in some}:
            prompts_of(data, tokenizer, mode)
    _refuse_unwritable(sweep.out)
    return list(notes)


def _refuse_unwritable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        why = "it is no folder" if out.exists() and not out.is_dir() else error.strerror
        raise InputError(f"Nothing can be written into {out}: {why}. Give another folder as --out.") from error


@dataclass(frozen=True)
class _Maker:
    """Makes the worker of one place; travels to places elsewhere."""

    features: Path
    memory: int
    disk: int
    advance: Advance

    def __call__(self) -> _Worker:
        # Features are the same for all seeds, numbers of shots, prompts and heads, because the base is; each place
        # keeps its own.
        store = FeatureStore(self.features / f"{gethostname()}-{os.getpid()}", self.memory, self.disk)
        return _Worker(Shared(store), self.advance)


@dataclass(frozen=True)
class _Worker:
    shared: Shared
    advance: Advance

    def __call__(self, job: FinetuneJob) -> tuple[FinetuneJob, Tuned]:
        return job, finetune(job, shared=self.shared, advance=lambda done, steps: self.advance(job, done, steps))


def _quietly(job: FinetuneJob, done: int, steps: int) -> None:
    """Nobody watches a run elsewhere."""


def _sentence(tuned: Tuned) -> str:
    ap = tuned.test.get("AP")
    shown = "—" if ap is None else f"{ap:.1f}"
    if tuned.shots == 0:
        return f"{tuned.set}, zero-shot: AP {shown} on {tuned.test_split}"
    shots = "all" if tuned.shots == "all" else f"{tuned.shots}-shot"
    return (
        f"{tuned.set}, {tuned.mode}, {shots}, seed {tuned.seed}: AP {shown} on {tuned.test_split}, best epoch "
        f"{tuned.best_epoch:g} of {tuned.epochs:g}"
    )


def plan_sweep(sweep: Sweep) -> dict[str, Any]:
    """What would be done, and what would learn, as JSON; loads no weights and writes nothing.

    Raises:
        InputError: a set, the model or a setting cannot be used.
    """
    folder = open_model(sweep.model, offline=sweep.offline)
    tokenizer = folder.tokenizer()
    imgsz = sweep.imgsz or folder.config.imgsz
    rows = []
    notes: dict[str, None] = {}
    known: Known = {}
    for job in jobs_of(sweep):
        data = open_tuning_set(job.source, job.shots, job.seed)
        notes |= dict.fromkeys((*data.notes, *look_at_images(data, job.shots, known)))
        prompts_of(data, tokenizer, job.mode)
        row: dict[str, Any] = {
            "set": data.name,
            "mode": job.mode,
            "shots": job.shots,
            "seed": job.seed,
            "classes": len(data.names),
            "validation_images": len(data.val.truth.image_ids),
            "test_images": len(data.test.truth.image_ids),
            "out": str(job.out),
        }
        if job.shots != 0:
            stream = training_stream(data, tokenizer, job.recipe, imgsz, job.seed)
            assert stream.epoch_length is not None
            images = stream.epoch_length // job.recipe.copies
            row |= {
                "images": images,
                "boxes": len(data.train.annotations),
                "most_epochs": job.recipe.epochs,
                "most_steps": job.recipe.steps(images),
                "recipe": msgspec.to_builtins(job.recipe),
            }
        rows.append(row)
    modes = dict.fromkeys(job.recipe.mode for job in jobs_of(sweep) if job.shots != 0)
    return {
        "model": sweep.model,
        "base": folder.identity,
        "imgsz": imgsz,
        "runs": rows,
        "trainable": {
            mode: [{"name": name, "shape": list(shape)} for name, shape in trainable(folder, mode).items()]
            for mode in modes
        },
        "notes": list(notes),
        "missing": list(sweep.missing),
    }
