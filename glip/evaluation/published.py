"""Published scores, each with its source and protocol. What is not known here is None, never a guess.

The numbers stand in `published.json` beside this file, in percent, as tables of [model, set, metric, value]. A model is
called as `glip models list` calls it, without the endings that say where its file comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec

Origin = Literal["paper", "original", "mmdet"]

_SPLITS = {"valid": "val"}


@dataclass(frozen=True)
class Published:
    """A score that somebody published.

    Attributes:
        value: percent.
        source: paper and table, or file.
        differs: how its protocol differs from the one that was asked about, in words; '' if in nothing known.
    """

    value: float
    source: str
    differs: str


class _Table(msgspec.Struct, frozen=True):
    """Scores of one protocol.

    Attributes:
        benchmark: as `glip eval` calls it.
        by: whose weights and code: the paper's, the released ones of its authors, or the other port's.
        split: what was scored.
        prompts: plain, original or paper.
        source: where it stands.
        scores: model, set ('' for all of the benchmark), metric, percent.
        note: what else should be known.
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
) -> Published | None:
    """The published score that is nearest to a protocol.

    Args:
        benchmark: a name of the table of benchmarks; of a single set of ODinW odinw35.
        set_name: a set of it; '' for the whole.
        metric: AP, APr, any-box R@1, …
        model: as it was asked for; one that is not in `glip models list` has no published score.
        split: that is scored.
        prompts: plain, original or paper.
    """
    name, origin = _published_name(model)
    if name is None:
        return None
    best: tuple[tuple[bool, bool, bool], Published] | None = None
    for table in _tables():
        if table.benchmark != benchmark:
            continue
        for row in table.scores:
            if row[:3] != (name, set_name, metric):
                continue
            far = (table.split != _SPLITS.get(split, split), table.prompts != prompts, table.by != origin)
            if best is None or far < best[0]:
                best = far, Published(row[3], table.source, _differs(table, far))
    return None if best is None else best[1]


def _differs(table: _Table, far: tuple[bool, bool, bool]) -> str:
    words = [f"on {table.split}"] * far[0] + [f"{table.prompts} prompts"] * far[1]
    return "; ".join([*words, *([table.note] if table.note else [])])


def _published_name(model: str) -> tuple[str | None, Origin]:
    """What the tables call a model, and whose file it is; None for one that nobody published."""
    from glip.weights.zoo import ZOO

    if model not in ZOO:
        return None, "mmdet"
    parts = model.split("-")
    return "-".join(part for part in parts if part != "original"), "original" if "original" in parts else "mmdet"


@cache
def _tables() -> tuple[_Table, ...]:
    content = files("glip.evaluation").joinpath("published.json").read_bytes()
    return msgspec.json.decode(content, type=tuple[_Table, ...])
