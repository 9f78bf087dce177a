"""A detector without a model: quick, and the same boxes for the same pixels, wherever and whenever it runs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from glip.detections import Detections
from glip.detectors.base import DetectionLimits, ObjectDetector
from glip.detectors.spec import DetectorSpec
from glip.images import ImageBatch, PreparedImage, collate, padded_hw, prepare, resized_hw
from glip.prompts import Prompt, PromptSet, Wording, tokenize

NAMES = ("person", "dog", "car")


def word_tokenizer() -> Tokenizer:
    words = ("[UNK]", "[CLS]", "[SEP]", ".", *NAMES, "hat", "犬")
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


@dataclass
class FakeDetector(ObjectDetector):
    """Invents boxes from the pixels of an image.

    Attributes:
        delay: seconds an image takes.
        fits: images that its memory holds at once.
        crowd_matters: the last digits of a score depend on the company in the batch, as on a GPU.
        fail: called before each batch.
        limits: of each successful batch.
        batches: how many images each successful batch had.
        journal: a file that gets a line for each batch.
    """

    delay: float = 0.0
    fits: int = 1000
    crowd_matters: bool = False
    fail: Callable[[ImageBatch], None] = lambda batch: None
    name: str = "fake"
    sha256: str = "f" * 64
    precision: str = "fp32"
    imgsz: int = 800
    conf: float = 0.3
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tokenizer: Tokenizer = field(default_factory=word_tokenizer)
    batches: list[int] = field(default_factory=list)
    limits: list[DetectionLimits] = field(default_factory=list)
    journal: Path | None = None
    nms_iou: float | None = 0.6
    max_tokens: int = 256
    score_rule: str = "invented"

    def open(self, on_download: object = None) -> FakeDetector:
        """Gives itself, so that it can stand for a spec."""
        return self

    def prompts_for(
        self, names: Sequence[str], *, wordings: Sequence[Wording] | None = None, names_per_prompt: int | None = None
    ) -> tuple[Prompt, ...]:
        return PromptSet.from_names(names, self.tokenizer, names_per_prompt, wordings).chunks

    def count_tokens(self, prompt: Prompt) -> int:
        return len(tokenize(prompt, self.tokenizer).input_ids)

    def resized_hw(self, size_hw: tuple[int, int], imgsz: int) -> tuple[int, int]:
        return resized_hw(size_hw, imgsz)

    def prepare(self, image: Image.Image, imgsz: int, size_hw: tuple[int, int] | None = None) -> PreparedImage:
        return prepare(image, imgsz, size_hw)

    def batch_key(self, image: PreparedImage) -> Hashable:
        return padded_hw(image.resized_hw)

    def detect(
        self, images: Sequence[PreparedImage], prompts: Sequence[Prompt], limits: DetectionLimits
    ) -> list[Detections]:
        found = self.detect_batch(collate(images), prompts)
        self.limits.append(limits)
        return found

    def detect_batch(self, batch: ImageBatch, prompts: Sequence[Prompt]) -> list[Detections]:
        self.fail(batch)
        if self.journal:
            with self.journal.open("a") as journal:
                journal.write(f"{len(batch.sizes_hw)}\n")
        if len(batch.sizes_hw) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        time.sleep(self.delay * len(batch.sizes_hw))
        self.batches.append(len(batch.sizes_hw))
        names = tuple(phrase for prompt in prompts for phrase in prompt.phrases)
        company = batch.pixels.double().sum().item() if self.crowd_matters else 0.0
        return [
            self._invent(batch.pixels[i, :, :h, :w], batch.original_sizes_hw[i], names, company)
            for i, (h, w) in enumerate(batch.sizes_hw)
        ]

    @staticmethod
    def _invent(pixels: torch.Tensor, size_hw: tuple[int, int], names: tuple[str, ...], company: float) -> Detections:
        seed = int(abs(pixels.double().sum().item()) * 1000)
        random = np.random.default_rng(seed)
        count = seed % 4
        corners = np.sort(random.random((count, 2, 2)), axis=1).reshape(count, 4)
        boxes = corners * np.array([size_hw[1], size_hw[0]] * 2)
        scores = -np.sort(-random.uniform(0.05, 1.0, count)) + (company % 1.0) * 1e-6
        labels = random.integers(0, len(names), count)
        return Detections(boxes.astype(np.float32), scores.astype(np.float32), labels, names)


def make_images(folder: Path, count: int, *, first: int = 0, suffix: str = "png") -> list[str]:
    """Noise in a few sizes, called p0.png, p1.png, …; returns the names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        height, width = [(30, 40), (40, 30), (36, 48)][number % 3]
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{number}.{suffix}")
        names.append(f"p{number}.{suffix}")
    return names


def final_bytes(out: Path) -> dict[str, bytes]:
    """What must not depend on how a run came about."""
    return {name: (out / name).read_bytes() for name in ("annotations.coco.json", "errors.jsonl")}


def start_command(words: Sequence[object], log: Path, **fake: Any) -> ForkServerProcess:
    """Runs `glip WORDS…` with a FakeDetector in a process of its own, that nothing ties to this one.

    Args:
        words: of the command.
        log: gets stdout and stderr.
        fake: for the FakeDetector.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=([str(word) for word in words], log, fake))
    process.start()
    return process


def _run(words: list[str], log: Path, fake: dict[str, Any]) -> None:
    from glip_cli.main import run

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115

    DetectorSpec.open = lambda spec, on_download=None: FakeDetector(**fake)  # type: ignore[method-assign,assignment]
    # Whoever runs the tests in the background hands on that interrupts are ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(words)


def wait_for(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    """Returns once `condition` is true; fails if that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
