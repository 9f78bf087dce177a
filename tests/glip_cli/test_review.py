"""`glip review` without FiftyOne and with bad options; tests/review runs it with a database."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CommandResult

Glip = Callable[..., CommandResult]


@pytest.mark.parametrize(
    "words",
    [
        ("push", ".", "--no-launch"),
        ("pull", "x", "--out", "out"),
        ("status", "x"),
        ("list",),
        ("delete", "x", "--yes"),
    ],
)
def test_without_fiftyone_the_install_line_and_the_report_are_named(
    glip: Glip, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    result = glip("review", *words)
    assert result.code == 2
    assert "pip install 'glip[review]'" in result.stderr and "report.html" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_refused_before_anything_is_done(glip: Glip, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = glip("review", "push", tmp_path, "--port", port)
    assert result.code == 2
    assert f"--port is {port}" in result.stderr


def test_a_port_that_is_none_is_refused(glip: Glip, tmp_path: Path) -> None:
    result = glip("review", "push", tmp_path, "--port", "70000")
    assert result.code == 2
    assert "--port is 70000" in result.stderr


def test_its_help_loads_neither_fiftyone_nor_torch() -> None:
    script = """
import atexit
from glip_cli.review import app
atexit.register(lambda: print("loaded:", *sys.modules))
for command in ("push", "pull", "status", "list", "delete"):
    app([command, "--help"], standalone_mode=False)
"""
    done = subprocess.run([sys.executable, "-c", "import sys" + script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert loaded.isdisjoint({"fiftyone", "torch", "numpy", "PIL"})
