"""Pre-training as a user starts it, in miniature: presets, starting points, data sets, resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from glip.data.blend import Blend
from glip.data.synthetic.stream import SceneStream
from glip.errors import InputError, JobFailed
from glip.training import pretrain as room
from glip.training.presets import PRESETS, PretrainPreset, changed
from glip.training.pretrain import PretrainJob, open_stream, pretrain
from glip.weights.folder import load_model_folder
from glip.weights.tokenizer import letter_vocabulary
from glip.weights.zoo import ARCHITECTURES
from tests.conftest import CommandResult
from tests.data.photo_sets import write_cutouts, write_photos
from tests.data.test_pretraining_sets import MAKERS
from tests.data.test_wordnet import write_wordnet
from tests.tiny import TINY, letters_tokenizer

SHORT = {
    "batch_size": 2,
    "fit.precision": "fp32",
    "fit.schedule.steps": 2,
    "fit.schedule.warmup": 0,
    "fit.log_every": 1,
}
SCENES = {"scenes.names": 0, "scenes.sides": [{"minimum": 64, "maximum": 64}], "scenes.objects": [1, 2]}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every architecture is as small as a test needs; deep fusion as it is."""
    tiny = {name: replace(TINY, deep_fusion=config.deep_fusion) for name, config in ARCHITECTURES.items()}
    monkeypatch.setattr(room, "ARCHITECTURES", tiny)
    vocabulary = letter_vocabulary()

    def start(config: Any, fetching: Any) -> Any:
        from glip.weights.random_weights import random_state

        config = replace(config, text=replace(config.text, vocab_size=len(vocabulary)))
        state = random_state(config)
        return {
            name: value for name, value in state.items() if name.startswith(("backbone.stages", "text_"))
        }, vocabulary

    monkeypatch.setattr(room, "load_pretrained_parts", start)
    for name, config in tiny.items():
        tiny[name] = replace(config, text=replace(config.text, vocab_size=len(vocabulary)))


def nano(**more: Any) -> PretrainPreset:
    return changed(PRESETS["nano"], SHORT | SCENES | more)


def test_nano_learns_from_scenes_and_becomes_a_model_that_labels(
    tmp_path: Path, glip: Callable[..., CommandResult]
) -> None:
    folder = pretrain(PretrainJob(nano(), tmp_path / "run", workers=0, device="cpu"))
    assert folder is not None
    assert folder.path == tmp_path / "run" / "model"
    with Image.open(tmp_path / "run" / "curve.png") as curve:
        assert curve.width > curve.height > 200
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "images" / "red.png")
    words = ("--model", folder.path, "-p", "red circle", "-o", tmp_path / "labels", "--imgsz", 64, "--no-report")
    done = glip("label", tmp_path / "images", *words)
    assert done.code == 0, done.stderr
    assert (tmp_path / "labels" / "annotations.coco.json").is_file()


def photos(root: Path) -> dict[str, Any]:
    """Settings for two sets of photographs and cut-outs in a data root."""
    write_photos(root / "animals", ("dog", "cat"), [(0,), (1,), (0, 1)])
    write_photos(root / "traffic", ("car", "bus"), [(0,), (1,)])
    write_cutouts(root / "cutouts")
    sets = [{"folder": "animals", "weight": 2.0}, {"folder": "traffic", "weight": 1.0}]
    return {"photos.sets": sets, "photos.cutouts": "cutouts", "photos.sides": [64], "fit.schedule.steps": 3}


def test_nano_learns_from_photographs_and_knows_their_words(tmp_path: Path) -> None:
    job = PretrainJob(nano(**photos(tmp_path)), tmp_path / "run", data_root=tmp_path, workers=0, device="cpu")
    assert isinstance(open_stream(job.preset, job.data_root, letters_tokenizer()), Blend)
    folder = pretrain(replace(job, stop_at=2))
    assert folder is not None
    assert folder.tokenizer().encode("hound. crow. cat").tokens == ["[CLS]", "hound", ".", "crow", ".", "cat", "[SEP]"]
    stopped = folder.sha256
    again = pretrain(job)  # resumed
    whole = pretrain(replace(job, out=tmp_path / "whole"))
    assert again is not None and whole is not None
    assert again.sha256 == whole.sha256 != stopped


def test_words_close_to_classes_end_with_what_was_learned_of_them(tmp_path: Path) -> None:
    wordnet = write_wordnet(tmp_path / "wordnet")
    preset = nano(**photos(tmp_path), **{"photos.wordnet": str(wordnet)})
    folder = pretrain(PretrainJob(preset, tmp_path / "run", data_root=tmp_path, workers=0, device="cpu"))
    assert folder is not None
    ids = folder.tokenizer().get_vocab()
    table = folder.state_dict()["text_encoder.bert.embeddings.word_embeddings.weight"]
    assert torch.equal(table[ids["puppy"]], table[ids["dog"]])
    assert not torch.equal(table[ids["cat"]], table[ids["dog"]])


def test_nano_without_a_data_root_says_that_it_learns_from_scenes_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert isinstance(open_stream(nano(), None, letters_tokenizer()), SceneStream)
    assert "drawn scenes only" in caplog.text


def test_a_data_root_without_the_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names\.tsv"):
        pretrain(PretrainJob(nano(), tmp_path / "run", data_root=tmp_path, workers=0, device="cpu"))
    with pytest.raises(InputError, match=r"voc_photos.*annotations\.json"):
        preset = nano(**{"photos.cutouts": None})
        pretrain(PretrainJob(preset, tmp_path / "other", data_root=tmp_path, workers=0, device="cpu"))


def test_a_run_goes_on_and_another_one_is_refused_by_its_field(tmp_path: Path) -> None:
    job = PretrainJob(nano(), tmp_path, workers=0, device="cpu")
    first = pretrain(job)
    again = pretrain(job)  # nothing is left to do
    assert first is not None and again is not None
    assert first.sha256 == again.sha256
    with pytest.raises(InputError, match=r"fit\.rates\.base.*0\.001.*0\.5"):
        pretrain(replace(job, preset=nano(**{"fit.rates.base": 0.5})))


def test_init_begins_with_the_weights_of_a_model_folder(tmp_path: Path) -> None:
    first = pretrain(PretrainJob(nano(), tmp_path / "one", workers=0, device="cpu"))
    assert first is not None
    rates = {"fit.rates.base": 0.0, "fit.rates.text": 0.0, "fit.rates.backbone": 0.0}
    still = nano(**rates, **{"fit.average": 0.0})
    second = pretrain(PretrainJob(still, tmp_path / "two", init=first.path, workers=0, device="cpu"))
    assert second is not None
    one, two = first.state_dict(), second.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "nano"])
def test_every_published_preset_learns_from_its_sets(name: str, tmp_path: Path) -> None:
    preset = changed(PRESETS[name], SHORT | {"views.sizes_short": [32], "views.longest": 64})
    for source in preset.data:
        MAKERS[source.layout](tmp_path / "data")
    folder = pretrain(PretrainJob(preset, tmp_path / "run", data_root=tmp_path / "data", workers=0, device="cpu"))
    assert folder is not None
    assert load_model_folder(folder.path).config.deep_fusion == (name != "glip-t-a")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2


def test_the_length_follows_from_epochs(tmp_path: Path) -> None:
    MAKERS["objects365"](tmp_path / "data")
    preset = changed(PRESETS["glip-t-b"], SHORT | {"fit.schedule.steps": 0, "epochs": 3, "views.sizes_short": [32]})
    folder = pretrain(PretrainJob(preset, tmp_path / "run", data_root=tmp_path / "data", workers=0, device="cpu"))
    assert folder is not None
    assert folder.source["origin"]["steps"] == 3  # two images, two to a step


def test_sets_with_weights_are_mixed_by_them(tmp_path: Path) -> None:
    for layout in ("objects365", "flickr30k"):
        MAKERS[layout](tmp_path)
    data = [{"layout": "objects365", "weight": 3.0}, {"layout": "flickr30k", "weight": 1.0}]
    stream = open_stream(changed(PRESETS["glip-t"], {"data": data}), tmp_path, letters_tokenizer())
    captions = [stream.example(position).caption for position in range(200)]
    share = sum("cat and a dog" in caption or caption == "a dog" for caption in captions) / len(captions)
    assert 0.15 < share < 0.35
    partly = changed(PRESETS["glip-t"], {"data": [data[0], {"layout": "flickr30k"}]})
    with pytest.raises(InputError, match="weight"):
        open_stream(partly, tmp_path, letters_tokenizer())


def test_what_a_preset_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data_root.*objects365"):
        open_stream(PRESETS["glip-t-b"], None, letters_tokenizer())
    with pytest.raises(InputError, match="objects365"):
        open_stream(PRESETS["glip-t-b"], tmp_path, letters_tokenizer())
    with pytest.raises(InputError, match=r"`scenes`.*`data`"):
        open_stream(replace(PRESETS["nano"], scenes=None), None, letters_tokenizer())
    endless = nano(**{"fit.schedule.steps": 0})
    with pytest.raises(InputError, match=r"fit\.schedule\.steps.*epochs"):
        pretrain(PretrainJob(endless, tmp_path, workers=0, device="cpu"))


def test_the_command_trains_and_says_where_the_model_is(tmp_path: Path, glip: Callable[..., CommandResult]) -> None:
    settings = tmp_path / "small.yaml"
    settings.write_text("batch_size: 2\nscenes: {names: 0, sides: [{least: 64, most: 64}]}\n")
    words = ("--set", "fit.schedule.steps=1", "--settings", settings, "--workers", 0, "--cpu")
    done = glip("pretrain", "--out", tmp_path / "run", *words, "--json")
    assert done.code == 0, done.stderr
    assert Path(done.json["model"]).is_dir()
    assert done.json["sha256"] == load_model_folder(Path(done.json["model"])).sha256
    wrong = glip("pretrain", "--out", tmp_path / "other", "--set", "fit.shedule.steps=1")
    assert wrong.code == 2
    assert "no field 'fit.shedule.steps'" in wrong.stderr


def test_a_full_disk_stops_the_run_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glip.weights import state_file

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_file, "save_file", full)
    with pytest.raises(JobFailed, match="No space left on device"):
        pretrain(PretrainJob(nano(), tmp_path, workers=0, device="cpu"))
