"""One run per output folder: the lock, and the configuration on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.errors import InputError, JobFailed
from glip.run_folder import RUN_FILE, keep_configuration, lock_folder, read_run_file, refuse_change

CONFIGURATION: dict[str, Any] = {"seed": 3, "mode": "linear", "recipe": {"lr": 0.1, "steps": 100}, "sizes": (1, 2)}


def test_a_configuration_is_recorded_and_resumed(tmp_path: Path) -> None:
    assert read_run_file(tmp_path) is None
    keep_configuration(tmp_path, CONFIGURATION)
    before = (tmp_path / RUN_FILE).read_bytes()
    keep_configuration(tmp_path, CONFIGURATION)
    assert (tmp_path / RUN_FILE).read_bytes() == before
    assert read_run_file(tmp_path) == {**CONFIGURATION, "sizes": [1, 2]}


def test_another_configuration_is_refused_with_every_field_and_both_values(tmp_path: Path) -> None:
    keep_configuration(tmp_path, CONFIGURATION)
    other = {**CONFIGURATION, "seed": 30, "recipe": {"lr": 0.2, "steps": 100}}
    with pytest.raises(InputError) as error:
        keep_configuration(tmp_path, other, names={"recipe.lr": "learning rate"})
    assert all(word in str(error.value) for word in ("seed", "3", "30", "learning rate", "0.1", "0.2"))
    assert "mode" not in str(error.value) and "steps" not in str(error.value)


def test_a_field_that_the_file_lacks_counts_as_null(tmp_path: Path) -> None:
    refuse_change(tmp_path, {"seed": 3}, {"seed": 3, "warmup": None})
    with pytest.raises(InputError, match="warmup"):
        refuse_change(tmp_path, {"seed": 3}, {"seed": 3, "warmup": 5})


def test_only_the_given_fields_are_compared(tmp_path: Path) -> None:
    refuse_change(tmp_path, {"seed": 3, "device": "cpu"}, {"seed": 3, "device": "cuda"}, fields=("seed",))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).write_text('{"seed": ')
    with pytest.raises(InputError, match=r"run\.json"):
        keep_configuration(tmp_path, CONFIGURATION)


def test_a_folder_is_locked_for_one_run(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(InputError, match=str(tmp_path)), lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobFailed, match="nowhere"), lock_folder(tmp_path / "file" / "nowhere"):
        pass
