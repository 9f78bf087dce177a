"""Runs many fine-tuning jobs (data sets × modes × shots × seeds) on an engine, and makes one table of their results.

    OUT/SET/MODE/SHOTS/seed-N/     one run each, see `finetune`
    OUT/SET/zero-shot/             the base model without training
    OUT/results.json, table.md     all results, with the published scores
    OUT/shots.png                  AP over the number of examples, if there are several

Finished runs are kept: the same sweep resumes, and a larger one adds the missing runs.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from glip.data.fewshot import SEEDS
from glip.data.lookup import TrainingSplits
from glip.data.training_splits import OpenTrainingSplits
from glip.detectors.spec import DetectorSpec, InferenceOptions
from glip.engine import Engine
from glip.engine.local import LocalEngine
from glip.errors import InputError, did_you_mean
from glip.files import whole_file
from glip.left_out import LeftOut, without_repeats
from glip.training.finetune_data import CheckedImages, check_images, open_examples
from glip.training.finetune_job import FinetuneJob, FinetuneResult, finished_result
from glip.training.plots import draw_shots
from glip.training.recipes import MODES, Recipe, Shots, find_recipe
from glip.training.results_table import markdown, table_of
from glip.training.settings import CACHE_IN_MEMORY, CACHE_ON_DISK
from glip.weights.locate import check_model

if TYPE_CHECKING:
    from glip.training.finetune import BaseCache

RESULTS_FILE = "results.json"
TABLE_FILE = "table.md"
SHOTS_FILE = "shots.png"
FEATURES_FOLDER = "features"
_MAXIMUM_SEED = 2**31 - 1

logger = logging.getLogger(__name__)

JobAdvance = Callable[[FinetuneJob, int, int], None]


@dataclass(frozen=True)
class Sweep:
    """The jobs of a sweep.

    Attributes:
        data: the data sets.
        out: output folder of all runs.
        model: the base model.
        shots: numbers of examples per class; each is 0, a number, or 'all'.
        modes: what is trained.
        seeds: of the few-shot draws; None: the published 3, 30 and 300, and only the first of them for whole data sets.
        recipe: name of a preset; None: the published recipe of each mode and number of shots.
        changes: fields of the recipe to change; 'lr' changes `rates.base`.
        augment: whether images are resized and flipped at random.
        imgsz, precision, workers, device, cache, scenes, comparisons, offline: of every run, see `FinetuneJob`.
        memory, disk: limits in bytes for cached features.
        missing: sentences about data sets of a group that were not found, for the table.

    Raises:
        InputError: a field has a value that is not accepted.
    """

    data: tuple[TrainingSplits, ...]
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
    memory: int = CACHE_IN_MEMORY
    disk: int = CACHE_ON_DISK
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        DetectorSpec(self.model, device=self.device, precision=self.precision)  # checks them
        InferenceOptions(imgsz=self.imgsz)
        check_model(self.model, offline=self.offline)
        for name in ("shots", "modes", "seeds"):
            if getattr(self, name) == ():
                raise InputError(f"{name} is empty; give at least one value.")
        for mode in self.modes:
            if mode not in MODES:
                raise InputError(f"modes has {mode!r}; accepted are {', '.join(MODES)}.{did_you_mean(mode, MODES)}")
        for shots in self.shots:
            if shots != "all" and shots < 0:
                raise InputError(f"shots has {shots}; accepted are 0, a number of examples per class, and 'all'.")
        for seed in self.seeds or ():
            if not 0 <= seed <= _MAXIMUM_SEED:
                raise InputError(f"seeds has {seed}; a seed is a whole number from 0 to {_MAXIMUM_SEED}.")
        for name in ("scenes", "comparisons", "workers"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more.")

    def seeds_of(self, shots: Shots) -> tuple[int, ...]:
        """Returns the seeds for a number of examples; with 0 nothing is drawn."""
        if shots == 0:
            return (0,)
        if self.seeds is not None:
            return self.seeds
        return SEEDS[:1] if shots == "all" else SEEDS

    def recipe_of(self, mode: str, shots: Shots) -> Recipe:
        """Returns the recipe of a run.

        Raises:
            InputError: the recipe is unknown, or a changed value is out of range.
        """
        recipe = find_recipe(self.recipe, mode, shots)
        changes: dict[str, Any] = dict(self.changes or {})
        if "lr" in changes:
            recipe = replace(recipe, rates=replace(recipe.rates, base=float(changes.pop("lr"))))
        recipe = replace(recipe, **changes)
        return recipe if self.augment else recipe.without_augmentation()


class SweepResult(msgspec.Struct, frozen=True):
    """The result of a sweep.

    Attributes:
        runs: results of all jobs, in order.
        table: its rows, see `table_of`.
        missing: sentences about data sets that were not found.
        out: the output folder.
        left_out: what of the data was not learned or not scored, each entry once.
    """

    runs: tuple[FinetuneResult, ...]
    table: list[dict[str, Any]]
    missing: tuple[str, ...]
    out: str
    left_out: tuple[LeftOut, ...] = ()


def jobs_of(sweep: Sweep) -> list[FinetuneJob]:
    """Returns the jobs in order. The run without training comes first, once per data set."""
    jobs = []
    for data in sweep.data:
        folder = sweep.out / data.name
        if 0 in sweep.shots:
            jobs.append(_job(sweep, data, folder / "zero-shot", 0, 0, sweep.recipe_of(sweep.modes[0], "all")))
        # All seeds of one setting before the next setting, so that the table grows row by row.
        for mode in _modes(sweep):
            for shots in (value for value in sweep.shots if value != 0):
                recipe = sweep.recipe_of(mode, shots)
                out = folder / recipe.mode / (shots if shots == "all" else f"{shots}-shot")
                jobs += [_job(sweep, data, out / f"seed-{seed}", shots, seed, recipe) for seed in sweep.seeds_of(shots)]
    return jobs


def _modes(sweep: Sweep) -> tuple[str, ...]:
    # A preset decides what is trained, so several modes would be the same run.
    return sweep.modes[:1] if sweep.recipe is not None else sweep.modes


def _job(sweep: Sweep, data: TrainingSplits, out: Path, shots: Shots, seed: int, recipe: Recipe) -> FinetuneJob:
    return FinetuneJob(
        data,
        out,
        sweep.model,
        shots,
        seed,
        recipe,
        imgsz=sweep.imgsz,
        precision=sweep.precision,
        workers=sweep.workers,
        device=sweep.device,
        cache=sweep.cache,
        scenes=sweep.scenes,
        comparisons=sweep.comparisons,
        offline=sweep.offline,
    )


def run_sweep(sweep: Sweep, engine: Engine | None = None, advance: JobAdvance | None = None) -> SweepResult:
    """Runs the jobs that are not finished, and writes the table.

    Args:
        sweep: the jobs.
        engine: where they run; None: this process.
        advance: called after every step with the job and the number of finished and of all steps. Only without an
            engine: it cannot be called from another process.

    Raises:
        InputError: a data set, the model or a setting cannot be used. All are checked before the first run starts.
        JobFailed: training failed, or nothing can be written. Finished runs are kept.
    """
    jobs = jobs_of(sweep)
    _check_out(sweep.out)
    from glip.training.distributed import Processes

    for note in _check_all(sweep, jobs):
        logger.info("%s", note)
    results: dict[str, FinetuneResult] = {}
    make_worker = _WorkerMaker(
        sweep.out / FEATURES_FOLDER, sweep.memory, sweep.disk, _no_progress if engine or advance is None else advance
    )
    try:
        for job, result in (engine or LocalEngine()).map(make_worker, jobs):
            results[str(job.out)] = result
            logger.info("%s", _summary(result))
    finally:
        shutil.rmtree(sweep.out / FEATURES_FOLDER, ignore_errors=True)
    runs = tuple(results[str(job.out)] for job in jobs)
    left_out = tuple(without_repeats([entry for run in runs for entry in run.left_out]))
    found = SweepResult(runs, table_of(runs), sweep.missing, str(sweep.out), left_out)
    if Processes(sweep.precision, sweep.device).is_main:
        _write(sweep, found)
    return found


def _write(sweep: Sweep, found: SweepResult) -> None:
    content = msgspec.json.encode({"unit": "percent", **msgspec.to_builtins(found)})
    with whole_file(sweep.out / RESULTS_FILE) as file:
        file.write(msgspec.json.format(content) + b"\n")
    with whole_file(sweep.out / TABLE_FILE) as file:
        file.write(markdown(found.table, sweep.missing).encode())
    draw_shots(sweep.out / SHOTS_FILE, found.table)


def _check_all(sweep: Sweep, jobs: Iterable[FinetuneJob]) -> list[str]:
    """Returns notes about the data of all runs that are not finished.

    Raises:
        InputError: one of them cannot run. Errors of the last data set are found before hours are spent on the first.
    """
    from glip.training.finetune import prompts_of
    from glip.weights.checkpoint import open_model

    folder = open_model(sweep.model, offline=sweep.offline)
    tokenizer = folder.tokenizer()
    unfinished: dict[tuple[str, Shots, int], list[FinetuneJob]] = {}
    for job in jobs:
        if finished_result(job.out, job.configuration(folder)) is None:
            unfinished.setdefault((job.data.name, job.shots, job.seed), []).append(job)
    notes: dict[str, None] = {}
    checked: CheckedImages = {}
    for same_examples in unfinished.values():  # jobs of all modes
        job = same_examples[0]
        data = open_examples(job.data, job.shots, job.seed)
        notes |= dict.fromkeys((*data.notes, *map(str, data.left_out), *check_images(data, job.shots, checked)))
        for mode in {one.mode for one in same_examples}:
            prompts_of(data, tokenizer, mode)
    _refuse_unwritable(sweep.out)
    return list(notes)


def _check_out(out: Path) -> None:
    """Refuses what cannot be an output folder, before torch is loaded; makes nothing."""
    existing = next((path for path in (out, *out.parents) if path.exists()), out)
    if not existing.is_dir():
        raise InputError(f"Cannot write into {out}: {existing} is not a folder. Choose another output folder.")
    if not os.access(existing, os.W_OK):
        raise InputError(f"Cannot write into {existing}: Permission denied. Choose another output folder.")


def _refuse_unwritable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(f"Cannot write into {out}: {error.strerror}. Choose another output folder.") from error


@dataclass(frozen=True)
class _WorkerMaker:
    """Makes the worker of one process. Picklable if `advance` is."""

    features: Path
    memory: int
    disk: int
    advance: JobAdvance

    def __call__(self) -> _Worker:
        from glip.training.feature_cache import FeatureStore
        from glip.training.finetune import BaseCache

        # All runs share the base model, so cached features serve all of them; each process has its own cache.
        store = FeatureStore(self.features / f"{gethostname()}-{os.getpid()}", self.memory, self.disk)
        return _Worker(BaseCache(store), self.advance)


@dataclass(frozen=True)
class _Worker:
    base_cache: BaseCache
    advance: JobAdvance

    def __call__(self, job: FinetuneJob) -> Iterator[tuple[FinetuneJob, FinetuneResult]]:
        from glip.training.finetune import finetune

        yield job, finetune(job, base_cache=self.base_cache, advance=lambda done, steps: self.advance(job, done, steps))


def _no_progress(job: FinetuneJob, done: int, steps: int) -> None:
    """Ignores progress. A named function, because a worker that is sent to another process must be picklable."""


def _summary(result: FinetuneResult) -> str:
    ap = result.test.get("AP")
    shown = "—" if ap is None else f"{ap:.1f}"
    if result.shots == 0:
        return f"{result.set}, zero-shot: AP {shown} on {result.test_split}"
    shots = "all" if result.shots == "all" else f"{result.shots}-shot"
    return (
        f"{result.set}, {result.mode}, {shots}, seed {result.seed}: AP {shown} on {result.test_split}, best epoch "
        f"{result.best_epoch:g} of {result.epochs:g}"
    )


def plan_sweep(sweep: Sweep) -> dict[str, Any]:
    """Returns the runs and the parameters they would train, as plain values. Loads no weights and writes nothing.

    Raises:
        InputError: a data set, the model or a setting cannot be used.
    """
    from glip.training.finetune import prompts_of, trainable_shapes, training_stream
    from glip.weights.checkpoint import open_model

    folder = open_model(sweep.model, offline=sweep.offline)
    tokenizer = folder.tokenizer()
    imgsz = sweep.imgsz or folder.config.imgsz
    rows = []
    left_out: list[LeftOut] = []
    notes: dict[str, None] = {}
    checked: CheckedImages = {}
    jobs = jobs_of(sweep)
    for job in jobs:
        data = open_examples(job.data, job.shots, job.seed)
        notes |= dict.fromkeys((*data.notes, *map(str, data.left_out), *check_images(data, job.shots, checked)))
        left_out += data.left_out
        prompts_of(data, tokenizer, job.mode)
        row = _planned(job, data)
        if job.shots != 0:
            stream = training_stream(data, tokenizer, job.recipe, imgsz, job.seed)
            assert stream.epoch_length is not None
            row |= _planned_training(job, data, stream.epoch_length // job.recipe.copies)
        rows.append(row)
    modes = dict.fromkeys(job.recipe.mode for job in jobs if job.shots != 0)
    return {
        "model": sweep.model,
        "base": folder.identity,
        "imgsz": imgsz,
        "runs": rows,
        "trainable": {
            mode: [{"name": name, "shape": list(shape)} for name, shape in trainable_shapes(folder, mode).items()]
            for mode in modes
        },
        "notes": list(notes),
        "missing": list(sweep.missing),
        "left_out": [msgspec.to_builtins(entry) for entry in without_repeats(left_out)],
    }


def _planned(job: FinetuneJob, data: OpenTrainingSplits) -> dict[str, Any]:
    return {
        "set": data.name,
        "mode": job.mode,
        "shots": job.shots,
        "seed": job.seed,
        "classes": len(data.names),
        "validation_images": len(data.val.truth.image_ids),
        "test_images": len(data.test.truth.image_ids),
        "out": str(job.out),
    }


def _planned_training(job: FinetuneJob, data: OpenTrainingSplits, images: int) -> dict[str, Any]:
    return {
        "images": images,
        "boxes": len(data.train.annotations),
        "max_epochs": job.recipe.epochs,
        "max_steps": job.recipe.steps(images),
        "recipe": msgspec.to_builtins(job.recipe),
    }
