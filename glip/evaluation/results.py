"""What an evaluation found, as plain values: per set, per class, and the averages that benchmarks publish.

Scores are in percent. One that cannot be computed, because nothing was annotated, is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import msgspec

from glip.evaluation.metrics.coco import CocoScores

Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class ClassRow:
    """A class of a set; scores in percent."""

    category_id: int
    name: str
    boxes: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ar: float | None


@dataclass(frozen=True)
class SetResult:
    """What one set gave.

    Attributes:
        name: of the set.
        split: that was scored.
        scorer: which evaluator.
        numbers: by metric, the most important first.
        classes: one row a class; () where scores are not by class.
        images: in the split.
        annotated: boxes in its truth.
        found: boxes that were scored.
        group: the part of the benchmark it is averaged in.
        notes: what is unusual, in sentences.
    """

    name: str
    split: str
    scorer: str
    numbers: Numbers
    classes: tuple[ClassRow, ...]
    images: int
    annotated: int
    found: int
    group: str = ""
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> float | None:
        """The score that sets are averaged by."""
        return next(iter(self.numbers.values()), None)


@dataclass(frozen=True)
class ScoreRow:
    """A line of the table.

    Attributes:
        set: '' for the whole benchmark.
        metric: what was measured.
        measured: percent.
        published: percent.
        source: of the published score, and how its protocol differs.
    """

    set: str
    metric: str
    measured: float | None
    published: float | None = None
    source: str = ""

    @property
    def difference(self) -> float | None:
        """Measured less published."""
        return None if self.measured is None or self.published is None else self.measured - self.published


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation gave.

    Attributes:
        benchmark: name.
        model: as asked for; '' where results of a file were scored.
        protocol: what was done, in words, by topic.
        rows: the table.
        sets: in the order of the benchmark.
        summary: averages over the sets, by name; empty for one set.
        files: what was written.
        interrupted: the labelling was stopped; the sets labelled so far are here, and no averages.
    """

    benchmark: str
    model: str
    protocol: Mapping[str, str]
    rows: tuple[ScoreRow, ...]
    sets: tuple[SetResult, ...]
    summary: Numbers = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values that JSON can carry."""
        plain: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        for row, line in zip(self.rows, plain["rows"], strict=True):
            line["difference"] = row.difference
        return plain


def percent(value: float) -> float | None:
    """A score of the evaluators, where -1 means that nothing can be scored."""
    return None if value < 0 else 100 * value


def class_rows(scores: CocoScores) -> tuple[ClassRow, ...]:
    """The classes of COCO's and LVIS's scores."""
    return tuple(
        ClassRow(
            row.category_id, row.name, row.boxes, percent(row.ap), percent(row.ap50), percent(row.ap75), percent(row.ar)
        )
        for row in scores.per_class()
    )


def averages(sets: Sequence[SetResult]) -> dict[str, float | None]:
    """Average and median over sets, and the average of each part that the benchmark has."""
    summary: dict[str, float | None] = {"average": _over(sets, fmean), "median": _over(sets, median)}
    for group in dict.fromkeys(item.group for item in sets if item.group):
        summary[f"average of {group}"] = _over([item for item in sets if item.group == group], fmean)
    return summary


def _over(sets: Sequence[SetResult], how: Any) -> float | None:
    known = [item.main for item in sets if item.main is not None]
    return float(how(known)) if known else None
