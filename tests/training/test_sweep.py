"""Many fine-tuning runs: what is run, what is checked first, and the table."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glip.data import splits as splits_module
from glip.data.coco import CocoAnnotation, load_coco, save_coco
from glip.data.formats import read_annotated
from glip.data.lookup import find_training_splits
from glip.errors import InputError
from glip.training.finetune import finetune, trainable_shapes
from glip.training.finetune_job import FinetuneJob, read_result
from glip.training.sweep import Sweep, jobs_of, plan_sweep, run_sweep
from glip.weights.folder import load_model_folder
from tests.training.sets import FILE, write_set

LINEAR = 9


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
    data = changes.pop("data", tuple(sources))
    return Sweep(data, out, str(folders / "base"), **fields | changes)


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
    monkeypatch.setattr("glip.training.finetune.finetune", _counting(done))
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

    def map(self, make_worker: Any, shards: Any) -> Generator[Any, None, None]:
        worker = pickle.loads(pickle.dumps(make_worker))()
        for shard in shards:
            for result in worker(pickle.loads(pickle.dumps(shard))):
                yield pickle.loads(pickle.dumps(result))


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
        run_sweep(replace(sweep, data=(*sweep.data, *broken)))
    assert not (tmp_path / "out").exists()


def test_a_prompt_that_is_too_long_is_refused_before_the_first_run(folders: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "Long")
    for path in (tmp_path / "Long").glob("*/annotations*.json"):
        content = msgspec.json.decode(path.read_bytes())
        content["categories"] += [{"id": 10 + n, "name": "abcdefghijklmnopqrstuvwxyz"} for n in range(12)]
        path.write_bytes(msgspec.json.encode(content))
    long, _ = find_training_splits(str(tmp_path / "Long"), Path())
    sweep = sweep_of(folders, tmp_path / "out", modes=("linear", "prompt"))
    with pytest.raises(InputError, match=r"mode prompt.*256"):
        run_sweep(replace(sweep, data=(*sweep.data, *long)))
    assert not (tmp_path / "out").exists()


def test_a_plan_lists_every_parameter_and_writes_nothing(folders: Path, tmp_path: Path) -> None:
    plan = plan_sweep(sweep_of(folders, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert [row["name"] for row in plan["trainable"]["prompt"]] == ["prompt_offset"]
    linear = trainable_shapes(load_model_folder(folders / "base"), "linear")
    assert [(row["name"], tuple(row["shape"])) for row in plan["trainable"]["linear"]] == list(linear.items())
    assert len(linear) == LINEAR
    run = plan["runs"][1]
    assert run["max_steps"] == 1 * 2 * run["images"] // 4
    assert "images" not in plan["runs"][0]


def test_boxes_that_are_not_learned_are_counted_in_plan_and_result(folders: Path, tmp_path: Path) -> None:
    data = tmp_path / "Squares"
    shutil.copytree(folders / "Squares", data)
    dataset = load_coco(data / "train" / FILE)
    empty = CocoAnnotation(900, dataset.images[0].id, 1, (3, 3, 0, 20))
    save_coco(data / "train" / FILE, msgspec.structs.replace(dataset, annotations=(*dataset.annotations, empty)))
    sources, _ = find_training_splits(str(data), Path())
    sweep = sweep_of(folders, tmp_path / "out", data=tuple(sources), shots=("all",), modes=("prompt",), seeds=(3,))
    planned = [entry for entry in plan_sweep(sweep)["left_out"] if entry["kind"] == "boxes_without_area"]
    result = run_sweep(sweep)
    stated = [entry for entry in result.left_out if entry.kind == "boxes_without_area"]
    assert [entry.count for entry in stated] == [entry["count"] for entry in planned] == [1]
    assert stated[0] in result.runs[-1].left_out


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
    ("changes", "named"),
    [
        ({"modes": ("adapter",)}, "modes.*'adapter'"),
        ({"modes": ()}, "modes"),
        ({"shots": ()}, "shots"),
        ({"seeds": ()}, "seeds"),
        ({"shots": (-1,)}, "shots.*-1"),
        ({"seeds": (3, -1)}, "seeds.*-1"),
        ({"seeds": (2**31,)}, "seeds.*2147483648"),
        ({"imgsz": 0}, "imgsz.*0.*32.*4096"),
        ({"imgsz": 31}, "imgsz.*31"),
        ({"scenes": -1}, "scenes.*-1"),
        ({"comparisons": -2}, "comparisons.*-2"),
        ({"workers": -3}, "workers.*-3"),
        ({"device": "tpu"}, "device.*'tpu'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    folders: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        sweep_of(folders, tmp_path, **changes)


def test_each_annotation_file_is_read_once(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folders / "Squares", tmp_path / "Squares")  # other tests have not read these files
    read: list[str] = []

    def count(path: Path, *more: Any, **options: Any) -> Any:
        read.append(path.parent.name)
        return read_annotated(path, *more, **options)

    monkeypatch.setattr(splits_module, "read_annotated", count)
    data, _ = find_training_splits(str(tmp_path / "Squares"), Path())
    run_sweep(replace(sweep_of(folders, tmp_path / "out", modes=("prompt",)), data=tuple(data)))
    assert sorted(read) == ["test", "train", "valid"]
