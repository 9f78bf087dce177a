"""Grounded pre-training: detection, grounding and captions as one task. Source: paper section 3.3, SPEC 11."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from glip.data.examples import ExampleStream
from glip.data.synthetic.pieces import scene_vocabulary
from glip.data.synthetic.stream import SceneStream
from glip.errors import InputError
from glip.files import whole_file
from glip.model.config import GLIPConfig
from glip.model.glip import GLIP, build_glip
from glip.training.batches import Share, read_batches
from glip.training.initial import fresh_model
from glip.training.loop import Fitted, fit
from glip.training.presets import PretrainPreset
from glip.training.processes import Processes
from glip.weights.folder import ModelFolder, load_model_folder, save_model_folder
from glip.weights.tokenizer import SPECIAL_TOKENS, build_tokenizer, read_vocabulary
from glip.weights.zoo import ARCHITECTURES

RUN_FILE = "run.json"
MODEL_FOLDER = "model"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainJob:
    """A run.

    Attributes:
        preset: data, sizes, schedule, rates.
        out: folder of the run: settings, numbers, checkpoints and, at the end, `model/`.
        init: model folder whose weights and vocabulary to begin with instead of the preset's.
        workers: processes that make batches.
        cpu: use the CPU even where there is a GPU.
    """

    preset: PretrainPreset
    out: Path
    init: Path | None = None
    workers: int = 1
    cpu: bool = False


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
        _settle(job)
    processes.wait()
    config, vocabulary, model = _begin(job)
    stream = _stream(preset)
    tokenizer = build_tokenizer(vocabulary)
    share = Share(preset.batch_size, processes.count, processes.index)
    fitted = fit(
        model,
        lambda steps: read_batches(stream, tokenizer, share, steps, job.workers),
        preset.fit,
        job.out,
        processes=processes,
        advance=advance,
    )
    return _save(job, config, vocabulary, model, fitted) if processes.first else None


def _stream(preset: PretrainPreset) -> ExampleStream:
    assert preset.scenes is not None
    scenes = preset.scenes
    return SceneStream(
        seed=scenes.seed,
        names=scenes.names,
        shapes=scenes.shapes,
        objects=scenes.objects,
        sides=scenes.sides,
        asked=scenes.asked,
        sentences=scenes.sentences,
        group=preset.batch_size,
    )


def _begin(job: PretrainJob) -> tuple[GLIPConfig, list[str], GLIP]:
    if job.init is not None:
        folder = load_model_folder(job.init)
        state = {name: value.float() for name, value in folder.state_dict().items()}
        return folder.config, read_vocabulary(job.init), build_glip(folder.config, state)
    config = ARCHITECTURES[job.preset.architecture]
    from glip.data.synthetic import load_pool

    vocabulary = scene_vocabulary(load_pool(), SPECIAL_TOKENS)
    config = replace(config, text=replace(config.text, vocab_size=len(vocabulary)))
    return config, vocabulary, fresh_model(config, job.preset.fit.seed)


def _settle(job: PretrainJob) -> None:
    """Writes down what this folder's run is, or refuses to go on with another."""
    job.out.mkdir(parents=True, exist_ok=True)
    path = job.out / RUN_FILE
    question: dict[str, Any] = {"preset": msgspec.to_builtins(job.preset), "init": str(job.init) if job.init else None}
    if path.is_file():
        before = msgspec.json.decode(path.read_bytes())
        if differing := _first_difference(before, msgspec.json.decode(msgspec.json.encode(question))):
            raise InputError(
                f"{job.out} holds a run with another {differing}. Choose another --out, or give the same settings to "
                f"go on."
            )
        return
    with whole_file(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(question)))


def _first_difference(before: Any, now: Any, place: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        found = (_first_difference(before[key], now[key], f"{place}.{key}" if place else key) for key in before)
        return next((difference for difference in found if difference), "")
    return "" if before == now else f"{place} ({before!r} instead of {now!r})"


def _save(
    job: PretrainJob, config: GLIPConfig, vocabulary: list[str], model: GLIP, fitted: Fitted
) -> ModelFolder:
    state: dict[str, Tensor] = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    state |= {name: value.cpu() for name, value in (fitted.average or {}).items()}
    origin = {
        "pretrained": job.preset.architecture,
        "steps": fitted.steps,
        "pictures": fitted.steps * job.preset.batch_size * job.preset.fit.accumulate,
        "average": fitted.average is not None,
        "init": None if job.init is None else load_model_folder(job.init).sha256,
        "torch": torch.__version__,
    }
    return save_model_folder(job.out / MODEL_FOLDER, config, state, vocabulary, origin=origin, overwrite=True)
