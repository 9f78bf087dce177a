"""The files for evaluation servers: their formats, and which input is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from glip.errors import InputError
from glip.evaluation.predictions import Predictions
from glip.evaluation.submission import (
    read_submission,
    results_of,
    write_few_shot_submission,
    write_results,
    write_submission,
)

BOX = {"image_id": 3, "category_id": 2, "bbox": [1.0, 2.0, 3.5, 4.0], "score": 0.25}


def results(folder: Path, name: str, *boxes: object) -> Path:
    path = folder / name / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(boxes))
    return path


def test_results_are_a_bare_list_with_plain_numbers(tmp_path: Path) -> None:
    found = Predictions(np.array([3]), np.array([2]), np.array([[1.0, 2.0, 3.5, 4.0]]), np.array([0.25]))
    write_results(tmp_path / "results.json", found)
    assert json.loads((tmp_path / "results.json").read_text()) == [BOX]
    write_results(tmp_path / "results.json", Predictions.none())
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_zero_shot_and_full_results_are_by_the_name_of_the_set(tmp_path: Path) -> None:
    results(tmp_path, "WildfireSmoke", BOX)
    results(tmp_path, "BCCD")
    write_submission(tmp_path / "all.json", results_of(tmp_path))
    assert json.loads((tmp_path / "all.json").read_text()) == {"BCCD": [], "WildfireSmoke": [BOX]}
    sets = read_submission(tmp_path / "all.json")
    assert sets is not None and json.loads(bytes(sets["WildfireSmoke"])) == [BOX]


def test_a_byte_order_mark_of_a_results_file_is_dropped(tmp_path: Path) -> None:
    path = results(tmp_path, "BCCD", BOX)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    write_submission(tmp_path / "all.json", results_of(tmp_path))
    assert json.loads((tmp_path / "all.json").read_text()) == {"BCCD": [BOX]}


def test_few_shot_results_are_by_set_and_seed(tmp_path: Path) -> None:
    runs = {}
    for seed in (300, 3, 30):
        results(tmp_path / str(seed), "BCCD", BOX | {"score": seed / 1000})
        runs[seed] = results_of(tmp_path / str(seed))
    write_few_shot_submission(tmp_path / "few.json", runs)
    content = json.loads((tmp_path / "few.json").read_text())
    assert {seed: boxes[0]["score"] for seed, boxes in content["BCCD"].items()} == {"3": 0.003, "30": 0.03, "300": 0.3}
    assert list(content["BCCD"]) == ["3", "30", "300"]


def test_a_few_shot_submission_needs_all_seeds_and_the_same_sets(tmp_path: Path) -> None:
    for seed in ("3", "30", "300"):
        results(tmp_path / seed, "BCCD", BOX)
    runs = {seed: results_of(tmp_path / str(seed)) for seed in (3, 30, 300)}
    with pytest.raises(InputError, match=r"seeds 3, 30;.*3, 30, 300"):
        write_few_shot_submission(tmp_path / "few.json", {3: runs[3], 30: runs[30]})
    results(tmp_path / "30", "dice")
    with pytest.raises(InputError, match=r"30 and 3 .*'dice'"):
        write_few_shot_submission(tmp_path / "few.json", runs | {30: results_of(tmp_path / "30")})
    assert not (tmp_path / "few.json").exists()


def test_a_broken_results_file_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "BCCD").mkdir()
    (tmp_path / "BCCD/results.json").write_text('[{"image_id": 1')
    with pytest.raises(InputError, match=r"BCCD/results\.json"):
        write_submission(tmp_path / "all.json", results_of(tmp_path))
    assert not (tmp_path / "all.json").exists()
    with pytest.raises(InputError, match="BCCD"):
        results_of(tmp_path / "BCCD")


@pytest.mark.parametrize("content", ['[{"image_id": 1}]', '{"images": [], "annotations": []}', "{", "[1, 2"])
def test_other_formats_are_no_submission(content: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(content)
    assert read_submission(tmp_path / "file.json") is None
