"""ObjectDetector: the protocol between a detector and everything that uses one.

Names no detail of any model. The detector itself decides how pixels are prepared, how many tokens a prompt may have,
how a score threshold applies, and how overlapping boxes are suppressed. Knows nothing of folders, shards or data sets.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from glip.detectors.batching import Batcher
from glip.errors import InputError, JobFailed
from glip.names import split_names
from glip.prompts import Prompt, Wording

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from glip.detections import Detections
    from glip.images import ImageInput, PreparedImage

NOT_FINITE = (
    "the model computes no finite numbers for it (NaN or infinity); its weights are damaged, or too large for the "
    "precision"
)

logger = logging.getLogger(__name__)

# Called with the name of the file being downloaded, the bytes so far, and the bytes in all (None if unknown).
OnDownload = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class DetectionLimits:
    """Which boxes a detector returns for an image.

    Attributes:
        floor: minimum score. The detector decides how it applies, see `ObjectDetector.apply_floor`.
        suppress: remove boxes that overlap a better box of the same phrase, as the published model does. False returns
            every candidate.
        max_detections: maximum number of boxes per image, best first; None for all. Ties with the last box are kept.
        limit_per_prompt: apply `max_detections` to each prompt of an image instead of to all of them together (the
            published protocol for LVIS).

    Raises:
        InputError: a value is out of range.
    """

    floor: float = 0.05
    suppress: bool = True
    max_detections: int | None = 300
    limit_per_prompt: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise InputError(f"floor is {self.floor}; it must lie between 0 and 1.")
        if self.max_detections is not None and self.max_detections < 1:
            raise InputError(f"max_detections is {self.max_detections}; it must be 1 or more.")


class ObjectDetector(Protocol):
    """Finds what prompts name in images. A new detector subclasses this and passes `tests/detectors/test_contract.py`.

    Attributes:
        name: of the checkpoint, as requested.
        sha256: identifies the weights; two detectors with equal values give equal results.
        device: where the model runs.
        precision: number format of the arithmetic: fp32, bf16 or fp16.
        imgsz: default size of the short side of an image, in pixels.
        conf: default score threshold for boxes that are shown.
        nms_iou: IoU above which the detector suppresses the weaker box of a phrase; None if it suppresses none.
        max_tokens: maximum number of tokens of one prompt.
        score_rule: one sentence about how thresholds and suppression apply, for reports.
    """

    name: str
    sha256: str
    device: torch.device
    precision: str
    imgsz: int
    conf: float
    nms_iou: float | None
    max_tokens: int
    score_rule: str

    def prompts_for(
        self, names: Sequence[str], *, wordings: Sequence[Wording] | None = None, names_per_prompt: int | None = None
    ) -> tuple[Prompt, ...]:
        """Returns a class list as prompts that the model can read, in the order of the names.

        Args:
            names: class names.
            wordings: how each class is worded in the prompt, one per name; None for the plain names.
            names_per_prompt: maximum number of names in one prompt; None for as many as fit.

        Raises:
            InputError: there is no name, or the model cannot read one of them.
        """
        ...

    def count_tokens(self, prompt: Prompt) -> int:
        """Returns the number of tokens of a prompt, special tokens included.

        Raises:
            InputError: the model cannot read the prompt: it is too long, or no token spells a phrase.
        """
        ...

    def resized_hw(self, size_hw: tuple[int, int], imgsz: int) -> tuple[int, int]:
        """Returns the size (height, width) to which `prepare` resizes an image of `size_hw`."""
        ...

    def prepare(self, image: Image.Image, imgsz: int, size_hw: tuple[int, int] | None = None) -> PreparedImage:
        """Resizes an image for the model. Thread-safe: images are prepared ahead in threads.

        Args:
            image: RGB.
            imgsz: size of the short side, in pixels.
            size_hw: size of the original image, if `image` was decoded at a reduced size.
        """
        ...

    def batch_key(self, image: PreparedImage) -> Hashable:
        """Returns a key: images with equal keys can share a batch without changing each other's results."""
        ...

    def detect(
        self, images: Sequence[PreparedImage], prompts: Sequence[Prompt], limits: DetectionLimits
    ) -> list[Detections]:
        """Detects the phrases of prompts in one batch of images.

        Args:
            images: prepared images with equal `batch_key`.
            prompts: applied to every image, in order.
            limits: which boxes to return. Boxes below `limits.floor` may be among them until `apply_floor`.

        Returns:
            One `Detections` per image, best score first, in pixels of the original image. Labels count through all
            prompts. NaN in a box or score means that the model computed no finite numbers for this image.
        """
        ...

    def apply_floor(self, found: Detections, floor: float) -> Detections:
        """Returns the boxes that reach a minimum score, by the rule of this detector (`score_rule`)."""
        return found.filter(found.scores >= np.float32(floor))

    def predict(
        self,
        images: ImageInput | Sequence[ImageInput],
        prompt: str | Sequence[str] | Prompt,
        score_threshold: float = 0.05,
        imgsz: int | None = None,
        batch_size: int = 1,
    ) -> list[Detections]:
        """Detects the names of a prompt in images.

        Args:
            images: paths, PIL images or arrays (H, W, 3) of uint8 RGB; one of them, or a sequence. `glip.label` labels
                folders.
            prompt: 'person . dog .', a list of names, or a `Prompt` (a caption with spans).
            score_threshold: minimum score, see `score_rule`.
            imgsz: size of the short side in pixels; None for the model's own.
            batch_size: maximum number of images in a batch. Only images with equal `batch_key` share one, so results
                do not depend on it, except for rounding.

        Returns:
            One `Detections` per image, in order, best score first; at most 100 boxes each. It holds the path and the
            size of its image.

        Raises:
            InputError: a prompt, an image or a number cannot be used.
            JobFailed: the model computes NaN or infinity.
        """

        if not 0 <= score_threshold <= 1:
            raise InputError(f"score_threshold is {score_threshold}; it must lie between 0 and 1.")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be 1 or more.")
        several = isinstance(images, Sequence) and not isinstance(images, (str, bytes))
        inputs: Sequence[ImageInput] = images if several else [images]  # type: ignore[assignment,list-item]
        prompts = _as_prompts(self, prompt)
        limits = DetectionLimits(score_threshold, max_detections=100)
        results: dict[int, Detections] = {}
        batcher: Batcher[tuple[int, PreparedImage]] = Batcher(batch_size)

        def detect(batch: Sequence[tuple[int, PreparedImage]]) -> None:
            found = self.detect([prepared for _, prepared in batch], prompts, limits)
            for (index, _), detections in zip(batch, found, strict=True):
                if not detections.is_finite():
                    raise JobFailed(f"Image {index}: {NOT_FINITE}.")
                results[index] = self.apply_floor(detections, score_threshold)

        origins = []
        for index, source in enumerate(inputs):
            image, path = _open(source)
            origins.append((path, (image.height, image.width)))
            prepared = self.prepare(image, self.imgsz if imgsz is None else imgsz)
            if batch := batcher.add(self.batch_key(prepared), (index, prepared)):
                detect(batch)
        for batch in batcher.rest():
            detect(batch)
        return [replace(results[index], path=path, size_hw=size) for index, (path, size) in enumerate(origins)]


class OpensDetector(Protocol):
    """A recipe for a detector that can be pickled: `DetectorSpec`, or a wrapper around one."""

    def open(self, on_download: OnDownload | None = None) -> ObjectDetector:
        """Opens the detector in this process."""
        ...


class OpenedOnce:
    """Opens a detector once per process. A copy sent to another process opens its own."""

    def __init__(self, spec: OpensDetector) -> None:
        self._spec = spec
        self._opened: ObjectDetector | None = None

    def __reduce__(self) -> tuple[type[OpenedOnce], tuple[OpensDetector]]:
        return OpenedOnce, (self._spec,)

    def open(self, on_download: OnDownload | None = None) -> ObjectDetector:
        """Returns the detector of this process, opened by the first call."""
        if self._opened is None:
            self._opened = self._spec.open(on_download)
        return self._opened


def _open(source: ImageInput) -> tuple[Image.Image, Path | None]:
    """Returns an image and its file; None for one from memory.

    Raises:
        InputError: it is a folder, or no image.
    """
    from glip.images import as_image

    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None and path.is_dir():
        raise InputError(
            f"The image is {str(path)!r}, a folder; `predict` takes images. glip.label labels a folder, and "
            f"sorted(Path(folder).glob('*.jpg')) lists its images for `predict`."
        )
    if path is None and (file := getattr(source, "filename", "")):
        path = Path(file)
    return as_image(source), path


def _as_prompts(detector: ObjectDetector, prompt: str | Sequence[str] | Prompt) -> Sequence[Prompt]:
    if isinstance(prompt, Prompt):
        return [prompt]
    if not isinstance(prompt, str):
        return detector.prompts_for(prompt)
    counts = Counter(split_names(prompt))
    if repeated := [name for name, count in counts.items() if count > 1]:
        logger.warning("Names given more than once are kept once: %s", ", ".join(repeated))
    return detector.prompts_for(list(counts))
