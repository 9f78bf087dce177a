"""One tuning run, and many: files, resuming, the best epoch, the table."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from glip.data.lookup import find_training_splits
from glip.detectors.glip import Detector, load_detector
from glip.errors import InputError
from glip.evaluation.inference import Looking
from glip.evaluation.metrics.coco import coco_scores
from glip.evaluation.predictions import Predictions
from glip.evaluation.run import EvalRequest, evaluate
from glip.training import finetune as module
from glip.training import sweep as sweep_module
from glip.training.feature_cache import FeatureStore
from glip.training.finetune import FinetuneJob, Shared, finetune, load_base, trainable
from glip.training.finetune_data import open_tuning_set
from glip.training.recipes import recipe_for
from glip.training.result import read_result
from glip.training.sweep import Sweep, jobs_of, plan_sweep, run_sweep
from glip.training.validation import Scorer, borrowed
from glip.weights.adapter import load_adapter
from glip.weights.folder import load_model_folder
from tests.training.sets import write_base, write_set

LINEAR = 9


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/ and Squares/, not to be changed."""
    folder = tmp_path_factory.mktemp("tuning")
    write_base(folder / "base")
    write_set(folder / "Squares", train=4, val=2, test=2)
    return folder


def job_of(folders: Path, out: Path, **changes: Any) -> FinetuneJob:
    mode, shots = changes.pop("mode", "prompt"), changes.pop("shots", 1)
    recipe = recipe_for(mode, "all" if shots == 0 else shots)
    fields: dict[str, Any] = {
        field: changes.pop(field) for field in ("epochs", "stop_patience", "copies") if field in changes
    }
    fields = {"epochs": 3, "copies": 2, "stop_patience": 100} | fields
    recipe = replace(recipe.without_augmentation(), **fields)
    sources, _ = find_training_splits(str(folders / "Squares"), Path())
    job = FinetuneJob(sources[0], out, str(folders / "base"), shots, 3, recipe, device="cpu", comparisons=0)
    return replace(job, **changes)


def adapter_of(out: Path) -> dict[str, torch.Tensor]:
    return dict(load_adapter(out / "adapter.safetensors").tensors)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_prompt_run_leaves_an_adapter_numbers_and_images(folders: Path, tmp_path: Path) -> None:
    tuned = finetune(job_of(folders, tmp_path / "out", comparisons=1))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter.safetensors",
        "comparison.jpg",
        "curve.png",
        "metrics.json",
        "metrics.jsonl",
        "run.json",
    ]
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
    look = Looking(str(folders / "base"), adapter=tmp_path / "out" / "adapter.safetensors", device="cpu")
    request = EvalRequest(str(annotations), tmp_path / "eval", look=look, gallery=0)
    result = evaluate(request)
    assert result.rows[0].metric == "AP" and result.rows[0].measured == pytest.approx(tuned.test["AP"], abs=1e-9)
    assert result.rows[0].published is None and "with" in result.protocol["model"]
    bare = evaluate(replace(request, out=tmp_path / "bare", look=replace(look, adapter=None)))
    assert bare.protocol["model"] == str(folders / "base")
    (with_adapter,), (without,) = ((tmp_path / run).rglob("results.json") for run in ("eval", "bare"))
    assert with_adapter.read_bytes() != without.read_bytes()


def numbers_of(detector: Detector, job: FinetuneJob) -> float:
    """AP on the test split by the way that `glip label` goes."""
    data = open_tuning_set(job.source, job.shots, job.seed)
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
    again = load_detector(folders / "base", device="cpu").predict(image, "red . blue .")[0]
    found = plain.predict(image, "red . blue .")[0]
    assert np.array_equal(found.scores, again.scores)
    assert not np.array_equal(found.scores, tuned.predict(image, "red . blue .")[0].scores)


def test_a_full_run_leaves_a_model_folder(folders: Path, tmp_path: Path) -> None:
    tuned = finetune(job_of(folders, tmp_path / "out", mode="full", epochs=1, comparisons=0))
    assert tuned.files == ("model", "curve.png")
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
    with pytest.raises(InputError, match=r"holds a run with another epochs \(1 there, 2 now\)\. Choose another --out"):
        finetune(job_of(folders, tmp_path / "out", epochs=2))


def test_a_run_knows_its_annotations_by_what_they_say(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "Squares", tmp_path / "here" / "Squares")
    job = job_of(folders, tmp_path / "out", epochs=1)
    moved, _ = find_training_splits(str(tmp_path / "here" / "Squares"), Path())
    tuned = finetune(replace(job, source=moved[0]))
    assert finetune(job) == tuned
    path = tmp_path / "here" / "Squares" / "test" / "annotations_without_background.json"
    content = msgspec.json.decode(path.read_bytes())
    content["annotations"][0]["bbox"][2] += 1
    path.write_bytes(msgspec.json.encode(content))
    with pytest.raises(InputError, match=r"holds a run with another annotations \(\w{16} there, \w{16} now\)"):
        finetune(replace(job, source=moved[0]))


def test_a_note_that_is_damaged_is_refused(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run.json cannot be read .* Choose another --out, or delete the folder"):
        finetune(job_of(folders, tmp_path / "out", epochs=1))


def test_the_cache_changes_nothing(folders: Path, tmp_path: Path) -> None:
    store = FeatureStore()
    cached = finetune(job_of(folders, tmp_path / "cached"), shared=Shared(store))
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
        if len(self._opened.truth.image_ids) == 1 or self._store is not None:
            kept.append(model.prompt_offset.detach().clone())
            return type("Result", (), {"main": next(scores)})()
        return whole(self, model)

    monkeypatch.setattr(Scorer, "score", score)
    tuned = finetune(job_of(folders, tmp_path / "out", epochs=5, stop_patience=2))
    assert (tuned.best_epoch, tuned.epochs, tuned.validation) == (2, 4, 5.0)
    assert torch.equal(adapter_of(tmp_path / "out")["prompt_offset"], kept[1])


def test_nothing_is_learned_with_no_examples(folders: Path, tmp_path: Path) -> None:
    tuned = finetune(job_of(folders, tmp_path / "out", shots=0))
    assert (tuned.mode, tuned.steps, tuned.tensors, tuned.files) == ("zero-shot", 0, 0, ())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "run.json"]


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
    job = replace(job_of(folders, tmp_path / "out"), source=sources[0])
    with pytest.raises(InputError, match="a tuned prompt is one caption of at most 256 tokens"):
        finetune(job)
    assert not (tmp_path / "out").exists()


def test_a_batch_of_its_own_bad_input_leaves_no_folder(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "Squares", tmp_path / "Squares")
    (tmp_path / "Squares" / "train" / "annotations_without_background.json").write_text("{")
    sources, _ = find_training_splits(str(folders / "Squares"), Path())
    broken, _ = find_training_splits(str(tmp_path / "Squares"), Path())
    with pytest.raises(InputError, match=r"annotations_without_background\.json"):
        finetune(replace(job_of(folders, tmp_path / "out"), source=broken[0]))
    assert not (tmp_path / "out").exists()
    assert sources


# --- sweeps ---


def sweep_of(folders: Path, out: Path, **changes: Any) -> Sweep:
    sources, _ = find_training_splits(str(folders / "Squares"), Path())
    fields: dict[str, Any] = {
        "shots": (0, 1),
        "modes": ("prompt", "linear"),
        "seeds": (3, 30),
        "changes": {"epochs": 1, "copies": 2},
        "augment": False,
        "device": "cpu",
        "comparisons": 0,
    }
    return Sweep(tuple(sources), out, str(folders / "base"), **fields | changes)


def test_a_sweep_runs_everything_once_and_writes_a_table(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    sweep = sweep_of(folders, out, modes=("prompt",))
    result = run_sweep(sweep)
    places = [str(path.parent.relative_to(out / "Squares")) for path in out.rglob("metrics.json")]
    assert sorted(places) == ["prompt/1-shot/seed-3", "prompt/1-shot/seed-30", "zero-shot"]
    own = [(row["mode"], row["shots"], row["seeds"]) for row in result.table if not row["source"]]
    assert own == [("zero-shot", "0", [0]), ("prompt", "1", [3, 30])]
    assert (out / "table.md").read_text().startswith("| model | mode | shots | Squares |")
    assert not (out / "features").exists()
    # Again, and one mode more: only that is done.
    done: list[FinetuneJob] = []
    monkeypatch.setattr(sweep_module, "finetune", _counting(done))
    more = run_sweep(replace(sweep, modes=("prompt", "linear"), seeds=(3,)))
    assert [(run.mode, run.seed) for run in more.runs] == [("zero-shot", 0), ("prompt", 3), ("linear", 3)]
    assert [(job.mode, job.seed) for job in done] == [("linear", 3)]


def _counting(done: list[FinetuneJob]) -> Any:
    def count(job: FinetuneJob, **rest: Any) -> Any:
        if read_result(job.out) is None:
            done.append(job)
        return finetune(job, **rest)

    return count


class Elsewhere:
    """An engine whose places are reached by pickle."""

    def map(self, make_worker: Any, shards: Any) -> Iterator[Any]:
        worker = pickle.loads(pickle.dumps(make_worker))()
        for shard in shards:
            yield pickle.loads(pickle.dumps(worker(pickle.loads(pickle.dumps(shard)))))


def test_runs_can_be_done_elsewhere(folders: Path, tmp_path: Path) -> None:
    result = run_sweep(sweep_of(folders, tmp_path / "out", modes=("linear",), shots=(1,), seeds=(3,)), Elsewhere())
    assert [(run.mode, run.seed) for run in result.runs] == [("linear", 3)]
    assert (tmp_path / "out" / "results.json").is_file()
    assert not (tmp_path / "out" / "features").exists()


def test_all_sets_are_looked_at_before_the_first_is_learned(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "Squares", tmp_path / "Broken")
    (tmp_path / "Broken" / "test" / "annotations_without_background.json").write_text("[]")
    broken, _ = find_training_splits(str(tmp_path / "Broken"), Path())
    sweep = sweep_of(folders, tmp_path / "out")
    with pytest.raises(InputError):
        run_sweep(replace(sweep, sources=(*sweep.sources, *broken)))
    assert not (tmp_path / "out").exists()


def test_a_prompt_that_is_too_long_is_refused_before_the_first_run(folders: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "Long")
    for path in (tmp_path / "Long").glob("*/annotations*.json"):
        content = msgspec.json.decode(path.read_bytes())
        content["categories"] += [{"id": 10 + n, "name": "abcdefghijklmnopqrstuvwxyz"} for n in range(12)]
        path.write_bytes(msgspec.json.encode(content))
    long, _ = find_training_splits(str(tmp_path / "Long"), Path())
    sweep = sweep_of(folders, tmp_path / "out", modes=("linear", "prompt"))
    with pytest.raises(InputError, match="a tuned prompt is one caption"):
        run_sweep(replace(sweep, sources=(*sweep.sources, *long)))
    assert not (tmp_path / "out").exists()


def test_a_plan_lists_every_parameter_and_writes_nothing(folders: Path, tmp_path: Path) -> None:
    plan = plan_sweep(sweep_of(folders, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert [row["name"] for row in plan["trainable"]["prompt"]] == ["prompt_offset"]
    linear = trainable(load_model_folder(folders / "base"), "linear")
    assert [(row["name"], tuple(row["shape"])) for row in plan["trainable"]["linear"]] == list(linear.items())
    assert len(linear) == LINEAR
    run = plan["runs"][1]
    assert run["most_steps"] == 1 * 2 * run["images"] // 4
    assert "images" not in plan["runs"][0]


def test_changes_reach_the_recipe(folders: Path, tmp_path: Path) -> None:
    sweep = sweep_of(folders, tmp_path, changes={"epochs": 7, "lr": 0.3, "batch_size": 2})
    recipe = sweep.recipe_of("prompt", 3)
    assert (recipe.epochs, recipe.rates.base, recipe.batch_size, recipe.copies) == (7, 0.3, 2, 4)
    assert recipe.rates.weight_decay == 0.25
    assert recipe.flip == 0


def test_a_preset_says_what_learns(folders: Path, tmp_path: Path) -> None:
    sweep = sweep_of(folders, tmp_path, recipe="coco", shots=("all",), seeds=(3,), changes={})
    assert [(job.mode, job.out.relative_to(tmp_path)) for job in jobs_of(sweep)] == [
        ("all", Path("Squares/all/all/seed-3"))
    ]


def test_seeds_are_the_published_ones_unless_told_otherwise(folders: Path, tmp_path: Path) -> None:
    sweep = sweep_of(folders, tmp_path, modes=("full",), shots=(0, 3, "all"), seeds=None)
    assert [(job.shots, job.seed) for job in jobs_of(sweep)] == [(0, 0), (3, 3), (3, 30), (3, 300), ("all", 3)]
    more = replace(sweep, seeds=(5, 6))
    assert [(job.shots, job.seed) for job in jobs_of(more)] == [(0, 0), (3, 5), (3, 6), ("all", 5), ("all", 6)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modes": ("adapter",)}, "No way to tune is called 'adapter'"),
        ({"modes": ()}, "--mode names nothing"),
        ({"shots": ()}, "--shots names nothing"),
        ({"seeds": ()}, "--seeds names nothing"),
        ({"shots": (-1,)}, "--shots is -1"),
        ({"seeds": (3, -1)}, "--seeds has -1; a seed is a whole number from 0"),
        ({"seeds": (2**31,)}, "--seeds has 2147483648; a seed is"),
        ({"imgsz": 0}, "--imgsz is 0; it must be a whole number from 32 to 4096"),
        ({"imgsz": 31}, "--imgsz is 31"),
        ({"scenes": -1}, "--scenes, --images and --workers are -1, 0 and 0; accepted are"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    folders: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        sweep_of(folders, tmp_path, **changes)


def test_validation_in_half_precision_leaves_the_learning_weights_as_they_are(folders: Path) -> None:
    folder = load_model_folder(folders / "base")
    model = load_base(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with borrowed(model, folder.tokenizer(), 64, "bf16") as detector:
        detector.predict(Image.new("RGB", (80, 60)), "red . blue .")
    after = model.state_dict()
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())
    assert all(value.requires_grad for value in model.parameters())


def test_validation_leaves_a_model_as_it_learns(folders: Path) -> None:
    folder = load_model_folder(folders / "base")
    model = load_base(folder)
    model.requires_grad_(False)
    model.head.box.requires_grad_(True)
    sources, _ = find_training_splits(str(folders / "Squares"), Path())
    data = open_tuning_set(sources[0], "all", 3)
    scorer = Scorer(data.val, folder.tokenizer(), 64)
    scorer.score(model)
    assert [name for name, value in model.named_parameters() if value.requires_grad] == [
        "head.box.weight",
        "head.box.bias",
    ]


def test_kept_maps_score_the_same_and_follow_what_learns(folders: Path) -> None:
    folder = load_model_folder(folders / "base")
    sources, _ = find_training_splits(str(folders / "Squares"), Path())
    data = open_tuning_set(sources[0], "all", 3)
    store = FeatureStore()
    kept, plain = (Scorer(data.val, folder.tokenizer(), 64, store=one) for one in (store, None))
    model = load_base(folder)
    for offset in (0.0, 0.5):
        model.set_prompt_offset(torch.full((256, 48), offset))
        one, other = kept.predict(model), plain.predict(model)
        assert np.array_equal(one.bbox, other.bbox)
        assert np.array_equal(one.score, other.score)
    assert store.hits == len(data.val.truth.image_ids)
