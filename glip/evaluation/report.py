"""The table of an evaluation: measured beside published, and the protocol in words; as rows and as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from glip.data.benchmarks import group_of_set
from glip.data.lookup import Suite
from glip.evaluation.published import find_published
from glip.evaluation.results import EvaluationResult, Numbers, ScoreRow, SetResult
from glip.evaluation.tasks.detection import LVIS_LIMIT, LVIS_NAMES_PER_CHUNK
from glip.files import whole_file

UNKNOWN = "—"
COLUMNS = ("set", "metric", "measured", "published", "difference", "source of the published score")
METRICS_FILE = "metrics.json"
CLASSES_FILE = "per_class.csv"

_PROMPTS = {
    "plain": "plain: the class names alone",
    "original": "original: the caption prompts of the authors' configurations",
    "paper": "paper: the manual prompts of the paper's Table 10",
}

_OF_SETS = ("coco-o", "rf100", "rf100-vl", "mini-odinw")
_OWN_PROMPTS = {
    "flickr30k": "each sentence as it is, by itself",
    "d3": "the descriptions of the image's scenario, joined in one caption",
}


def score_rows(benchmark: Suite, model: str, sets: Sequence[SetResult], summary: Numbers) -> tuple[ScoreRow, ...]:
    """The lines of the table: every number of one set, or one line a set and the averages over them."""
    compare = _Compare(benchmark, model)
    if len(sets) == 1 and not summary:
        return tuple(compare.of_set(sets[0], name, value) for name, value in sets[0].numbers.items())
    rows = [compare.of_set(item, *next(iter(item.numbers.items()))) for item in sets if item.numbers]
    split = sets[0].split if sets else ""
    return (*rows, *(compare.of_all(name, value, split) for name, value in summary.items()))


def protocol_of(
    benchmark: Suite,
    *,
    sets: Sequence[SetResult],
    model: str,
    look: Mapping[str, str],
    max_det: int,
    limit: int | None = None,
) -> dict[str, str]:
    """What was done, in words.

    Args:
        benchmark: with its prompts.
        sets: that were scored.
        model: as asked for; '' for results of a file.
        look: resolution, batch size and so on; of a file where it came from.
        max_det: most boxes of an image.
        limit: so many images of each set were looked at; None: all.
    """
    splits = dict.fromkeys(item.split or "the only one" for item in sets)
    scorers = {item.scorer for item in sets}
    limits = f"{max_det} boxes an image"
    if "lvis" in scorers:
        limits = (
            f"{LVIS_NAMES_PER_CHUNK} names a caption, {LVIS_LIMIT} boxes of each; Fixed AP: 10 000 boxes a class over "
            f"the set, none an image; standard AP: 300 an image"
        )
    if "flickr30k" in scorers:
        limits = f"{max_det} boxes a sentence"
    words = {"model": model or "none: results of a file", "split": ", ".join(splits)}
    words["images"] = str(sum(item.images for item in sets))
    if limit is not None:
        words["images"] += f"; at most the first {limit} of each set, so that nothing is compared"
    if known := set(group_of_set(benchmark.name)):
        words["sets"] = f"{len(known & {item.name for item in sets})} of the benchmark's {len(known)}"
    if model:
        words["prompts"] = _OWN_PROMPTS.get("".join(scorers), _PROMPTS[benchmark.prompts])
    words |= look
    words["limits"] = limits
    words["layout and protocol from"] = benchmark.source
    return words


def shown(value: float | None, signed: bool = False) -> str:
    """A score for people."""
    return UNKNOWN if value is None else f"{value:+.1f}" if signed else f"{value:.1f}"


def cells(row: ScoreRow) -> tuple[str, ...]:
    """A line of the table under `COLUMNS`."""
    return (
        row.set,
        row.metric,
        shown(row.measured),
        shown(row.published),
        shown(row.difference, signed=True),
        row.source or UNKNOWN,
    )


def write_tables(out: Path, result: EvaluationResult) -> tuple[Path, ...]:
    """Writes metrics.json and per_class.csv.

    Raises:
        JobFailed: a file cannot be written.
    """
    with whole_file(out / METRICS_FILE) as file:
        content = {"unit": "percent", **result.to_json()}
        file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    if not any(item.classes for item in result.sets):
        return (out / METRICS_FILE,)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("set", "category_id", "class", "annotated boxes", "AP", "AP50", "AP75", "AR"))
    for item in result.sets:
        for row in item.classes:
            numbers = ["" if value is None else round(value, 4) for value in (row.ap, row.ap50, row.ap75, row.ar)]
            writer.writerow((item.name, row.category_id, row.name, row.boxes, *numbers))
    with whole_file(out / CLASSES_FILE) as file:
        file.write(text.getvalue().encode())
    return out / METRICS_FILE, out / CLASSES_FILE


@dataclass(frozen=True)
class _Compare:
    """Puts what somebody published beside what was measured."""

    benchmark: Suite
    model: str

    def of_set(self, item: SetResult, metric: str, measured: float | None) -> ScoreRow:
        own = item.name if self.benchmark.name.startswith("odinw") or self.benchmark.name in _OF_SETS else ""
        return self._row(item.name, own, metric, measured, item.split)

    def of_all(self, name: str, measured: float | None, split: str) -> ScoreRow:
        found = self._row("", "", "AP" if name == "average" else name, measured, split)
        return replace(found, metric=name)

    def _row(self, shown_set: str, set_name: str, metric: str, measured: float | None, split: str) -> ScoreRow:
        found = None
        if self.benchmark.known:
            table = "odinw35" if self.benchmark.name.startswith("odinw/") else self.benchmark.name
            prompts = self.benchmark.prompts
            found = find_published(table, set_name, metric, self.model, split=split, prompts=prompts)
        if found is None:
            return ScoreRow(shown_set, metric, measured)
        source = f"{found.source} ({found.differs})" if found.differs else found.source
        return ScoreRow(shown_set, metric, measured, found.value, source)
