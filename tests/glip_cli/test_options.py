"""Options: declared once, 0.1.0's names still work, and errors name options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.main import get_command

from glip_cli.main import _options_by_field, app
from glip_cli.options import OLD_SPELLINGS, with_options, with_todays_spellings
from tests.conftest import CommandResult

Glip = Callable[..., CommandResult]


def commands() -> dict[str, Any]:
    """Returns every command by its words."""
    found: dict[str, Any] = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        found |= {name: command} if below is None else {f"{name} {word}": each for word, each in below.items()}
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("review push labels --pictures in --pictures=more", "review push labels --images in --images=more"),
        ("export labels --pictures in", "export labels --images in"),
        ("finetune set --pictures 3 --cpu", "finetune set --comparisons 3 --device=cpu"),
        ("-v finetune --pictures=3", "-v finetune --comparisons=3"),
        ("pretrain --out run --cpu", "pretrain --out run --device=cpu"),
        ("calibrate few --precision .9", "calibrate few --target-precision .9"),
        ("bench --batch-size 4", "bench --batch 4"),
        ("export -- --pictures", "export -- --pictures"),
        ("label in --prompt --pictures", "label in --prompt --pictures"),
        ("", ""),
    ],
)
def test_the_names_of_0_1_0_are_replaced(words: str, expected: str) -> None:
    assert with_todays_spellings(words.split()) == expected.split()


def test_old_names_stand_for_options_that_exist_and_are_not_options_themselves() -> None:
    for words, spellings in OLD_SPELLINGS.items():
        known = {option for parameter in commands()[words].params for option in parameter.opts}
        for old, new in spellings.items():
            assert new.partition("=")[0] in known
            assert old not in known


@pytest.mark.parametrize("words", sorted(OLD_SPELLINGS))
def test_help_does_not_show_old_names(glip: Glip, words: str) -> None:
    shown = glip(*words.split(), "--help").stdout
    for old, new in OLD_SPELLINGS[words].items():
        assert old not in shown.split()
        assert new.partition("=")[0] in shown


def test_an_old_name_reaches_the_command(glip: Glip, tmp_path: Any) -> None:
    done = glip("finetune", tmp_path / "nothing", "--cpu", "--pictures", "few")
    assert done.code == 2
    assert "--comparisons" in done.stderr


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("conf is 1.5; it must lie between 0 and 1.", "--conf is 1.5; it must lie between 0 and 1."),
        ("data_root is x, which `conf` excludes.", "--data-root is x, which --conf excludes."),
        ("See `glip models list` or `other`.", "See `glip models list` or `other`."),
        ("The conf of labels/ is 0.3.", "The conf of labels/ is 0.3."),
        ("conf/ is not a folder.", "conf/ is not a folder."),
    ],
)
def test_fields_become_options(message: str, expected: str) -> None:
    assert with_options(message, {"conf": "--conf", "data_root": "--data-root"}) == expected


def test_fields_are_found_by_command() -> None:
    finetune, label = _options_by_field(["-v", "finetune", "set"]), _options_by_field(["label", "in"])
    assert (finetune["modes"], finetune["batch_size"], finetune["data_root"]) == ("--mode", "--batch", "--data-root")
    assert (label["tiling"], label["conf"], label["report"]) == ("--tile", "--conf", "--report")
    assert "modes" not in label and "sources" not in label
    assert _options_by_field(["review", "push", "labels"])["truth"] == "--truth"


def test_an_option_means_the_same_in_every_command() -> None:
    """An option with one name has one help text, except where a command gives it a meaning of its own."""
    own = {"--out", "--batch", "--precision", "--model", "--conf", "--classes", "--images", "--name", "--architecture"}
    own |= {"--imgsz", "--report", "--seed", "--overwrite", "--data-root", "--names", "--size", "--split", "--workers"}
    own |= {"--dry-run", "--prompts"}
    texts: dict[str, set[str]] = {}
    for command in commands().values():
        for parameter in command.params:
            if parameter.opts[0].startswith("-") and not parameter.hidden:
                texts.setdefault(max(parameter.opts, key=len), set()).add(parameter.help)
    assert {option for option, helps in texts.items() if len(helps) > 1} <= own


def test_every_help_text_is_a_sentence() -> None:
    for words, command in commands().items():
        assert command.help, words
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                text = parameter.help or ""
                assert text and (text[0].isupper() or text[0].isdigit() or " " in text), (words, parameter.name)
                assert "so many" not in text and "picture" not in text, (words, parameter.name)
