"""The table of measured and published scores, and its files."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

from glip.data.benchmarks import TABLE
from glip.data.lookup import Suite
from glip.data.odinw import odinw_sets
from glip.evaluation.report import COLUMNS, find_published, protocol_of, score_rows, score_text, table_row, write_tables
from glip.evaluation.results import ClassRow, EvaluationResult, ScoreRow, SetResult, averages
from glip.weights.zoo import ZOO


def a_set(name: str = "coco", split: str = "val", group: str = "", **numbers: float | None) -> SetResult:
    classes = (ClassRow(7, "a, b", 3, 12.5, None, 1 / 3, 0.0),)
    return SetResult(name, split, "coco", numbers, classes, images=5, annotated=3, found=4, group=group)


def a_benchmark(name: str, *, named: bool = True, prompts: str = "plain") -> Suite:
    return Suite(name, (), prompts, "somewhere", named)  # type: ignore[arg-type]


def test_a_row_has_the_measured_and_the_published_score_with_source_and_difference() -> None:
    ap, ap50 = score_rows(a_benchmark("coco"), "glip-t", [a_set(AP=46.2, AP50=60.0)], {})
    assert COLUMNS == ("set", "metric", "measured", "published", "difference", "source of the published score")
    assert table_row(ap) == ("coco", "AP", "46.2", "46.6", "-0.4", "open-mmlab/mmdetection configs/glip/README.md")
    assert table_row(ap50) == ("coco", "AP50", "60.0", "—", "—", "—")


def test_a_model_without_published_scores_is_compared_with_nothing() -> None:
    (row,) = score_rows(a_benchmark("coco"), "models/mine", [a_set(AP=1.0)], {})
    assert (row.published, row.difference, row.source) == (None, None, "")


def test_a_folder_with_the_name_of_a_benchmark_is_compared_with_nothing() -> None:
    (row,) = score_rows(a_benchmark("coco", named=False), "glip-t", [a_set(AP=1.0)], {})
    assert row.published is None


def test_the_published_score_of_the_nearest_protocol_is_taken_with_its_difference() -> None:
    released = find_published("coco", "", "AP", "glip-l-original", split="val", prompts="plain")
    assert released and (released.value, released.differs) == (51.4, "")
    port = find_published("coco", "", "AP", "glip-l", split="val", prompts="plain")
    assert port and port.value == 51.3
    val = find_published("odinw13", "Aquarium", "AP", "glip-t-a", split="valid", prompts="plain")
    assert val and (val.value, val.differs) == (17.5, "")
    paper = find_published("odinw13", "Aquarium", "AP", "glip-t-a", split="test", prompts="paper")
    assert paper and paper.value == 16.8 and paper.differs.startswith("the best checkpoint")
    other = find_published("odinw13", "Aquarium", "AP", "glip-l", split="val", prompts="plain")
    assert other and other.value == 26.9 and other.differs.startswith("on test; paper prompts; ")
    best = find_published("lvis-minival", "", "APr", "glip-t-original-lvisbest", split="val", prompts="plain")
    assert best and best.value == 20.1


def test_every_published_score_is_of_a_known_benchmark_set_and_model() -> None:
    odinw = {*(row.name for row in odinw_sets()), ""}
    for table in msgspec.json.decode(files("glip.evaluation").joinpath("published.json").read_bytes()):
        assert table["benchmark"] in TABLE and table["source"]
        assert table["split"] in TABLE[table["benchmark"]].splits and table["prompts"] in ("plain", "original", "paper")
        for model, name, _, value in table["scores"]:
            assert model in ZOO or f"{model.removesuffix('-lvisbest')}-original-lvisbest" in ZOO
            assert name in odinw if table["benchmark"].startswith("odinw") else name == ""
            assert 0 <= value <= 100


@pytest.mark.parametrize("metric", ["AP50", "any-box R@2"])
def test_a_metric_that_is_not_published_is_unknown(metric: str) -> None:
    assert find_published("coco", "", metric, "glip-t", split="val", prompts="plain") is None


def test_averages_leave_out_unknown_scores_and_are_made_of_each_group_too() -> None:
    sets = [a_set("a", group="sea", AP=10.0), a_set("b", group="air", AP=40.0), a_set("c", group="sea", AP=20.0)]
    assert averages([*sets, a_set("d", group="air", AP=None)]) == {
        "average": pytest.approx(70 / 3),
        "median": 20.0,
        "average of sea": 15.0,
        "average of air": 40.0,
    }
    assert averages([a_set(AP=None)]) == {"average": None, "median": None}


def test_an_average_that_lacks_sets_has_another_name_than_that_of_the_benchmark() -> None:
    sets = [a_set("a", group="sea", AP=10), a_set("b", group="air", AP=20)]
    assert averages(sets, ["sea", "sea", ""]) == {
        "average of 2 sets, 3 missing": 15,
        "median of 2 sets, 3 missing": 15,
        "average of 1 set of sea, 2 missing": 10,
        "average of air": 20,
    }


def test_several_sets_have_a_row_each_and_their_averages() -> None:
    sets = [a_set("Aquarium", AP=17.0, AP50=30.0), a_set("pothole", AP=2.0, AP50=3.0)]
    rows = score_rows(a_benchmark("odinw13"), "glip-t-a", sets, {"average": 9.5, "median": 9.5})
    assert [(row.set, row.metric, row.published) for row in rows] == [
        ("Aquarium", "AP", 17.5),
        ("pothole", "AP", 0.7),
        ("", "average", 32.5),
        ("", "median", None),
    ]


def test_a_single_set_of_odinw_is_compared_with_its_row_of_the_35() -> None:
    (row,) = score_rows(a_benchmark("odinw/BCCD"), "glip-t-a", [a_set("BCCD", AP=2.0)], {})
    assert row.published == 1.6


def test_the_protocol_in_words() -> None:
    words = {"limits": "100 boxes per image", "resolution": "short side 800 pixels", "prompts": "paper", "new": "x"}
    protocol = protocol_of(a_benchmark("odinw13"), sets=[a_set()], model="m", words=words)
    assert list(protocol.items()) == [
        ("model", "m"),
        ("split", "val"),
        ("images", "5"),
        ("prompts", "paper"),
        ("resolution", "short side 800 pixels"),
        ("limits", "100 boxes per image"),
        ("new", "x"),
        ("layout and protocol from", "somewhere"),
    ]


def test_files_hold_all_digits(tmp_path: Path) -> None:
    rows = (ScoreRow("coco", "AP", 100 / 3, 30.0, "there"),)
    result = EvaluationResult("coco", "m", {"split": "val"}, rows, (a_set(AP=100 / 3),))
    metrics, classes = write_tables(tmp_path, result)
    content = json.loads(metrics.read_text())
    assert (content["unit"], content["sets"][0]["numbers"]) == ("percent", {"AP": 100 / 3})
    assert content["rows"][0]["difference"] == pytest.approx(10 / 3)
    with classes.open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {
                "set": "coco",
                "category_id": "7",
                "class": "a, b",
                "annotated boxes": "3",
                "AP": "12.5",
                "AP50": "",
                "AP75": "0.3333",
                "AR": "0.0",
            }
        ]


def test_scores_have_one_decimal_and_unknown_ones_a_dash() -> None:
    assert (score_text(12.345), score_text(None), score_text(0.04, signed=True), score_text(-1.26, signed=True)) == (
        *("12.3", "—"),
        *("+0.0", "-1.3"),
    )
