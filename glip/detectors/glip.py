"""Detector: a GLIP checkpoint with its tokenizer; images + prompts → Detections.

Knows nothing of folders, shards or data sets.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glip.detections import Detections
from glip.detectors.base import DetectionLimits, ObjectDetector, OnDownload
from glip.detectors.spec import DetectorSpec
from glip.errors import InputError
from glip.images import ImageBatch, PreparedImage, collate, padded_hw, prepare, resized_hw
from glip.model.config import DEFAULT_CONF
from glip.model.glip import GLIP, RawOutputs, build_glip
from glip.model.postprocess import PUBLISHED, ScoredBoxes, Selection, limit, merge, select, without_limits
from glip.model.reference_mode import compile_backbone
from glip.model.text import TextFeatures, stack_prompts
from glip.prompts import MAX_TOKENS, Prompt, PromptSet, TokenizedPrompt, Wording, tokenize
from glip.weights.adapter import check_base, in_tuned_caption, load_adapter, refuse_other_caption

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CACHED_PROMPTS = 256  # encoded prompts kept in memory; with a caption per image there is no end to them
# Maximum number of feature map cells for which the chunks of a long prompt run together. A GPU needs large batches; on
# a CPU they only help small images, whose maps are too small to keep every core busy.
MAX_CELLS = {"cuda": 100_000, "cpu": 8_000, "mps": 30_000}


class Detector(ObjectDetector):
    """Detects what a prompt names, with a GLIP model. See `ObjectDetector` for the attributes.

    Attributes:
        tokenizer: of the checkpoint.
        max_cells: maximum number of feature map cells for which the chunks of a long prompt run together.
        tuned_for: the prompt that prompt tuning bound the model to; None if it reads any. What was learned belongs to
            positions in this caption, so with another one it would name one class as another.
    """

    nms_iou = PUBLISHED.nms_iou
    max_tokens = MAX_TOKENS
    score_rule = "0.05 on the class score before centerness; suppression by class at an overlap of 0.6"

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
        tuned_for: Prompt | None = None,
    ) -> None:
        self.device = choose_device(device)
        check_precision(precision, self.device)
        if precision == "bf16" and self.device.type == "cpu" and not _cpu_has_bf16():
            logger.warning("This processor has no bfloat16 arithmetic: precision fp32 is faster here than bf16.")
        self.name = name
        self.sha256 = sha256
        self.precision = precision
        self.imgsz = imgsz
        self.conf = conf
        self.tuned_for = tuned_for
        self.tokenizer = tokenizer
        self._model = model.eval().requires_grad_(False).to(self.device)
        self.max_cells = MAX_CELLS[self.device.type]
        self._encoded: OrderedDict[Prompt, tuple[TextFeatures, Tensor]] = OrderedDict()

    def prompts_for(
        self, names: Sequence[str], *, wordings: Sequence[Wording] | None = None, names_per_prompt: int | None = None
    ) -> tuple[Prompt, ...]:
        """Returns a class list as prompts of at most 256 tokens; see `ObjectDetector.prompts_for`.

        After prompt tuning it is always the one caption of `tuned_for`, with its classes in the order of the names.
        """
        if self.tuned_for is not None:
            return (in_tuned_caption(self.tuned_for, names),)
        return PromptSet.from_names(names, self.tokenizer, names_per_prompt, wordings).chunks

    def count_tokens(self, prompt: Prompt) -> int:
        """Returns the number of tokens of a prompt; see `ObjectDetector.count_tokens`."""
        return len(self._tokenize(prompt).input_ids)

    def resized_hw(self, size_hw: tuple[int, int], imgsz: int) -> tuple[int, int]:
        """Returns the size at which the model sees an image; the long side stays below imgsz * 1333 / 800."""
        return resized_hw(size_hw, imgsz)

    def prepare(self, image: Image.Image, imgsz: int, size_hw: tuple[int, int] | None = None) -> PreparedImage:
        """Resizes an RGB image; see `ObjectDetector.prepare`."""
        return prepare(image, imgsz, size_hw)

    def batch_key(self, image: PreparedImage) -> Hashable:
        """Returns the padded size: padding takes part in fusion, so only images with equal ones share a batch."""
        return padded_hw(image.resized_hw)

    def apply_floor(self, found: Detections, floor: float) -> Detections:
        """Returns the boxes that reach a minimum score.

        Up to the published threshold, the floor has already been applied inside the model: to the phrase's score,
        before centerness is multiplied in. A higher floor applies to the final score.
        """
        if floor <= PUBLISHED.candidate_threshold:
            return found
        return found.filter(found.scores >= np.float32(floor))

    def detect(
        self, images: Sequence[PreparedImage], prompts: Sequence[Prompt], limits: DetectionLimits
    ) -> list[Detections]:
        """Detects the phrases of prompts in one batch of images; see `ObjectDetector.detect`."""
        return self.detect_batch(collate(images), prompts, _selection(limits), mark_not_finite=True)

    @torch.inference_mode()
    def detect_batch(
        self,
        batch: ImageBatch,
        prompts: Sequence[Prompt],
        selection: Selection = PUBLISHED,
        *,
        mark_not_finite: bool = False,
    ) -> list[Detections]:
        """Runs one batch with a list of prompts: the chunks of a class list.

        Args:
            batch: prepared images.
            prompts: the chunks, in order. Image features are computed once for all of them.
            selection: thresholds and limits. `max_detections` applies after the chunks are merged, unless
                `limit_per_chunk` asks for the published LVIS protocol.
            mark_not_finite: an image for which the model computes NaN or infinity gets one box of NaN, see
                `ObjectDetector.detect`. Otherwise it has no such boxes: for training, which has its own check.

        Returns:
            One `Detections` per image. Labels count through all chunks.
        """
        return self.detect_encoded(
            self.encode_images(batch), batch, prompts, selection, mark_not_finite=mark_not_finite
        )

    @torch.inference_mode()
    def encode_images(self, batch: ImageBatch) -> list[Tensor]:
        """Returns the feature pyramid of a batch, (B, C, h, w) per level. It does not depend on the prompt."""
        with self._autocast():
            return self._model.encode_image(batch.pixels_on(self.device))

    @torch.inference_mode()
    def detect_encoded(
        self,
        maps: list[Tensor],
        batch: ImageBatch,
        prompts: Sequence[Prompt],
        selection: Selection = PUBLISHED,
        *,
        mark_not_finite: bool = False,
    ) -> list[Detections]:
        """Runs `detect_batch` on image features that were computed before.

        Args:
            maps: result of `encode_images`.
            batch: the images of `maps`; its pixels are not read.
            prompts, selection, mark_not_finite: as for `detect_batch`.
        """
        chunks, finite = self._ground_all(maps, prompts, batch, selection)
        offsets = [sum(len(prompt.phrases) for prompt in prompts[:index]) for index in range(len(prompts))]
        names = tuple(phrase for prompt in prompts for phrase in prompt.phrases)
        count = None if selection.limit_per_chunk else selection.max_detections
        merged = [limit(merge(list(parts), offsets), count) for parts in zip(*chunks, strict=True)]
        return [
            _on_original(found, scale, names) if is_finite or not mark_not_finite else _not_finite(names)
            for found, scale, is_finite in zip(merged, batch.scales, finite, strict=True)
        ]

    def _ground_all(
        self, maps: list[Tensor], prompts: Sequence[Prompt], batch: ImageBatch, selection: Selection
    ) -> tuple[list[list[ScoredBoxes]], list[bool]]:
        """Returns the boxes of each chunk in each image, and for each image whether all numbers are finite.

        Several chunks run together where that is faster.
        """
        cells = sum(x.shape[0] * x.shape[2] * x.shape[3] for x in maps)
        together = max(1, self.max_cells // cells)
        found: list[list[ScoredBoxes]] = []
        finite = [True] * len(batch.scales)
        with self._autocast():
            while len(found) < len(prompts):
                some = prompts[len(found) : len(found) + together]
                try:
                    boxes, are_finite = self._ground(maps, some, batch, selection)
                except torch.OutOfMemoryError:
                    if len(some) == 1:
                        raise
                    # For good: what did not fit once will not fit for the next image either.
                    together, self.max_cells = 1, 0
                    continue
                found += boxes
                finite = [before and now for before, now in zip(finite, are_finite, strict=True)]
        return found, finite

    def _ground(
        self, maps: list[Tensor], prompts: Sequence[Prompt], batch: ImageBatch, selection: Selection
    ) -> tuple[list[list[ScoredBoxes]], list[bool]]:
        encoded = [self._encode(prompt) for prompt in prompts]
        count = len(encoded)
        if count == 1:
            outputs = self._model.ground(maps, encoded[0][0])
        else:
            text = stack_prompts([text for text, _ in encoded]).repeat(len(batch.scales))
            outputs = self._model.ground([x.repeat_interleave(count, 0) for x in maps], text)
        parts = [
            outputs.part(slice(index, None, count), text.hidden.shape[1]) for index, (text, _) in enumerate(encoded)
        ]
        maps_of_parts = [positive_map for _, positive_map in encoded]
        found = [
            select(part, positive_map, list(batch.sizes_hw), without_limits(selection))
            for part, positive_map in zip(parts, maps_of_parts, strict=True)
        ]
        finite = torch.stack([_are_finite(*both) for both in zip(parts, maps_of_parts, strict=True)])
        return found, finite.all(0).tolist()

    def _encode(self, prompt: Prompt) -> tuple[TextFeatures, Tensor]:
        """Returns text features (1, T, D) and positive map (P, T) of a prompt, cached."""
        if prompt not in self._encoded:
            tokens = self._tokenize(prompt)
            text = self._model.encode_text(tokens.input_ids[None].to(self.device))
            self._encoded[prompt] = (text, tokens.positive_map.to(self.device))
            if len(self._encoded) > CACHED_PROMPTS:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(prompt)
        return self._encoded[prompt]

    def _tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        if self.tuned_for is not None:
            refuse_other_caption(self.tuned_for, prompt)
        return tokenize(prompt, self.tokenizer)

    def _autocast(self) -> AbstractContextManager[None]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])


def open_detector(spec: DetectorSpec, on_download: OnDownload | None = None) -> Detector:
    """Opens a GLIP checkpoint, downloading it the first time; see `DetectorSpec.open`.

    Raises:
        InputError: the model, a file, the device or the precision cannot be used, or the adapter belongs to another
            model.
        JobFailed: a download failed.
    """
    from glip.weights.checkpoint import open_model

    # Before any download or load: these checks cost nothing.
    device = choose_device(spec.device)
    check_precision(spec.precision, device)
    if spec.compiled:
        check_compiler()
    adapter = None if spec.adapter is None else load_adapter(spec.adapter)
    folder = open_model(spec.model, offline=spec.offline, on_download=on_download)
    if adapter is not None:
        check_base(adapter, folder.identity, folder.name)
    model = build_glip(folder.config, folder.state_dict())
    model.set_prompt_offset(folder.prompt())
    if model.prompt_offset is not None and (adapter is None or adapter.bound_to is None):
        logger.warning(
            "%s holds a tuned prompt, which fits only the caption that it was tuned on. The checkpoint does not say "
            "which: ask for the classes of its tuning, in their order; with other names, boxes get wrong ones.",
            folder.name,
        )
    if adapter is not None:
        adapter.put_on(model)
    # Here and not in Detector, which validation also puts around a model that is still training.
    if spec.precision != "fp32" and device.type == "cpu":
        model.lower(DTYPES[spec.precision])
    if spec.compiled:
        compile_backbone(model)
    return Detector(
        model,
        folder.tokenizer(),
        name=folder.name,
        sha256=folder.identity if adapter is None else adapter.identity(folder.identity),
        device=spec.device,
        precision=spec.precision,
        imgsz=folder.config.imgsz,
        conf=folder.config.conf,
        tuned_for=None if adapter is None else adapter.bound_to,
    )


def choose_device(device: str) -> torch.device:
    """Returns the device that a word means; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: the word is unknown, or this machine has no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in {"cpu", "mps", "cuda"} or (index and not (kind == "cuda" and index.isdecimal())):
        raise InputError(f"device is {device!r}; accepted are auto, cpu, mps, cuda and cuda:N.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("device is 'mps', but this machine has none. Use cpu or auto.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is {device!r}, but PyTorch finds {torch.cuda.device_count()} CUDA devices. Use cpu or auto."
        )
    return torch.device(device)


def check_precision(precision: str, device: torch.device) -> None:
    """Refuses a precision that is unknown or that the device cannot compute in.

    Raises:
        InputError: it is one of these.
    """
    if precision not in DTYPES:
        raise InputError(f"precision is {precision!r}; accepted are {', '.join(DTYPES)}.")
    if precision == "fp16" and device.type == "cpu":
        raise InputError("precision is 'fp16', which needs a GPU: CPUs have no fast fp16 arithmetic. Use bf16 or fp32.")


def check_compiler() -> None:
    """Checks that `torch.compile` has a C++ compiler to call.

    Raises:
        InputError: there is none.
    """
    names = [os.environ.get("CXX", "g++"), "clang++"]
    if not any(shutil.which(name) for name in names):
        raise InputError(
            f"compiled is set, but there is no C++ compiler (looked for {' and '.join(names)}). Install one (Debian: "
            f"apt install g++), or leave compiled off: nothing else needs it."
        )


def _selection(limits: DetectionLimits) -> Selection:
    """Returns the limits as the post-processing of this model takes them."""
    return replace(
        PUBLISHED,
        candidate_threshold=min(limits.floor, PUBLISHED.candidate_threshold),
        nms_iou=PUBLISHED.nms_iou if limits.suppress else None,
        max_detections=limits.max_detections,
        limit_per_chunk=limits.limit_per_prompt,
    )


def _are_finite(outputs: RawOutputs, positive_map: Tensor) -> Tensor:
    """Returns (B,) whether the model computed finite numbers for an image, of the (P, T) tokens that spell a phrase."""
    spelling = positive_map.ne(0).any(0)
    # A sum is finite if all numbers are: one pass, without a mask of the size of the outputs.
    sums = (
        outputs.deltas.sum((1, 2), dtype=torch.float32),
        outputs.centerness.flatten(1).sum(1, dtype=torch.float32),
        outputs.alignment[..., spelling].sum((1, 2), dtype=torch.float32),
    )
    return torch.stack(sums).isfinite().all(0)


def _not_finite(names: tuple[str, ...]) -> Detections:
    """Returns one box of NaN, which stands for an image that the model computes no finite numbers for."""
    nan = np.full((1, 4), np.nan, np.float32)
    return Detections(nan, nan[:, 0], np.zeros(1, np.int64), names)


def _cpu_has_bf16() -> bool:
    known = torch.cpu.get_capabilities()
    # Only x86 lists its abilities; other architectures are assumed to be fast.
    return known.get("architecture") != "x86_64" or bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def _on_original(found: ScoredBoxes, scale: tuple[float, float], names: tuple[str, ...]) -> Detections:
    """Moves boxes from the resized image, last pixel included, to the original image in continuous coordinates.

    As published: scaled first, then the end moves by one whole pixel. In an image that was enlarged, a box at the edge
    therefore ends a fraction of a pixel outside.
    """
    scale_x, scale_y = scale
    boxes = found.boxes.float().cpu().numpy() * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    boxes += np.array([0, 0, 1, 1], np.float32)
    scores = found.scores.float().cpu().numpy()
    return Detections(boxes, scores, found.labels.cpu().numpy().astype(np.int64), names)
