"""An evaluation describes itself: its protocol in words, notes, and the files that it writes."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import pytest

from glip.detectors.spec import InferenceOptions
from glip.errors import InputError
from glip.evaluation.run import EvalRequest, evaluate
from tests.evaluation.perfect import detector, write_coco, write_set
from tests.evaluation.test_run import number, run


def test_the_batch_size_is_the_one_that_ran(tmp_path: Path) -> None:
    write_coco(tmp_path)
    assert run(tmp_path, "coco").protocol["batch size"].startswith("1;")
    request = EvalRequest("coco", tmp_path / "two", tmp_path, options=InferenceOptions(imgsz=64, batch=2))
    assert evaluate(request, detector=detector()).protocol["batch size"].startswith("2;")


def test_a_limit_is_part_of_the_protocol(tmp_path: Path) -> None:
    write_coco(tmp_path)
    assert run(tmp_path, "coco", limit=2).protocol["images"].startswith("2; at most the first 2 ")


@pytest.mark.parametrize(("name", "said"), [("rf100", "1 of the benchmark's 100"), ("rf100-vl", "1 of the ")])
def test_an_average_over_fewer_sets_than_the_benchmark_has_is_noted(name: str, said: str, tmp_path: Path) -> None:
    own = {"rf100": "bccd-ouzjz", "rf100-vl": "bees"}[name]
    for folder in (own, "mine"):
        place = tmp_path / name / folder / "test"
        write_set(place / "_annotations.coco.json", place)
    assert run(tmp_path, name, gallery=0).protocol["sets"].startswith(said)


def test_test_dev_says_where_its_file_goes(tmp_path: Path) -> None:
    write_set(tmp_path / "coco/annotations/image_info_test-dev2017.json", tmp_path / "coco/test2017", truth=False)
    (note, *_) = run(tmp_path, "coco", split="test-dev").sets[0].notes
    assert "detections_test-dev2017_NAME_results.json" in note and "cocodataset.org/#upload" in note


def test_classes_that_differ_by_case_only_are_noted(tmp_path: Path) -> None:
    names = {1: "person", 2: "dog", 3: "Dog ", 4: "DOG"}
    write_set(tmp_path / "mine/annotations.json", tmp_path / "mine", names)
    (note,) = run(tmp_path, str(tmp_path / "mine"), gallery=0).sets[0].notes
    assert "'dog' and 'Dog ' and 'DOG'" in note


def test_results_without_a_box_are_noted(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "none.json").write_text("[]")
    result = run(tmp_path, "coco", predictions=tmp_path / "none.json")
    assert number(result, "AP") == 0 and "none.json" in result.sets[0].notes[-1]


def test_what_a_results_file_does_not_cover_is_counted(tmp_path: Path) -> None:
    write_coco(tmp_path)
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [2, 3, 18, 27], "score": 0.9}]
    (tmp_path / "some.json").write_text(json.dumps(boxes))
    result = run(tmp_path, "coco", predictions=tmp_path / "some.json")
    entries = {entry.kind: entry for entry in result.left_out}
    assert set(entries) == {"images_without_results", "classes_without_results"}
    assert (entries["images_without_results"].count, entries["classes_without_results"].count) == (2, 1)
    assert entries["classes_without_results"].examples == ("'dog'",)
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert [entry["kind"] for entry in written["left_out"]] == [entry.kind for entry in result.left_out]


@pytest.mark.parametrize("name", ["coco", "lvis-val"])
def test_the_limits_of_a_results_file_say_nothing_of_how_it_was_made(tmp_path: Path, name: str) -> None:
    write_coco(tmp_path)
    classes = {1: "person", 2: "dog"}
    write_set(tmp_path / "coco/annotations/lvis_v1_val.json", tmp_path / "coco", classes, prefix="val2017/", lvis=True)
    (tmp_path / "some.json").write_text("[]")
    result = run(tmp_path, name, predictions=tmp_path / "some.json", gallery=0)
    assert "caption" not in result.protocol["limits"] and "some.json" in result.protocol["boxes"]
    assert ("10,000" if name == "lvis-val" else "100") in result.protocol["limits"]


def test_class_names_are_no_formulas_in_a_table(tmp_path: Path) -> None:
    names = {1: "person", 2: "dog", 3: "=cmd|' /C calc'!A0"}
    write_set(tmp_path / "mine/annotations.json", tmp_path / "mine", names)
    run(tmp_path, str(tmp_path / "mine"), gallery=0)
    with (tmp_path / "out/per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["person", "dog", "'=cmd|' /C calc'!A0"]
    assert all(float(row["AP"]) >= 0 for row in rows[:2])


def test_an_empty_object_is_no_submission(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        write_set(tmp_path / f"sets/{name}/test/annotations.json", tmp_path / f"sets/{name}/test")
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(InputError, match=r"cats.*empty"):
        run(tmp_path, str(tmp_path / "sets"), predictions=tmp_path / "none.json")


def test_d3_leaves_curves_a_matrix_and_the_worst_misses(tmp_path: Path) -> None:
    write_set(tmp_path / "d3/d3_json/d3_full_annotations.json", tmp_path / "d3/d3_images")
    (tmp_path / "d3/d3_pkl").mkdir()
    groups = {1: {"inner_sent_id": [1, 2], "img_id": [1, 2, 3]}}
    (tmp_path / "d3/d3_pkl/groups.pkl").write_bytes(pickle.dumps(groups))
    # Both classes are prompted, and only dogs are found.
    blind = detector({"person": "nobody"})
    names = {path.name for path in run(tmp_path, "d3", blind).files}
    assert {"precision_recall.png", "confusion.png", "worst"} <= names
    assert any(path.name.startswith("001-missed-person") for path in (tmp_path / "out/d3/worst").iterdir())


def test_of_lvis_only_misses_of_checked_classes_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "coco/annotations/lvis_v1_minival.json"
    write_set(path, tmp_path / "coco/val2017", lvis=True)
    content = json.loads(path.read_text())
    content["images"][1]["neg_category_ids"] = [1]
    path.write_text(json.dumps(content))
    box = {"bbox": [1, 1, 8, 8], "score": 0.9}
    # The second image was checked for people; the third was not checked for dogs.
    found = [box | {"image_id": 2, "category_id": 1}, box | {"image_id": 3, "category_id": 2}]
    found += [{"image_id": 1, "category_id": c, "bbox": b, "score": 0.8} for c, b in ((1, [2, 3, 18, 27]),)]
    found += [{"image_id": 2, "category_id": 2, "bbox": [1, 1, 29, 39], "score": 0.7}]
    (tmp_path / "found.json").write_text(json.dumps(found))
    run(tmp_path, "lvis-minival", predictions=tmp_path / "found.json")
    names = {path.name[4:] for path in (tmp_path / "out/lvis-minival/worst").iterdir()}
    assert "background-person-p2.png" in names and not any("dog-p3" in name for name in names)
