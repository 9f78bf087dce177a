"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.images.stores import Web

# Threads that wait must not keep a core from others: on a busy machine tests would take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"


def _found(variable: str, fallback: str) -> Path | None:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / fallback))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of golden numbers: GLIP_PARITY, else ../shared/parity."""
    folder = _found("GLIP_PARITY", "parity")
    if folder is None:
        pytest.skip("no golden numbers: set GLIP_PARITY to their folder")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs: GLIP_TEST_DATA, else ../shared/data."""
    folder = _found("GLIP_TEST_DATA", "data")
    if folder is None:
        pytest.skip("no real photographs: set GLIP_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Runs torch on one thread. For tiny models: a second thread costs more than it brings, and sums made by two
    threads differ from those made by one in the last digit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def web() -> Iterator[Web]:
    """A local web server without pages; a test adds them."""
    from tests.images.stores import web_server

    with web_server() as web:
        yield web


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the pauses between two tries of a remote read to 10 ms."""
    from glip.images import remote

    monkeypatch.setattr(remote, "WAITS", (0.01, 0.01))


@dataclass(frozen=True)
class CommandResult:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """stdout, read as JSON."""
        return json.loads(self.stdout)


@pytest.fixture
def glip(capsys: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Runs `glip WORDS…` inside this process."""

    def call(*words: object) -> CommandResult:
        from glip_cli.main import run

        capsys.readouterr()
        code = 0
        try:
            run([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        shown = capsys.readouterr()
        return CommandResult(code, shown.out, shown.err)

    return call
