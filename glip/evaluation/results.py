"""The results of an evaluation as plain values: per set, per class, and the averages that benchmarks publish.

Scores are in percent. A score that cannot be computed, because nothing is annotated, is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import msgspec

from glip.evaluation.metrics.coco import CocoScores
from glip.left_out import LeftOut, without_repeats

Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class ClassRow:
    """The scores of one class of a set, in percent."""

    category_id: int
    name: str
    boxes: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ar: float | None


@dataclass(frozen=True)
class SetResult:
    """The result of one set.

    Attributes:
        name: of the set.
        split: the scored split.
        format: of the annotations, which decides the metric.
        numbers: by metric, the most important first.
        classes: one row per class; () if scores are not by class.
        images: number of images of the split.
        annotated: number of boxes of its truth.
        found: number of predicted boxes that were scored.
        group: the part of the benchmark in whose average the set is.
        notes: sentences about anything unusual.
        left_out: what was not asked, not covered or cannot be found, and how that counts.
    """

    name: str
    split: str
    format: str
    numbers: Numbers
    classes: tuple[ClassRow, ...]
    images: int
    annotated: int
    found: int
    group: str = ""
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def main(self) -> float | None:
        """Returns the score by which sets are averaged."""
        return next(iter(self.numbers.values()), None)


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table.

    Attributes:
        set: '' for the whole benchmark.
        metric: name of the number.
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
        """Returns the measured minus the published score; None if one is unknown."""
        return None if self.measured is None or self.published is None else self.measured - self.published


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation.

    Attributes:
        benchmark: name.
        model: as requested; '' for predictions from a file.
        protocol: of the evaluation, in words, by topic.
        rows: the table.
        sets: in the order of the benchmark.
        summary: averages over the sets, by name; empty for one set.
        files: the written files.
        interrupted: the run was stopped; it has the sets that were finished, and no averages.
        left_out: states what was not scored: sets that are not on this machine, and parts of the scored sets.
    """

    benchmark: str
    model: str
    protocol: Mapping[str, str]
    rows: tuple[ScoreRow, ...]
    sets: tuple[SetResult, ...]
    summary: Numbers = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    interrupted: bool = False
    left_out: tuple[LeftOut, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain values that JSON can hold."""
        plain: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        for row, values in zip(self.rows, plain["rows"], strict=True):
            values["difference"] = row.difference
        return plain


def percent(value: float) -> float | None:
    """Returns a score of 0 to 1 in percent; None for -1, which says that nothing can be scored."""
    return None if value < 0 else 100 * value


def class_rows(scores: CocoScores) -> tuple[ClassRow, ...]:
    """Returns the rows of the classes of COCO's and LVIS's scores."""
    return tuple(
        ClassRow(
            row.category_id, row.name, row.boxes, percent(row.ap), percent(row.ap50), percent(row.ap75), percent(row.ar)
        )
        for row in scores.per_class()
    )


def left_out_of_sets(sets: Sequence[SetResult]) -> tuple[LeftOut, ...]:
    """Returns what was left out of several sets, each entry once."""
    return tuple(without_repeats([entry for item in sets for entry in item.left_out]))


def averages(sets: Sequence[SetResult], missing: Sequence[str] = ()) -> dict[str, float | None]:
    """Returns the average and median over the sets, and the average of each group.

    Args:
        sets: the scored sets.
        missing: the group of each set of the benchmark that was not scored, '' for none. An average that lacks sets
            says so in its name: "average of 5 sets, 8 missing".
    """
    summary: dict[str, float | None] = {}
    lacking = f" of {_count(sets)}, {len(missing)} missing" if missing else ""
    summary |= {f"average{lacking}": _over(sets, fmean), f"median{lacking}": _over(sets, median)}
    for group in dict.fromkeys(item.group for item in sets if item.group):
        members = [item for item in sets if item.group == group]
        absent = missing.count(group)
        name = f"average of {_count(members)} of {group}, {absent} missing" if absent else f"average of {group}"
        summary[name] = _over(members, fmean)
    return summary


def _count(sets: Sequence[SetResult]) -> str:
    return f"{len(sets)} set{'s' * (len(sets) > 1)}"


def _over(sets: Sequence[SetResult], mean: Any) -> float | None:
    known = [item.main for item in sets if item.main is not None]
    return float(mean(known)) if known else None
