"""From names, folders and files to models, and between layouts, on the disk."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.errors import InputError, JobFailed
from glip.weights import checkpoint, locate, zoo
from glip.weights.checkpoint import convert_checkpoint, inspect_checkpoint, open_model, pull, read_checkpoint, verify
from glip.weights.convert import Conversion, from_native
from glip.weights.state_file import write_state_file
from glip.weights.tensor_names import Layout
from glip.weights.zoo import Checkpoint, PublishedVocabulary, UnknownCheckpoint
from tests.conftest import CommandResult
from tests.weights.conftest import CONFIG, VOCABULARY, Site


def write(path: Path, conversion: Conversion, layout: Layout, **beside: object) -> Path:
    """A checkpoint file as its publisher would write it."""
    state: dict[str, Any] = dict(from_native(conversion, layout)[0])
    if layout == "microsoft":
        state = {"model": {f"module.{name}": value for name, value in state.items()}}
    torch.save(state | beside, path)
    return path


@pytest.fixture
def vocab_txt(tmp_path: Path) -> Path:
    path = tmp_path / "words" / "vocab.txt"
    path.parent.mkdir()
    path.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def original(tmp_path: Path, tiny: Conversion) -> Path:
    """Returns a file of the original, with the optimizer's state beside the weights."""
    return write(tmp_path / "original.pth", tiny, "microsoft", optimizer={"lr": 0.1}, iteration=7)


@pytest.fixture
def zoo_row(
    site: Site, tiny: Conversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocab_txt: Path
) -> Checkpoint:
    """A published checkpoint small enough for a test, on a server of this machine."""
    body = write(tmp_path / "published.pth", tiny, "mmdet").read_bytes()
    digest = hashlib.sha256(body).hexdigest()
    monkeypatch.setattr(zoo, "WEIGHT_BYTES", {**zoo.WEIGHT_BYTES, "small": 1})
    row = replace(zoo.ZOO["glip-t"], name="small", architecture="small", path=f"/glip/small-{digest[:8]}.pth")
    monkeypatch.setattr(zoo, "ARCHITECTURES", {"small": CONFIG})
    for module in (zoo, checkpoint, locate):
        monkeypatch.setattr(module, "ZOO", {"small": row})
    words = vocab_txt.read_bytes()
    bert = PublishedVocabulary("words.txt", "/bert/vocab.txt", hashlib.sha256(words).hexdigest())
    monkeypatch.setattr(checkpoint, "BERT_VOCABULARY", bert)
    monkeypatch.setenv("GLIP_MIRROR", site.url)
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    site.put(row.path, body)
    site.put(bert.path, words)
    return row


# Published checkpoints


def test_a_name_is_fetched_converted_and_kept(zoo_row: Checkpoint, site: Site, cache: Path, tiny: Conversion) -> None:
    told: list[str] = []
    folder = open_model("small", on_download=lambda url, *_: told.append(url))
    assert folder.name == "small"
    assert folder.path == cache / "models" / "small"
    assert all(torch.equal(folder.state_dict()[name], value) for name, value in tiny.state.items())
    assert set(told) == {site.url + zoo_row.path, site.url + "/bert/vocab.txt"}
    assert folder.source["origin"]["checkpoint"] == "small"
    assert folder.source["origin"]["sha256"].startswith(zoo_row.hash_head)
    assert [path.name for path in (cache / "downloads").glob("*.pth")] == []
    requests = len(site.requests)
    assert open_model("small").sha256 == folder.sha256
    assert len(site.requests) == requests


def test_the_command_says_what_it_fetches_and_where_it_is_kept(
    zoo_row: Checkpoint, site: Site, cache: Path, glip: Callable[..., CommandResult]
) -> None:
    result = glip("models", "pull", "small")
    assert result.code == 0, result.stderr
    assert result.stdout.strip() == str(cache / "models" / "small")
    assert f"{site.url}{zoo_row.path}" in result.stderr
    assert " MB" in result.stderr
    assert "small" in result.stderr
    assert next(row for row in glip("models", "list", "--json").json if row["name"] == "small")["here"]


def test_what_is_in_the_cache_is_used_offline(zoo_row: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    pull("small")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert pull("small").name == "small"


@pytest.mark.parametrize("way", ["option", "variable"])
def test_offline_is_reported_with_the_remedies(
    zoo_row: Checkpoint, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(JobFailed, match="small") as caught:
        open_model("small", offline=way == "option")
    for words in ("small", "model folder", "checkpoint file", "glip models pull", str(cache)):
        assert words in str(caught.value)
    assert site.requests == []


def test_no_network_is_reported_with_the_remedies(zoo_row: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIP_MIRROR", "http://127.0.0.1:1")
    with pytest.raises(JobFailed, match=r"127\.0\.0\.1.*glip models pull"):
        pull("small")


def test_another_file_under_a_published_name_is_refused(zoo_row: Checkpoint, site: Site, cache: Path) -> None:
    site.pages[zoo_row.path].body = b"wrong" * 100
    with pytest.raises(JobFailed, match=zoo_row.hash_head):
        pull("small")
    assert not (cache / "models" / "small").exists()


def test_a_later_download_must_be_the_first_one_again(
    zoo_row: Checkpoint, site: Site, cache: Path, tiny: Conversion, tmp_path: Path
) -> None:
    pull("small")
    record = json.loads((cache / "hashes.json").read_text())
    assert set(record) == {zoo_row.file_name, "words.txt"}
    record[zoo_row.file_name] = zoo_row.hash_head + "0" * 56 if zoo_row.hash_head else ""
    (cache / "hashes.json").write_text(json.dumps(record))
    shutil.rmtree(cache / "models" / "small")
    with pytest.raises(JobFailed, match=zoo_row.file_name):
        pull("small")


def test_a_file_of_another_architecture_is_refused(
    zoo_row: Checkpoint, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "ARCHITECTURES", {"small": replace(CONFIG, num_fusion_blocks=3)})
    with pytest.raises(JobFailed, match=r"\bcustom\b.*\bmmdet\b.*\bsmall\b"):
        pull("small")
    assert not (cache / "models" / "small").exists()


def test_damage_in_the_cache_names_the_folder_to_delete(zoo_row: Checkpoint) -> None:
    folder = pull("small")
    (folder.path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=str(folder.path)):
        pull("small")


def test_a_damaged_record_of_hashes_is_reported(zoo_row: Checkpoint, cache: Path) -> None:
    cache.mkdir()
    (cache / "hashes.json").write_text("[1")
    with pytest.raises(InputError, match=r"hashes\.json"):
        pull("small")


def test_unknown_names_are_told() -> None:
    with pytest.raises(UnknownCheckpoint, match="'glip-t'"):
        open_model("glip-tt")
    with pytest.raises(UnknownCheckpoint):
        pull("./somewhere")


# Files and folders


def test_a_file_is_converted_once_and_again_when_it_changes(
    original: Path, vocab_txt: Path, tiny: Conversion, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="glip")
    first = open_model(original, tokenizer=vocab_txt)
    assert first.name == "original"
    assert open_model(original, tokenizer=vocab_txt).path == first.path
    assert caplog.text.count("Converting") == 1
    changed = replace(tiny, state={name: value + 1 for name, value in tiny.state.items()})
    size = original.stat().st_size
    write(original, changed, "microsoft", optimizer={"lr": 0.1}, iteration=7)
    assert original.stat().st_size == size
    second = open_model(original, tokenizer=vocab_txt)
    assert second.sha256 != first.sha256


def test_a_folder_is_opened_where_it_is(original: Path, vocab_txt: Path, tmp_path: Path) -> None:
    convert_checkpoint(original, tmp_path / "mine", tokenizer=vocab_txt)
    folder = open_model(str(tmp_path / "mine"))
    assert (folder.name, folder.path) == ("mine", tmp_path / "mine")


def test_a_vocabulary_beside_the_file_is_found(original: Path, vocab_txt: Path, tmp_path: Path) -> None:
    shutil.copytree(vocab_txt.parent, tmp_path / "bert-base-uncased")
    assert open_model(original, offline=True).tokenizer().get_vocab_size() == len(VOCABULARY)


def test_without_a_vocabulary_berts_is_fetched(zoo_row: Checkpoint, original: Path, site: Site) -> None:
    open_model(original)
    assert [path for path, _ in site.requests] == ["/bert/vocab.txt"]


def test_without_a_vocabulary_offline_the_option_is_named(original: Path) -> None:
    with pytest.raises(JobFailed, match=r"vocabulary.*tokenizer"):
        open_model(original, offline=True)


# Conversions


def test_folders_made_from_both_layouts_are_bit_equal(
    original: Path, vocab_txt: Path, tmp_path: Path, tiny: Conversion
) -> None:
    mmdet = write(tmp_path / "mmdet.pth", tiny, "mmdet")
    for source, out in ((original, "one"), (mmdet, "two")):
        convert_checkpoint(source, tmp_path / out, tokenizer=vocab_txt)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {path.name for path in (tmp_path / "two").iterdir()}
    for name in names - {"source.json"}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    origins = [json.loads((tmp_path / out / "source.json").read_text())["origin"] for out in ("one", "two")]
    assert [origin["layout"] for origin in origins] == ["microsoft", "mmdet"]
    assert origins[0]["file"] == "original.pth"
    assert origins[0]["sha256"] == hashlib.sha256(original.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("layout", ["microsoft", "mmdet"])
def test_a_folder_goes_out_and_comes_back(
    original: Path, vocab_txt: Path, tmp_path: Path, layout: Layout, suffix: str
) -> None:
    convert_checkpoint(original, tmp_path / "native", tokenizer=vocab_txt)
    out = tmp_path / f"out{suffix}"
    done = convert_checkpoint(tmp_path / "native", out, to=layout)
    assert done["to"] == layout
    convert_checkpoint(out, tmp_path / "again", tokenizer=vocab_txt)
    again, native = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("again", "native"))
    assert again == native


def test_files_of_the_original_are_written_as_it_writes_them(original: Path, tmp_path: Path) -> None:
    convert_checkpoint(original, tmp_path / "out.pth", to="microsoft")
    found, expected = (torch.load(path, weights_only=True)["model"] for path in (tmp_path / "out.pth", original))
    assert sorted(found) == sorted(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    convert_checkpoint(original, tmp_path / "mmdet.pth", to="mmdet")
    bare = torch.load(tmp_path / "mmdet.pth", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in bare.values())


def test_the_report_names_what_was_left_out_made_and_kept_apart(
    tmp_path: Path, tiny: Conversion, vocab_txt: Path
) -> None:
    tuned = write(tmp_path / "tuned.pth", replace(tiny, prompt=torch.ones(1000, 128)), "microsoft")
    done = convert_checkpoint(tuned, tmp_path / "native", tokenizer=vocab_txt)
    assert done["architecture"] == "custom"
    assert done["prompt"] == [1000, 128]
    assert done["unused"] == ["rpn.head.cls_logits.weight", "rpn.head.cls_logits.bias"]
    assert "rpn.anchor_generator.cell_anchors.4" in done["constants"]
    back = convert_checkpoint(tmp_path / "native", tmp_path / "back.pth", to="microsoft")
    assert {"rpn.head.cls_logits.bias", "rpn.anchor_generator.cell_anchors.0"} < set(back["made"])
    assert (
        torch.load(tmp_path / "back.pth", weights_only=True)["model"]["module.rpn.tunable_linear.weight"].sum() == 128e3
    )


def test_averaged_weights_make_another_folder(tmp_path: Path, tiny: Conversion, vocab_txt: Path) -> None:
    averaged = replace(tiny, state={name: value + 1 for name, value in tiny.state.items()})
    source = write(tmp_path / "x.pth", tiny, "microsoft", model_ema=dict(from_native(averaged, "microsoft")[0]))
    plain = convert_checkpoint(source, tmp_path / "plain", tokenizer=vocab_txt)
    assert any("model_ema" in note for note in plain["notes"])
    convert_checkpoint(source, tmp_path / "averaged", tokenizer=vocab_txt, ema=True)
    found = open_model(tmp_path / "averaged").state_dict()
    assert torch.equal(found["head.bias"], averaged.state["head.bias"])


@pytest.mark.parametrize(("out", "to"), [("x.pth", "native"), ("x", "mmdet"), ("x.zip", "microsoft")])
def test_a_place_of_the_wrong_kind_is_refused(original: Path, tmp_path: Path, out: str, to: Layout) -> None:
    with pytest.raises(InputError, match=rf"{re.escape(out)}.*\b{to}\b"):
        convert_checkpoint(original, tmp_path / out, to=to)


def test_a_file_that_is_there_is_replaced_only_on_demand(original: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_text("mine")
    with pytest.raises(InputError, match="overwrite"):
        convert_checkpoint(original, tmp_path / "x.pth", to="mmdet")
    assert (tmp_path / "x.pth").read_text() == "mine"
    convert_checkpoint(original, tmp_path / "x.pth", to="mmdet", overwrite=True)
    assert read_checkpoint(tmp_path / "x.pth")[0].layout == "mmdet"


def test_a_vocabulary_that_does_not_fit_is_refused(original: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCABULARY, "more"]))
    with pytest.raises(InputError, match=rf"\b{len(VOCABULARY) + 1}\b.*\b{len(VOCABULARY)}\b"):
        convert_checkpoint(original, tmp_path / "native")
    assert not (tmp_path / "native").exists()


def test_errors_name_the_file(tmp_path: Path, tiny: Conversion) -> None:
    path = tmp_path / "broken.pth"
    write_state_file(path, {"model": {"rpn.head.bias0": torch.zeros(1)}})
    with pytest.raises(InputError, match=r"broken\.pth.*backbone"):
        read_checkpoint(path)


# Inspection


def test_inspection_tells_what_a_file_holds(original: Path) -> None:
    facts = inspect_checkpoint(original)
    assert facts["problem"] is None
    assert (facts["layout"], facts["architecture"], facts["dtypes"]) == ("microsoft", "custom", ["float32"])
    assert facts["sha256"] == hashlib.sha256(original.read_bytes()).hexdigest()
    assert facts["notes"] == ["not taken: optimizer, iteration"]


def test_inspection_tells_what_a_folder_holds(original: Path, vocab_txt: Path, tmp_path: Path) -> None:
    convert_checkpoint(original, tmp_path / "native", tokenizer=vocab_txt)
    facts = inspect_checkpoint(tmp_path / "native")
    assert (facts["layout"], facts["origin"]["file"]) == ("native", "original.pth")
    assert facts["sha256"] == open_model(tmp_path / "native").sha256


def test_inspection_of_another_checkpoint_says_why_it_is_none(tmp_path: Path, tiny: Conversion) -> None:
    write_state_file(tmp_path / "x.pth", {"layers.0.weight": torch.zeros(2, 3)})
    facts = inspect_checkpoint(tmp_path / "x.pth")
    assert (facts["tensors"], facts["parameters"], facts["names"]) == (1, 6, "layers.0.weight")
    assert "not a GLIP checkpoint" in facts["problem"]
    write(tmp_path / "y.pth", tiny, "mmdet", extra=torch.zeros(1))
    assert "unknown tensors: extra" in inspect_checkpoint(tmp_path / "y.pth")["problem"]


# Verification


def test_the_cache_is_verified(zoo_row: Checkpoint, cache: Path) -> None:
    assert verify() == {}
    folder = pull("small").path
    assert verify() == verify("small") == verify(str(folder)) == {str(folder): []}
    (folder / "vocab.txt").write_text("other")
    assert "vocab.txt has changed" in verify()[str(folder)][0]


def test_only_what_is_here_can_be_verified(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="glip-t"):
        verify("glip-t")
    file = tmp_path / "model.pth"
    file.touch()
    with pytest.raises(InputError, match=re.escape(str(file))):
        verify(str(file))


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from glip.weights.cache import cache_home

    assert cache_home() == tmp_path / "cache"
    monkeypatch.delenv("GLIP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_home() == Path("/x/glip")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_home() == Path("/home/me/.cache/glip")
