"""Turns examples into training batches, ahead of time in worker processes.

Knows examples and tokens. Knows nothing of the model's parts, of how losses are computed, or of optimisers.
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

PAD = 0  # id of [PAD]; the mask hides it, so any id would do


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Images, their captions and their targets.

    Attributes:
        pixels: (B, 3, H, W) normalised, padded with zeros on the right and at the bottom.
        input_ids: (B, T) token ids, padded.
        mask: (B, T) True at real tokens.
        targets: (B).
    """

    pixels: Tensor
    input_ids: Tensor
    mask: Tensor
    targets: list[Targets]

    def to(self, device: torch.device) -> TrainingBatch:
        """Returns the batch on another device."""
        return replace(
            self,
            pixels=self.pixels.to(device, non_blocking=True),
            input_ids=self.input_ids.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            targets=[targets.to(device) for targets in self.targets],
        )


def make_batch(examples: Sequence[Example], tokenizer: Tokenizer) -> TrainingBatch:
    """Returns a batch of examples; images are padded to the largest, captions to the longest.

    Drops boxes outside their image, and boxes whose phrase lies beyond the token limit of the caption.
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
    # As published, both ends of a box lie inside it; COCO's left + width is one pixel further.
    boxes[:, 2:] -= 1
    width, height = example.image.size
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width - 1)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height - 1)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (positive_map > 0).any(1)
    return Targets(boxes[kept], positive_map[kept])


@dataclass(frozen=True)
class Share:
    """The part of every batch that one process trains on.

    Attributes:
        batch_size: images per step over all processes; a multiple of `world_size`.
        world_size: number of processes.
        rank: index of this process.
    """

    batch_size: int
    world_size: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        assert self.batch_size % self.world_size == 0, f"a batch of {self.batch_size} for {self.world_size} processes"

    def positions(self, step: int) -> range:
        """Returns the positions in the stream that this process reads at a step, both counted from 0."""
        own = self.batch_size // self.world_size
        start = step * self.batch_size + self.rank * own
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
    """Yields the batches of some steps, in order. They do not depend on the number of workers.

    Args:
        stream: the training examples.
        tokenizer: the model's.
        share: this process's part of every batch.
        steps: indices of the batches.
        workers: processes that prepare batches ahead; 0: each batch is made in this process when it is needed.
    """
    options: dict[str, Any] = {"num_workers": workers, "batch_size": None, "sampler": steps}
    if workers:
        # Spawned, because forking a process with threads may deadlock.
        options |= {"multiprocessing_context": "spawn", "prefetch_factor": 2, "worker_init_fn": _start_worker}
    yield from DataLoader(_Batches(stream, tokenizer, share), **options)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
