"""Examples → tensors: a batch as the model and the criterion take it, made ahead by worker processes.

Knows examples and tokens. Knows nothing of the model's inside, of losses or of optimisers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from glip.data.examples import Example, ExampleStream
from glip.images import PreparedImage, collate
from glip.images.batch import as_it_is
from glip.prompts import tokenize_boxes
from glip.training.losses import Targets

PAD = 0  # id of [PAD]; the mask hides it, so any would do


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Images with their texts and what should be found.

    Attributes:
        pixels: (B, 3, H, W) normalised, padded with zeros at the right and the bottom.
        input_ids: (B, T) token ids, padded.
        mask: (B, T) True at real tokens.
        targets: (B).
    """

    pixels: Tensor
    input_ids: Tensor
    mask: Tensor
    targets: list[Targets]

    def to(self, device: torch.device) -> TrainingBatch:
        """The same on another device."""
        return replace(
            self,
            pixels=self.pixels.to(device, non_blocking=True),
            input_ids=self.input_ids.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            targets=[targets.to(device) for targets in self.targets],
        )


def make_batch(examples: Sequence[Example], tokenizer: Tokenizer) -> TrainingBatch:
    """One batch of examples as they are; images are padded to the largest, texts to the longest.

    A box that no token within reach spells is left out, and so is one that lies outside of its image.
    """
    images = [PreparedImage(as_it_is(one.image), (one.image.height, one.image.width)) for one in examples]
    texts = [tokenize_boxes(example.caption, example.spans, tokenizer) for example in examples]
    longest = max(len(text.input_ids) for text in texts)
    input_ids = torch.full((len(texts), longest), PAD)
    mask = torch.zeros(len(texts), longest, dtype=torch.bool)
    for row, text in enumerate(texts):
        input_ids[row, : len(text.input_ids)] = text.input_ids
        mask[row, : len(text.input_ids)] = True
    targets = [_targets(example, text.positive_map) for example, text in zip(examples, texts, strict=True)]
    return TrainingBatch(collate(images).pixels, input_ids, mask, targets)


def _targets(example: Example, positive_map: Tensor) -> Targets:
    boxes = torch.from_numpy(example.boxes).clone()
    # Both ends of a box lie inside it, as published: COCO's left + width is one pixel further.
    boxes[:, 2:] -= 1
    width, height = example.image.size
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width - 1)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height - 1)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (positive_map > 0).any(1)
    return Targets(boxes[kept], positive_map[kept])


@dataclass(frozen=True)
class Share:
    """Which positions of a stream one process learns from: at every step its part of the whole batch."""

    batch_size: int
    processes: int = 1
    process: int = 0

    def __post_init__(self) -> None:
        assert self.batch_size % self.processes == 0, f"a batch of {self.batch_size} for {self.processes} processes"

    def positions(self, step: int) -> range:
        """The positions of this process at a step, both from 0."""
        own = self.batch_size // self.processes
        start = step * self.batch_size + self.process * own
        return range(start, start + own)


class _Batches(Dataset[TrainingBatch]):
    def __init__(self, stream: ExampleStream, tokenizer: Tokenizer, share: Share) -> None:
        self.stream, self.tokenizer, self.share = stream, tokenizer, share

    def __getitem__(self, step: int) -> TrainingBatch:
        examples = [self.stream.example(position) for position in self.share.positions(step)]
        return make_batch(examples, self.tokenizer)


def read_batches(
    stream: ExampleStream, tokenizer: Tokenizer, share: Share, steps: range, workers: int = 0
) -> Iterator[TrainingBatch]:
    """The batches of some steps, in order. They do not depend on the number of workers.

    Args:
        stream: what to learn from.
        tokenizer: the model's.
        share: this process's part.
        steps: which.
        workers: processes that make batches ahead; 0: none, each is made when it is asked for.
    """
    options: dict[str, Any] = {"num_workers": workers, "batch_size": None, "sampler": steps}
    if workers:
        # Spawned, since a fork of a process with threads may hang; each keeps its images for the whole run.
        options |= {"multiprocessing_context": "spawn", "prefetch_factor": 2, "worker_init_fn": _start_worker}
    yield from DataLoader(_Batches(stream, tokenizer, share), **options)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
