"""Detector: a checkpoint, its tokenizer and images → Detections. Knows nothing of folders, shards or data sets."""

from __future__ import annotations

import logging
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from glip.detections import Detections
from glip.detectors.base import OnDownload
from glip.detectors.spec import DetectorSpec
from glip.errors import InputError
from glip.images import ImageBatch, ImageInput, PreparedImage, as_image, collate, padded_hw, prepare
from glip.model.config import DEFAULT_CONF
from glip.model.glip import GLIP, build_glip
from glip.model.postprocess import PUBLISHED, ScoredBoxes, Selection, limit, merge, select, without_limits
from glip.model.reference_mode import compile_backbone
from glip.model.text import TextFeatures, stack_prompts
from glip.prompts import Prompt, PromptSet, tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
REMEMBERED_PROMPTS = 256  # encoded prompts kept; a caption per image must not fill the memory
# Places of all maps that chunks of a prompt may fill together. A GPU wants large batches; on a CPU they only help
# small images, whose maps are too short to keep it busy.
MOST_PLACES = {"cuda": 100_000, "cpu": 8_000, "mps": 30_000}


class Detector:
    """Finds what a prompt names.

    Attributes:
        name: of the checkpoint, as it was asked for.
        sha256: of the checkpoint's tensors file (and tuned prompt or adapter, if any): which numbers made a result.
        precision: fp32 (equal to the published model), bf16 or fp16 (matrix products in half precision).
        imgsz: short side in pixels at which the model is meant to look at images: 800 for the published ones.
        conf: score from which the model's boxes are shown where nobody says another; `predict` gives weaker ones, too.
        most_places: how many places of feature maps the chunks of a long prompt may fill together.
    """

    def __init__(
        self,
        model: GLIP,
        tokenizer: Tokenizer,
        *,
        name: str,
        sha256: str,
        device: str = "auto",
        precision: str = "fp32",
        imgsz: int = 800,
        conf: float = DEFAULT_CONF,
    ) -> None:
        self.device = choose_device(device)
        check_precision(precision, self.device)
        if precision == "bf16" and self.device.type == "cpu" and not _cpu_has_bf16():
            logger.warning("This processor has no bfloat16 arithmetic: fp32 is faster here. Use --precision fp32.")
        self.name = name
        self.sha256 = sha256
        self.precision = precision
        self.imgsz = imgsz
        self.conf = conf
        self.tokenizer = tokenizer
        self._model = model.eval().requires_grad_(False).to(self.device)
        self.most_places = MOST_PLACES[self.device.type]
        self._encoded: OrderedDict[Prompt, tuple[TextFeatures, Tensor]] = OrderedDict()

    def predict(
        self,
        images: ImageInput | Sequence[ImageInput],
        prompt: str | Sequence[str] | Prompt,
        score_threshold: float = 0.05,
        imgsz: int | None = None,
        batch_size: int = 1,
    ) -> list[Detections]:
        """Looks for the names of a prompt in images.

        Args:
            images: paths, PIL images or arrays (H, W, 3) of uint8 RGB; one of them, or a sequence.
            prompt: 'person . dog .', a list of names, or a `Prompt` (a caption with spans).
            score_threshold: least score of a detection. Up to 0.05 it is the published threshold, which looks at the
                phrase's score before centerness is multiplied in.
            imgsz: short side in pixels that images are resized to; the long side stays below imgsz * 1333 / 800.
                None: what the model is meant for.
            batch_size: images that run together. Only images of equal padded size do, so results do not depend on
                it (but for rounding).

        Returns:
            One `Detections` an image, in order, best score first.

        Raises:
            InputError: a prompt, an image or a number that cannot be used.
        """
        if not 0 <= score_threshold <= 1:
            raise InputError(f"score_threshold is {score_threshold}; it must lie between 0 and 1.")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be 1 or more.")
        several = isinstance(images, Sequence) and not isinstance(images, (str, bytes))
        sources: Sequence[ImageInput] = images if several else [images]  # type: ignore[assignment,list-item]
        prompts = self._prompts(prompt)
        selection = replace(PUBLISHED, candidate_threshold=min(score_threshold, PUBLISHED.candidate_threshold))
        results: list[Detections | None] = [None] * len(sources)
        for positions, batch in _batches(sources, self.imgsz if imgsz is None else imgsz, batch_size):
            for position, found in zip(positions, self.detect(batch, prompts, selection), strict=True):
                strong = found.scores >= score_threshold
                results[position] = found if score_threshold <= PUBLISHED.candidate_threshold else found.filter(strong)
        return [result for result in results if result is not None]

    @torch.inference_mode()
    def detect(
        self, batch: ImageBatch, prompts: Sequence[Prompt], selection: Selection = PUBLISHED
    ) -> list[Detections]:
        """Runs one batch against one list of prompts: a class list, in as many chunks as it needs.

        Args:
            batch: prepared images.
            prompts: the chunks, in order. The images' features are computed once for all of them.
            selection: thresholds and limits; `max_detections` counts after the chunks are merged, unless
                `limit_per_chunk` asks for the published LVIS protocol.

        Returns:
            One `Detections` an image; labels count through all chunks.
        """
        return self.detect_in(self.look(batch), batch, prompts, selection)

    @torch.inference_mode()
    def look(self, batch: ImageBatch) -> list[Tensor]:
        """The pyramid maps of a batch, (B, C, h, w) each: all that is seen of its images, whatever is asked."""
        with self._autocast():
            return self._model.encode_image(batch.pixels_on(self.device))

    @torch.inference_mode()
    def detect_in(
        self, maps: list[Tensor], batch: ImageBatch, prompts: Sequence[Prompt], selection: Selection = PUBLISHED
    ) -> list[Detections]:
        """`detect` for a batch that was looked at before.

        Args:
            maps: what `look` gave.
            batch: whose; its pixels are not read.
            prompts, selection: as for `detect`.
        """
        chunks = self._ground_all(maps, prompts, batch, selection)
        offsets = [sum(len(prompt.phrases) for prompt in prompts[:index]) for index in range(len(prompts))]
        names = tuple(phrase for prompt in prompts for phrase in prompt.phrases)
        count = None if selection.limit_per_chunk else selection.max_detections
        merged = [limit(merge(list(parts), offsets), count) for parts in zip(*chunks, strict=True)]
        return [_on_original(found, scale, names) for found, scale in zip(merged, batch.scales, strict=True)]

    def _ground_all(
        self, maps: list[Tensor], prompts: Sequence[Prompt], batch: ImageBatch, selection: Selection
    ) -> list[list[ScoredBoxes]]:
        """What each chunk found in each image; several chunks run together where that is faster."""
        places = sum(x.shape[0] * x.shape[2] * x.shape[3] for x in maps)
        together = max(1, self.most_places // places)
        found: list[list[ScoredBoxes]] = []
        with self._autocast():
            while len(found) < len(prompts):
                some = prompts[len(found) : len(found) + together]
                try:
                    found += self._ground(maps, some, batch, selection)
                except torch.OutOfMemoryError:
                    if len(some) == 1:
                        raise
                    # For good: what did not fit once will not fit for the next image either.
                    together, self.most_places = 1, 0
        return found

    def _ground(
        self, maps: list[Tensor], prompts: Sequence[Prompt], batch: ImageBatch, selection: Selection
    ) -> list[list[ScoredBoxes]]:
        encoded = [self._encode(prompt) for prompt in prompts]
        count = len(encoded)
        if count == 1:
            outputs = self._model.ground(maps, encoded[0][0])
        else:
            text = stack_prompts([text for text, _ in encoded]).repeat(len(batch.scales))
            outputs = self._model.ground([x.repeat_interleave(count, 0) for x in maps], text)
        return [
            select(
                outputs.part(slice(number, None, count), text.hidden.shape[1]),
                positive_map,
                list(batch.sizes_hw),
                without_limits(selection),
            )
            for number, (text, positive_map) in enumerate(encoded)
        ]

    def _encode(self, prompt: Prompt) -> tuple[TextFeatures, Tensor]:
        """Text features (1, T, D) and positive map (P, T) of a prompt, computed once."""
        if prompt not in self._encoded:
            tokens = tokenize(prompt, self.tokenizer)
            text = self._model.encode_text(tokens.input_ids[None].to(self.device))
            self._encoded[prompt] = (text, tokens.positive_map.to(self.device))
            if len(self._encoded) > REMEMBERED_PROMPTS:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(prompt)
        return self._encoded[prompt]

    def _prompts(self, prompt: str | Sequence[str] | Prompt) -> Sequence[Prompt]:
        if isinstance(prompt, Prompt):
            return [prompt]
        if isinstance(prompt, str):
            return PromptSet.parse(prompt, self.tokenizer).for_image("")
        return PromptSet.from_names(prompt, self.tokenizer).for_image("")

    def _autocast(self) -> AbstractContextManager[None]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])


def load_detector(
    name_or_path: str | Path = "glip-t",
    *,
    adapter: Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    compiled: bool = False,
    offline: bool = False,
    on_download: Callable[[str, int, int | None], None] | None = None,
) -> Detector:
    """Opens a checkpoint, downloading it the first time.

    Args:
        name_or_path: a name of `glip models list`, a model folder, or a published `.pth` file.
        adapter: what `glip finetune` has learned beside this checkpoint; None: the checkpoint as it is.
        device: auto, cpu, mps, cuda or cuda:N.
        precision: fp32, bf16 or fp16.
        compiled: let `torch.compile` make a program of the backbone. The first image then takes a minute or more, the
            first of another size as well; results are equal to rounding. `glip bench --against compiled` says whether
            it is worth it.
        offline: never touch the network.
        on_download: called with what is being downloaded, bytes so far and bytes in all (None if unknown).

    Raises:
        InputError: the name, a file, the device or the precision cannot be used, or the adapter is of another model.
        JobFailed: a download failed.
    """
    spec = DetectorSpec(str(name_or_path), adapter, device, precision, compiled, offline)
    return open_detector(spec, on_download)


def open_detector(spec: DetectorSpec, on_download: OnDownload | None = None) -> Detector:
    """Opens a GLIP checkpoint, downloading it the first time; see `DetectorSpec.open`."""
    from glip.weights.adapter import check_base, load_adapter
    from glip.weights.checkpoint import open_model

    # Before any download or load: these answers cost nothing.
    place = choose_device(spec.device)
    check_precision(spec.precision, place)
    if spec.compiled:
        check_compiler()
    tuned = None if spec.adapter is None else load_adapter(spec.adapter)
    folder = open_model(spec.model, offline=spec.offline, on_download=on_download)
    if tuned is not None:
        check_base(tuned, folder.identity, folder.name)
    model = build_glip(folder.config, folder.state_dict())
    model.set_prompt_offset(folder.prompt())
    if tuned is not None:
        tuned.put_on(model)
    # Here and not in Detector, which validation also puts around a model that goes on learning.
    if spec.precision != "fp32" and place.type == "cpu":
        model.lower(PRECISIONS[spec.precision])
    if spec.compiled:
        compile_backbone(model)
    return Detector(
        model,
        folder.tokenizer(),
        name=folder.name,
        sha256=folder.identity if tuned is None else tuned.identity(folder.identity),
        device=spec.device,
        precision=spec.precision,
        imgsz=folder.config.imgsz,
        conf=folder.config.conf,
    )


def choose_device(device: str) -> torch.device:
    """The device that a word means; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: unknown, or not in this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in {"cpu", "mps", "cuda"} or (index and not (kind == "cuda" and index.isdecimal())):
        raise InputError(f"Device {device!r} is unknown; accepted are auto, cpu, mps, cuda and cuda:N.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("Device 'mps' was asked for, but this machine has none; use --device cpu or auto.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise InputError(f"Device {device!r} was asked for, but PyTorch sees {count} CUDA devices; use --device auto.")
    return torch.device(device)


def check_precision(precision: str, device: torch.device) -> None:
    """Raises InputError for a precision that is unknown or that the device has no arithmetic for."""
    if precision not in PRECISIONS:
        raise InputError(f"Precision {precision!r} is unknown; accepted are {', '.join(PRECISIONS)}.")
    if precision == "fp16" and device.type == "cpu":
        raise InputError("Precision fp16 needs a GPU: CPUs have no fast fp16 arithmetic. Use --precision bf16 or fp32.")


def check_compiler() -> None:
    """Raises InputError where `torch.compile` would find no compiler to call."""
    names = [os.environ.get("CXX", "g++"), "clang++"]
    if not any(shutil.which(name) for name in names):
        raise InputError(
            f"--compile needs a C++ compiler, and neither {' nor '.join(names)} is there. Install one (Debian: "
            f"apt install g++) or leave --compile out: nothing else needs it."
        )


def _cpu_has_bf16() -> bool:
    known = torch.cpu.get_capabilities()
    # Other architectures than x86 do not list it; nothing is said of them.
    return known.get("architecture") != "x86_64" or bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def _batches(sources: Sequence[ImageInput], imgsz: int, batch_size: int) -> Iterator[tuple[list[int], ImageBatch]]:
    """Prepared images in batches of equal padded size, each with the positions of its images in `sources`."""
    waiting: dict[tuple[int, int], dict[int, PreparedImage]] = {}
    for position, source in enumerate(sources):
        image = prepare(as_image(source), imgsz)
        shape = padded_hw(image.resized_hw)
        group = waiting.setdefault(shape, {})
        group[position] = image
        if len(group) == batch_size:
            yield list(group), collate(list(waiting.pop(shape).values()))
    for group in waiting.values():
        yield list(group), collate(list(group.values()))


def _on_original(found: ScoredBoxes, scale: tuple[float, float], names: tuple[str, ...]) -> Detections:
    """From the resized image, both ends inside, to the original image, continuous.

    As published: scaled first, then the end moves by one whole pixel. In an image that was enlarged, a box at the edge
    ends a fraction of a pixel outside.
    """
    scale_x, scale_y = scale
    boxes = found.boxes.float().cpu().numpy() * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    boxes += np.array([0, 0, 1, 1], np.float32)
    scores = found.scores.float().cpu().numpy()
    return Detections(boxes, scores, found.labels.cpu().numpy().astype(np.int64), names)
