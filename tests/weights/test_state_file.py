"""Reading checkpoint files without running them, and writing them whole."""

from __future__ import annotations

import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glip.errors import InputError, JobFailed
from glip.weights.state_file import read_state_file, write_state_file

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2)}


class RunsCode:
    """Creates a file when it is unpickled, by one way or another."""

    def __init__(self, path: Path, way: str = "system") -> None:
        self.path, self.way = path, way

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (
            (os.system, (f"touch '{self.path}'",)) if self.way == "system" else (exec, (f"open('{self.path}', 'w')",))
        )


def assert_weights(found: Any) -> None:
    assert sorted(found) == sorted(WEIGHTS)
    assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items())


@pytest.mark.parametrize("name", ["x.pth", "x.pt", "x.safetensors"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    write_state_file(tmp_path / name, WEIGHTS)
    assert_weights(read_state_file(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    for name in ("x.pth", "x.safetensors"):
        write_state_file(tmp_path / name, WEIGHTS)
        assert (tmp_path / name).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_files_of_old_torch_are_read(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert_weights(read_state_file(tmp_path / "x.pth"))


def test_plain_values_beside_the_weights_are_read(tmp_path: Path) -> None:
    write_state_file(tmp_path / "x.pth", {"model": WEIGHTS, "optimizer": {"lr": [0.1, None]}, "iteration": 7})
    found: Any = read_state_file(tmp_path / "x.pth")
    assert_weights(found["model"])
    assert found["iteration"] == 7


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("way", ["system", "exec"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, way: str, is_zip: bool) -> None:
    trace, path = tmp_path / "ran", tmp_path / "x.pth"
    torch.save({"model": WEIGHTS, "x": RunsCode(trace, way)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(InputError, match=rf"x\.pth.*{way}"):
        read_state_file(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file is as harmful as it should be"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_plain_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "ran", tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(RunsCode(trace)))
    with pytest.raises(InputError):
        read_state_file(path)
    assert not trace.exists()


@pytest.fixture
def history_buffer(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of the training log that mmengine keeps; it notes when it is restored."""

    class HistoryBuffer:
        restored = False

        def __init__(self) -> None:
            self.values = np.arange(3.0)

        def __setstate__(self, _: object) -> None:
            HistoryBuffer.restored = True

    module = types.ModuleType("mmengine.logging.history_buffer")
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return HistoryBuffer


def test_mmdets_training_log_is_passed_over_without_running_its_classes(tmp_path: Path, history_buffer: Any) -> None:
    meta = {"dataset_meta": {"classes": ("person", "dog")}, "seed": np.float64(3)}
    content = {"state_dict": WEIGHTS, "meta": meta, "message_hub": {"loss": history_buffer()}}
    torch.save(content, tmp_path / "x.pth")
    found: Any = read_state_file(tmp_path / "x.pth")
    assert_weights(found["state_dict"])
    assert found["meta"]["dataset_meta"]["classes"] == ("person", "dog")
    assert not history_buffer.restored
    assert not isinstance(found["message_hub"]["loss"], history_buffer)


def test_code_behind_a_training_logs_name_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, path = tmp_path / "ran", tmp_path / "x.pth"
    module = types.ModuleType("mmengine")
    module.system = lambda command: os.system(command)  # type: ignore[attr-defined]
    module.system.__module__, module.system.__qualname__ = "mmengine", "system"
    monkeypatch.setitem(sys.modules, "mmengine", module)

    class Disguised:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return module.system, (f"touch '{trace}'",)

    torch.save({"state_dict": WEIGHTS, "meta": Disguised()}, path)
    found: Any = read_state_file(path)
    assert_weights(found["state_dict"])
    assert not trace.exists()


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("kept", [0, 10, -40])
def test_a_cut_off_file_is_one_sentence(tmp_path: Path, name: str, kept: int) -> None:
    path = tmp_path / name
    write_state_file(path, WEIGHTS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=name) as caught:
        read_state_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>not found</html>", r"x\.pth"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
        (b"PK\x03\x04 not really a zip", r"x\.pth"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_state_file(tmp_path / "x.pth")


def test_an_absent_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.pth"):
        read_state_file(tmp_path / "x.pth")


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    write_state_file(path, WEIGHTS)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JobFailed, match="No space left"):
        write_state_file(path, {"a": torch.zeros(100)})
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]
