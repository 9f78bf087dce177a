"""Makes the report of an evaluation: the table of measured and published scores, the protocol in words, and the files.

Published scores are in `published.json` beside this file, in percent, as tables of [model, set, metric, value]. A model
has the name that `glip models list` shows, without the ending that says where its file comes from. A score that is
not in these tables is None, never a guess.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import msgspec

from glip.csv_cells import csv_text
from glip.data.benchmarks import group_of_set
from glip.data.lookup import Suite
from glip.evaluation.results import EvaluationResult, Numbers, ScoreRow, SetResult
from glip.files import whole_file, write_json

Origin = Literal["paper", "original", "mmdet"]

UNKNOWN = "—"
COLUMNS = ("set", "metric", "measured", "published", "difference", "source of the published score")
METRICS_FILE = "metrics.json"
CLASSES_FILE = "per_class.csv"
# The topics of a protocol in their order; others come last.
_TOPICS = ("prompts", "resolution", "batch size", "precision", "thresholds", "boxes", "limits")

# Benchmarks with several sets whose published scores are listed by set.
_SCORED_BY_SET = ("coco-o", "rf100", "rf100-vl", "mini-odinw")
_SPLIT_ALIASES = {"valid": "val"}


def score_rows(benchmark: Suite, model: str, sets: Sequence[SetResult], summary: Numbers) -> tuple[ScoreRow, ...]:
    """Returns the rows of the table: every number of one set, or one row per set and the averages over them."""
    published = _Comparison(benchmark, model)
    if len(sets) == 1 and not summary:
        return tuple(published.row_of_set(sets[0], name, value) for name, value in sets[0].numbers.items())
    rows = [published.row_of_set(item, *next(iter(item.numbers.items()))) for item in sets if item.numbers]
    split = sets[0].split if sets else ""
    return (*rows, *(published.row_of_average(name, value, split) for name, value in summary.items()))


def protocol_of(
    benchmark: Suite, *, sets: Sequence[SetResult], model: str, words: Mapping[str, str], limit: int | None = None
) -> dict[str, str]:
    """Returns the protocol of an evaluation in words, by topic.

    Args:
        benchmark: the evaluated splits.
        sets: the scored sets.
        model: as requested; '' for predictions from a file.
        words: the topics that the task and the run know: prompts, resolution, batch size, limits, …
        limit: number of images of each set that were evaluated; None for all.
    """
    splits = dict.fromkeys(item.split or "the only one" for item in sets)
    protocol = {"model": model or "none: predictions from a file", "split": ", ".join(splits)}
    protocol["images"] = str(sum(item.images for item in sets))
    if limit is not None:
        protocol["images"] += f"; at most the first {limit} of each set, so no published score is compared"
    if known := set(group_of_set(benchmark.name)):
        protocol["sets"] = f"{len(known & {item.name for item in sets})} of the benchmark's {len(known)}"
    elif benchmark.missing:
        protocol["sets"] = f"{len(sets)} of the benchmark's {len(sets) + len(benchmark.missing)}"
    protocol |= {topic: words[topic] for topic in sorted(words, key=_topic_rank)}
    protocol["layout and protocol from"] = benchmark.source
    return protocol


def _topic_rank(topic: str) -> int:
    return _TOPICS.index(topic) if topic in _TOPICS else len(_TOPICS)


def score_text(value: float | None, signed: bool = False) -> str:
    """Returns a score with one decimal, or a dash if it is None."""
    return UNKNOWN if value is None else f"{value:+.1f}" if signed else f"{value:.1f}"


def table_row(row: ScoreRow) -> tuple[str, ...]:
    """Returns the texts of a row, in the order of `COLUMNS`."""
    return (
        row.set,
        row.metric,
        score_text(row.measured),
        score_text(row.published),
        score_text(row.difference, signed=True),
        row.source or UNKNOWN,
    )


def write_tables(out: Path, result: EvaluationResult) -> tuple[Path, ...]:
    """Writes metrics.json and, if there are scores by class, per_class.csv; returns their paths.

    Raises:
        JobFailed: a file cannot be written.
    """
    write_json(out / METRICS_FILE, {"unit": "percent", **result.to_json()})
    if not any(item.classes for item in result.sets):
        return (out / METRICS_FILE,)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("set", "category_id", "class", "annotated boxes", "AP", "AP50", "AP75", "AR"))
    for item in result.sets:
        for row in item.classes:
            numbers = ["" if value is None else round(value, 4) for value in (row.ap, row.ap50, row.ap75, row.ar)]
            writer.writerow((csv_text(item.name), row.category_id, csv_text(row.name), row.boxes, *numbers))
    with whole_file(out / CLASSES_FILE) as file:
        file.write(text.getvalue().encode())
    return out / METRICS_FILE, out / CLASSES_FILE


@dataclass(frozen=True)
class _Comparison:
    """Puts a published score next to each measured one."""

    benchmark: Suite
    model: str

    def row_of_set(self, item: SetResult, metric: str, measured: float | None) -> ScoreRow:
        by_set = self.benchmark.name.startswith("odinw") or self.benchmark.name in _SCORED_BY_SET
        return self._row(item.name, item.name if by_set else "", metric, measured, item.split)

    def row_of_average(self, name: str, measured: float | None, split: str) -> ScoreRow:
        row = self._row("", "", "AP" if name == "average" else name, measured, split)
        return replace(row, metric=name)

    def _row(self, label: str, set_name: str, metric: str, measured: float | None, split: str) -> ScoreRow:
        found = None
        if self.benchmark.known:
            table = "odinw35" if self.benchmark.name.startswith("odinw/") else self.benchmark.name
            prompts = self.benchmark.prompts
            found = find_published(table, set_name, metric, self.model, split=split, prompts=prompts)
        if found is None:
            return ScoreRow(label, metric, measured)
        source = f"{found.source} ({found.differs})" if found.differs else found.source
        return ScoreRow(label, metric, measured, found.value, source)


@dataclass(frozen=True)
class PublishedScore:
    """A published score.

    Attributes:
        value: percent.
        source: paper and table, or file.
        differs: how its protocol differs from the requested one, in words; '' if no difference is known.
    """

    value: float
    source: str
    differs: str


class _PublishedTable(msgspec.Struct, frozen=True):
    """The published scores of one protocol.

    Attributes:
        benchmark: name for `glip eval`.
        by: origin of weights and code: the paper's, the ones its authors released, or those of the port.
        split: the scored split.
        prompts: plain, original or paper.
        source: paper and table, or file.
        scores: model, set ('' for the whole benchmark), metric, percent.
        note: further differences.
    """

    benchmark: str
    by: Origin
    split: str
    prompts: str
    source: str
    scores: tuple[tuple[str, str, str, float], ...]
    note: str = ""


def find_published(
    benchmark: str, set_name: str, metric: str, model: str, *, split: str, prompts: str
) -> PublishedScore | None:
    """Returns the published score whose protocol is nearest to the requested one; None if there is none.

    Args:
        benchmark: a name of the table of benchmarks; odinw35 for a single set of ODinW.
        set_name: a set of it; '' for the whole.
        metric: AP, APr, any-box R@1, …
        model: as requested; a model that is not in `glip models list` has no published score.
        split: the scored split.
        prompts: plain, original or paper.
    """
    name, origin = _published_name(model)
    if name is None:
        return None
    best: tuple[tuple[bool, bool, bool], PublishedScore] | None = None
    for table in _tables():
        if table.benchmark != benchmark:
            continue
        for row in table.scores:
            if row[:3] != (name, set_name, metric):
                continue
            distance = (table.split != _SPLIT_ALIASES.get(split, split), table.prompts != prompts, table.by != origin)
            if best is None or distance < best[0]:
                best = distance, PublishedScore(row[3], table.source, _difference(table, distance))
    return None if best is None else best[1]


def _difference(table: _PublishedTable, distance: tuple[bool, bool, bool]) -> str:
    other_split, other_prompts, _ = distance
    words = [f"on {table.split}"] * other_split + [f"{table.prompts} prompts"] * other_prompts
    return "; ".join([*words, *([table.note] if table.note else [])])


def _published_name(model: str) -> tuple[str | None, Origin]:
    """Returns the name of a model in the tables and the origin of its file; None for a model without scores."""
    from glip.weights.zoo import ZOO

    if model not in ZOO:
        return None, "mmdet"
    parts = model.split("-")
    return "-".join(part for part in parts if part != "original"), "original" if "original" in parts else "mmdet"


@cache
def _tables() -> tuple[_PublishedTable, ...]:
    content = files("glip.evaluation").joinpath("published.json").read_bytes()
    return msgspec.json.decode(content, type=tuple[_PublishedTable, ...])
