"""A job as data: what its configuration holds, and which results are believed."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from glip.errors import InputError
from glip.run_folder import keep_configuration
from glip.training.finetune_job import FinetuneResult, finished_result, read_result, write_result
from glip.weights.folder import load_model_folder
from tests.training.sets import job_of

RESULT = FinetuneResult("Squares", "prompt", 1, 3, "nano", "b", "test", {"AP": 12.5}, {"red": None}, train_images=2)


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_result(tmp_path, RESULT)
    assert read_result(tmp_path) == RESULT


@pytest.mark.parametrize("content", ["", "{", "[]", '{"set": "Squares"}'])
def test_a_file_that_is_no_result_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    assert read_result(tmp_path) is None


def test_a_result_counts_only_with_its_configuration(tmp_path: Path) -> None:
    write_result(tmp_path, RESULT)
    assert finished_result(tmp_path, {"seed": 3}) is None
    keep_configuration(tmp_path, {"seed": 3, "shots": 1})
    assert finished_result(tmp_path, {"seed": 3, "shots": 1}) == RESULT
    with pytest.raises(InputError, match=r"seed.*3.*30.*shots.*1.*5"):
        finished_result(tmp_path, {"seed": 30, "shots": 5})


def test_the_output_folder_and_the_machine_are_no_part_of_the_configuration(folders: Path, tmp_path: Path) -> None:
    base = load_model_folder(folders / "base")
    job = job_of(folders, tmp_path)
    same = replace(job, out=tmp_path / "other", device="cuda", workers=3, cache=False, comparisons=9, offline=True)
    assert same.configuration(base) == job.configuration(base)
    for other in (replace(job, seed=4), replace(job, imgsz=96), replace(job, precision="bf16"), replace(job, scenes=1)):
        assert other.configuration(base) != job.configuration(base)


def test_a_job_is_picklable(folders: Path, tmp_path: Path) -> None:
    job = job_of(folders, tmp_path)
    assert pickle.loads(pickle.dumps(job)) == job
