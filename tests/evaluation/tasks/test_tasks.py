"""Every format of annotations has a task, and a task describes its protocol."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from glip.data.benchmarks import Format
from glip.data.lookup import find_suite
from glip.detectors.base import DetectionLimits
from glip.evaluation.run import open_task
from glip.evaluation.tasks import ONE_CLASS_LIST, ScoreOptions
from glip.labeling.image_prompts import ClassList
from tests.evaluation.perfect import write_coco, write_set


def test_one_class_list_names_formats_only() -> None:
    assert set(get_args(Format)) > ONE_CLASS_LIST


def test_a_class_list_is_prompted_as_a_whole_and_scored_with_the_published_limit(tmp_path: Path) -> None:
    (split,) = find_suite("coco", write_coco(tmp_path)).splits
    task = open_task(split, ScoreOptions())
    assert [path.name for path in task.images()] == ["p1.png", "p2.png", "p3.png"]
    assert task.prompts(None) == ClassList(("person", "dog"))
    assert task.limits() == DetectionLimits(floor=0.05, max_detections=300)
    assert "100 boxes" in task.protocol()["limits"]


def test_lvis_is_prompted_in_chunks_with_a_limit_for_each(tmp_path: Path) -> None:
    write_set(tmp_path / "coco/annotations/lvis_v1_val.json", tmp_path / "coco/val2017", lvis=True)
    (split,) = find_suite("lvis-val", tmp_path).splits
    task = open_task(split, ScoreOptions(limit=2, max_det=7))
    prompts = task.prompts(None)
    assert isinstance(prompts, ClassList) and prompts.names_per_prompt == 40
    assert task.limits() == DetectionLimits(floor=0.05, max_detections=300, limit_per_prompt=True)
    assert len(task.images()) == 2
    assert "7 boxes" not in task.protocol()["limits"]


@pytest.mark.parametrize(("style", "word"), [("plain", "plain"), ("original", "original"), ("paper", "Table 10")])
def test_the_protocol_names_the_style_of_the_prompts(tmp_path: Path, style: str, word: str) -> None:
    (split,) = find_suite("coco", write_coco(tmp_path)).splits
    options = ScoreOptions(prompts=style)  # type: ignore[arg-type]
    assert word in open_task(split, options).protocol()["prompts"]
