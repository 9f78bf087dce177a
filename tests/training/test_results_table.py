"""The table of tuning runs."""

from __future__ import annotations

from typing import Any

import pytest

from glip.data.odinw import odinw_group
from glip.training.finetune_job import FinetuneResult
from glip.training.results_table import columns_of, lines_of, markdown, table_of


def run(name: str, mode: str, shots: Any, seed: int, ap: float | None, **more: Any) -> FinetuneResult:
    return FinetuneResult(name, mode, shots, seed, more.pop("model", "nano"), "b", "test", {"AP": ap}, {}, **more)


def own(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in table if not row["source"]]


def test_a_row_is_mean_and_spread_over_seeds() -> None:
    table = own(table_of([run("A", "prompt", 1, seed, ap) for seed, ap in ((3, 40.0), (30, 50.0), (300, 60.0))]))
    assert len(table) == 1
    assert table[0]["seeds"] == [3, 30, 300]
    assert table[0]["cells"] == {"A": {"mean": 50.0, "sd": 10.0}}
    assert lines_of(table) == [["nano", "prompt", "1", "50.0 ± 10.0"]]


def test_an_average_is_taken_over_sets_for_each_seed_first() -> None:
    runs = [
        *(run("A", "full", "all", seed, ap) for seed, ap in ((3, 10.0), (30, 20.0))),
        *(run("B", "full", "all", seed, ap) for seed, ap in ((3, 30.0), (30, 20.0))),
    ]
    cells = own(table_of(runs))[0]["cells"]
    assert cells["average"] == {"mean": 20.0, "sd": 0.0}
    assert cells["A"]["sd"] == pytest.approx(7.0710678)


def test_an_average_needs_every_set() -> None:
    runs = [run("A", "full", 1, 3, 10.0), run("A", "full", 1, 30, 12.0), run("B", "full", 1, 3, 20.0)]
    assert own(table_of(runs))[0]["cells"]["average"] == {"mean": 15.0, "sd": None}
    assert "average" not in own(table_of([runs[0], run("B", "full", 1, 3, None)]))[0]["cells"]


def test_published_rows_stand_beside() -> None:
    table = table_of([run("Raccoons", "prompt", 1, 3, 40.0)])
    assert [row["model"] for row in table] == ["nano", "glip-t"]
    assert table[1]["cells"] == {"Raccoons": {"mean": 54.5, "sd": None}}
    assert "Table" in table[1]["source"]
    assert "average" not in table[1]["cells"]  # one set is not the benchmark
    large = table_of([run("Raccoons", "full", "all", 3, 40.0, model="glip-l")])
    assert large[1]["cells"]["Raccoons"]["mean"] == 69.4
    assert len(table_of([run("Squares", "prompt", 1, 3, 40.0)])) == 1


def test_published_averages_stand_beside_the_whole_benchmark() -> None:
    names = [row.name for row in odinw_group("odinw13")]
    table = table_of([run(name, "prompt", 3, 3, 40.0, model="glip-t") for name in names])
    assert table[1]["cells"]["average"] == {"mean": 53.7, "sd": 1.6}
    assert set(table[1]["cells"]) == {*names, "average"}
    # The published averages are those of the published columns.
    mean = sum(table[1]["cells"][name]["mean"] for name in names) / 13
    assert mean == pytest.approx(53.7, abs=0.06)
    zero = table_of([run(name, "zero-shot", 0, 0, 40.0, model="glip-t-a") for name in names])
    assert zero[1]["cells"]["average"]["mean"] == 28.8
    linear = table_of([run(name, "linear", "all", 3, 40.0, model="glip-t-b") for name in names])
    assert linear[1]["cells"] == {"average": {"mean": 51.8, "sd": None}}


def test_what_was_forgotten_has_its_own_column() -> None:
    runs = [
        run("A", "zero-shot", 0, 0, 10.0, scenes_before=50.0),
        run("A", "full", 1, 3, 20.0, scenes_before=50.0, scenes_after=30.0),
        run("A", "full", 1, 30, 20.0, scenes_before=50.0, scenes_after=40.0),
    ]
    table = own(table_of(runs))
    assert columns_of(table) == ["model", "mode", "shots", "A", "other things"]
    assert [line[-1] for line in lines_of(table)] == ["50.0", "35.0 ± 7.1"]


def test_the_file_says_what_is_missing_and_where_numbers_come_from() -> None:
    text = markdown(table_of([run("Raccoons", "prompt", 1, 3, None)]), ["Aquarium is not there."])
    assert "| nano | prompt | 1 | — |" in text
    assert "| glip-t (published) | prompt | 1 | 54.5 |" in text
    assert "Published: GLIP paper" in text
    assert "Missing: Aquarium is not there." in text
