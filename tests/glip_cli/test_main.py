"""What every command does before it begins."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip_cli.command_tree import read_tree
from glip_cli.main import command_line, run
from glip_cli.options import complete_benchmarks, complete_models, complete_runs
from glip_cli.output import be_quiet, say_next
from tests.conftest import CommandResult


def test_large_pages_are_asked_for_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    for expected in ("0", "1"):
        with pytest.raises(SystemExit):
            run(["--version"])
        assert os.environ["THP_MEM_ALLOC_ENABLE"] == expected
        monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")


def test_every_command_has_examples_that_its_options_accept() -> None:
    for command in read_tree(command_line()):
        if len(command.words) > 1:
            continue
        assert command.examples, command.words
        for line in command.examples:
            words = shlex.split(line)[1:]
            built = command_line().commands[words[0]]
            with built.make_context(words[0], words[1:]) as context:
                assert context.params


def test_help_fits_80_columns_and_flags_have_no_type(glip: Callable[..., CommandResult]) -> None:
    for words in ([], ["label"], ["export"], ["eval"], ["finetune"], ["review", "push"]):
        shown = glip(*words, "--help").stdout
        assert "<bool>" not in shown
        assert max(map(len, shown.splitlines())) <= 80


def test_the_commands_stand_in_panels(glip: Callable[..., CommandResult]) -> None:
    shown = glip("--help").stdout
    titles = [line.split()[1] for line in shown.splitlines() if line.startswith("╭─")]
    assert titles == ["Options", "Label", "Measure", "Tune", "Review", "Advanced"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("lable",), "'label'"),
        (("label", "--prmpt", "x"), "--prompt"),
        (("eval", "--dataset", "cocoo"), "'coco-o' or 'coco'"),
        (("finetune", "odinw/Racoons"), "odinw/Raccoons"),
        (("label", ".", "-p", "x", "--model", "nanno"), "'nano'"),
        (("pretrain", "--out", "run", "--preset", "nanno"), "'nano'"),
    ],
)
def test_a_misspelt_word_gets_a_hint(
    glip: Callable[..., CommandResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Any, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    done = glip(*words)
    assert done.code == 2
    assert f"Did you mean {hint}" in done.stderr or hint in done.stderr


def test_a_shell_completes_models_benchmarks_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "run.json").touch()
    assert complete_models("nan") == ["nano"]
    assert {"coco", "coco-o"} <= set(complete_benchmarks("coco"))
    assert complete_benchmarks("odinw/Rac") == ["odinw/Raccoons"]
    assert complete_runs("la") == ["labels"]


def test_the_next_step_is_for_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say_next("glip", "export", "my labels")
    assert "Next" not in capsys.readouterr().err
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    say_next("glip", "export", "my labels")
    assert capsys.readouterr().err == "Next: glip export 'my labels'\n"
    be_quiet(True)
    say_next("glip", "export", "labels")
    be_quiet(False)
    assert capsys.readouterr().err == ""
