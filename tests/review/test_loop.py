"""The whole loop of `examples/review_loop.py`: label, correct, pull, tune, score again."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT


def loop(out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Runs the example and gives back what it printed."""
    monkeypatch.setattr(sys, "argv", ["review_loop.py", str(out), *map(str, words)])
    runpy.run_path(str(ROOT / "examples" / "review_loop.py"), run_name="__main__")
    return capsys.readouterr().out


def test_corrections_teach_the_model_a_word(
    fiftyone: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = loop(tmp_path / "loop", monkeypatch, capsys, "--unseen", 12, "--seeds", 3, "--epochs", 8, "--images", 20)
    before, after = (float(match) for match in re.findall(r"^(?:before|after) +([\d.]+)", shown, re.MULTILINE))
    assert after > before + 5
    (changed,) = re.findall(r"(\d+) boxes corrected", shown)
    assert int(changed) >= 5
    assert not fiftyone.dataset_exists("loop-loop")


@pytest.mark.full
def test_the_gain_is_beyond_the_spread_of_three_draws(
    fiftyone: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = loop(tmp_path / "loop", monkeypatch, capsys)
    (before,) = re.findall(r"^before +([\d.]+)", shown, re.MULTILINE)
    ((mean, spread),) = re.findall(r"^after +([\d.]+) ± ([\d.]+)", shown, re.MULTILINE)
    assert float(mean) - float(before) > 2 * float(spread)
