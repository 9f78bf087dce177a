"""D3's scenarios are read without running the code that a pickle may hold."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glip.data.annotations import Truth
from glip.data.d3 import PARTS, read_parts, read_scenarios
from glip.errors import InputError
from tests.evaluation.perfect import write_set


def test_parts_whose_files_exist_are_read(tmp_path: Path) -> None:
    for part in ("FULL", "ABS"):
        write_set(tmp_path / PARTS[part], tmp_path / "images")
    truth = Truth.from_coco(tmp_path / PARTS["FULL"])
    parts = read_parts(tmp_path / PARTS["FULL"], truth)
    assert list(parts) == ["FULL", "ABS"]
    assert parts["FULL"] is truth
    assert parts["ABS"].names == truth.names


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


class _RunsCode:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path, ("harm",)


@pytest.mark.parametrize(
    "content", [{1: _RunsCode()}, [1, 2], {1: {"img_id": [1]}}, {1: {"img_id": 3, "inner_sent_id": 4}}]
)
def test_a_pickle_that_could_run_code_or_holds_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError, match=r"groups\.pkl"):
        read_scenarios(write(tmp_path, content))


def test_a_broken_or_missing_pickle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, {1: 2})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_scenarios(path)
    with pytest.raises(InputError, match=r"other\.pkl"):
        read_scenarios(tmp_path / "other.pkl")
