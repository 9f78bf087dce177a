"""The doctor tries what it names, ends in time, and says what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from glip import doctor
from glip.doctor import CHECKS, Check, Finding, examine
from tests.conftest import CommandResult


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


def finding(name: str) -> Finding:
    (found,) = examine(tuple(check for check in CHECKS if check.name == name))
    return found


@pytest.mark.parametrize("name", ["Python", "packages", "torch", "GPU", "bf16", "memory", "disk", "model"])
def test_what_works_here_is_ok(name: str) -> None:
    found = finding(name)
    assert found.state == "ok", found
    assert found.found and found.seconds > 0


def test_a_check_that_does_not_end_fails_in_its_time() -> None:
    release = threading.Event()

    def wait() -> tuple[doctor.State, str, str]:
        release.wait()
        return "ok", "", ""

    (found,) = examine((Check("slow", wait, 0.05),))
    release.set()
    assert (found.state, found.name) == ("fail", "slow") and "0.05" in found.found


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken() -> tuple[doctor.State, str, str]:
        raise ZeroDivisionError("by nought")

    (found,) = examine((Check("broken", broken),))
    assert found.state == "fail" and "by nought" in found.found


@pytest.mark.parametrize("name", ["torch", "bf16"])
def test_a_wrong_product_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_product_error", lambda device, dtype: (0.5, 0.001))
    assert finding(name).state == "fail" and "5.0e-01" in finding(name).found


def test_a_package_of_another_version_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["numpy>=99", "no-such-package"])
    found = finding("packages")
    assert found.state == "fail" and "numpy" in found.found and "no-such-package is missing" in found.found


def test_a_folder_that_cannot_be_written_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**words: object) -> object:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    found = finding("disk")
    assert found.state == "fail" and "Read-only" in found.found and "GLIP_HOME" in found.remedy


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_free_memory", lambda: 10**9)
    assert finding("memory").state == "warn" and "1.0 GB" in finding("memory").found


def test_a_damaged_checkpoint_fails_and_a_missing_one_is_a_warning(
    home: Path, glip: Callable[..., CommandResult]
) -> None:
    assert finding("checkpoints").state == "warn" and "glip models pull glip-t" in finding("checkpoints").remedy
    assert glip("models", "random", home / "models/glip-t", "--architecture", "tiny").code == 0
    assert (finding("checkpoints").state, finding("checkpoints").found) == ("ok", "intact: glip-t")
    path = home / "models/glip-t/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    found = finding("checkpoints")
    assert found.state == "fail" and "glip models remove glip-t" in found.remedy


def test_a_damaged_embedded_model_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glip.weights.checkpoint.verify", lambda name: {name: ["model.safetensors differs"]})
    assert finding("model").state == "fail" and "model.safetensors" in finding("model").found


def test_without_a_network_it_says_what_works(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finding("network").state == "warn" and "--model nano" in finding("network").remedy
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("GLIP_MIRROR", "http://127.0.0.1:1")
    assert "127.0.0.1:1" in finding("network").found
    (home / "models/glip-t").mkdir(parents=True)
    assert finding("network").state == "ok"


def test_a_database_that_does_not_start_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymongo")
    program = tmp_path / "mongod"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    monkeypatch.setattr("shutil.which", lambda name, path=None: str(program))
    monkeypatch.setattr(doctor, "_PING_SECONDS", 0.2)
    found = finding("MongoDB")
    assert found.state == "fail" and "ended with 3" in found.found


def test_the_command_shows_rows_and_exits_with_1_if_one_fails(
    glip: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "a sentence that is longer than a row of eighty columns can hold, so that it goes on below"
    checks = (Check("one", lambda: ("ok", long, "")), Check("two", lambda: ("warn", "few", "do this")))
    monkeypatch.setattr(doctor, "CHECKS", checks)
    monkeypatch.setenv("COLUMNS", "80")
    done = glip("doctor")
    assert done.code == 0 and max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.split()[:2] == ["ok", "one"] and "→ do this" in done.stdout
    monkeypatch.setattr(doctor, "CHECKS", (*checks, Check("three", lambda: ("fail", "broken", ""))))
    failed = glip("doctor", "--json")
    assert failed.code == 1 and failed.json["counts"] == {"ok": 1, "warn": 1, "fail": 1}
    assert [row["name"] for row in failed.json["checks"]] == ["one", "two", "three"]
