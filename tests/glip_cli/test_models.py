"""`glip models`, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import CommandResult

Glip = Callable[..., CommandResult]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of one's own, and no network."""
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def model(glip: Glip, tmp_path: Path) -> Path:
    """A pseudo-random model folder."""
    result = glip("models", "random", tmp_path / "tiny", "--architecture", "tiny")
    assert result.code == 0, result.stderr
    return tmp_path / "tiny"


def test_random_writes_a_folder_and_says_that_its_boxes_mean_nothing(glip: Glip, tmp_path: Path) -> None:
    result = glip("models", "random", tmp_path / "r", "--architecture", "tiny", "--seed", 3)
    assert result.stdout.strip() == str(tmp_path / "r")
    assert "boxes mean nothing" in result.stderr
    assert json.loads((tmp_path / "r" / "source.json").read_text())["origin"]["seed"] == 3
    again = glip("models", "random", tmp_path / "r", "--architecture", "tiny")
    assert again.code == 2
    assert "--overwrite" in again.stderr


def test_list_shows_every_checkpoint_and_dashes_for_what_is_unknown(glip: Glip) -> None:
    from glip.weights.zoo import ZOO

    result = glip("models", "list")
    lines = result.stdout.splitlines()
    assert len(lines) == len(ZOO) + 2  # the head, and the model that ships with glip
    assert lines[1].startswith("nano ")
    row = next(line for line in lines if line.startswith("glip-t "))
    assert row.split() == ["glip-t", "O365,", "GoldG,", "CC3M,", "SBU", "46.6", "26.7", "18.1", "927", "MB", "no"]
    best = next(line for line in lines if line.startswith("glip-l-original-lvisbest"))
    assert [word for word in best.split() if word in ("—", "30.1")] == ["—", "—", "30.1"]
    assert "licences" in result.stderr


def test_names_are_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch, glip: Glip) -> None:
    from glip.weights.zoo import ZOO

    monkeypatch.setattr("glip_cli.output.PIPE_WIDTH", 80)
    lines = glip("models", "list").stdout.splitlines()
    assert {*ZOO, "nano"} <= {line.split(" ")[0] for line in lines}
    assert max(map(len, lines)) <= 80 and "…" not in "".join(lines)


def test_what_is_here_in_part_is_shown_and_can_be_removed(glip: Glip, cache: Path, model: Path) -> None:
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / "glip_l_mmdet-abfe026b.pth.part").write_bytes(bytes(3_000_000))
    (cache / "models").mkdir()
    model.rename(cache / "models/glip-t")
    rows = {row["name"]: row for row in glip("models", "list", "--json").json}
    assert rows["glip-l"]["unfinished_bytes"] == 3_000_000 and not rows["glip-l"]["here"]
    assert rows["glip-t"]["here"] and rows["glip-t"]["bytes_here"] > 100_000
    shown = glip("models", "list")
    assert "part, 3 MB" in shown.stdout and str(cache) in shown.stderr
    assert glip("models", "inspect", "glip-t").code == 0
    removed = glip("models", "remove", "glip-t", "glip-l", "--json")
    assert removed.json["freed_bytes"] == {"glip-t": rows["glip-t"]["bytes_here"], "glip-l": 3_000_000}
    assert not (cache / "models/glip-t").exists() and not list((cache / "downloads").glob("*.part"))
    (cache / "keep").mkdir()
    for name in ("glip-t", "nano", "..", "../keep", "x"):
        again = glip("models", "remove", name)
        assert again.code == 2 and name in again.stderr
    assert (cache / "keep").is_dir()


def test_the_embedded_model_is_known_by_name(glip: Glip) -> None:
    assert glip("models", "inspect", "nano", "--json").json["architecture"] == "nano"
    assert list(glip("models", "verify", "nano", "--json").json.values()) == [[]]
    absent = glip("models", "inspect", "glip-t")
    assert absent.code == 2 and "glip models pull glip-t" in absent.stderr
    assert "'nanoo'" in glip("models", "inspect", "nanoo").stderr


def test_list_as_json_tells_what_is_here(glip: Glip, cache: Path) -> None:
    (cache / "models" / "glip-l").mkdir(parents=True)
    rows = {row["name"]: row for row in glip("models", "list", "--json").json}
    assert rows["glip-l"]["here"]
    assert not rows["glip-t"]["here"]
    assert rows["glip-t"]["hash_head"] == "c24ce662"
    assert rows["glip-t-original"]["url"].endswith("GLIPModel/GLIP/resolve/main/glip_tiny_model_o365_goldg_cc_sbu.pth")


def test_list_needs_no_torch() -> None:
    import subprocess
    import sys

    lines = ["import sys", "from glip_cli.main import run", "try: run(['models', 'list'])"]
    code = "\n".join([*lines, "finally: print('torch' in sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_pull_offline_names_the_file(glip: Glip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    result = glip("models", "pull", "glip-t", "--offline")
    assert result.code == 1
    assert "glip_tiny_mmdet-c24ce662.pth" in result.stderr
    assert result.stdout == ""


def test_pull_of_an_unknown_name_is_a_usage_error(glip: Glip) -> None:
    result = glip("models", "pull", "glip-x")
    assert result.code == 2
    assert "'glip-x'" in result.stderr


@pytest.mark.parametrize("layout", ["microsoft", "mmdet"])
def test_convert_goes_there_and_back(glip: Glip, model: Path, tmp_path: Path, layout: str) -> None:
    out = glip("models", "convert", model, "--to", layout, "--out", tmp_path / "x.pth")
    assert out.code == 0, out.stderr
    assert out.stdout.strip() == str(tmp_path / "x.pth")
    assert "relative_position_index (5)" in out.stderr
    back = glip("models", "convert", tmp_path / "x.pth", "--tokenizer", model, "--out", tmp_path / "back")
    assert back.code == 0, back.stderr
    assert f"{layout} → native: custom, " in back.stderr
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_convert_names_what_it_leaves_out(glip: Glip, model: Path, tmp_path: Path) -> None:
    glip("models", "convert", model, "--to", "microsoft", "--out", tmp_path / "x.pth")
    content = torch.load(tmp_path / "x.pth", weights_only=True)
    content["model"]["module.rpn.tunable_linear.weight"] = torch.ones(1000, 128)
    torch.save(content | {"optimizer": {}}, tmp_path / "x.pth")
    result = glip("models", "convert", tmp_path / "x.pth", "--tokenizer", model, "--out", tmp_path / "y")
    assert "cell_anchors.{} (5)" in result.stderr
    assert "rpn.head.cls_logits.weight, rpn.head.cls_logits.bias" in result.stderr
    assert "tuned prompt (1000 x 128)" in result.stderr and "prompt.safetensors" in result.stderr
    assert "optimizer" in result.stderr
    as_json = glip("models", "convert", tmp_path / "x.pth", "--to", "mmdet", "--out", tmp_path / "z.pth", "--json")
    assert as_json.json["unused"] == ["rpn.head.cls_logits.weight", "rpn.head.cls_logits.bias"]


def test_convert_without_a_vocabulary_offline_names_the_option(glip: Glip, model: Path, tmp_path: Path) -> None:
    glip("models", "convert", model, "--to", "mmdet", "--out", tmp_path / "x.pth")
    result = glip("models", "convert", tmp_path / "x.pth", "--out", tmp_path / "y", "--offline")
    assert result.code == 1
    assert "--tokenizer" in result.stderr


def test_convert_refuses_a_pickle_with_code(glip: Glip, tmp_path: Path) -> None:
    class RunsCode:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"model": RunsCode()}, tmp_path / "x.pth")
    result = glip("models", "convert", tmp_path / "x.pth", "--out", tmp_path / "y")
    assert result.code == 2
    assert "x.pth" in result.stderr
    assert not (tmp_path / "ran").exists()


def test_inspect_tells_layout_and_numbers(glip: Glip, model: Path) -> None:
    shown = glip("models", "inspect", model)
    assert shown.code == 0
    assert "native" in shown.stdout
    facts = glip("models", "inspect", model, "--json").json
    assert facts["tensors"] > 100
    assert facts["origin"]["random"] == "tiny"


def test_inspect_of_something_else_says_so_and_exits_with_1(glip: Glip, tmp_path: Path) -> None:
    torch.save({"layers.0.weight": torch.zeros(1)}, tmp_path / "x.pth")
    result = glip("models", "inspect", tmp_path / "x.pth")
    assert result.code == 1
    assert "not a GLIP checkpoint" in result.stdout


def test_verify_exits_with_1_when_something_has_changed(glip: Glip, model: Path) -> None:
    good = glip("models", "verify", model)
    assert (good.code, good.stdout.splitlines()[1].split()) == (0, [str(model), "intact"])
    (model / "vocab.txt").write_text("other")
    bad = glip("models", "verify", model, "--json")
    assert bad.code == 1
    assert "vocab.txt" in bad.json[str(model)][0]


def test_verify_of_an_empty_cache_is_no_failure(glip: Glip) -> None:
    result = glip("models", "verify")
    assert result.code == 0
    assert result.stdout == ""


def test_a_download_is_shown_once_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    from glip_cli.models import download_shown

    with download_shown() as on_download:
        for done in (0, 500_000, 1_000_000):
            on_download("https://host/one.pth", done, 1_000_000)
        on_download("https://host/two.txt", 0, None)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "one.pth" in shown.err
    assert "two.txt" in shown.err
