"""`glip.label` in Python means what the command `glip label` means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import glip
from glip.errors import InputError
from glip.labeling.job import LabelJob
from tests.conftest import CommandResult


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[LabelJob]:
    """The jobs that were started, none of which runs."""
    started: list[LabelJob] = []

    def start(job: LabelJob, **_: Any) -> None:
        started.append(job)
        raise InputError("stopped by the test")

    # This order: `label_folder` is imported here, and must take the real function of `job` with it.
    monkeypatch.setattr("glip.labeling.label_folder.run", start)
    monkeypatch.setattr("glip.labeling.job.label", start)
    return started


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ((), {}),
        (("--model", "nano", "--conf", ".4", "--out", "o"), {"model": "nano", "conf": 0.4, "out": "o"}),
        (("--tile", "320", "--limit", "3", "--no-report"), {"tile": 320, "limit": 3, "report": False}),
        (
            ("--floor", ".1", "--imgsz", "320", "--batch", "2", "--preview", "4", "--overwrite", "--offline"),
            {"floor": 0.1, "imgsz": 320, "batch": 2, "preview": 4, "overwrite": True, "offline": True},
        ),
        (("--device", "cpu", "--precision", "bf16"), {"device": "cpu", "precision": "bf16"}),
    ],
)
def test_python_and_the_command_start_the_same_job(
    jobs: list[LabelJob], glip_: Callable[..., CommandResult], words: tuple[str, ...], options: dict[str, Any]
) -> None:
    glip_("label", "photos", "--prompt", "person . hard hat .", *words)
    with pytest.raises(InputError):
        glip.label("photos", "person . hard hat .", **options)
    assert jobs[0] == jobs[1]


@pytest.fixture
def glip_(request: pytest.FixtureRequest) -> Callable[..., CommandResult]:
    return request.getfixturevalue("glip")


def test_names_come_as_text_as_a_list_or_from_a_known_list(jobs: list[LabelJob]) -> None:
    for prompt in ("dog . cat . dog .", ["dog", "cat"], "@coco"):
        with pytest.raises(InputError):
            glip.label([Path("a"), "b"], prompt)
    assert [job.prompts for job in jobs[:2]] == [("dog", "cat")] * 2
    assert jobs[0].sources == ("a", "b")
    assert jobs[2].classes is not None
    assert jobs[2].classes.ids[79] == 90


@pytest.mark.parametrize("words", [{}, {"prompt": "dog .", "classes": "classes.yaml"}])
def test_one_way_to_say_what_to_find_is_needed(jobs: list[LabelJob], words: dict[str, str]) -> None:
    with pytest.raises(InputError, match="prompt"):
        glip.label("photos", **words)  # type: ignore[arg-type]
    assert jobs == []
