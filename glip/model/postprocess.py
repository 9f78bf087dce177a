"""Raw outputs + positive map → boxes, scores, phrase numbers. Source: SPEC 9.

Boxes stay in the original's convention here: xyxy in pixels of the resized image, both ends inside, clipped to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from glip.boxes import class_wise_nms, clip_boxes_tensor
from glip.model.anchors import decode
from glip.model.glip import RawOutputs

Aggregate = Literal["mean", "max", "geometric"]


@dataclass(frozen=True)
class Selection:
    """Which predictions become detections; the defaults are the published ones for COCO and ODinW."""

    # A phrase's score must be above this to be a candidate, before centerness is multiplied in.
    candidate_threshold: float = 0.05
    # Best candidates kept per level, by phrase score times centerness.
    pre_nms: int = 1000
    # Overlap above which the worse box of a phrase goes; None keeps all candidates.
    nms_iou: float | None = 0.6
    # Best detections kept per image (ties of the last one stay, as published); None keeps all. LVIS uses 300.
    max_detections: int | None = 100
    # How a phrase's score is made of its tokens' probabilities.
    aggregate: Aggregate = "mean"
    # Where a long class list runs in chunks: apply `max_detections` to each chunk (the published LVIS protocol) instead
    # of once after all chunks are merged.
    limit_per_chunk: bool = False


PUBLISHED = Selection()


class Found(NamedTuple):
    """Detections of one image, best first: boxes (N, 4), scores (N,), labels (N,) that number phrases from 0."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def select(
    outputs: RawOutputs, positive_map: Tensor, sizes_hw: list[tuple[int, int]], selection: Selection = PUBLISHED
) -> list[Found]:
    """Chooses the detections of every image of a batch.

    Args:
        outputs: of B images.
        positive_map: (P, T), non-zero where a token spells a phrase; no row is empty.
        sizes_hw: per image, height and width after resizing and before padding: where boxes are clipped.
        selection: thresholds and limits.
    """
    scores = phrase_scores(outputs.alignment, positive_map, selection.aggregate)
    image, found = _candidates(outputs, scores, sizes_hw, selection)
    if selection.nms_iou is not None:
        # A phrase of one image is another class than the same phrase of the next: all images go through at once.
        keep = survivors(found, found.labels + image * scores.shape[2], selection.nms_iou)
        image, found = image[keep], Found(*(values[keep] for values in found))
    order = image.argsort(stable=True)
    counts = image.bincount(minlength=len(sizes_hw)).tolist()
    parts = zip(*(values[order].split(counts) for values in found), strict=True)
    return [limit(Found(*part), selection.max_detections) for part in parts]


def phrase_scores(alignment: Tensor, positive_map: Tensor, aggregate: Aggregate) -> Tensor:
    """(B, A, T) logits and (P, T) positive map to (B, A, P) probabilities of the phrases."""
    probabilities = alignment.sigmoid()
    if aggregate == "mean":
        weights = (positive_map != 0).to(probabilities.dtype)
        return probabilities @ (weights / weights.sum(1, keepdim=True)).t()
    tokens = [probabilities[..., row.nonzero()[:, 0]] for row in positive_map]
    if aggregate == "max":
        return torch.stack([p.amax(-1) for p in tokens], dim=-1)
    return torch.stack([p.prod(-1) ** (1 / p.shape[-1]) for p in tokens], dim=-1)


def merge(parts: list[Found], label_offsets: list[int] | None = None) -> Found:
    """Joins detections of several levels or chunks; chunk k's labels are shifted by `label_offsets[k]`."""
    offsets = label_offsets or [0] * len(parts)
    scores = torch.cat([part.scores for part in parts])
    order = scores.argsort(descending=True, stable=True)
    boxes = torch.cat([part.boxes for part in parts])
    labels = torch.cat([part.labels + offset for part, offset in zip(parts, offsets, strict=True)])
    return Found(boxes[order], scores[order], labels[order])


def survivors(found: Found, classes: Tensor, iou_threshold: float) -> Tensor:
    """Indices of what stays if overlapping boxes of one class compete, with the original's widths (x2 - x1 + 1)."""
    ends = found.boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    return class_wise_nms(found.boxes + ends, found.scores, classes, iou_threshold)


def limit(found: Found, count: int | None) -> Found:
    """The `count` best; more if the last of them ties with others, as published. `found` is sorted."""
    if count is None or len(found.scores) <= count:
        return found
    keep = found.scores >= found.scores[count - 1]
    return Found(*(values[keep] for values in found))


def without_limits(selection: Selection) -> Selection:
    """The selection for one chunk of several: everything it finds goes into the merge, which then limits once."""
    return selection if selection.limit_per_chunk else replace(selection, max_detections=None)


def _candidates(
    outputs: RawOutputs, scores: Tensor, sizes_hw: list[tuple[int, int]], selection: Selection
) -> tuple[Tensor, Found]:
    """The best anchor-phrase pairs (of scores (B, A, P)) of every level of every image, and whose image each is.

    All images and levels at once: on a GPU every question of how many there are makes the processor wait.
    """
    image, anchor, label = (scores > selection.candidate_threshold).nonzero(as_tuple=True)
    ranked = scores[image, anchor, label] * outputs.centerness[image, anchor].sigmoid()
    best = _best_of_levels(ranked, image, anchor, outputs.level_sizes, selection.pre_nms)
    best = best[ranked[best].argsort(descending=True, stable=True)]
    image, anchor, label, ranked = image[best], anchor[best], label[best], ranked[best]
    boxes = decode(outputs.deltas[image, anchor], outputs.anchors[anchor])
    last_hw = torch.tensor(sizes_hw, device=boxes.device) - 1
    return image, Found(clip_boxes_tensor(boxes, last_hw[image]), ranked.sqrt(), label)


def _best_of_levels(ranked: Tensor, image: Tensor, anchor: Tensor, level_sizes: tuple[int, ...], count: int) -> Tensor:
    """Indices, ascending, of the `count` best of each level of each image."""
    if len(ranked) <= count:
        return torch.arange(len(ranked), device=ranked.device)
    ends = torch.tensor(level_sizes, device=anchor.device).cumsum(0)
    group = image * len(level_sizes) + torch.bucketize(anchor, ends, right=True)
    order = ranked.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    counts = group.bincount()
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[group[order]]
    best: Tensor = order[rank < count].sort().values
    return best
