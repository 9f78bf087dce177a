"""Grounded pre-training: detection, grounding and captions as one task.

Source: paper sections 3.3 and 4; docs/training.md, "Pre-training".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor

from glip.data.blend import Blend
from glip.data.cutouts import load_cutouts
from glip.data.examples import ExampleStream
from glip.data.mixing import Concatenation, Mixture
from glip.data.photos import PhotoStream, photo_words
from glip.data.pretraining_sets import open_pretraining_set
from glip.data.synthetic import load_pool
from glip.data.synthetic.stream import SceneStream
from glip.data.synthetic.vocabulary import scene_vocabulary, scene_words
from glip.data.transforms import AugmentedStream
from glip.data.wordnet import close_words, load_wordnet, spoken_word
from glip.errors import InputError
from glip.model.config import GLIPConfig
from glip.model.glip import GLIP
from glip.run_folder import lock_folder, read_run_file, refuse_change, write_run_file
from glip.training.batches import Share, read_batches
from glip.training.distributed import Processes
from glip.training.initial_weights import fresh_model
from glip.training.loop import Fitted, fit
from glip.training.plots import draw_curve
from glip.training.presets import PhotoSettings, PretrainPreset, SceneSettings, with_new_names
from glip.training.settings import FitSettings
from glip.training.start import lent_words, start_from_folder
from glip.weights.cache import Fetching
from glip.weights.folder import ModelFolder, load_model_folder, save_model_folder
from glip.weights.pretrained_parts import load_pretrained_parts
from glip.weights.tokenizer import SPECIAL_TOKENS, build_tokenizer
from glip.weights.zoo import ARCHITECTURES, EMBEDDED_FOLDER

MODEL_FOLDER = "model"
CURVE_FILE = "curve.png"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainJob:
    """A pre-training run.

    Attributes:
        preset: data, image sizes, schedule, learning rates.
        out: output folder: configuration, metrics, checkpoints and, at the end, `curve.png` and `model/`.
        init: model folder whose weights and vocabulary to start from; None: as the preset says.
        data_root: folder of the data sets' folders; without one, `nano` trains on synthetic scenes only.
        workers: processes that prepare batches; 0: this process.
        offline: never use the network.
        device: auto, cpu, mps, cuda or cuda:N.
        stop_at: pause after this step and save the model as it is then; a later run resumes.
    """

    preset: PretrainPreset
    out: Path
    init: Path | None = None
    data_root: Path | None = None
    workers: int = 1
    offline: bool = False
    device: str = "auto"
    stop_at: int | None = None


def pretrain(job: PretrainJob, advance: Callable[[int], None] = lambda done: None) -> ModelFolder | None:
    """Pre-trains a model, or resumes the run in the output folder.

    Args:
        job: the run.
        advance: called with the number of finished steps.

    Returns:
        The model folder, in the main process; None in others.

    Raises:
        InputError: the settings cannot be used, or the output folder holds a run with another configuration.
        JobFailed: training failed, or nothing can be written.
    """
    preset = job.preset
    processes = Processes(preset.fit.precision, job.device)
    if preset.batch_size % processes.world_size:
        raise InputError(
            f"batch_size is {preset.batch_size}; it must be a multiple of the number of processes, "
            f"{processes.world_size}."
        )
    with lock_folder(job.out) if processes.is_main else nullcontext():
        if processes.is_main:
            _keep_configuration(job)
        processes.wait()
        return _train(job, processes, advance)


def _keep_configuration(job: PretrainJob) -> None:
    """Records the configuration in the output folder, or refuses to resume a run with another one."""
    configuration = {"preset": msgspec.to_builtins(job.preset), "init": str(job.init) if job.init else None}
    earlier = read_run_file(job.out)
    if earlier is None:
        write_run_file(job.out, configuration)
    else:
        refuse_change(job.out, with_new_names(earlier), configuration)


def _train(job: PretrainJob, processes: Processes, advance: Callable[[int], None]) -> ModelFolder | None:
    preset = job.preset
    photos = open_photos(preset, job.data_root)
    words = _words(preset, photos)
    lenders = _lenders(preset, photos, words)
    config, vocabulary, model = _begin(job, [*words, *lenders])
    tokenizer = build_tokenizer(vocabulary)
    stream = open_stream(preset, job.data_root, tokenizer, photos)
    share = Share(preset.batch_size, processes.world_size, processes.rank)
    fitted = fit(
        model,
        lambda steps: read_batches(stream, tokenizer, share, steps, job.workers),
        _with_steps(preset, stream),
        job.out,
        processes=processes,
        advance=advance,
        stop_at=job.stop_at,
    )
    if not processes.is_main:
        return None
    draw_curve(job.out / CURVE_FILE, fitted.rows, f"{preset.architecture}, {fitted.steps} steps of {preset.batch_size}")
    return _save(job, config, vocabulary, model, fitted, lenders)


def open_stream(
    preset: PretrainPreset, data_root: Path | None, tokenizer: Tokenizer, photos: Sequence[PhotoStream] | None = None
) -> ExampleStream:
    """Returns the training examples of a preset.

    Args:
        preset: names the data.
        data_root: folder of the data sets' folders.
        tokenizer: of the model.
        photos: from `open_photos`, if they are open already.

    Raises:
        InputError: the preset names no data, or a file of a data set is missing.
    """
    scenes = _scenes(preset, preset.scenes) if preset.scenes else None
    photos = open_photos(preset, data_root) if photos is None else photos
    if scenes and preset.photos and photos:
        return _blend(preset, preset.photos, photos, scenes)
    if scenes and preset.photos:
        logger.info("No data root is given: training on drawn scenes only, without photographs.")
    streams: list[ExampleStream] = [scenes] if scenes else []
    if preset.data:
        streams.append(_sets(preset, data_root, tokenizer))
    if len(streams) != 1:
        raise InputError("A preset trains either on `scenes` or on `data`; set exactly one of them.")
    return streams[0]


def open_photos(preset: PretrainPreset, data_root: Path | None) -> list[PhotoStream]:
    """Returns the photographs of a preset, one stream per set; none without photographs or without a data root.

    Raises:
        InputError: a file of a set is missing or cannot be used.
    """
    photos = preset.photos
    if photos is None or preset.scenes is None or data_root is None:
        return []
    cutouts = load_cutouts(data_root / photos.cutouts) if photos.cutouts else ()
    return [
        PhotoStream(data_root / source.folder, preset.seed + index, photos.looks, cutouts)
        for index, source in enumerate(photos.sets)
    ]


def _blend(
    preset: PretrainPreset, settings: PhotoSettings, photos: Sequence[PhotoStream], scenes: SceneStream
) -> ExampleStream:
    return Blend(
        photos,
        [source.weight for source in settings.sets],
        scenes,
        settings.scene_share,
        settings.sides,
        preset.batch_size,
        settings.many,
        preset.seed,
    )


def _words(preset: PretrainPreset, photos: Sequence[PhotoStream]) -> list[str]:
    """Returns the words of all captions; each should be one word piece."""
    return [*(scene_words(load_pool()) if preset.scenes else ()), *photo_words(photos)]


def _scenes(preset: PretrainPreset, scenes: SceneSettings) -> SceneStream:
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
        raise InputError(f"data_root is missing; this preset reads {names} from folders below it.")
    streams = [
        open_pretraining_set(source.layout, data_root, tokenizer, preset.seed + index, copies=source.copies)
        for index, source in enumerate(preset.data)
    ]
    weights = [source.weight for source in preset.data if source.weight is not None]
    if weights and len(weights) != len(streams):
        raise InputError(
            "Some data sets of the preset have a weight and others have none. Set it for all of them, or for none."
        )
    mixed = Mixture(streams, weights, preset.seed) if weights else Concatenation(streams, preset.seed)
    views = preset.views
    return AugmentedStream(mixed, preset.seed, views.flip, views.sizes_short, views.longest)


def _with_steps(preset: PretrainPreset, stream: ExampleStream) -> FitSettings:
    """Returns the settings of the loop with the length of the run in steps."""
    schedule = preset.fit.schedule
    if schedule.steps:
        return preset.fit
    if preset.epochs is None or stream.epoch_length is None:
        raise InputError("The preset has no length. Set fit.schedule.steps, or epochs if the data is finite.")
    images = preset.epochs * stream.epoch_length
    steps = max(1, int(images // (preset.batch_size * preset.fit.accumulate)))
    return replace(preset.fit, schedule=replace(schedule, steps=steps))


def _lenders(preset: PretrainPreset, photos: Sequence[PhotoStream], words: Sequence[str]) -> dict[str, str]:
    """Returns words that no caption contains, each with the trained word whose embedding it gets; see `close_words`."""
    if preset.photos is None or preset.photos.wordnet is None or not photos:
        return {}
    names = sorted({name for stream in photos for name in stream.names})
    found = close_words(load_wordnet(Path(preset.photos.wordnet)), names, words)
    spoken = {name: word for name in names if (word := spoken_word(name))}
    return {word: spoken[name] for word, name in found.items() if name in spoken}


def _begin(job: PretrainJob, words: Sequence[str]) -> tuple[GLIPConfig, list[str], GLIP]:
    preset = job.preset
    config = ARCHITECTURES[preset.architecture]
    init = EMBEDDED_FOLDER if job.init is None and preset.start == "nano" else job.init
    if init is not None:
        return start_from_folder(load_model_folder(init), config, words, preset.fit.seed)
    if preset.start == "published":
        state, vocabulary = load_pretrained_parts(config, Fetching(job.offline))
        model = fresh_model(config, preset.fit.seed)
        model.load_state_dict(state, strict=False)  # the other parts keep their random weights
        return config, vocabulary, model
    vocabulary = scene_vocabulary(load_pool(), SPECIAL_TOKENS)
    config = replace(config, text=replace(config.text, vocab_size=len(vocabulary)))
    return config, vocabulary, fresh_model(config, preset.fit.seed)


def _save(
    job: PretrainJob,
    config: GLIPConfig,
    vocabulary: list[str],
    model: GLIP,
    fitted: Fitted,
    lenders: Mapping[str, str],
) -> ModelFolder:
    state: dict[str, Tensor] = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    state |= {name: value.cpu() for name, value in (fitted.average or {}).items()}
    state = lent_words(state, vocabulary, lenders)
    origin = {
        "pretrained": job.preset.architecture,
        "steps": fitted.steps,
        "images": fitted.steps * job.preset.batch_size * job.preset.fit.accumulate,
        "average": fitted.average is not None,
        "init": None if job.init is None else load_model_folder(job.init).sha256,
        "torch": torch.__version__,
    }
    return save_model_folder(job.out / MODEL_FOLDER, config, state, vocabulary, origin=origin, overwrite=True)
