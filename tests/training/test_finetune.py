"""One fine-tuning run: its files, resuming, the best epoch."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from glip.data.lookup import find_training_splits
from glip.detectors.base import ObjectDetector
from glip.detectors.spec import DetectorSpec, load_detector
from glip.errors import InputError
from glip.evaluation.metrics.coco import coco_scores
from glip.evaluation.predictions import Predictions
from glip.evaluation.run import EvalRequest, evaluate
from glip.training import finetune as module
from glip.training.checkpointing import read_metrics
from glip.training.feature_cache import FeatureStore
from glip.training.finetune import BaseCache, finetune
from glip.training.finetune_data import open_examples
from glip.training.finetune_job import FinetuneJob, read_result
from glip.training.validation import Scorer
from glip.weights.adapter import load_adapter
from glip.weights.folder import load_model_folder
from tests.training.sets import job_of, write_set

LINEAR = 9


def adapter_of(out: Path) -> dict[str, torch.Tensor]:
    return dict(load_adapter(out / "adapter.safetensors").tensors)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_prompt_run_leaves_an_adapter_numbers_and_images(folders: Path, tmp_path: Path) -> None:
    tuned = finetune(job_of(folders, tmp_path / "out", comparisons=1))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".lock",
        "adapter.safetensors",
        "comparison.jpg",
        "curve.png",
        "metrics.json",
        "metrics.jsonl",
        "report.html",
        "run.json",
    ]
    assert tuned.files == ("adapter.safetensors", "curve.png", "comparison.jpg", "report.html")
    assert (tmp_path / "out" / "report.html").read_text().count("<img") == 2
    assert (tuned.set, tuned.mode, tuned.shots, tuned.seed) == ("Squares", "prompt", 1, 3)
    assert (tuned.tensors, tuned.values) == (1, 256 * 48)
    assert tuned.epochs == 3
    assert tuned.test_split == "test"
    assert list(tuned.per_class) == ["red", "green", "blue"]
    assert read_result(tmp_path / "out") == tuned
    adapter = load_adapter(tmp_path / "out" / "adapter.safetensors")
    assert adapter.base == load_model_folder(folders / "base").identity == tuned.base
    assert adapter.caption == "red. green. blue"
    assert adapter.names == ("red", "green", "blue")
    assert adapter.tensors["prompt_offset"].any()
    for name in ("comparison.jpg", "curve.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert min(image.size) > 200


def test_the_score_is_that_of_the_adapter_on_the_base(folders: Path, tmp_path: Path) -> None:
    job = job_of(folders, tmp_path / "out", mode="linear")
    tuned = finetune(job)
    assert tuned.tensors == LINEAR
    detector = load_detector(folders / "base", adapter=tmp_path / "out" / "adapter.safetensors", device="cpu")
    assert numbers_of(detector, job) == pytest.approx(tuned.test["AP"], abs=1e-9)


def test_the_score_is_that_of_glip_eval_with_the_adapter(folders: Path, tmp_path: Path) -> None:
    tuned = finetune(job_of(folders, tmp_path / "out"))
    (annotations,) = (folders / "Squares" / "test").glob("*.json")
    tuned_spec = DetectorSpec(str(folders / "base"), tmp_path / "out" / "adapter.safetensors", "cpu")
    request = EvalRequest(str(annotations), tmp_path / "eval", detector=tuned_spec, gallery=0)
    result = evaluate(request)
    assert result.rows[0].metric == "AP" and result.rows[0].measured == pytest.approx(tuned.test["AP"], abs=1e-9)
    assert result.rows[0].published is None and "with" in result.protocol["model"]
    bare = evaluate(replace(request, out=tmp_path / "bare", detector=replace(tuned_spec, adapter=None)))
    assert bare.protocol["model"] == str(folders / "base")
    (with_adapter,), (without,) = ((tmp_path / run).rglob("results.json") for run in ("eval", "bare"))
    assert with_adapter.read_bytes() != without.read_bytes()


def numbers_of(detector: ObjectDetector, job: FinetuneJob) -> float:
    """AP on the test split by the way that `glip label` goes."""
    data = open_examples(job.data, job.shots, job.seed)
    ids: list[int] = []
    labels, boxes, scores = [], [], []
    for path, found_ids in data.test.ids_of_image.items():
        found = detector.predict(path, list(data.names))[0]
        ids += [found_ids[0]] * len(found)
        labels += [data.test.category_ids[label] for label in found.labels]
        boxes += found.boxes.astype(np.float64).tolist()
        scores += found.scores.astype(np.float64).tolist()
    bbox = np.array(boxes).reshape(-1, 4)
    bbox[:, 2:] -= bbox[:, :2]
    predictions = Predictions(np.array(ids), np.array(labels), bbox, np.array(scores))
    return 100 * coco_scores(data.test.truth, predictions).ap()


def test_without_the_adapter_the_base_is_what_it_was(folders: Path, tmp_path: Path) -> None:
    before = (folders / "base" / "model.safetensors").read_bytes()
    finetune(job_of(folders, tmp_path / "out", epochs=1))
    assert (folders / "base" / "model.safetensors").read_bytes() == before
    plain = load_detector(folders / "base", device="cpu")
    tuned = load_detector(folders / "base", adapter=tmp_path / "out" / "adapter.safetensors", device="cpu")
    assert plain.sha256 == load_model_folder(folders / "base").identity
    assert tuned.sha256 != plain.sha256
    image = next((folders / "Squares" / "test").glob("*.png"))
    again = load_detector(folders / "base", device="cpu").predict(image, "red . green . blue .")[0]
    found = plain.predict(image, "red . green . blue .")[0]
    assert np.array_equal(found.scores, again.scores)
    assert not np.array_equal(found.scores, tuned.predict(image, "red . green . blue .")[0].scores)


def test_a_full_run_leaves_a_model_folder(folders: Path, tmp_path: Path) -> None:
    tuned = finetune(job_of(folders, tmp_path / "out", mode="full", epochs=1, comparisons=0))
    assert tuned.files == ("model", "curve.png", "report.html")
    folder = load_model_folder(tmp_path / "out" / "model")
    base = load_model_folder(folders / "base")
    assert folder.sha256 != base.sha256
    assert folder.source["origin"]["base"] == base.identity
    assert torch.equal(
        folder.state_dict()["backbone.patch_embed.proj.weight"], base.state_dict()["backbone.patch_embed.proj.weight"]
    )
    assert load_detector(tmp_path / "out" / "model", device="cpu").imgsz == 64


class Killed(BaseException):
    pass


@pytest.mark.parametrize("mode", ["prompt", "linear"])
def test_a_killed_run_goes_on_to_the_same_result(folders: Path, tmp_path: Path, mode: str) -> None:
    straight = finetune(job_of(folders, tmp_path / "straight", mode=mode))

    def kill(done: int, steps: int) -> None:
        if done == 2 * steps // 3:
            raise Killed

    job = job_of(folders, tmp_path / "killed", mode=mode)
    with pytest.raises(Killed):
        finetune(job, advance=kill)
    assert read_result(tmp_path / "killed") is None
    resumed = finetune(job)
    assert same(adapter_of(tmp_path / "killed"), adapter_of(tmp_path / "straight"))
    assert resumed.test == straight.test
    assert (resumed.best_epoch, resumed.epochs) == (straight.best_epoch, straight.epochs)
    assert not (tmp_path / "killed" / "checkpoints").exists()


def test_a_finished_run_is_not_done_again(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(folders, tmp_path / "out", epochs=1)
    tuned = finetune(job)
    monkeypatch.setattr(module, "fit", None)
    assert finetune(job) == tuned
    with pytest.raises(InputError, match=r"recipe\.epochs.*\b1\b.*\b2\b"):
        finetune(job_of(folders, tmp_path / "out", epochs=2))


def test_a_run_knows_its_annotations_by_what_they_say(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "Squares", tmp_path / "here" / "Squares")
    job = job_of(folders, tmp_path / "out", epochs=1)
    moved, _ = find_training_splits(str(tmp_path / "here" / "Squares"), Path())
    tuned = finetune(replace(job, data=moved[0]))
    assert finetune(job) == tuned
    path = tmp_path / "here" / "Squares" / "test" / "annotations_without_background.json"
    content = msgspec.json.decode(path.read_bytes())
    content["annotations"][0]["bbox"][2] += 1
    path.write_bytes(msgspec.json.encode(content))
    with pytest.raises(InputError, match=r"annotations.*\w{16}.*\w{16}"):
        finetune(replace(job, data=moved[0]))


def test_a_note_that_is_damaged_is_refused(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json"):
        finetune(job_of(folders, tmp_path / "out", epochs=1))


def test_the_cache_changes_nothing(folders: Path, tmp_path: Path) -> None:
    store = FeatureStore()
    cached = finetune(job_of(folders, tmp_path / "cached"), base_cache=BaseCache(store))
    plain = finetune(job_of(folders, tmp_path / "plain", cache=False))
    assert store.hits > store.misses
    for name, value in adapter_of(tmp_path / "plain").items():
        assert (adapter_of(tmp_path / "cached")[name] - value).abs().max() < 1e-3  # the rate is 0.05
    assert cached.test["AP"] == pytest.approx(plain.test["AP"], abs=0.1)


def test_the_best_epoch_is_kept_and_the_run_stops_when_nothing_gets_better(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([3.0, 5.0, 4.0, 2.0, 9.0])
    kept: list[torch.Tensor] = []
    whole = Scorer.score

    def score(self: Scorer, model: Any) -> Any:
        if model.prompt_offset is None:  # the base model, before training
            return type("Result", (), {"main": 1.5})()
        if self._store is not None:  # a validation
            kept.append(model.prompt_offset.detach().clone())
            return type("Result", (), {"main": next(scores)})()
        return whole(self, model)

    monkeypatch.setattr(Scorer, "score", score)
    tuned = finetune(job_of(folders, tmp_path / "out", epochs=5, stop_patience=2))
    assert (tuned.best_epoch, tuned.epochs, tuned.validation) == (2, 4, 5.0)
    rows = read_metrics(tmp_path / "out")
    assert [row["zero_shot"] for row in rows if "zero_shot" in row] == [1.5]
    assert [row["score"] for row in rows if "score" in row] == [3.0, 5.0, 4.0, 2.0]
    assert torch.equal(adapter_of(tmp_path / "out")["prompt_offset"], kept[1])


def test_nothing_is_learned_with_no_examples(folders: Path, tmp_path: Path) -> None:
    tuned = finetune(job_of(folders, tmp_path / "out", shots=0))
    assert (tuned.mode, tuned.steps, tuned.tensors, tuned.files) == ("zero-shot", 0, 0, ())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "metrics.json", "run.json"]


def test_what_is_forgotten_is_measured(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def scene_score(model: Any, tokenizer: Any, imgsz: int, scenes: int) -> float:
        asked.append((model.prompt_offset is not None and bool(model.prompt_offset.any()), imgsz, scenes))
        return 10.0 * len(asked)

    monkeypatch.setattr(module, "scene_score", scene_score)
    tuned = finetune(job_of(folders, tmp_path / "out", epochs=1, scenes=7))
    assert asked == [(False, 64, 7), (True, 64, 7)]
    assert (tuned.scenes_before, tuned.scenes_after) == (10.0, 20.0)


def test_a_class_list_too_long_for_a_prompt_is_refused(tmp_path: Path, folders: Path) -> None:
    write_set(tmp_path / "Squares")
    for path in (tmp_path / "Squares").glob("*/annotations*.json"):
        content = msgspec.json.decode(path.read_bytes())
        content["categories"] += [{"id": 10 + n, "name": "abcdefghijklmnopqrstuvwxyz"} for n in range(12)]
        path.write_bytes(msgspec.json.encode(content))
    sources, _ = find_training_splits(str(tmp_path / "Squares"), Path())
    job = replace(job_of(folders, tmp_path / "out"), data=sources[0])
    with pytest.raises(InputError, match=r"mode prompt.*256"):
        finetune(job)
    assert not (tmp_path / "out").exists()


def test_a_batch_of_its_own_bad_input_leaves_no_folder(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "Squares", tmp_path / "Squares")
    (tmp_path / "Squares" / "train" / "annotations_without_background.json").write_text("{")
    sources, _ = find_training_splits(str(folders / "Squares"), Path())
    broken, _ = find_training_splits(str(tmp_path / "Squares"), Path())
    with pytest.raises(InputError, match=r"annotations_without_background\.json"):
        finetune(replace(job_of(folders, tmp_path / "out"), data=broken[0]))
    assert not (tmp_path / "out").exists()
    assert sources
