"""Anchors of a small image, boxes on it, and outputs that no model made."""

from __future__ import annotations

import torch
from torch import Tensor

from glip.model.anchors import STRIDES, make_anchors
from glip.model.glip import RawOutputs

HEIGHT, WIDTH = 160, 224
SIZES_HW = [(-(-HEIGHT // stride), -(-WIDTH // stride)) for stride in STRIDES]
LEVEL_SIZES = tuple(h * w for h, w in SIZES_HW)
ANCHORS = make_anchors(SIZES_HW, torch.device("cpu"))


def random_boxes(count: int, seed: int = 0) -> Tensor:
    """(count, 4) boxes of 4 pixels to the image's size, inside it."""
    generator = torch.Generator().manual_seed(seed)
    limit = torch.tensor([WIDTH, HEIGHT])
    size = 4 + torch.rand(count, 2, generator=generator) * (limit - 5)
    corner = torch.rand(count, 2, generator=generator) * (limit - 1 - size)
    return torch.cat((corner, corner + size), dim=1)


# What annotation files hold now and then.
ODD_BOXES = {
    "outside": torch.tensor([[-900.0, -900.0, -500.0, -500.0], [5000.0, 40.0, 5100.0, 90.0]]),
    "partly outside": torch.tensor([[-50.0, -50.0, 60.0, 70.0], [100.0, 90.0, 900.0, 900.0]]),
    "far larger than the image": torch.tensor([[-1e6, -1e6, 1e6, 1e6]]),
    "far larger, to one side": torch.tensor([[-10.0, -10.0, 1e6, 1e6]]),
    "without area": torch.tensor([[50.0, 50.0, 50.0, 90.0], [51.5, 51.5, 51.5, 51.5]]),
    "turned inside out": torch.tensor([[90.0, 90.0, 20.0, 20.0], [50.0, 10.0, 49.0, 60.0]]),
    "thinner than a pixel": torch.tensor([[51.45, 10.0, 51.55, 100.0]]),
}


def random_outputs(batch: int, tokens: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> RawOutputs:
    """Outputs that gradients can reach."""
    generator = torch.Generator().manual_seed(seed)
    count = len(ANCHORS)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    return RawOutputs(random(batch, count, tokens), random(batch, count, 4), random(batch, count), ANCHORS, LEVEL_SIZES)
