"""Options from a file: which file counts, what it may hold, and who wins."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from glip.errors import InputError
from glip_cli.command_tree import read_tree
from glip_cli.config import Configuration, read_configuration
from glip_cli.main import app
from tests.conftest import ROOT, CommandResult

Glip = Callable[..., CommandResult]
COMMANDS = list(read_tree(get_command(app)))


def read(folder: Path, text: str | None = None, name: str = "glip.toml") -> Configuration:
    if text is not None:
        (folder / name).write_text(text, encoding="utf-8")
    return read_configuration(COMMANDS, folder)


def test_without_a_file_nothing_is_set(tmp_path: Path) -> None:
    assert read(tmp_path).default_map() == {}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[label]\nconf = 0.5\nmodel = 'nano'\nreport = false", {"conf": 0.5, "model": "nano", "report": False}),
        ("[label]\nphrase = ['a', 'b']\ntile = 640\nconf = 1", {"phrases": ["a", "b"], "tile": 640, "conf": 1}),
        ("[label]\r\ntile-merge = 'wbf'\r\n", {"tile_merge": "wbf"}),
        ("\ufeff[label]\ntile_merge = 'wbf'", {"tile_merge": "wbf"}),
    ],
)
def test_names_and_values_are_those_of_the_command_line(tmp_path: Path, text: str, values: dict[str, Any]) -> None:
    assert read(tmp_path, text).default_map() == {"label": values}


def test_commands_of_a_group_have_nested_tables(tmp_path: Path) -> None:
    found = read(tmp_path, "[review.push]\nlaunch = false\n[models]\nlist = {json = true}\n")
    assert found.default_map() == {"review": {"push": {"launch": False}}, "models": {"list": {"as_json": True}}}


def test_paths_are_relative_to_the_folder_of_the_file(tmp_path: Path) -> None:
    text = "[label]\nout = 'run'\nadapter = '/a/b'\nmodel = './mine'\nprompt = '@./names.txt'\ncaptions = 'sidecar'\n"
    assert read(tmp_path, text).values["label"] == {
        "out": str(tmp_path / "run"),
        "adapter": "/a/b",
        "model": str(tmp_path / "mine"),
        "prompt": f"@{tmp_path}/names.txt",
        "captions": "sidecar",
    }
    assert read(tmp_path, "[export]\nimages = ['moved', 's3://a/b']\n").values["export"]["images"] == [
        str(tmp_path / "moved"),
        "s3://a/b",
    ]


def test_the_nearest_file_counts_and_glip_toml_before_the_project(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    read(tmp_path, "[label]\nconf = 0.1\n")
    assert read(below).values == {"label": {"conf": 0.1}}
    read(tmp_path / "a", "[tool.other]\nconf = 0.2\n# glip\n", "pyproject.toml")
    assert read(below).path == tmp_path / "glip.toml"
    read(tmp_path / "a", "[tool.glip.label]\nconf = 0.2\n", "pyproject.toml")
    assert read(below).values == {"label": {"conf": 0.2}}
    assert read(tmp_path / "a", "[label]\nconf = 0.3\n").values == {"label": {"conf": 0.3}}


def test_a_broken_project_file_of_something_else_does_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, "[tool.ruff\n", "pyproject.toml").path is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[labels]\nconf = 0.5", "'label'"),
        ("[review]\npushh = {}", "'push'"),
        ("[label]\nconv = 0.5", "'conf'"),
        ("[label]\nsources = ['x']", "label.sources"),
        ("[label]\nshard-size = 3", "shard-size"),
        ("[label]\nconf = '0.5'", "'0.5'"),
        ("[label]\nconf = true", "true"),
        ("[label]\ntile = 640.5", "640.5"),
        ("[label]\ntile = false", "false"),
        ("[label]\nmodel = 3", "3"),
        ("[label]\nmodel = 2026-01-01", "2026-01-01"),
        ("[label]\nreport = 1", "1"),
        ("[label]\nphrase = 'a'", "'a'"),
        ("[label]\nphrase = [1]", "1"),
        ("[label]\nout = {a = 1}", "label.out"),
        ('[label]\nprompt = "a\\u0000b"', "NUL"),
        ("[models.convert]\nto = 'microsft'", "'microsoft'"),
        ("[models.convert]\nto = []", "[]"),
        ("[label]\noverwrite = true", "--overwrite"),
        ("[review.delete]\nyes = true", "--yes"),
        ("[label]\ntile-merge = 'wbf'\ntile_merge = 'nms'", "tile_merge"),
        ("label = 3", "3"),
        ("[label]\nconf = = 3", "line 2"),
        ("[label]\nlimit = " + "9" * 5000, "glip.toml"),
        ("a = " + "[" * 100_000, "glip.toml"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InputError, match=re.escape(named)) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "glip.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text_or_too_large_are_refused(tmp_path: Path) -> None:
    (tmp_path / "glip.toml").write_bytes(b"[label]\nprompt = '\xff'\n")
    with pytest.raises(InputError, match=r"glip\.toml"):
        read(tmp_path)
    (tmp_path / "glip.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(InputError, match="1000000"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"tool\.glip is 3"):
        (tmp_path / "glip.toml").unlink()
        read(tmp_path, "[tool]\nglip = 3\n", "pyproject.toml")


def test_flags_win_over_the_environment_and_that_over_the_file(
    glip: Glip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "glip.toml").write_text("[data.synthetic]\ncount = 2\nsize = '64'\n[eval]\ndata-root = 'of-the-file'\n")
    monkeypatch.chdir(tmp_path)
    done = glip("data", "synthetic", "one", "--json")
    assert done.json["images"] == 2
    assert "--count 2, --size 64" in done.stderr
    done = glip("data", "synthetic", "two", "--count=1", "--json")
    assert done.json["images"] == 1
    assert "--count" not in done.stderr

    def data_root() -> tuple[str, str]:
        rows = glip("config", "show", "eval", "--json").json["options"]
        return next((row["value"], row["from"]) for row in rows if row["option"] == "data-root")

    assert data_root() == (str(tmp_path / "of-the-file"), "glip.toml")
    monkeypatch.setenv("GLIP_DATA", "of-the-environment")
    assert data_root() == ("of-the-environment", "environment GLIP_DATA")
    assert "of-the-environment" in glip("eval", "--dataset", "coco", "--model", "nano").stderr


def test_run_json_holds_the_options_that_the_file_set(
    glip: Glip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "glip.toml").write_text("[label]\nmodel = 'nano'\nconf = 0.4\nimgsz = 64\nlimit = 1\nprompt = 'taxi'\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert glip("label", ROOT / "examples" / "images", "--out", "run", "--no-report").code == 0
    run = json.loads(Path("run/run.json").read_text())
    assert (run["model"], run["imgsz"], run["names"]) == ("nano", 64, ["taxi"])
    assert (run["job"]["conf"], run["job"]["limit"]) == (0.4, 1)


def test_show_prints_every_option_with_its_origin(glip: Glip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "glip.toml").write_text("[export]\nformat = 'yolo'\n")
    monkeypatch.chdir(tmp_path)
    shown = glip("config", "show", "export")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0][1] == str(tmp_path / "glip.toml")
    assert ["--format", "yolo", "glip.toml"] in lines
    assert ["--iou", "0.6", "default"] in lines
    command = next(command for command in COMMANDS if str(command) == "export")
    assert len(lines) == 2 + len(command.options)
    every = glip("config", "show", "--json").json
    assert every["file"] == str(tmp_path / "glip.toml")
    assert {row["command"] for row in every["options"]} >= {"label", "review push", "models list"}
    assert {row["command"] for row in glip("config", "show", "review", "push", "--json").json["options"]} == {
        "review push"
    }
    wrong = glip("config", "show", "exprot")
    assert wrong.code == 2
    assert "'export'" in wrong.stderr


def test_a_broken_file_stops_commands_but_not_their_help(
    glip: Glip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "glip.toml").write_text("[labell]\n")
    monkeypatch.chdir(tmp_path)
    stopped = glip("label", "x", "--prompt", "y")
    assert stopped.code == 2
    assert "labell" in stopped.stderr
    for question in ("--help", "--version", "--help-json"):
        assert glip(question).code == 0
    assert glip("label", "--help").code == 0
