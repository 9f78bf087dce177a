"""Computes scores box by box, straight from the published rules: slow, short, to compare the fast code with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tests.evaluation.cases import Case

AREAS = {"": (0.0, 1e10), "s": (0.0, 1024.0), "m": (1024.0, 9216.0), "l": (9216.0, 1e10)}
THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
Box = Sequence[float]


def plain_iou(one: Box, other: Box) -> float:
    """Returns the IoU of two left, top, width, height boxes."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (one[2] * one[3] + other[2] * other[3] - width * height)


def plain_lvis_numbers(case: Case, per_image: int | None, per_class: int | None) -> dict[str, float]:
    """Returns LVIS's nine precisions."""
    truth = case.truth
    assert truth.federated is not None
    found = _lvis_boxes(case, per_image, per_class)
    table: dict[tuple[int, str, float], list[float]] = {}
    for category in truth.category_ids.tolist():
        for area, limits in AREAS.items():
            for threshold in THRESHOLDS:
                verdicts, positives = [], 0
                for image in truth.image_ids.tolist():
                    mine = [box for box in found if box[0] == image and box[1] == category]
                    excused = category in truth.federated.not_exhaustive[image]
                    judged, count = _judge(case, image, category, mine, limits, threshold, excused)
                    verdicts += judged
                    positives += count
                if positives:
                    table[category, area, threshold] = _precisions(verdicts, positives)
    frequency = dict(zip(truth.category_ids.tolist(), truth.federated.frequency, strict=True))
    numbers = {"AP": _mean(v for (_, area, _), v in table.items() if not area)}
    numbers["AP50"] = _mean(v for (_, area, t), v in table.items() if not area and t == 0.5)
    numbers["AP75"] = _mean(v for (_, area, t), v in table.items() if not area and t == 0.75)
    numbers |= {f"AP{name}": _mean(v for (_, area, _), v in table.items() if area == name) for name in "sml"}
    for letter in "rcf":
        numbers[f"AP{letter}"] = _mean(v for (c, area, _), v in table.items() if not area and frequency[c] == letter)
    return numbers


def _lvis_boxes(case: Case, per_image: int | None, per_class: int | None) -> list[tuple[int, int, Box, float]]:
    """Returns the boxes that count, in the order of the file."""
    truth, boxes = case.truth, case.predictions
    assert truth.federated is not None
    columns = (boxes.image_id, boxes.category_id, boxes.bbox, boxes.score)
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    kept: list[tuple[int, int, Box, float]] = []
    for index, box in enumerate(found):
        group = 0 if per_image else 1
        better = [
            other
            for position, other in enumerate(found)
            if other[group] == box[group] and (other[3] > box[3] or (other[3] == box[3] and position < index))
        ]
        here = set(truth.category_id[(truth.image_id == box[0]) & (truth.area > 0)].tolist())
        allowed = len(better) < (per_image or per_class or 0) and box[2][2] * box[2][3] > 0
        if allowed and box[1] in here | truth.federated.negative[box[0]]:
            kept.append(box)
    return kept


def _judge(
    case: Case,
    image: int,
    category: int,
    found: list[tuple[int, int, Box, float]],
    limits: tuple[float, float],
    threshold: float,
    excused: bool,
) -> tuple[list[tuple[float, bool | None]], int]:
    """Returns (score, right or wrong or None) of each box of an image, and the number of annotated boxes that count."""
    truth = case.truth
    rows = np.flatnonzero((truth.image_id == image) & (truth.category_id == category) & (truth.area > 0)).tolist()
    inside = {row: limits[0] <= truth.area[row] <= limits[1] and not truth.ignore[row] for row in rows}
    taken: set[int] = set()
    judged: list[tuple[float, bool | None]] = []
    for _, _, bbox, score in sorted(found, key=lambda box: -box[3]):
        overlaps = {row: plain_iou(bbox, truth.bbox[row].tolist()) for row in rows if row not in taken}
        near = [row for row, iou in overlaps.items() if iou >= threshold]
        near = [row for row in near if inside[row]] or near
        if near:
            best = max(near, key=lambda row: (overlaps[row], row))
            taken.add(best)
            judged.append((score, True if inside[best] and truth.annotation_id[best] else None))
            if inside[best] and not truth.annotation_id[best]:
                judged[-1] = (score, None if excused or not limits[0] <= bbox[2] * bbox[3] <= limits[1] else False)
        else:
            out = not limits[0] <= bbox[2] * bbox[3] <= limits[1]
            judged.append((score, None if out or excused else False))
    return judged, sum(inside.values())


def _precisions(verdicts: list[tuple[float, bool | None]], positives: int) -> list[float]:
    """Returns the maximum precision at 101 levels of recall."""
    right = wrong = 0
    curve = []
    for _, verdict in sorted(verdicts, key=lambda verdict: -verdict[0]):
        right += verdict is True
        wrong += verdict is False
        curve.append((right / positives, right / (right + wrong + np.spacing(1))))
    return [
        max((precision for recall, precision in curve if recall >= level), default=0.0)
        for level in np.linspace(0, 1, 101)
    ]


def _mean(values: Iterable[list[float]]) -> float:
    rows = list(values)
    return float(np.mean(rows)) if rows else -1.0
