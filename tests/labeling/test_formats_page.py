"""docs/formats.md tells the truth: its commands and its Python run as printed, and each format is in its table."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from glip.labeling.writers import FORMATS
from tests.conftest import ROOT, CommandResult
from tests.labeling.runs import LabelledFolder

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
PYTHON = [block for language, block in BLOCKS if language == "python" and "import fiftyone" not in block]


def test_every_format_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `([a-z][a-z-]+)` \|", PAGE, re.MULTILINE)) == FORMATS.keys()
    for file, _ in FORMATS.values():
        assert file in PAGE


def test_the_commands_run_as_printed(
    glip: Callable[..., CommandResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = LabelledFolder(tmp_path, [f"{number}.jpg" for number in range(10)], labels=(0, 1))
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "glip"
        assert glip(*words, "--images", "photos").code == 0, command
    assert (tmp_path / "dataset" / "yolo" / "data.yaml").is_file()
    assert (tmp_path / "labels" / "labelme" / "3.jpg").samefile(folder.images["3.jpg"])
    assert len(list((tmp_path / "upload" / "coco").rglob("*.jpg"))) == 10
    (first, *_) = json.loads((tmp_path / "labels" / "labelstudio" / "tasks.json").read_text())
    assert first["data"]["image"] == "s3://bucket/photos/0.jpg"


def test_the_python_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    (script,) = PYTHON
    exec(compile(script, "formats.md", "exec"), {})
    assert "3 images" in capsys.readouterr().out
    assert len(list((tmp_path / "python").glob("*-boxes.jpg"))) == 3
