"""The README tells the truth: its main command runs as printed, its files and folders exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, CommandResult

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)


def test_the_first_command_labels_the_examples(
    glip: Callable[..., CommandResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it but the installation, word for word, in an empty folder that has `examples/`."""
    install, *commands = BLOCKS[0].strip().split(" && ")
    assert install == "pip install -e ."
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "glip"
        assert glip(*words).code == 0
    coco = json.loads(Path("labels/annotations.coco.json").read_text())
    assert len(coco["images"]) == len(list((ROOT / "examples" / "images").iterdir()))
    assert coco["annotations"], "the command shows boxes"
    assert len(list(Path("labels/preview").iterdir())) == 3


def test_the_second_command_is_what_ci_runs() -> None:
    assert BLOCKS[1].strip() == "pip install -e '.[test]' && pytest"
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    reading = next(line for line in script.splitlines() if line.startswith("command="))
    done = subprocess.run(
        ["bash", "-c", f'{reading}; echo "$command"'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == BLOCKS[1]


def test_the_house_is_as_drawn() -> None:
    drawing = next(block for block in BLOCKS if block.startswith("glip/ "))
    room = Path()
    for line in drawing.splitlines():
        entry = line.split()[0]
        room = Path(entry) if not line.startswith(" ") else room
        path = ROOT / (room / entry if line.startswith(" ") else room)
        assert path.exists(), entry
    drawn = [line.split()[0].rstrip("/") for line in drawing.splitlines() if line.startswith(" ")]
    rooms = [path.name for path in (ROOT / "glip").iterdir() if not path.name.startswith(("_", "py.typed"))]
    assert sorted(rooms) == sorted(drawn)


def test_the_layers_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = next(contract["layers"] for contract in contracts if contract.get("containers") == ["glip"])
    rows = re.findall(r"^\| (\d+) \| (`[^|]+) \|", README, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(rows), 0, -1))
    assert [set(re.findall(r"`(\w+)`", rooms)) for _, rooms in rows[1:]] == [
        set(layer.split(" | ")) for layer in checked
    ]


def test_images_and_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
