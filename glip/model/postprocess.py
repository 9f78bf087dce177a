"""Selects detections: raw outputs and a positive map → boxes, scores and phrase indices.

Boxes are inclusive here, as in the original: xyxy in pixels of the resized image, both ends inside, clipped to it.
Source: `docs/model.md`, "Post-processing".
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
    """How predictions become detections. The defaults are the published ones for COCO and ODinW."""

    # A candidate's phrase score must be above this, before it is multiplied by centerness.
    candidate_threshold: float = 0.05
    # Maximum number of candidates per level, best first by phrase score times centerness.
    pre_nms: int = 1000
    # IoU above which the worse of two boxes of a phrase is dropped; None keeps all candidates.
    nms_iou: float | None = 0.6
    # Maximum number of detections per image (ties with the last are kept); None keeps all. LVIS: 300.
    max_detections: int | None = 100
    # How the probabilities of a phrase's tokens are combined to its score.
    aggregate: Aggregate = "mean"
    # For a class list that runs in chunks: apply `max_detections` to each chunk, as the published LVIS protocol does,
    # instead of once after the chunks are merged.
    limit_per_chunk: bool = False


PUBLISHED = Selection()


class ScoredBoxes(NamedTuple):
    """Detections of one image, best first: boxes (N, 4), scores (N,), labels (N,), which are 0-based phrase indices."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def select(
    outputs: RawOutputs, positive_map: Tensor, sizes_hw: list[tuple[int, int]], selection: Selection = PUBLISHED
) -> list[ScoredBoxes]:
    """Returns the detections of every image of a batch.

    Args:
        outputs: of B images.
        positive_map: (P, T), non-zero where a token spells a phrase; no row is empty.
        sizes_hw: height and width of each image after resizing and before padding; boxes are clipped to it.
        selection: thresholds and limits.
    """
    scores = phrase_scores(outputs.alignment, positive_map, selection.aggregate)
    image, found = _candidates(outputs, scores, sizes_hw, selection)
    if selection.nms_iou is not None:
        # All images at once: a phrase of one image counts as another class than the same phrase of the next.
        keep = inclusive_nms(found, found.labels + image * scores.shape[2], selection.nms_iou)
        image, found = image[keep], ScoredBoxes(*(values[keep] for values in found))
    order = image.argsort(stable=True)
    counts = image.bincount(minlength=len(sizes_hw)).tolist()
    parts = zip(*(values[order].split(counts) for values in found), strict=True)
    return [limit(ScoredBoxes(*part), selection.max_detections) for part in parts]


def phrase_scores(alignment: Tensor, positive_map: Tensor, aggregate: Aggregate) -> Tensor:
    """Returns (B, A, P) scores of the phrases, given (B, A, T) logits and the (P, T) positive map."""
    probabilities = alignment.sigmoid()
    if aggregate == "mean":
        weights = (positive_map != 0).to(probabilities.dtype)
        return probabilities @ (weights / weights.sum(1, keepdim=True)).t()
    tokens = [probabilities[..., row.nonzero()[:, 0]] for row in positive_map]
    if aggregate == "max":
        return torch.stack([p.amax(-1) for p in tokens], dim=-1)
    return torch.stack([p.prod(-1) ** (1 / p.shape[-1]) for p in tokens], dim=-1)


def merge(parts: list[ScoredBoxes], label_offsets: list[int] | None = None) -> ScoredBoxes:
    """Joins the detections of several chunks, best first; labels of chunk k are shifted by `label_offsets[k]`."""
    offsets = label_offsets or [0] * len(parts)
    scores = torch.cat([part.scores for part in parts])
    order = scores.argsort(descending=True, stable=True)
    boxes = torch.cat([part.boxes for part in parts])
    labels = torch.cat([part.labels + offset for part, offset in zip(parts, offsets, strict=True)])
    return ScoredBoxes(boxes[order], scores[order], labels[order])


def inclusive_nms(found: ScoredBoxes, classes: Tensor, iou_threshold: float) -> Tensor:
    """Returns the indices that class-wise NMS keeps, computed on the original's widths (x2 - x1 + 1)."""
    ends = found.boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    return class_wise_nms(found.boxes + ends, found.scores, classes, iou_threshold)


def limit(found: ScoredBoxes, count: int | None) -> ScoredBoxes:
    """Returns the `count` best of sorted detections; more if others tie with the last of them, as published."""
    if count is None or len(found.scores) <= count:
        return found
    keep = found.scores >= found.scores[count - 1]
    return ScoredBoxes(*(values[keep] for values in found))


def without_limits(selection: Selection) -> Selection:
    """Returns the selection for one of several chunks: without a limit, because the merged result is limited once."""
    return selection if selection.limit_per_chunk else replace(selection, max_detections=None)


def _candidates(
    outputs: RawOutputs, scores: Tensor, sizes_hw: list[tuple[int, int]], selection: Selection
) -> tuple[Tensor, ScoredBoxes]:
    """Returns the image index of each candidate and the candidates: the best anchor-phrase pairs of every level.

    It treats all images and levels at once: on a GPU, every count that Python reads makes the processor wait.
    """
    image, anchor, label = (scores > selection.candidate_threshold).nonzero(as_tuple=True)
    ranked = scores[image, anchor, label] * outputs.centerness[image, anchor].sigmoid()
    best = _best_of_levels(ranked, image, anchor, outputs.level_sizes, selection.pre_nms)
    best = best[ranked[best].argsort(descending=True, stable=True)]
    image, anchor, label, ranked = image[best], anchor[best], label[best], ranked[best]
    boxes = decode(outputs.deltas[image, anchor], outputs.anchors[anchor])
    last_hw = torch.tensor(sizes_hw, device=boxes.device) - 1
    return image, ScoredBoxes(clip_boxes_tensor(boxes, last_hw[image]), ranked.sqrt(), label)


def _best_of_levels(ranked: Tensor, image: Tensor, anchor: Tensor, level_sizes: tuple[int, ...], count: int) -> Tensor:
    """Returns the indices, ascending, of the `count` best candidates of each level of each image."""
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
