"""Run folders, truths and results with one changed value: scored, or refused with an error a user can repair."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glip.data.splits import Split
from glip.evaluation.calibrate import calibrate
from glip.evaluation.run import open_task
from glip.evaluation.submission import read_submission
from glip.evaluation.tasks import ScoreOptions
from glip.labeling.records import RECORDS_FOLDER
from glip.review.database import as_image
from glip.review.difference import compare
from glip.review.push import check_source
from glip.review.source import open_source
from glip.run_folder import RUN_FILE
from tests.evaluation.few import RECORDS, truth
from tests.labeling.runs import write_run
from tests.mutations import changed, survives

ROUNDS = 60


def run_parts(folder: Path) -> tuple[Path, Any, Path, list[Any]]:
    """Returns the run file and the shard of a folder with what they hold."""
    run, shard = folder / RUN_FILE, next((folder / RECORDS_FOLDER).glob("*.jsonl"))
    return run, json.loads(run.read_text()), shard, [json.loads(line) for line in shard.read_text().splitlines()]


@pytest.mark.parametrize("part", ["run", "records", "truth"])
@pytest.mark.parametrize("reader", ["calibrate", "review"])
def test_changed_run_folders_and_truths(tmp_path: Path, part: str, reader: str) -> None:
    rng = random.Random(f"{part} {reader}")
    few = truth(tmp_path / "few.json")
    folder = write_run(tmp_path / "labels", RECORDS)
    run, content, shard, records = run_parts(folder)
    labels = json.loads(few.read_text())
    for name in ("a.jpg", "b.jpg", "z.jpg"):
        (tmp_path / name).write_bytes(b"")
    good = 0
    for _ in range(ROUNDS):
        run.write_text(json.dumps(changed(content, rng) if part == "run" else content))
        lines = changed(records, rng) if part == "records" else records
        shard.write_text("".join(json.dumps(line) + "\n" for line in lines))
        few.write_text(json.dumps(changed(labels, rng) if part == "truth" else labels))
        if reader == "calibrate":
            good += survives(lambda: calibrate(few, folder, resamples=2))
        elif part == "truth":
            good += survives(lambda: check_source(open_source(few, images=[str(tmp_path)])))
        else:
            good += survives(lambda: check_source(open_source(folder, images=[str(tmp_path)])))
    assert good


@pytest.mark.parametrize("part", ["truth", "results", "scored", "submission"])
def test_changed_truths_and_results_are_scored_or_refused(tmp_path: Path, part: str) -> None:
    rng = random.Random(part)
    few = truth(tmp_path / "few.json")
    labels = json.loads(few.read_text())
    boxes = [
        {"image_id": box["image_id"], "category_id": box["category_id"], "bbox": box["bbox"], "score": 0.5}
        for box in labels["annotations"]
    ]
    scored = labels | {"annotations": [box | {"score": 0.5} for box in labels["annotations"]]}
    given: dict[str, Any] = {"truth": boxes, "results": boxes, "scored": scored, "submission": {"a": boxes, "b": []}}
    results = tmp_path / "results.json"
    split = Split("set", "", "coco", few, (tmp_path,))
    good = 0
    for _ in range(ROUNDS):
        few.write_text(json.dumps(changed(labels, rng) if part == "truth" else labels))
        results.write_text(json.dumps(given[part] if part == "truth" else changed(given[part], rng)))
        if part == "submission":
            good += survives(lambda: read_submission(results))
            continue
        good += survives(lambda: open_task(split, ScoreOptions()).score_file(results))
    assert good


BOX: dict[str, Any] = {
    "_id": "1",
    "label": "dog",
    "bounding_box": [0.1, 0.1, 0.5, 0.5],
    "confidence": 0.5,
    "record": "a@1#0",
    "prompt": "dog",
    "chunk": 0,
    "annotation_id": 1,
    "margin": 0.1,
    "entropy": 0.2,
    "hint": "",
    "kept": True,
    "bbox": [1.0, 2.0, 3.0, 4.0],
    "area": 12.0,
    "iscrowd": 0,
    "deleted": False,
    "tags": ["approve"],
}


def test_changed_boxes_of_a_database_are_compared(tmp_path: Path) -> None:
    """Edits that the app and FiftyOne's API allow: attributes are removed, or hold another value of their type."""
    rng = random.Random("database")
    for _ in range(500):
        one, other = copy.deepcopy(BOX), copy.deepcopy(BOX)
        for box in (one, other):
            for key in rng.sample(sorted(BOX.keys() - {"_id"}), rng.randrange(4)):
                box[key] = None
            if rng.random() < 0.3:
                del box[rng.choice(sorted(box.keys() - {"_id"}))]
            box["bounding_box"] = rng.choice([box.get("bounding_box"), [float("nan")] * 4, [0.1], None, [2, -1, -3, 9]])
        document = {
            "_id": "1",
            "file_name": "a.jpg",
            "image_id": 1,
            "metadata": {"width": 10, "height": 10},
            "tags": rng.choice([None, ["reject"]]),
            "predictions": rng.choice([None, {"detections": None}, {"detections": [one]}]),
            "labels": rng.choice([None, {"detections": None}, {"detections": [other, one]}]),
        }
        difference = compare(as_image(document))
        for corrected in difference.boxes:
            assert all(0 <= value <= 10 for value in corrected.bbox) or corrected.record
        assert msgspec.json.encode([box.label for box in difference.boxes])
