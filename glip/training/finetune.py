"""Fine-tunes a model on one data set, in one mode, with one seed, and scores the best epoch once on the test split.

    OUT/run.json                 the configuration of the run
    OUT/metrics.jsonl            losses and validation scores, written as training proceeds
    OUT/checkpoints/             to resume from; removed when the run is done
    OUT/adapter.safetensors      the result of modes prompt and linear, or
    OUT/model/                   the whole model, for modes that train more
    OUT/curve.png                loss and validation AP
    OUT/comparison.jpg           boxes before and after
    OUT/report.html              all of it on one page
    OUT/metrics.json             the result, see `FinetuneResult`; the run is done once it exists

`sweep` runs many jobs and makes tables.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer

from glip.boxes import xywh_to_xyxy
from glip.data.datasets import DetectionStream
from glip.data.splits import OpenSplit
from glip.data.training_splits import OpenTrainingSplits
from glip.data.transforms import AugmentedStream
from glip.detections import Detections
from glip.errors import InputError
from glip.model.glip import GLIP, build_glip
from glip.prompts import MAX_TOKENS, Prompt, PromptSet
from glip.run_folder import keep_configuration, lock_folder
from glip.training.batches import Share, read_batches
from glip.training.checkpointing import CHECKPOINTS_FOLDER, add_metrics, read_metrics
from glip.training.distributed import Processes
from glip.training.feature_cache import FeatureStore, FrozenParts, keyed
from glip.training.finetune_data import open_examples
from glip.training.finetune_job import FinetuneJob, FinetuneResult, finished_result, write_result
from glip.training.loop import Fitted, fit, forward_pixels
from glip.training.modes import select_trainable
from glip.training.plots import Comparison, draw_comparisons, draw_curve
from glip.training.recipes import Recipe
from glip.training.run_page import COMPARISON_FILE, CURVE_FILE, PAGE_FILE, write_run_page
from glip.training.settings import FitSettings
from glip.training.validation import Scorer, scene_score
from glip.weights.adapter import Adapter, save_adapter
from glip.weights.checkpoint import open_model
from glip.weights.folder import ModelFolder, save_model_folder
from glip.weights.tokenizer import read_vocabulary

ADAPTER_FILE = "adapter.safetensors"
MODEL_FOLDER = "model"
ADAPTER_MODES = ("prompt", "linear")  # their result is an adapter


@dataclass
class BaseCache:
    """Values of one base model that several runs share.

    Attributes:
        store: features of its frozen parts.
        scenes: its score on synthetic scenes, by settings.
    """

    store: FeatureStore
    scenes: dict[str, float | None] = field(default_factory=dict)


def finetune(
    job: FinetuneJob,
    *,
    base_cache: BaseCache | None = None,
    advance: Callable[[int, int], None] = lambda done, steps: None,
) -> FinetuneResult:
    """Fine-tunes a model, resumes the run in the output folder, or returns its result if it is finished.

    A resumed run gives the same result as one that was not interrupted.

    Args:
        job: the run.
        base_cache: shared with other runs on the same base model; None: with none.
        advance: called with the number of finished steps and of all steps.

    Raises:
        InputError: the data, the model or the settings cannot be used, or the output folder holds a run with another
            configuration.
        JobFailed: training failed, or nothing can be written.
    """
    folder = open_model(job.model, offline=job.offline)
    configuration = job.configuration(folder)
    finished = finished_result(job.out, configuration)
    if finished is not None:
        return finished
    data = open_examples(job.data, job.shots, job.seed)
    processes = Processes(job.precision, job.device)
    if job.recipe.batch_size % processes.world_size:
        raise InputError(
            f"batch_size is {job.recipe.batch_size}; it must be a multiple of the number of processes, "
            f"{processes.world_size}."
        )
    run = _FinetuneRun(job, folder, data, processes, base_cache)
    with lock_folder(job.out) if processes.is_main else nullcontext():
        if processes.is_main:
            keep_configuration(job.out, configuration)
        processes.wait()
        result = run.score_base() if job.shots == 0 else run.train(advance)
        if processes.is_main:
            if job.shots != 0:
                result = msgspec.structs.replace(result, files=(*result.files, PAGE_FILE))
                write_run_page(job.out, result)
            write_result(job.out, result)
            shutil.rmtree(job.out / CHECKPOINTS_FOLDER, ignore_errors=True)
        processes.wait()
    return result


def trainable_shapes(folder: ModelFolder, mode: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the parameters that a mode trains, by name. Loads no weights."""
    with torch.device("meta"):
        model = build_glip(folder.config)
        select_trainable(model, mode)
    return {name: tuple(value.shape) for name, value in model.named_parameters() if value.requires_grad}


def load_base(folder: ModelFolder) -> GLIP:
    """Returns the base model, in float32."""
    model = build_glip(folder.config, {name: value.float() for name, value in folder.state_dict().items()})
    model.set_prompt_offset(folder.prompt())
    return model


def training_stream(
    data: OpenTrainingSplits, tokenizer: Tokenizer, recipe: Recipe, imgsz: int, seed: int
) -> AugmentedStream:
    """Returns the training examples, resized and flipped as the recipe says.

    Raises:
        InputError: there are no examples, or a folder of images is missing.
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
    sizes = tuple(dict.fromkeys(max(32, round(fraction * imgsz)) for fraction in recipe.sizes))
    return AugmentedStream(stream, seed, recipe.flip, sizes, longest=round(imgsz * 1333 / 800))


def prompts_of(data: OpenTrainingSplits, tokenizer: Tokenizer, mode: str) -> Sequence[Prompt]:
    """Returns the prompts of a data set's classes.

    Raises:
        InputError: the model cannot read a class name, or mode prompt would need several captions.
    """
    prompts = PromptSet.from_names(data.names, tokenizer, None, data.wordings).chunks
    if mode == "prompt" and len(prompts) > 1:
        raise InputError(
            f"{data.name} has {len(data.names)} classes, which need {len(prompts)} captions; mode prompt tunes one "
            f"caption of at most {MAX_TOKENS} tokens. Use mode linear or full."
        )
    return prompts


class _FinetuneRun:
    """One run with everything that is open for it."""

    def __init__(
        self,
        job: FinetuneJob,
        folder: ModelFolder,
        data: OpenTrainingSplits,
        processes: Processes,
        base_cache: BaseCache | None,
    ) -> None:
        self.job, self.folder, self.data, self.processes = job, folder, data, processes
        self.tokenizer = folder.tokenizer()
        self.imgsz = job.imgsz or folder.config.imgsz
        self.own_store = FeatureStore(job.out / "features") if base_cache is None else None
        self.cache = base_cache or BaseCache(self.own_store or FeatureStore())
        self.test = Scorer(data.test, self.tokenizer, self.imgsz, precision=job.precision)
        prompts_of(data, self.tokenizer, job.mode)

    def score_base(self) -> FinetuneResult:
        """Returns the scores of the base model."""
        model = load_base(self.folder).to(self.processes.device)
        return self._result(model, scenes_before=self._scenes_of_base(model))

    def train(self, advance: Callable[[int, int], None]) -> FinetuneResult:
        """Trains, keeps the best epoch, and returns its scores."""
        job, data, recipe = self.job, self.data, self.job.recipe
        stream = training_stream(data, self.tokenizer, recipe, self.imgsz, job.seed)
        assert stream.epoch_length is not None
        images = stream.epoch_length // recipe.copies
        settings = recipe.fit_settings(images, job.precision, job.seed)
        model = load_base(self.folder).to(self.processes.device)
        parts = FrozenParts(recipe.mode, self.cache.store)
        cached = job.cache and parts.useful and self.processes.world_size == 1
        store = self.cache.store if cached else None
        scorer = Scorer(data.val, self.tokenizer, self.imgsz, precision=job.precision, store=store)
        zero_shot = self._zero_shot(scorer, model)
        compared = self._images_to_compare()
        before = scorer.detect(model, compared)
        scenes = self._scenes_of_base(model)
        fitted = self._fit(model, stream, settings, scorer, parts if cached else None, advance)
        learned = fitted.best or fitted.learned
        _set_parameters(model, learned)
        files: tuple[str, ...] = ()
        if self.processes.is_main:
            steps_per_epoch = settings.schedule.steps / recipe.epochs
            draw_curve(job.out / CURVE_FILE, fitted.rows, self._title(), steps_per_epoch, zero_shot)
            files = (self._save(model, fitted, learned), CURVE_FILE)
            if compared:
                after = scorer.detect(model, compared)
                draw_comparisons(job.out / COMPARISON_FILE, self._comparisons(compared, before, after))
                files = (*files, COMPARISON_FILE)
        if self.own_store is not None:
            self.own_store.close()
        result = self._result(model, scenes_before=scenes, scenes_after=self._scenes(model))
        return _with_training(result, fitted, recipe, images, len(data.train.annotations), learned, files)

    def _fit(
        self,
        model: GLIP,
        stream: AugmentedStream,
        settings: FitSettings,
        scorer: Scorer,
        parts: FrozenParts | None,
        advance: Callable[[int, int], None],
    ) -> Fitted:
        share = Share(self.job.recipe.batch_size, self.processes.world_size, self.processes.rank)
        batches = lambda steps: read_batches(stream, self.tokenizer, share, steps, self.job.workers)  # noqa: E731
        return fit(
            model,
            batches if parts is None else keyed(batches),
            settings,
            self.job.out,
            processes=self.processes,
            forward=forward_pixels if parts is None else parts.forward,
            validate=lambda learning: scorer.score(learning).main or 0.0,
            advance=lambda done: advance(done, settings.schedule.steps),
        )

    def _zero_shot(self, scorer: Scorer, model: GLIP) -> float | None:
        """Returns the AP of the base model on the validation images; a resumed run reads it from its metrics."""
        rows = read_metrics(self.job.out)
        known = [row["zero_shot"] for row in rows if "zero_shot" in row]
        if known or rows:
            return known[0] if known else None  # runs of version 0.1.0 have rows without it
        score = scorer.score(model).main
        if self.processes.is_main:
            add_metrics(self.job.out, {"step": 0, "zero_shot": score})
        return score

    def _result(self, model: GLIP, *, scenes_before: float | None, scenes_after: float | None = None) -> FinetuneResult:
        job, scores = self.job, self.test.score(model)
        return FinetuneResult(
            set=self.data.name,
            mode=job.mode,
            shots=job.shots,
            seed=job.seed,
            model=job.model,
            base=self.folder.identity,
            test_split=scores.split or "held out images",
            test=dict(scores.numbers),
            per_class={row.name: row.ap for row in scores.classes},
            scenes_before=scenes_before,
            scenes_after=scenes_after,
            notes=tuple(dict.fromkeys((*self.data.notes, *scores.notes))),
            left_out=self.data.left_out,
        )

    def _scenes_of_base(self, model: GLIP) -> float | None:
        key = f"{self.folder.identity}/{self.imgsz}/{self.job.scenes}"
        if key not in self.cache.scenes:
            self.cache.scenes[key] = self._scenes(model)
        return self.cache.scenes[key]

    def _scenes(self, model: GLIP) -> float | None:
        return scene_score(model, self.tokenizer, self.imgsz, self.job.scenes) if self.job.scenes else None

    def _title(self) -> str:
        job = self.job
        shots = "all images" if job.shots == "all" else f"{job.shots}-shot"
        return f"{self.data.name}, {job.mode}, {shots}, seed {job.seed}"

    def _save(self, model: GLIP, fitted: Fitted, learned: Mapping[str, torch.Tensor]) -> str:
        """Writes what was trained and returns the name of its file or folder."""
        if self.job.mode in ADAPTER_MODES:
            self._save_adapter(learned)
            return ADAPTER_FILE
        self._save_model(model, fitted)
        return MODEL_FOLDER

    def _save_adapter(self, learned: Mapping[str, torch.Tensor]) -> None:
        prompts = self.test.prompts
        prompt = prompts[0] if len(prompts) == 1 else None
        adapter = Adapter(
            self.job.mode,
            self.folder.identity,
            self.folder.name,
            self.data.names,
            dict(learned),
            caption="" if prompt is None else prompt.caption,
            spans=() if prompt is None else prompt.spans,
            category_ids=self.data.test.category_ids,
            imgsz=self.imgsz,
        )
        save_adapter(self.job.out / ADAPTER_FILE, adapter)

    def _save_model(self, model: GLIP, fitted: Fitted) -> None:
        job, folder = self.job, self.folder
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

    def _images_to_compare(self) -> list[Path]:
        annotated = set(self.data.val.truth.image_id.tolist())
        paths = [path for path, ids in self.data.val.ids_of_image.items() if annotated & set(ids)]
        return paths[: self.job.comparisons]

    def _comparisons(
        self,
        paths: Sequence[Path],
        before: Sequence[tuple[Image.Image, Detections]],
        after: Sequence[tuple[Image.Image, Detections]],
    ) -> list[Comparison]:
        return [
            Comparison(image, _annotated_boxes(self.data.val, path), old, new)
            for path, (image, old), (_, new) in zip(paths, before, after, strict=True)
        ]


def _annotated_boxes(opened: OpenSplit, path: Path) -> Detections:
    """Returns the annotated boxes of an image, with score 1."""
    truth = opened.truth
    label_of = {id: label for label, id in enumerate(opened.category_ids)}
    rows = [
        row
        for row in np.flatnonzero(np.isin(truth.image_id, opened.ids_of_image[path])).tolist()
        if int(truth.category_id[row]) in label_of
    ]
    boxes = xywh_to_xyxy(truth.bbox[rows].reshape(-1, 4)).astype(np.float32)
    labels = np.array([label_of[int(truth.category_id[row])] for row in rows], np.int64)
    return Detections(boxes, np.ones(len(rows), np.float32), labels, opened.names)


def _with_training(
    result: FinetuneResult,
    fitted: Fitted,
    recipe: Recipe,
    images: int,
    boxes: int,
    learned: Mapping[str, torch.Tensor],
    files: tuple[str, ...],
) -> FinetuneResult:
    return msgspec.structs.replace(
        result,
        validation=fitted.best_score,
        best_epoch=None if fitted.best_step is None else recipe.epochs_at(fitted.best_step, images),
        epochs=recipe.epochs_at(fitted.steps, images),
        steps=fitted.steps,
        train_images=images,
        train_boxes=boxes,
        tensors=len(learned),
        values=sum(value.numel() for value in learned.values()),
        seconds=max((row["seconds"] for row in fitted.rows if "seconds" in row), default=0.0),
        files=files,
    )


@torch.no_grad()
def _set_parameters(model: GLIP, learned: Mapping[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, value in learned.items():
        parameters[name].copy_(value)
