"""D3: three parts, and images that are asked for the descriptions of their scenario only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glip.errors import InputError
from glip.evaluation.metrics.described import described_scores, read_scenarios
from tests.evaluation.cases import simple_predictions, simple_truth

BOX = (0.0, 0.0, 10.0, 10.0)
FULL = simple_truth([(1, 1, BOX), (2, 2, BOX)], classes=2, images=2)
PARTS = {"FULL": FULL, "PRES": FULL.of_categories([1]), "ABS": FULL.of_categories([2])}
FOUND = simple_predictions([(1, 1, BOX, 0.5), (2, 1, BOX, 0.9), (2, 2, BOX, 0.5)])


def test_each_part_is_scored_for_its_own_descriptions() -> None:
    scores = described_scores(PARTS, FOUND, None)
    assert not scores.intra_scenario
    assert scores.numbers() == pytest.approx({"FULL": 0.75, "PRES": 0.5, "ABS": 1.0})


def test_inside_scenarios_other_descriptions_are_not_asked() -> None:
    scores = described_scores(PARTS, FOUND, {1: frozenset({1}), 2: frozenset({2})})
    assert scores.intra_scenario
    assert scores.numbers() == pytest.approx({"FULL": 1.0, "PRES": 1.0, "ABS": 1.0})


def test_an_image_of_no_scenario_is_asked_nothing() -> None:
    assert described_scores(PARTS, FOUND, {1: frozenset({1})}).numbers() == pytest.approx(
        {"FULL": 0.5, "PRES": 1.0, "ABS": 0.0}
    )


def test_lengths_are_counted_in_words() -> None:
    lengths = described_scores(PARTS, FOUND, None).by_length()
    assert lengths == pytest.approx({"short": 0.75, "middle": -1, "long": -1, "very long": -1})


def write(folder: Path, content: Any) -> Path:
    path = folder / "groups.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


def test_scenarios_are_read_and_joined(tmp_path: Path) -> None:
    groups = {
        1: {"id": 1, "inner_sent_id": [3, np.int64(4)], "img_id": [10, 11], "group_name": "x"},
        2: {"id": 2, "inner_sent_id": [5], "img_id": [np.int64(11)], "group_name": "y"},
    }
    assert read_scenarios(write(tmp_path, groups)) == {10: frozenset({3, 4}), 11: frozenset({3, 4, 5})}


class _Acts:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path, ("harm",)


@pytest.mark.parametrize(
    "content", [{1: _Acts()}, [1, 2], {1: {"img_id": [1]}}, {1: {"img_id": 3, "inner_sent_id": 4}}]
)
def test_a_pickle_that_could_act_or_holds_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError, match=r"groups\.pkl"):
        read_scenarios(write(tmp_path, content))


def test_a_broken_or_missing_pickle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, {1: 2})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="not D3's list"):
        read_scenarios(path)
    with pytest.raises(InputError, match="Cannot read"):
        read_scenarios(tmp_path / "other.pkl")
