"""The table of fine-tuning runs, like the paper's: one row per mode and number of shots, one column per data set.

Cells hold the mean and the standard deviation over seeds, in percent. Published rows stand below the measured ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from statistics import fmean, stdev
from typing import Any

import msgspec

from glip.training.finetune_job import ZERO_SHOT, FinetuneResult

UNKNOWN = "—"
AVERAGE = "average"
SCENES = "other things"  # synthetic scenes without objects of the data set: shows forgetting
_REFERENCE = "glip-t"  # shown where a model has no published row of its own


class _PublishedScores(msgspec.Struct, frozen=True):
    """The paper's scores.

    Attributes:
        source: the tables they are from.
        average: model → mode → shots → mean over 13 data sets and its standard deviation over seeds (null if none).
        sets: model → mode → shots → data set → mean over seeds.
    """

    source: str
    average: dict[str, dict[str, dict[str, tuple[float, float | None]]]]
    sets: dict[str, dict[str, dict[str, dict[str, float]]]]


def table_of(runs: Sequence[FinetuneResult]) -> list[dict[str, Any]]:
    """Returns the rows as plain values.

    Returns:
        For each mode and number of shots: `model`, `mode`, `shots`, `seeds`, `source` ('' for measured rows) and
        `cells`: a mapping of `mean` and `sd` (None for one seed) by data set, 'average' and 'other things'.
    """
    sets = list(dict.fromkeys(run.set for run in runs))
    rows = []
    for mode, shots in dict.fromkeys((run.mode, str(run.shots)) for run in runs):
        some = [run for run in runs if (run.mode, str(run.shots)) == (mode, shots)]
        cells = {name: cell for name in sets if (cell := _cell(_scores(some, name))) is not None}
        if len(sets) > 1 and (cell := _average(some, sets)) is not None:
            cells[AVERAGE] = cell
        if scenes := [run.scenes_before if run.shots == 0 else run.scenes_after for run in some]:
            known = [value for value in scenes if value is not None]
            cells |= {SCENES: cell} if (cell := _cell(known)) is not None else {}
        row = {
            "model": some[0].model,
            "mode": mode,
            "shots": shots,
            "seeds": sorted({run.seed for run in some}),
            "cells": cells,
            "source": "",
        }
        rows += [row, *_published_rows(some[0].model, mode, shots, sets)]
    return rows


def _scores(runs: Iterable[FinetuneResult], name: str) -> list[float]:
    found = (run.test.get("AP") for run in runs if run.set == name)
    return [value for value in found if value is not None]


def _average(runs: Sequence[FinetuneResult], sets: Sequence[str]) -> dict[str, float | None] | None:
    """Returns the average over data sets per seed, then mean and deviation over seeds, as published.

    Seeds that lack a data set are left out.
    """
    per_seed = []
    for seed in dict.fromkeys(run.seed for run in runs):
        scores = [_scores([run for run in runs if run.seed == seed], name) for name in sets]
        if all(scores):
            per_seed.append(fmean(values[0] for values in scores))
    return _cell(per_seed)


def _cell(values: Sequence[float]) -> dict[str, float | None] | None:
    if not values:
        return None
    return {"mean": fmean(values), "sd": stdev(values) if len(values) > 1 else None}


def _published_rows(model: str, mode: str, shots: str, sets: Sequence[str]) -> list[dict[str, Any]]:
    published = _published()
    own = next((name for name in (model, model.removesuffix("-original")) if name in published.average), _REFERENCE)
    key = "zero" if mode == ZERO_SHOT else mode
    cells: dict[str, Any] = {
        name: {"mean": value, "sd": None}
        for name, value in published.sets.get(own, {}).get(key, {}).get(shots, {}).items()
        if name in sets
    }
    average = published.average[own].get(key, {}).get(shots)
    thirteen = {
        name for modes in published.sets.values() for rows in modes.values() for row in rows.values() for name in row
    }
    if average is not None and set(sets) == thirteen:
        cells[AVERAGE] = {"mean": average[0], "sd": average[1]}
    if not cells:
        return []
    return [{"model": own, "mode": mode, "shots": shots, "seeds": [], "cells": cells, "source": published.source}]


@cache
def _published() -> _PublishedScores:
    content = files("glip.training").joinpath("published.json").read_bytes()
    return msgspec.json.decode(content, type=_PublishedScores)


def columns_of(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the titles of the columns: model, mode, shots, then one per data set."""
    found = dict.fromkeys(name for row in table for name in row["cells"])
    last = [name for name in (AVERAGE, SCENES) if name in found]
    return ["model", "mode", "shots", *(name for name in found if name not in last), *last]


def lines_of(table: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Returns the cells of the rows as text, in the order of `columns_of`."""
    names = columns_of(table)[3:]
    return [
        [
            str(row["model"]) + (" (published)" if row["source"] else ""),
            str(row["mode"]),
            str(row["shots"]),
            *(shown(row["cells"].get(name)) for name in names),
        ]
        for row in table
    ]


def shown(cell: Mapping[str, float | None] | None) -> str:
    """Returns the text of a cell, such as '54.9 ± 0.3'."""
    if cell is None or cell["mean"] is None:
        return UNKNOWN
    return f"{cell['mean']:.1f}" if cell["sd"] is None else f"{cell['mean']:.1f} ± {cell['sd']:.1f}"


def markdown(table: Sequence[Mapping[str, Any]], missing: Sequence[str]) -> str:
    """Returns the table as Markdown, with its sources and the missing data sets."""
    columns = columns_of(table)
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(line) + " |" for line in lines_of(table)]
    lines += ["", "AP 0.50:0.95 on the test images, in percent; mean ± standard deviation over seeds."]
    sources = dict.fromkeys(row["source"] for row in table if row["source"])
    lines += [f"Published: {source}." for source in sources]
    lines += [f"Missing: {sentence}" for sentence in missing]
    return "\n".join(lines) + "\n"
