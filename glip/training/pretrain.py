"""Grounded pre-training: detection, grounding and captions as one task. Source: paper section 3.3, SPEC 11."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor

from glip.data.examples import ExampleStream
from glip.data.mixing import Concatenation, Mixture
from glip.data.pretraining_sets import open_layout
from glip.data.synthetic import load_pool
from glip.data.synthetic.stream import SceneStream
from glip.data.synthetic.vocabulary import scene_vocabulary
from glip.data.transforms import Augmented
from glip.errors import InputError
from glip.model.config import GLIPConfig
from glip.model.glip import GLIP, build_glip
from glip.training.batches import Share, read_batches
from glip.training.distributed import Processes
from glip.training.initial_weights import fresh_model
from glip.training.loop import FitSettings, Fitted, fit
from glip.training.plots import draw_curve
from glip.training.presets import PretrainPreset, SceneSettings
from glip.training.run_config import settle
from glip.weights.cache import Fetching
from glip.weights.folder import ModelFolder, load_model_folder, save_model_folder
from glip.weights.pretrained_parts import published_start
from glip.weights.tokenizer import SPECIAL_TOKENS, build_tokenizer, read_vocabulary
from glip.weights.zoo import ARCHITECTURES

MODEL_FOLDER = "model"
CURVE_FILE = "curve.png"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainJob:
    """A run.

    Attributes:
        preset: data, sizes, schedule, rates.
        out: folder of the run: settings, numbers, checkpoints and, at the end, `curve.png` and `model/`.
        init: model folder whose weights and vocabulary to begin with instead of the preset's.
        data_root: folder that holds the data sets' folders; not needed for scenes.
        workers: processes that make batches.
        offline: fetch nothing.
        cpu: use the CPU even where there is a GPU.
        stop_at: end for now after this step, with the model as it is then; a later run goes on.
    """

    preset: PretrainPreset
    out: Path
    init: Path | None = None
    data_root: Path | None = None
    workers: int = 1
    offline: bool = False
    cpu: bool = False
    stop_at: int | None = None


def pretrain(job: PretrainJob, advance: Callable[[int], None] = lambda done: None) -> ModelFolder | None:
    """Pre-trains, or goes on where an earlier run into the same folder stopped.

    Returns:
        The model folder, in the first process; None in others.

    Raises:
        InputError: the settings cannot be used, or the folder holds a run with others.
        JobFailed: training failed, or nothing can be written.
    """
    preset = job.preset
    processes = Processes(preset.fit.precision, cpu=job.cpu)
    if preset.batch_size % processes.count:
        raise InputError(
            f"A batch of {preset.batch_size} cannot be shared by {processes.count} processes. "
            f"Set batch_size to a multiple of {processes.count}."
        )
    if processes.first:
        settle(job.out, {"preset": msgspec.to_builtins(job.preset), "init": str(job.init) if job.init else None})
    processes.wait()
    config, vocabulary, model = _begin(job)
    tokenizer = build_tokenizer(vocabulary)
    stream = open_stream(preset, job.data_root, tokenizer)
    share = Share(preset.batch_size, processes.count, processes.index)
    fitted = fit(
        model,
        lambda steps: read_batches(stream, tokenizer, share, steps, job.workers),
        _with_steps(preset, stream),
        job.out,
        processes=processes,
        advance=advance,
        stop_at=job.stop_at,
    )
    if not processes.first:
        return None
    draw_curve(job.out / CURVE_FILE, fitted.rows, f"{preset.architecture}, {fitted.steps} steps of {preset.batch_size}")
    return _save(job, config, vocabulary, model, fitted)


def open_stream(preset: PretrainPreset, data_root: Path | None, tokenizer: Tokenizer) -> ExampleStream:
    """What a preset learns from.

    Raises:
        InputError: it learns from nothing, or a file of a data set is missing.
    """
    streams = [_scenes(preset, preset.scenes)] if preset.scenes else []
    if preset.data:
        streams.append(_sets(preset, data_root, tokenizer))
    if len(streams) != 1:
        raise InputError("A preset learns either from `scenes` or from `data`; set one of them and not both.")
    return streams[0]


def _scenes(preset: PretrainPreset, scenes: SceneSettings) -> ExampleStream:
    return SceneStream(
        seed=scenes.seed,
        names=scenes.names,
        shapes=scenes.shapes,
        objects=scenes.objects,
        scale=scenes.scale,
        sides=scenes.sides,
        asked=scenes.asked,
        sentences=scenes.sentences,
        group=preset.batch_size,
    )


def _sets(preset: PretrainPreset, data_root: Path | None, tokenizer: Tokenizer) -> ExampleStream:
    if data_root is None:
        names = ", ".join(source.layout for source in preset.data)
        raise InputError(f"This preset learns from {names}. Say with --data-root in which folder they lie.")
    streams = [
        open_layout(source.layout, data_root, tokenizer, preset.seed + number, copies=source.copies)
        for number, source in enumerate(preset.data)
    ]
    weights = [source.weight for source in preset.data if source.weight is not None]
    if weights and len(weights) != len(streams):
        raise InputError("Some data sets of the preset have a weight, others none. Give all of them one, or none.")
    mixed = Mixture(streams, weights, preset.seed) if weights else Concatenation(streams, preset.seed)
    views = preset.views
    return Augmented(mixed, preset.seed, views.flip, views.sizes_short, views.longest)


def _with_steps(preset: PretrainPreset, stream: ExampleStream) -> FitSettings:
    """The settings of the run, its length in steps."""
    schedule = preset.fit.schedule
    if schedule.steps:
        return preset.fit
    if preset.epochs is None or stream.epoch_length is None:
        raise InputError("How long to train is not said. Set fit.schedule.steps; or epochs, if the data has an end.")
    images = preset.epochs * stream.epoch_length
    steps = max(1, int(images // (preset.batch_size * preset.fit.accumulate)))
    return replace(preset.fit, schedule=replace(schedule, steps=steps))


def _begin(job: PretrainJob) -> tuple[GLIPConfig, list[str], GLIP]:
    if job.init is not None:
        folder = load_model_folder(job.init)
        state = {name: value.float() for name, value in folder.state_dict().items()}
        return folder.config, read_vocabulary(job.init), build_glip(folder.config, state)
    preset = job.preset
    config = ARCHITECTURES[preset.architecture]
    if preset.start == "published":
        state, vocabulary = published_start(config, Fetching(job.offline))
        model = fresh_model(config, preset.fit.seed)
        model.load_state_dict(state, strict=False)  # the rest stays fresh
        return config, vocabulary, model
    vocabulary = scene_vocabulary(load_pool(), SPECIAL_TOKENS)
    config = replace(config, text=replace(config.text, vocab_size=len(vocabulary)))
    return config, vocabulary, fresh_model(config, preset.fit.seed)


def _save(job: PretrainJob, config: GLIPConfig, vocabulary: list[str], model: GLIP, fitted: Fitted) -> ModelFolder:
    state: dict[str, Tensor] = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    state |= {name: value.cpu() for name, value in (fitted.average or {}).items()}
    origin = {
        "pretrained": job.preset.architecture,
        "steps": fitted.steps,
        "images": fitted.steps * job.preset.batch_size * job.preset.fit.accumulate,
        "average": fitted.average is not None,
        "init": None if job.init is None else load_model_folder(job.init).sha256,
        "torch": torch.__version__,
    }
    return save_model_folder(job.out / MODEL_FOLDER, config, state, vocabulary, origin=origin, overwrite=True)
