"""DetectorSpec: which detector to open, and how. Frozen and picklable, so that it can be sent to another process.

Imports no torch: a wrong word is refused before anything heavy is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from glip.errors import InputError
from glip.weights.locate import check_model

if TYPE_CHECKING:
    from glip.detectors.base import ObjectDetector, OnDownload

# The families of detectors: how a model's name begins ('hub:…'), and the module whose `open_detector(spec,
# on_download)` opens it. Names without a known prefix are GLIP checkpoints.
FAMILIES: dict[str, str] = {}
GLIP_FAMILY = "glip.detectors.glip"

PRECISIONS = ("fp32", "bf16", "fp16")
GPU_BATCH = 8  # default number of images in a batch on a GPU
MIN_IMGSZ, MAX_IMGSZ = 32, 4096  # pixels of the short side
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class DetectorSpec:
    """Which detector to open, and how.

    Attributes:
        model: name of a checkpoint (`glip models list`), a model folder, or a published `.pth` file.
        adapter: adapter file written by `glip finetune`, applied to the model; None for the model alone.
        device: auto, cpu, mps, cuda or cuda:N. `auto` takes CUDA, then MPS, then the CPU.
        precision: fp32, bf16 or fp16.
        compiled: compile the backbone with `torch.compile`. The first image of each size then takes a minute or more;
            results are equal up to rounding. `glip bench --against compiled` measures the gain.
        offline: never use the network.

    Raises:
        InputError: `device` or `precision` is not one of these words.
    """

    model: str = "glip-t"
    adapter: Path | None = None
    device: str = "auto"
    precision: str = "fp32"
    compiled: bool = False
    offline: bool = False

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise InputError(f"device is {self.device!r}; accepted are auto, cpu, mps, cuda and cuda:N.")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision is {self.precision!r}; accepted are {', '.join(PRECISIONS)}.")

    def open(self, on_download: OnDownload | None = None) -> ObjectDetector:
        """Opens the detector in this process, downloading the checkpoint the first time.

        Raises:
            InputError: the model, the adapter, the device or the precision cannot be used.
            JobFailed: a download failed.
        """
        module = FAMILIES.get(self.model.partition(":")[0], GLIP_FAMILY)
        if module == GLIP_FAMILY:
            check_model(self.model, offline=self.offline, adapter=self.adapter)
        detector: ObjectDetector = import_module(module).open_detector(self, on_download)
        return detector


@dataclass(frozen=True)
class InferenceOptions:
    """How images run through a detector; shared by labelling, evaluation and finetuning.

    Attributes:
        imgsz: size in pixels to which the short side of an image is resized; None for the model's own.
        batch: maximum number of images that run together; None for 8 on a GPU and 1 elsewhere.

    Raises:
        InputError: a value is out of range.
    """

    imgsz: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.imgsz is not None and not (isinstance(self.imgsz, Integral) and MIN_IMGSZ <= self.imgsz <= MAX_IMGSZ):
            raise InputError(f"imgsz is {self.imgsz!r}; it must be a whole number from {MIN_IMGSZ} to {MAX_IMGSZ}.")
        if self.batch is not None and self.batch < 1:
            raise InputError(f"batch is {self.batch}; it must be 1 or more.")

    def imgsz_for(self, detector: ObjectDetector) -> int:
        """Returns the size of the short side in pixels for this detector."""
        return self.imgsz or detector.imgsz

    def batch_for(self, detector: ObjectDetector) -> int:
        """Returns the maximum number of images that run together on the detector's device."""
        return self.batch or (GPU_BATCH if detector.device.type == "cuda" else 1)


def load_detector(
    name_or_path: str | Path = "glip-t",
    *,
    adapter: Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    compiled: bool = False,
    offline: bool = False,
    on_download: OnDownload | None = None,
) -> ObjectDetector:
    """Opens a detector, downloading the checkpoint the first time.

    Args:
        name_or_path: name of a checkpoint (`glip models list`), a model folder, or a published `.pth` file.
        adapter, device, precision, compiled, offline: see `DetectorSpec`.
        on_download: called with the file being downloaded, bytes so far, and bytes in all (None if unknown).

    Raises:
        InputError: the model, the adapter, the device or the precision cannot be used.
        JobFailed: a download failed.
    """
    spec = DetectorSpec(str(name_or_path), adapter, device, precision, compiled, offline)
    return spec.open(on_download)
