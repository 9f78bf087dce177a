"""Turns raw outputs and targets into losses: token focal loss, GIoU, centerness.

Source: paper section 3.1, arXiv:2112.03857; the constants are listed in docs/training.md, "Losses". Knows tensors only:
nothing of captions, files or the training loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from glip.model.anchors import decode, encode
from glip.model.glip import RawOutputs
from glip.model.precision import at_least_float32
from glip.prompts import MAX_TOKENS
from glip.training.assigner import assign, distances_to_sides

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
BOX_WEIGHT = 2.0


@dataclass(frozen=True)
class Targets:
    """The annotated boxes of one training image.

    Attributes:
        boxes: (N, 4) float, xyxy in pixels of the resized image and clipped to it. Both ends lie inside the box, so
            COCO's (left, top, width, height) becomes (left, top, left + width - 1, top + height - 1), scaled.
        positive_map: (N, T) nonzero at the tokens that spell each box's phrase. T is the length of the image's own
            caption or of the longest caption of the batch.
    """

    boxes: Tensor
    positive_map: Tensor

    def __post_init__(self) -> None:
        boxes, positive_map = tuple(self.boxes.shape), tuple(self.positive_map.shape)
        assert boxes == (len(self.boxes), 4) and len(positive_map) == 2, f"boxes {boxes}, positive map {positive_map}"
        assert boxes[0] == positive_map[0], f"{boxes[0]} boxes have {positive_map[0]} rows in the positive map"

    def to(self, device: torch.device | str) -> Targets:
        """Returns the targets on another device."""
        return Targets(self.boxes.to(device), self.positive_map.to(device))


class Losses(NamedTuple):
    """Scalar losses of a batch. `total` is the sum of the other three; its gradient trains the model."""

    total: Tensor
    alignment: Tensor
    box: Tensor
    centerness: Tensor


def single_process(values: Tensor) -> Tensor:
    """Returns the mean over processes when there is only one: the values themselves."""
    return values


@dataclass(frozen=True)
class Criterion:
    """Computes the losses of a batch.

    Attributes:
        mean_over_processes: returns the mean of a small tensor over all processes. Every process calls it exactly once
            per batch, also for a batch without boxes.
    """

    mean_over_processes: Callable[[Tensor], Tensor] = single_process

    def __call__(self, outputs: RawOutputs, targets: Sequence[Targets], mask: Tensor | None = None) -> Losses:
        """Returns the losses in float32 or better.

        This holds under autocast too: autocast lowers matrix products and convolutions, and the losses have none.

        Args:
            outputs: of B images.
            targets: (B).
            mask: (B, T) True at real tokens; only those count. None: all tokens are real.
        """
        assert len(targets) == len(outputs.alignment), f"{len(outputs.alignment)} images, {len(targets)} targets"
        owners = [assign(at_least_float32(t.boxes), outputs.anchors, outputs.level_sizes) for t in targets]
        positive = torch.stack(owners) >= 0
        anchors = outputs.anchors.expand(len(targets), -1, -1)[positive]
        boxes = torch.cat([t.boxes[owner[owner >= 0]] for t, owner in zip(targets, owners, strict=True)])
        # As published: targets pass through encode and decode, which limits how much a box can exceed its anchor.
        boxes = decode(encode(at_least_float32(boxes), anchors), anchors)
        centered = centerness_targets(anchors, boxes)
        # Averaged over processes, so that the mean of their gradients equals the gradient of one large batch.
        norms = self.mean_over_processes(torch.stack((positive.sum().to(centered.dtype), centered.sum())))
        count, weight = norms[0].clamp(min=1), norms[1].clamp(min=torch.finfo(norms.dtype).tiny)

        alignment = _alignment_loss(outputs.alignment, targets, owners, mask) / count
        predicted = decode(at_least_float32(outputs.deltas[positive]), anchors)
        box = BOX_WEIGHT * (centered * _giou_loss(predicted, boxes)).sum() / weight
        logits = at_least_float32(outputs.centerness[positive])
        centerness = F.binary_cross_entropy_with_logits(logits, centered, reduction="sum") / count
        return Losses(alignment + box + centerness, alignment, box, centerness)


def centerness_targets(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Returns the centerness that each positive anchor should predict. Source: FCOS, arXiv:1904.01355, equation 3.

    Args:
        anchors: (K, 4) whose centres lie inside their boxes.
        boxes: (K, 4).

    Returns:
        (K,) in [0, 1]: 1 if the anchor's centre is the centre of its box, 0 if it lies on a side.
    """
    sides = distances_to_sides(anchors, boxes).unflatten(-1, (2, 2))  # ((left, top), (right, bottom))
    return (sides.amin(1) / sides.amax(1)).clamp(min=0).prod(-1).sqrt()


def token_targets(owner: Tensor, positive_map: Tensor, tokens: int) -> Tensor:
    """Returns which tokens each anchor should align with.

    Args:
        owner: (A,) row index in the positive map, -1 for an anchor without a box.
        positive_map: (N, at most T).
        tokens: T.

    Returns:
        (A, T) float 0 or 1.
    """
    # As published: the loss uses 0 and 1, although the rows of the map are normalised elsewhere.
    spelled = F.pad((positive_map > 0).float(), (0, tokens - positive_map.shape[1]))
    no_object = spelled.new_zeros(1, tokens)
    if tokens == MAX_TOKENS:
        # As published: "no object" is the last of 256 positions. That position is almost always padding, which the
        # mask excludes, so shorter captions need no such column; a caption that fills all positions does train it.
        no_object[0, -1] = 1
    return torch.cat((spelled, no_object))[owner]


def _alignment_loss(
    alignment: Tensor, targets: Sequence[Targets], owners: Sequence[Tensor], mask: Tensor | None
) -> Tensor:
    """Returns the sum of the focal loss over all anchors and real tokens of (B, A, T) logits."""
    losses = []
    for index, (logits, target, owner) in enumerate(zip(alignment, targets, owners, strict=True)):
        truth = token_targets(owner, target.positive_map, alignment.shape[2])
        if mask is not None:
            logits, truth = logits[:, mask[index]], truth[:, mask[index]]
        logits = at_least_float32(logits)
        losses.append(sigmoid_focal_loss(logits, truth.to(logits.dtype), FOCAL_ALPHA, FOCAL_GAMMA, reduction="sum"))
    return torch.stack(losses).sum()


def _giou_loss(predicted: Tensor, boxes: Tensor) -> Tensor:
    """Returns (K,) 1 - GIoU of (K, 4) and (K, 4) boxes, with widths of x2 - x1."""
    # As published: a box whose right side lies left of its left side has no area.
    predicted = torch.cat((predicted[:, :2], torch.maximum(predicted[:, :2], predicted[:, 2:])), dim=1)
    return generalized_box_iou_loss(predicted, boxes)
