"""Compares the speed of prompt tuning with and without cached features, and checks that both learn the same.

    python -m benchmarks.tuning --architecture glip-t --imgsz 416 --batch 1
    python -m benchmarks.tuning --model nano/ --shots 1 3

Four ways to do the same steps, from the same initial weights, on the same images:

    original   the published order of operations: backbone and text encoder in every step, texts padded to 256 tokens,
               attention computed twice (checkpointed), torchvision's deformable convolution
    plain      this project's model; backbone and text encoder in every step
    cached     as in `glip finetune`
    reversed   plain, with the images of each batch in the opposite order: the same sum in another order

Prints seconds per step (median of processor time and wall time) and the largest difference of the loss from `plain`.
Without --model, the weights are pseudo-random. Images are drawn: coloured rectangles on noise. With fewer images
than a batch holds, as in few-shot recipes, `cached` computes each image once; the others compute it once per copy. If
`reversed` differs from `plain` as much as `cached` does, the difference is rounding, which the steps amplify; --float64
removes it.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from glip.data.examples import Example
from glip.model.dyhead import DeformConv
from glip.model.fusion import ImageTextAttention
from glip.prompts import MAX_TOKENS
from glip.training.batches import Share, TrainingBatch, read_batches
from glip.training.feature_cache import FeatureStore, FrozenParts, keyed
from glip.training.finetune import load_base
from glip.training.loop import Batches, fit, forward_pixels
from glip.training.recipes import recipe_for
from glip.training.settings import FitSettings, Schedule
from glip.weights.folder import ModelFolder, load_model_folder
from glip.weights.random_weights import random_model

NAMES = ("red", "green", "blue")
_RGB = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230)}


@dataclass(frozen=True)
class Drawn:
    """A stream that repeats a few images."""

    count: int
    size_wh: tuple[int, int]

    @property
    def epoch_length(self) -> int:
        """Returns the number of images."""
        return self.count

    def example(self, position: int) -> Example:
        """Returns an example; see `ExampleStream`."""
        number = position % self.count
        rng = random.Random(number)
        width, height = self.size_wh
        noise = np.random.default_rng(number).integers(90, 150, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(noise)
        boxes, spans, caption = [], [], ". ".join(NAMES)
        for name in NAMES:
            side = rng.randint(height // 6, height // 3)
            left, top = rng.randint(0, width - side), rng.randint(0, height - side)
            ImageDraw.Draw(image).rectangle((left, top, left + side - 1, top + side - 1), fill=_RGB[name])
            boxes.append((left, top, left + side, top + side))
            spans.append(((caption.index(name), caption.index(name) + len(name)),))
        return Example(image, caption, np.array(boxes, np.float32), tuple(spans))


@dataclass(frozen=True)
class Measured:
    """Results of one way: the loss, processor time and wall time of every step."""

    losses: list[float]
    cpu: list[float]
    wall: list[float]


def run(
    folder: ModelFolder,
    batches: Batches,
    steps: int,
    store: FeatureStore | None = None,
    dtype: torch.dtype = torch.float32,
) -> Measured:
    """Tunes a prompt with the published learning rates and without validation."""
    model = load_base(folder).to(dtype)
    batches = with_pixels(batches, dtype)
    recipe = recipe_for("prompt", 1)
    settings = FitSettings(
        Schedule(steps, warmup=0, milestones=()), "prompt", recipe.rates, average=0, log_every=1, save_every=0
    )
    marks = [(time.process_time(), time.perf_counter())]

    def mark(done: int) -> None:
        marks.append((time.process_time(), time.perf_counter()))

    with tempfile.TemporaryDirectory() as out:
        if store is None:
            fitted = fit(model, batches, settings, Path(out), forward=forward_pixels, advance=mark)
        else:
            parts = FrozenParts("prompt", store)
            fitted = fit(model, keyed(batches), settings, Path(out), forward=parts.forward, advance=mark)
    pairs = list(pairwise(marks))
    return Measured(
        [row["loss"] for row in fitted.rows], [b[0] - a[0] for a, b in pairs], [b[1] - a[1] for a, b in pairs]
    )


def padded(batches: Batches) -> Batches:
    """Pads texts to 256 tokens."""

    def with_padding(steps: range) -> Iterator[TrainingBatch]:
        for batch in batches(steps):
            more = (0, MAX_TOKENS - batch.input_ids.shape[1])
            yield replace(batch, input_ids=F.pad(batch.input_ids, more), mask=F.pad(batch.mask, more))

    return with_padding


def with_pixels(batches: Batches, dtype: torch.dtype) -> Batches:
    """Converts images to a precision."""

    def converted(steps: range) -> Iterator[TrainingBatch]:
        for batch in batches(steps):
            yield replace(batch, pixels=batch.pixels.to(dtype))

    return converted


def backwards(batches: Batches) -> Batches:
    """Reverses the images of each batch."""

    def turned(steps: range) -> Iterator[TrainingBatch]:
        for batch in batches(steps):
            yield TrainingBatch(batch.pixels.flip(0), batch.input_ids.flip(0), batch.mask.flip(0), batch.targets[::-1])

    return turned


@contextmanager
def original_order() -> Iterator[None]:
    """Makes models created inside use the published order of operations, with attention computed twice."""

    def attention(self: ImageTextAttention, image: Tensor, text: Tensor, mask: Tensor | None = None) -> object:
        return checkpoint(self.plain, image, text, mask, use_reentrant=False)

    with patch.object(ImageTextAttention, "forward", attention), patch.object(DeformConv, "plain_form", True):
        yield


def show(name: str, measured: Measured, plain: Measured, cached: Measured) -> None:
    """Returns a line of the table."""
    difference = max(abs(a - b) for a, b in zip(measured.losses, plain.losses, strict=False))
    cpu, wall = median(measured.cpu), median(measured.wall)
    print(
        f"{name:<9} {len(measured.losses):>5} {cpu:>10.3f} {wall:>10.3f} {cpu / median(cached.cpu):>10.1f} "
        f"{wall / median(cached.wall):>10.1f} {difference:>12.1e}",
        flush=True,
    )


def compare(folder: ModelFolder, shots: int, words: argparse.Namespace) -> None:
    """Prints the table for one number of images."""
    size_wh = (round(words.imgsz * 1.6 / 32) * 32, words.imgsz)
    stream, tokenizer = Drawn(shots, size_wh), folder.tokenizer()

    def batches(steps: range) -> Iterator[TrainingBatch]:
        return read_batches(stream, tokenizer, Share(words.batch), steps)

    print(f"{shots} images of {size_wh[0]} × {size_wh[1]}, batches of {words.batch}, {words.steps} steps")
    print(f"{'':<9} {'steps':>5} {'cpu s':>10} {'wall s':>10} {'× cpu':>10} {'× wall':>10} {'difference':>12}")
    store = FeatureStore()
    dtype = torch.float64 if words.float64 else torch.float32
    cached = run(folder, batches, words.steps, store, dtype)
    plain = run(folder, batches, words.steps, dtype=dtype)
    show("cached", cached, plain, cached)
    show("plain", plain, plain, cached)
    if words.batch > 1:
        show("reversed", run(folder, backwards(batches), words.steps, dtype=dtype), plain, cached)
    if words.original_steps:
        with original_order():
            original = run(folder, padded(batches), words.original_steps, dtype=dtype)
        show("original", original, plain, cached)
    print(f"loss {plain.losses[0]:.4f} → {plain.losses[-1]:.4f}; images seen {store.misses} times", flush=True)


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, help="model folder; default: pseudo-random weights")
    parser.add_argument("--architecture", default="glip-t", help="architecture of pseudo-random weights")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--original-steps", type=int, default=5, help="steps in the original order; 0 for none")
    parser.add_argument("--batch", type=int, default=4, help="images per step; published: 4")
    parser.add_argument("--imgsz", type=int, default=416, help="short side of images in pixels, a multiple of 32")
    parser.add_argument("--float64", action="store_true", help="compute in float64")
    parser.add_argument("--threads", type=int, default=None)
    words = parser.parse_args()
    if words.threads:
        torch.set_num_threads(words.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = load_model_folder(words.model) if words.model else random_model(Path(place) / "m", words.architecture)
        for shots in words.shots:
            compare(folder, shots, words)


if __name__ == "__main__":
    main()
