"""Raw outputs + targets → losses: token focal, GIoU, centerness. Source: SPEC 11.1 to 11.3.

Knows tensors only: captions, files and the training loop are elsewhere.
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
    """What one image should give.

    Attributes:
        boxes: (N, 4) float, xyxy in pixels of the resized image and clipped to it. Both ends lie inside, so COCO's
            left, top, width, height are (left, top, left + width - 1, top + height - 1), scaled.
        positive_map: (N, T) not zero at the tokens that spell each box's phrase. T is the length of the image's own
            prompt or of the batch's longest.
    """

    boxes: Tensor
    positive_map: Tensor

    def __post_init__(self) -> None:
        boxes, spelled = tuple(self.boxes.shape), tuple(self.positive_map.shape)
        assert boxes == (len(self.boxes), 4) and len(spelled) == 2, f"boxes {boxes}, positive map {spelled}"
        assert boxes[0] == spelled[0], f"{boxes[0]} boxes have {spelled[0]} rows in the positive map"

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        return Targets(self.boxes.to(device), self.positive_map.to(device))


class Losses(NamedTuple):
    """Scalars; `total` is the sum of the other three and what learns."""

    total: Tensor
    alignment: Tensor
    box: Tensor
    centerness: Tensor


def alone(values: Tensor) -> Tensor:
    """The mean over processes, of which there is one."""
    return values


@dataclass(frozen=True)
class Criterion:
    """How far a batch is from its targets."""

    # Gives the mean of a small tensor over all processes; every process calls it once a batch.
    mean_over_processes: Callable[[Tensor], Tensor] = alone

    def __call__(self, outputs: RawOutputs, targets: Sequence[Targets], mask: Tensor | None = None) -> Losses:
        """Compares, in float32 or better.

        That holds under autocast as well: it lowers matrix products and convolutions, and there are none here.

        Args:
            outputs: of B images.
            targets: one for each of them.
            mask: (B, T) True at real tokens; only those count. None if all are.
        """
        assert len(targets) == len(outputs.alignment), f"{len(outputs.alignment)} images, {len(targets)} targets"
        owners = [assign(at_least_float32(t.boxes), outputs.anchors, outputs.level_sizes) for t in targets]
        positive = torch.stack(owners) >= 0
        anchors = outputs.anchors.expand(len(targets), -1, -1)[positive]
        boxes = torch.cat([t.boxes[owner[owner >= 0]] for t, owner in zip(targets, owners, strict=True)])
        # Published: there and back through the code, which limits how much larger than its anchor a box can be.
        boxes = decode(encode(at_least_float32(boxes), anchors), anchors)
        centered = centerness_targets(anchors, boxes)
        # Averaged over processes, so that their mean gradient is the one of a single large batch.
        norms = self.mean_over_processes(torch.stack((positive.sum().to(centered.dtype), centered.sum())))
        count, weight = norms[0].clamp(min=1), norms[1].clamp(min=torch.finfo(norms.dtype).tiny)

        alignment = _alignment_loss(outputs.alignment, targets, owners, mask) / count
        found = decode(at_least_float32(outputs.deltas[positive]), anchors)
        box = BOX_WEIGHT * (centered * _giou_loss(found, boxes)).sum() / weight
        logits = at_least_float32(outputs.centerness[positive])
        centerness = F.binary_cross_entropy_with_logits(logits, centered, reduction="sum") / count
        return Losses(alignment + box + centerness, alignment, box, centerness)


def centerness_targets(anchors: Tensor, boxes: Tensor) -> Tensor:
    """How near the middle of its box each anchor's centre is.

    Args:
        anchors: (K, 4) whose centres lie inside their boxes.
        boxes: (K, 4).

    Returns:
        (K,) in [0, 1]: 1 in the middle, 0 on a side.
    """
    sides = distances_to_sides(anchors, boxes).unflatten(-1, (2, 2))  # ((left, top), (right, bottom))
    return (sides.amin(1) / sides.amax(1)).clamp(min=0).prod(-1).sqrt()


def token_targets(owner: Tensor, positive_map: Tensor, tokens: int) -> Tensor:
    """What each anchor should say of each token.

    Args:
        owner: (A,) row of the positive map, -1 for an anchor without a box.
        positive_map: (N, at most T).
        tokens: T.

    Returns:
        (A, T) float 0 or 1.
    """
    # Published: the loss sees 0 and 1, although the map is normalised by rows before.
    spelled = F.pad((positive_map > 0).float(), (0, tokens - positive_map.shape[1]))
    nothing = spelled.new_zeros(1, tokens)
    if tokens == MAX_TOKENS:
        # Published: "no object" is the last of 256 positions. Nearly always padding there, which the mask leaves out,
        # so a shorter text does without; a caption that fills all positions does learn it.
        nothing[0, -1] = 1
    return torch.cat((spelled, nothing))[owner]


def _alignment_loss(
    alignment: Tensor, targets: Sequence[Targets], owners: Sequence[Tensor], mask: Tensor | None
) -> Tensor:
    """Sum of the focal loss over every anchor and real token of (B, A, T) logits."""
    losses = []
    for index, (logits, target, owner) in enumerate(zip(alignment, targets, owners, strict=True)):
        truth = token_targets(owner, target.positive_map, alignment.shape[2])
        if mask is not None:
            logits, truth = logits[:, mask[index]], truth[:, mask[index]]
        logits = at_least_float32(logits)
        losses.append(sigmoid_focal_loss(logits, truth.to(logits.dtype), FOCAL_ALPHA, FOCAL_GAMMA, reduction="sum"))
    return torch.stack(losses).sum()


def _giou_loss(found: Tensor, boxes: Tensor) -> Tensor:
    """1 - GIoU of (K, 4) with (K, 4), as continuous boxes: (K,)."""
    # Published: a box that is turned inside out has no area.
    found = torch.cat((found[:, :2], torch.maximum(found[:, :2], found[:, 2:])), dim=1)
    return generalized_box_iou_loss(found, boxes)
