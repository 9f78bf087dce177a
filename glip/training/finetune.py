"""Tuning on one set, in one way, with one seed: examples → the loop → the best epoch, scored once on the test split.

    OUT/run.json                 what this folder's run is
    OUT/metrics.jsonl            losses and validation scores, as they come
    OUT/checkpoints/             to go on from; gone once the run is done
    OUT/adapter.safetensors      what a prompt or the heads have learned, or
    OUT/model/                   the whole model, where more has learned
    OUT/curve.png, comparison.jpg
    OUT/metrics.json             the result; where it stands, the run is done

Tables over several runs are made in `sweep`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from tokenizers import Tokenizer

from glip.data.datasets import DetectionStream
from glip.data.lookup import TrainingSplits
from glip.data.training_splits import OpenTrainingSplits
from glip.data.transforms import AugmentedStream
from glip.detections import Detections
from glip.errors import InputError
from glip.files import whole_file
from glip.model.glip import GLIP, build_glip
from glip.prompts import MAX_TOKENS, Prompt, PromptSet
from glip.training.batches import Share, read_batches
from glip.training.distributed import Processes
from glip.training.feature_cache import FeatureStore, FrozenParts, keyed
from glip.training.finetune_config import question_of
from glip.training.finetune_data import open_tuning_set
from glip.training.forgetting import scene_score
from glip.training.loop import Fitted, fit, forward_pixels
from glip.training.modes import select_trainable
from glip.training.plots import Comparison, draw_comparisons, draw_curve
from glip.training.recipes import Recipe, Shots
from glip.training.result import RESULT_FILE, ZERO, Tuned, read_result
from glip.training.run_config import settle
from glip.training.validation import Scorer
from glip.weights.adapter import Adapter, save_adapter
from glip.weights.checkpoint import open_model
from glip.weights.folder import ModelFolder, save_model_folder
from glip.weights.tokenizer import read_vocabulary

ADAPTER_FILE = "adapter.safetensors"
MODEL_FOLDER = "model"
CURVE_FILE = "curve.png"
COMPARISON_FILE = "comparison.jpg"
ADAPTED = ("prompt", "linear")  # modes whose result is an adapter


@dataclass(frozen=True)
class FinetuneJob:
    """A run.

    Attributes:
        source: the set.
        out: folder of this run alone.
        model: the base: name of a checkpoint, a model folder or a file.
        shots: images a class, 'all', or 0 to score the base as it is.
        seed: of the examples, their order and of dropout.
        recipe: how.
        imgsz: short side in pixels; None: the model's own.
        precision: fp32, bf16 or fp16.
        workers: processes that make batches.
        device: auto, cpu, mps, cuda or cuda:N.
        cache: compute what is frozen once.
        scenes: so many synthetic scenes are scored before and after, to see what was forgotten; 0 for none.
        comparisons: so many validation images are drawn before and after.
        offline: never touch the network.
    """

    source: TrainingSplits
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
        """What learns."""
        return ZERO if self.shots == 0 else self.recipe.mode


@dataclass
class Shared:
    """What several runs on one base need not compute again.

    Attributes:
        store: features of frozen parts; not for other bases.
        scenes: the base's score on synthetic scenes, once it is known.
    """

    store: FeatureStore
    scenes: dict[str, float | None] = field(default_factory=dict)


def finetune(
    job: FinetuneJob, *, shared: Shared | None = None, advance: Callable[[int, int], None] = lambda done, steps: None
) -> Tuned:
    """Tunes, or goes on where an earlier run into the same folder stopped.

    Args:
        job: what to do.
        shared: with other runs on the same base; None: with none.
        advance: told how many steps are done, of how many.

    Raises:
        InputError: the data, the model or the settings cannot be used, or the folder holds another run.
        JobFailed: learning failed, or nothing can be written.
    """
    folder = open_model(job.model, offline=job.offline)
    question = question_of(job, folder)
    finished = read_result(job.out, question)
    if finished is not None:
        return finished
    data = open_tuning_set(job.source, job.shots, job.seed)
    processes = Processes(job.precision, job.device)
    if job.recipe.batch_size % processes.world_size:
        raise InputError(
            f"A batch of {job.recipe.batch_size} cannot be shared by {processes.world_size} processes. "
            f"Set --batch to a multiple of {processes.world_size}."
        )
    run = _Run(job, folder, data, processes, shared)
    if processes.is_main:
        settle(job.out, question)
    processes.wait()
    tuned = run.score_only() if job.shots == 0 else run.learn(advance)
    if processes.is_main:
        with whole_file(job.out / RESULT_FILE) as file:
            content = {"unit": "percent", **msgspec.to_builtins(tuned), "question": question}
            file.write(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        shutil.rmtree(job.out / "checkpoints", ignore_errors=True)
    processes.wait()
    return tuned


def trainable(folder: ModelFolder, mode: str) -> dict[str, tuple[int, ...]]:
    """The parameters that learn in a mode, with their shapes; nothing is loaded."""
    with torch.device("meta"):
        model = build_glip(folder.config)
        select_trainable(model, mode)
    return {name: tuple(value.shape) for name, value in model.named_parameters() if value.requires_grad}


def load_base(folder: ModelFolder) -> GLIP:
    """The model to begin with, in float32."""
    model = build_glip(folder.config, {name: value.float() for name, value in folder.state_dict().items()})
    model.set_prompt_offset(folder.prompt())
    return model


def training_stream(
    data: OpenTrainingSplits, tokenizer: Tokenizer, recipe: Recipe, imgsz: int, seed: int
) -> AugmentedStream:
    """The examples as they are learned from.

    Raises:
        InputError: there is nothing to learn from, or a folder of images is missing.
    """
    stream = DetectionStream(
        data.train,
        data.folders,
        tokenizer,
        seed,
        sampling="all-names",
        wordings=data.wordings,
        copies=recipe.copies,
    )
    sizes = tuple(dict.fromkeys(max(32, round(share * imgsz)) for share in recipe.sizes))
    return AugmentedStream(stream, seed, recipe.flip, sizes, longest=round(imgsz * 1333 / 800))


def prompts_of(data: OpenTrainingSplits, tokenizer: Tokenizer, mode: str) -> Sequence[Prompt]:
    """The captions that a set's classes are asked with.

    Raises:
        InputError: a class cannot be asked for, or needs more captions than the mode can tune.
    """
    prompts = PromptSet.from_names(data.names, tokenizer, None, data.wordings).for_image("")
    if mode == "prompt" and len(prompts) > 1:
        raise InputError(
            f"{data.name} has {len(data.names)} classes, which need {len(prompts)} captions; a tuned prompt is one "
            f"caption of at most {MAX_TOKENS} tokens. Use --mode linear or full."
        )
    return prompts


class _Run:
    def __init__(
        self,
        job: FinetuneJob,
        folder: ModelFolder,
        data: OpenTrainingSplits,
        processes: Processes,
        shared: Shared | None,
    ) -> None:
        self.job, self.folder, self.data, self.processes = job, folder, data, processes
        self.tokenizer = folder.tokenizer()
        self.imgsz = job.imgsz or folder.config.imgsz
        self.own = FeatureStore(job.out / "features") if shared is None else None
        self.shared = shared or Shared(self.own or FeatureStore())
        self.test = Scorer(data.test, self.tokenizer, self.imgsz, precision=job.precision)
        prompts_of(data, self.tokenizer, job.mode)

    def score_only(self) -> Tuned:
        """The base as it is."""
        model = load_base(self.folder).to(self.processes.device)
        return self._result(model, scenes=self._scenes_of_base(model))

    def learn(self, advance: Callable[[int, int], None]) -> Tuned:
        """Examples → best epoch → test."""
        job, data, recipe = self.job, self.data, self.job.recipe
        stream = training_stream(data, self.tokenizer, recipe, self.imgsz, job.seed)
        assert stream.epoch_length is not None
        settings = recipe.fit_settings(stream.epoch_length // recipe.copies, job.precision, job.seed)
        model = load_base(self.folder).to(self.processes.device)
        store = self.shared.store
        parts = FrozenParts(recipe.mode, store)
        keep = job.cache and parts.useful and self.processes.world_size == 1
        scorer = Scorer(data.val, self.tokenizer, self.imgsz, precision=job.precision, store=store if keep else None)
        paths = self._to_compare()
        before = scorer.detect(model, paths)
        scenes = self._scenes_of_base(model)
        share = Share(recipe.batch_size, self.processes.world_size, self.processes.rank)
        read = lambda steps: read_batches(stream, self.tokenizer, share, steps, job.workers)  # noqa: E731
        fitted = fit(
            model,
            keyed(read) if keep else read,
            settings,
            job.out,
            processes=self.processes,
            forward=parts.forward if keep else forward_pixels,
            validate=lambda learning: scorer.score(learning).main or 0.0,
            advance=lambda done: advance(done, settings.schedule.steps),
        )
        learned = fitted.best or fitted.learned
        _put(model, learned)
        files: tuple[str, ...] = ()
        if self.processes.is_main:
            files = (self._save(model, fitted, learned), *self._draw(fitted, settings.validate_every))
            after = scorer.detect(model, paths)
            if paths:
                draw_comparisons(job.out / COMPARISON_FILE, self._compared(paths, before, after))
                files = (*files, COMPARISON_FILE)
        if self.own is not None:
            self.own.close()
        every = settings.validate_every
        return msgspec.structs.replace(
            self._result(model, scenes=scenes, after=self._scenes(model)),
            validation=fitted.best_score,
            best_epoch=None if fitted.best_step is None else round(fitted.best_step / every, 2),
            epochs=round(fitted.steps / every, 2),
            steps=fitted.steps,
            train_images=stream.epoch_length // recipe.copies,
            train_boxes=len(data.train.annotations),
            tensors=len(learned),
            values=sum(value.numel() for value in learned.values()),
            seconds=max((row["seconds"] for row in fitted.rows if "seconds" in row), default=0.0),
            files=files,
        )

    def _result(self, model: GLIP, *, scenes: float | None, after: float | None = None) -> Tuned:
        job, result = self.job, self.test.score(model)
        return Tuned(
            set=self.data.name,
            mode=job.mode,
            shots=job.shots,
            seed=job.seed,
            model=job.model,
            base=self.folder.identity,
            test_split=result.split or "held out images",
            test=dict(result.numbers),
            per_class={row.name: row.ap for row in result.classes},
            scenes_before=scenes,
            scenes_after=after,
            notes=tuple(dict.fromkeys((*self.data.notes, *result.notes))),
        )

    def _scenes_of_base(self, model: GLIP) -> float | None:
        key = f"{self.folder.identity}/{self.imgsz}/{self.job.scenes}"
        if key not in self.shared.scenes:
            self.shared.scenes[key] = self._scenes(model)
        return self.shared.scenes[key]

    def _scenes(self, model: GLIP) -> float | None:
        if not self.job.scenes:
            return None
        return scene_score(model, self.tokenizer, self.imgsz, self.job.scenes)

    def _save(self, model: GLIP, fitted: Fitted, learned: Mapping[str, torch.Tensor]) -> str:
        job, folder, prompts = self.job, self.folder, self.test.prompts
        if job.mode in ADAPTED:
            prompt = prompts[0] if len(prompts) == 1 else None
            adapter = Adapter(
                job.mode,
                folder.identity,
                folder.name,
                self.data.names,
                dict(learned),
                caption="" if prompt is None else prompt.caption,
                spans=() if prompt is None else prompt.spans,
                category_ids=self.data.test.category_ids,
                imgsz=self.imgsz,
            )
            save_adapter(job.out / ADAPTER_FILE, adapter)
            return ADAPTER_FILE
        state = {name: value.detach().cpu() for name, value in model.state_dict().items() if name != "prompt_offset"}
        origin = {
            "tuned": self.data.name,
            "mode": job.mode,
            "shots": job.shots,
            "seed": job.seed,
            "step": fitted.best_step or fitted.steps,
            "base": folder.identity,
            "base_name": folder.name,
        }
        save_model_folder(
            job.out / MODEL_FOLDER,
            folder.config,
            state,
            read_vocabulary(folder.path),
            origin=origin,
            prompt=folder.prompt(),
            overwrite=True,
        )
        return MODEL_FOLDER

    def _draw(self, fitted: Fitted, every: int) -> tuple[str, ...]:
        job = self.job
        shots = "all images" if job.shots == "all" else f"{job.shots}-shot"
        title = f"{self.data.name}, {job.mode}, {shots}, seed {job.seed}"
        draw_curve(job.out / CURVE_FILE, fitted.rows, title, every)
        return (CURVE_FILE,)

    def _to_compare(self) -> list[Path]:
        truth, opened = self.data.val.truth, self.data.val
        with_boxes = set(truth.image_id.tolist())
        paths = [path for path, ids in opened.ids_of_image.items() if with_boxes & set(ids)]
        return paths[: self.job.comparisons]

    def _compared(
        self, paths: list[Path], before: list[tuple[Any, Detections]], after: list[tuple[Any, Detections]]
    ) -> list[Comparison]:
        return [
            Comparison(image, self._annotated(path), found, then)
            for path, (image, found), (_, then) in zip(paths, before, after, strict=True)
        ]

    def _annotated(self, path: Path) -> Detections:
        opened = self.data.val
        truth = opened.truth
        label = {id: place for place, id in enumerate(opened.category_ids)}
        rows = [
            row
            for row in np.flatnonzero(np.isin(truth.image_id, opened.ids_of_image[path])).tolist()
            if int(truth.category_id[row]) in label
        ]
        boxes = truth.bbox[rows].astype(np.float32).reshape(-1, 4).copy()
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([label[int(truth.category_id[row])] for row in rows], np.int64)
        return Detections(boxes, np.ones(len(rows), np.float32), labels, opened.names)


@torch.no_grad()
def _put(model: GLIP, learned: Mapping[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, value in learned.items():
        parameters[name].copy_(value)
