"""The examples run."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, CommandResult


def test_things_are_found_in_a_few_lines(
    glip: Callable[..., CommandResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model"
    assert glip("models", "random", model, "--architecture", "tiny").code == 0
    image = ROOT / "examples" / "images" / "taxis.jpg"
    monkeypatch.setattr(sys, "argv", ["find_things.py", str(model), "taxi . star .", str(image)])
    monkeypatch.setattr("glip.detectors.glip.Detector.predict", _low_threshold())
    runpy.run_path(str(ROOT / "examples" / "find_things.py"), run_name="__main__")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(str(image))]
    assert lines
    assert all(line[1] in ("taxi", "star") and len(line) == 7 for line in lines)


def _low_threshold() -> Callable[..., object]:
    """The random model is never as sure as the example asks for."""
    from glip.detectors.glip import Detector

    predict = Detector.predict
    return lambda self, images, prompt, score_threshold: predict(self, images, prompt, 0.05, imgsz=320)
