"""`glip finetune` at the terminal, and `glip label --adapter`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glip.labeling.records import read_run
from glip.weights.folder import load_model_folder
from glip.weights.random_weights import random_model
from tests.conftest import CommandResult
from tests.training.sets import write_base, write_set

Command = Callable[..., CommandResult]
QUICK = ("--epochs", 1, "--copies", 1, "--no-augment", "--device", "cpu", "--comparisons", 0, "--seeds", 3)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with base/ and Squares/, to work in."""
    monkeypatch.chdir(tmp_path)
    write_base(Path("base"))
    write_set(Path("Squares"), train=3, val=2, test=2)
    return tmp_path


def test_a_table_goes_to_stdout_and_the_next_command_to_stderr(here: Path, glip: Command) -> None:
    done = glip("finetune", "Squares", "--model", "base", "--shots", "0,1", "-o", "out", *QUICK)
    assert done.code == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["model", "mode", "shots", "Squares"]
    assert [line[1:3] for line in lines[1:]] == [["zero-shot", "0"], ["prompt", "1"]]
    assert "--adapter out/Squares/prompt/1-shot/seed-3`" in done.stderr
    assert Path("out/table.md").is_file()


def test_json_holds_every_run(here: Path, glip: Command) -> None:
    done = glip("finetune", "Squares", "--model", "base", "-o", "out", "--json", *QUICK)
    assert done.code == 0, done.stderr
    assert [(run["mode"], run["shots"], run["seed"]) for run in done.json["runs"]] == [("prompt", 1, 3)]
    assert done.json["unit"] == "percent"
    saved = json.loads(Path("out/results.json").read_text())
    assert saved["runs"] == done.json["runs"]


def test_a_dry_run_lists_what_would_learn_and_writes_nothing(here: Path, glip: Command) -> None:
    done = glip("finetune", "Squares", "--model", "base", "--mode", "prompt,linear", "-o", "out", "--dry-run", *QUICK)
    assert done.code == 0, done.stderr
    assert "prompt: 12288 parameters in 1 tensors" in done.stdout
    assert "  prompt_offset 256×48\n" in done.stdout
    assert "parameters in 9 tensors" in done.stdout
    assert not Path("out").exists()


def test_missing_sets_of_a_group_are_listed(here: Path, glip: Command) -> None:
    for split in ("train", "valid", "test"):
        folder = Path("data/odinw/Packages/Raw") / split
        folder.mkdir(parents=True)
        for source in (Path("Squares") / split).iterdir():
            (folder / source.name).write_bytes(source.read_bytes())
        path = folder / "annotations_without_background.json"
        content = json.loads(path.read_text())
        content["categories"] = [{"id": 1, "name": "package"}]
        for box in content["annotations"]:
            box["category_id"] = 1
        path.write_text(json.dumps(content))
    done = glip("finetune", "--model", "base", "-o", "out", "--dry-run", "--json", *QUICK)
    assert done.code == 0, done.stderr
    assert {run["set"] for run in done.json["runs"]} == {"Packages"}
    (sentence,) = done.json["missing"]
    assert "12 sets" in sentence and "glip data pull odinw13" in sentence
    assert done.stderr.count("12 sets of odinw13") == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--shots", "few"], "--shots has 'few'"),
        (["--seeds", "a"], "--seeds has 'a'"),
        (["--mode", "lora"], "'lora'"),
        (["--precision", "fp8"], "--precision is 'fp8'"),
        (["--prompts", "nice"], "--prompts is 'nice'"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--lr", "0"], "--lr is 0"),
        (["--lr", "nan"], "--lr is nan"),
        (["--seeds", "-1"], "-1"),
        (["--imgsz", "0"], "--imgsz is 0"),
        (["--memory", "nan"], "--memory is nan"),
        (["--disk", "-1"], "--disk is -1"),
        (["--recipe", "lvis"], "'lvis'"),
    ],
)
def test_an_error_names_the_option_or_its_value_in_one_line(
    here: Path, glip: Command, words: list[str], named: str
) -> None:
    done = glip("finetune", "Squares", "--model", "base", "-o", "out", *words)
    assert done.code == 2
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_learned(here: Path, glip: Command) -> None:
    Path("note").write_text("in the way")
    for out in ("note", "note/below"):
        done = glip("finetune", "Squares", "--model", "base", "-o", out, *QUICK)
        assert done.code == 2
        assert out in done.stderr and done.stderr.count("\n") == 1


def test_a_lost_test_image_is_said_before_anything_is_learned(here: Path, glip: Command) -> None:
    next(Path("Squares/test").glob("*.png")).unlink()
    for words in ([], ["--dry-run"]):
        done = glip("finetune", "Squares", "--model", "base", "-o", "out", *QUICK, *words)
        assert done.code == 2
        assert "1 of 2 images of the test split of Squares" in done.stderr
        assert done.stderr.count("\n") == 1
    assert not Path("out").exists()


# --- glip label --adapter ---


@pytest.fixture
def adapter(here: Path, glip: Command) -> Path:
    """An adapter of base/."""
    done = glip("finetune", "Squares", "--model", "base", "-o", "tuned", *QUICK)
    assert done.code == 0, done.stderr
    return Path("tuned/Squares/prompt/1-shot/seed-3/adapter.safetensors")


def label(glip: Command, out: str, *words: Any) -> CommandResult:
    return glip("label", "Squares/test", "-o", out, "--conf", 0.05, "--device", "cpu", "--no-report", *words)


def test_an_adapter_asks_for_its_own_classes(adapter: Path, glip: Command) -> None:
    done = label(glip, "labels", "--model", "base", "--adapter", adapter)
    assert done.code == 0, done.stderr
    run = read_run(Path("labels"))
    assert run is not None
    assert run.captions[0].caption == "red. green. blue"
    assert run.imgsz == 64
    content = json.loads(Path("labels/annotations.coco.json").read_text())
    assert [(row["id"], row["name"]) for row in content["categories"]] == [(1, "red"), (2, "green"), (3, "blue")]


def test_records_with_and_without_an_adapter_are_never_mixed(adapter: Path, glip: Command) -> None:
    words = ("--prompt", "red . green . blue .", "--model", "base")
    assert label(glip, "plain", *words).code == 0
    plain = read_run(Path("plain"))
    assert plain is not None
    assert plain.model_sha256 == load_model_folder(Path("base")).identity
    refused = label(glip, "plain", *words, "--adapter", adapter)
    assert refused.code == 2
    assert "model" in refused.stderr
    assert label(glip, "tuned-labels", *words, "--adapter", adapter).code == 0
    tuned = read_run(Path("tuned-labels"))
    assert tuned is not None
    assert tuned.model_sha256 != plain.model_sha256


def test_an_adapter_of_another_base_is_refused(adapter: Path, glip: Command) -> None:
    random_model(Path("other"), "tiny")
    done = label(glip, "labels", "--model", "other", "--adapter", adapter)
    assert done.code == 2
    assert "base" in done.stderr and "other" in done.stderr
