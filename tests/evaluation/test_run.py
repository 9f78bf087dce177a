"""Every benchmark goes from a data folder and a detector to a table; the detector is always right."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glip.data.odinw import odinw_group
from glip.detectors.spec import DetectorSpec, InferenceOptions
from glip.errors import InputError
from glip.evaluation.results import EvaluationResult
from glip.evaluation.run import EvalRequest, evaluate
from glip.labeling.worker import ImageDone
from tests.evaluation.perfect import SCENES, PerfectDetector, detector, write_coco, write_set

SMALL = InferenceOptions(imgsz=64)  # the detector reads nothing of an image but its size


def run(root: Path, dataset: str, perfect: PerfectDetector | None = None, **options: Any) -> EvaluationResult:
    request = EvalRequest(dataset, root / "out", root, options=SMALL, **options)
    return evaluate(request, detector=perfect or detector())


def number(result: EvaluationResult, metric: str) -> float | None:
    return next(row.measured for row in result.rows if row.metric == metric)


def write_odinw(root: Path, *, sets: Sequence[str] = (), right: Sequence[str] | None = None) -> list[str]:
    """Writes ODinW-13 with the scenes in every set; dogs are the first class of each, people the last."""
    names = []
    for one in odinw_group("odinw13"):
        names.append(one.name)
        if sets and one.name not in sets:
            continue
        classes = dict(zip(one.ids, one.names, strict=True))
        called = {"dog": one.ids[0], "person": one.ids[-1]}
        for files in one.splits.values():
            write_set(root / files.annotations[0], root / files.images[0][0], classes, called=called)
    return names


class Everything(PerfectDetector):
    """Finds every box of a scene, as the first of the names."""

    def _find(self, size_hw: tuple[int, int], names: tuple[str, ...]) -> Any:
        return PerfectDetector(truth={size: [(names[0], box) for _, box in boxes] for size, boxes in SCENES})._find(
            size_hw, names
        )


def test_a_perfect_detector_gets_all_of_coco(tmp_path: Path) -> None:
    result = run(write_coco(tmp_path), "coco")
    assert number(result, "AP") == number(result, "AP75") == pytest.approx(100)
    assert [(row.name, row.boxes) for row in result.sets[0].classes] == [("person", 3), ("dog", 2)]
    assert [row.ap for row in result.sets[0].classes] == pytest.approx([100, 100])
    assert (result.sets[0].images, result.sets[0].annotated, result.sets[0].found) == (3, 5, 5)
    assert {path.name for path in result.files} >= {
        *("metrics.json", "per_class.csv", "results.json"),
        *("precision_recall.png", "confusion.png"),
    }
    assert all(path.exists() for path in result.files)


def test_the_same_call_again_runs_nothing_and_gives_the_same(tmp_path: Path) -> None:
    perfect = detector()
    first = run(write_coco(tmp_path), "coco", perfect)
    asked = len(perfect.asked)
    assert run(tmp_path, "coco", perfect).to_json() == first.to_json()
    assert len(perfect.asked) == asked == 3


def test_another_number_of_images_than_published_is_noted(tmp_path: Path) -> None:
    result = run(write_coco(tmp_path), "coco")
    (note,) = result.sets[0].notes
    assert "3 images" in note and "5000" in note
    assert run(tmp_path, "coco", limit=3).sets[0].notes == ()


class StopAfter:
    """Stops a job after a number of images."""

    def __init__(self, images: int) -> None:
        self.left = images

    def labelling(self, todo: int, earlier: int) -> nullcontext[None]:
        return nullcontext()

    def labelled(self, image: ImageDone) -> None:
        self.left -= 1

    def stop(self) -> bool:
        return self.left <= 0


def test_a_stopped_run_resumes_where_it_ended(tmp_path: Path) -> None:
    write_coco(tmp_path)
    perfect = detector()
    request = EvalRequest("coco", tmp_path / "out", tmp_path, options=SMALL)
    stopped = evaluate(request, detector=perfect, watcher=StopAfter(1))
    assert stopped.interrupted and not stopped.rows and not (tmp_path / "out/metrics.json").exists()
    assert number(run(tmp_path, "coco", perfect), "AP") == pytest.approx(100)
    assert len(perfect.asked) == 3


def test_test_dev_becomes_a_file_for_the_server(tmp_path: Path) -> None:
    write_set(tmp_path / "coco/annotations/image_info_test-dev2017.json", tmp_path / "coco/test2017", truth=False)
    result = run(tmp_path, "coco", split="test-dev")
    assert result.rows == () and result.sets[0].numbers == {}
    rows = json.loads((tmp_path / "out/coco/results.json").read_text())
    assert rows[0] == {"image_id": 1, "category_id": 1, "bbox": [2.0, 3.0, 18.0, 27.0], "score": pytest.approx(0.9)}
    assert len(rows) == 5


def test_lvis_is_prompted_with_forty_names_at_a_time_and_keeps_300_boxes_of_each(tmp_path: Path) -> None:
    classes = {1: "person", 2: "dog"} | {id: f"thing {id}" for id in range(3, 86)}
    write_set(tmp_path / "coco/annotations/lvis_v1_val.json", tmp_path / "coco", classes, prefix="val2017/", lvis=True)
    perfect = detector()
    result = run(tmp_path, "lvis-val", perfect)
    assert number(result, "AP") == number(result, "APr") == number(result, "standard AP") == pytest.approx(100)
    captions = perfect.asked[0]
    assert [caption.count(". ") + 1 for caption in captions] == [40, 40, 5]
    assert {(one.max_detections, one.limit_per_prompt, one.floor) for one in perfect.limits} == {(300, True, 0.05)}
    assert "10,000 boxes" in result.protocol["limits"]


def test_lvis_finds_images_that_its_file_names_without_their_folder(tmp_path: Path) -> None:
    write_set(tmp_path / "coco/annotations/lvis_v1_minival.json", tmp_path / "coco/val2017", lvis=True)
    assert number(run(tmp_path, "lvis-minival"), "AP") == pytest.approx(100)


def test_odinw_has_a_line_a_set_their_average_and_median_and_a_submission(tmp_path: Path) -> None:
    names = write_odinw(tmp_path)
    request = EvalRequest("odinw13", tmp_path / "out", tmp_path, DetectorSpec("glip-t-a"), SMALL, gallery=0)
    result = evaluate(request, detector=Everything())
    assert [row.set for row in result.rows] == [*names, "", ""]
    measured = [row.measured for row in result.rows[:-2]]
    # Every box gets the first class: right in sets of one class, and wrong for the last class elsewhere.
    assert measured[names.index("pothole")] == pytest.approx(100)
    assert 0 < (measured[names.index("Aquarium")] or 0) <= 50
    average, median = result.rows[-2:]
    assert average.metric == "average" and average.measured == pytest.approx(sum(filter(None, measured)) / 13)
    assert median.metric == "median" and median.measured == sorted(value or 0 for value in measured)[6]
    assert (average.published, result.rows[names.index("Aquarium")].published) == (32.5, 17.5)
    submission = json.loads((tmp_path / "out/odinw_submission.json").read_text())
    assert list(submission) == names and submission["pothole"][0].keys() == {"image_id", "category_id", "bbox", "score"}


def test_a_part_of_odinw_is_scored_without_the_average_and_the_submission_of_the_whole(tmp_path: Path) -> None:
    write_odinw(tmp_path, sets=["pothole", "Raccoons"])
    request = EvalRequest("odinw13", tmp_path / "out", tmp_path, DetectorSpec("glip-t-a"), SMALL, gallery=0)
    result = evaluate(request, detector=Everything())
    assert sorted(item.name for item in result.sets) == ["Raccoons", "pothole"]
    assert list(result.summary) == ["average of 2 sets, 11 missing", "median of 2 sets, 11 missing"]
    assert result.rows[-1].published is result.rows[-2].published is None
    assert result.protocol["sets"] == "2 of the benchmark's 13"
    assert [entry.count for entry in result.left_out] == [11]
    assert result.to_json()["left_out"][0]["kind"] == "missing_sets"
    assert not (tmp_path / "out/odinw_submission.json").exists()


def test_worded_prompts_reach_the_detector_as_they_are(tmp_path: Path) -> None:
    write_odinw(tmp_path, sets=["Packages"])
    perfect = Everything()
    result = run(tmp_path, "odinw/Packages", perfect, prompts="original")
    assert perfect.asked[0] == ("there is a package on the porch",)
    assert number(result, "AP") == pytest.approx(100)
    assert result.protocol["prompts"].startswith("original")


def test_classes_with_other_names_in_the_file_are_prompted_as_the_benchmark_does(tmp_path: Path) -> None:
    root = tmp_path / "odinw/CottontailRabbits/valid"
    write_set(
        root / "annotations_without_background.json", root, {1: "Cottontail-Rabbit"}, called={"dog": 1, "person": 1}
    )
    perfect = Everything()
    result = run(tmp_path, "CottontailRabbits", perfect)
    assert perfect.asked[0] == ("rabbit",)
    assert "'Cottontail-Rabbit' as 'rabbit'" in result.sets[0].notes[0]
    assert result.sets[0].classes[0].name == "Cottontail-Rabbit" and number(result, "AP") == pytest.approx(100)


def test_a_file_with_other_classes_than_the_benchmarks_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "odinw/BCCD/BCCD.v3-raw.coco/valid"
    write_set(root / "annotations_without_background.json", root)
    with pytest.raises(InputError, match=r"category 3.* BCCD"):
        run(tmp_path, "BCCD")


def test_the_group_name_of_a_roboflow_export_is_not_prompted(tmp_path: Path) -> None:
    folder = tmp_path / "rf100/pets/test"
    write_set(folder / "_annotations.coco.json", folder, {0: "pets", 1: "person", 2: "dog"})
    content = json.loads((folder / "_annotations.coco.json").read_text())
    for category in content["categories"]:
        category["supercategory"] = "none" if category["id"] == 0 else "pets"
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    perfect = detector()
    assert number(run(tmp_path, "rf100", perfect), "AP") == pytest.approx(100)
    assert perfect.asked[0] == ("person. dog",)


def test_pascal_voc_is_scored_by_its_own_rule(tmp_path: Path) -> None:
    folder = tmp_path / "VOCdevkit/VOC2007"
    write_set(tmp_path / "unused.json", folder / "JPEGImages")
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for place, ((height, width), scene) in enumerate(SCENES, start=1):
        objects = "".join(
            f"<object><name>{what}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for what, (x1, y1, x2, y2) in scene
        )
        (folder / f"Annotations/p{place}.xml").write_text(
            f"<annotation><filename>p{place}.png</filename><size><width>{width}</width><height>{height}</height>"
            f"</size>{objects}</annotation>"
        )
    (folder / "ImageSets/Main/test.txt").write_text("p1\np2\np3\n")
    result = run(tmp_path, "voc2007")
    assert number(result, "AP50") == number(result, "AP50-11") == pytest.approx(100)
    assert [row.ap50 for row in result.sets[0].classes if row.boxes] == [pytest.approx(100)] * 2


def test_coco_o_has_an_average_and_effective_robustness(tmp_path: Path) -> None:
    for domain in ("sketch", "weather", "cartoon", "painting", "tattoo", "handmake"):
        folder = tmp_path / "ood_coco" / domain
        write_set(folder / "annotations/instances_val2017.json", folder / "val2017")
    result = run(tmp_path, "coco-o", gallery=0)
    assert len(result.rows) == 6 + 3
    assert number(result, "average") == pytest.approx(100)
    assert number(result, "effective robustness") == pytest.approx(100 - 0.45 * 46.6)
    assert "46.6 (published" in result.protocol["effective robustness"]
    again = run(tmp_path, "coco-o", gallery=0, predictions=tmp_path / "out")
    assert number(again, "effective robustness") is None
    given = run(tmp_path, "coco-o", gallery=0, predictions=tmp_path / "out", coco_ap=40.0)
    assert number(given, "effective robustness") == pytest.approx(82)
    (tmp_path / "ood_coco/tattoo/annotations/instances_val2017.json").unlink()
    part = run(tmp_path, "coco-o", gallery=0, predictions=tmp_path / "out", coco_ap=40.0)
    assert number(part, "effective robustness") is None and number(part, "average of 5 sets, 1 missing") == 100


def write_flickr(root: Path) -> None:
    folder = root / "flickr30k/flickr30k_images"
    write_set(root / "unused.json", folder)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    captions = [(1, "a person and a dog"), (1, "the dog"), (2, "one dog"), (3, "some person")]
    for number, (place, caption) in enumerate(captions, start=1):
        (height, width), scene = SCENES[place - 1]
        phrases = []
        for word in ("person", "dog"):
            if word in caption:
                span = [caption.index(word), caption.index(word) + len(word)]
                phrases.append([span])
                for what, (x1, y1, x2, y2) in scene:
                    if what == word:
                        box = {"id": len(boxes) + 1, "image_id": number, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                        boxes.append(box | {"category_id": 1, "tokens_positive": [span], "area": 1, "iscrowd": 0})
        image = {"id": number, "file_name": f"p{place}.png", "width": width, "height": height, "caption": caption}
        sentence = sum(other["file_name"] == image["file_name"] for other in images)
        images.append(image | {"sentence_id": sentence, "original_img_id": place, "tokens_positive_eval": phrases})
    path = root / "mdetr_annotations/final_flickr_separateGT_test.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "object"}]}))


def test_flickr_runs_all_sentences_of_an_image_at_once_and_scores_their_phrases(tmp_path: Path) -> None:
    write_flickr(tmp_path)
    perfect = detector()
    result = run(tmp_path, "flickr30k", perfect, split="test")
    assert sorted(perfect.asked) == [("a person and a dog", "the dog"), ("one dog",), ("some person",)]
    assert {(one.max_detections, one.limit_per_prompt) for one in perfect.limits} == {(100, True)}
    assert number(result, "any-box R@1") == number(result, "any-box R@10") == pytest.approx(100)
    # The third image has two people; no predicted box is around both.
    assert number(result, "merged-box R@10") == pytest.approx(80)
    assert next(row.published for row in result.rows if row.metric == "any-box R@1") == 86.0
    assert result.protocol["batch size"].startswith("1:")
    # One box is left of the two people in the third image, and of the two phrases of the first sentence.
    few = run(tmp_path, "flickr30k", perfect, split="test", max_det=1)
    assert number(few, "any-box R@1") == pytest.approx(80) and few.sets[0].found == 4
    assert result.sets[0].images == 3 and "flickr30k_entities" in result.sets[0].notes[0]


def write_entities(root: Path) -> None:
    """Writes the scenes as Flickr30k Entities' own files."""
    folder, entities = root / "flickr30k/flickr30k_images", root / "flickr30k_entities"
    write_set(root / "unused.json", folder)
    for png in folder.glob("*.png"):
        png.rename(png.with_suffix(".jpg"))
    (entities / "Sentences").mkdir(parents=True)
    (entities / "Annotations").mkdir()
    (entities / "test.txt").write_text("p1\np2\n")
    for name, (_, scene) in zip(("p1", "p2"), SCENES, strict=False):
        number = {"person": 1, "dog": 2}
        words = " and ".join(f"[/EN#{number[what]}/{what}s {what}]" for what, _ in scene)
        (entities / f"Sentences/{name}.txt").write_text(f"a {words}\n")
        objects = "".join(
            f"<object><name>{number[what]}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for what, (x1, y1, x2, y2) in scene
        )
        (entities / f"Annotations/{name}.xml").write_text(f"<annotation>{objects}</annotation>")


def test_flickr_is_scored_by_its_own_files_and_by_type_of_phrase(tmp_path: Path) -> None:
    write_entities(tmp_path)
    perfect = detector()
    result = run(tmp_path, "flickr30k", perfect, split="test")
    assert perfect.asked == [("a person and dog",), ("a dog",)]
    assert [number(result, f"any-box R@1{kind}") for kind in ("", " persons", " dogs")] == [pytest.approx(100)] * 3
    assert result.sets[0].notes == ()


def test_flickr_scores_a_grounding_file_without_a_model(tmp_path: Path) -> None:
    write_flickr(tmp_path)
    content = json.loads((tmp_path / "mdetr_annotations/final_flickr_separateGT_test.json").read_text())
    for box in content["annotations"]:
        box["score"] = 0.5
    (tmp_path / "found.json").write_text(json.dumps(content))
    result = run(tmp_path, "flickr30k", split="test", predictions=tmp_path / "found.json")
    assert number(result, "any-box R@1") == pytest.approx(100) and result.model == ""
    assert not (tmp_path / "out/flickr30k/worst").exists()  # nothing is missed


def test_flickr_draws_its_worst_misses_and_recall_over_boxes(tmp_path: Path) -> None:
    write_flickr(tmp_path)
    content = json.loads((tmp_path / "mdetr_annotations/final_flickr_separateGT_test.json").read_text())
    content["annotations"] = [box | {"score": 0.5} for box in content["annotations"] if box["image_id"] != 3]
    for box in content["annotations"]:
        if box["image_id"] == 2:
            box["bbox"] = [0, 0, 2, 2]
    (tmp_path / "found.json").write_text(json.dumps(content))
    result = run(tmp_path, "flickr30k", split="test", predictions=tmp_path / "found.json")
    assert [path.name for path in result.files[-2:]] == ["recall.png", "worst"]
    # The dog of the second caption is predicted elsewhere; the dog of the other image has no box.
    assert sorted(path.name for path in (tmp_path / "out/flickr30k/worst").iterdir()) == [
        "001-not-found-dog-p1.png",
        "002-not-found-dog-p2.png",
    ]


def test_d3_prompts_each_image_with_the_descriptions_of_its_own_scenario(tmp_path: Path) -> None:
    everything = {1: "person", 2: "dog", 3: "car"}
    for part, classes in (("full", everything), ("pres", {1: "person"}), ("abs", {2: "dog"})):
        path = tmp_path / f"d3/d3_json/d3_{part}_annotations.json"
        write_set(path, tmp_path / "d3/d3_images", everything)
        content = json.loads(path.read_text())
        content["categories"] = [{"id": id, "name": name} for id, name in classes.items()]
        content["annotations"] = [box for box in content["annotations"] if box["category_id"] in classes]
        path.write_text(json.dumps(content))
    (tmp_path / "d3/d3_pkl").mkdir()
    groups = {1: {"inner_sent_id": [2, 1], "img_id": [1, 3]}, 2: {"inner_sent_id": [3, 2], "img_id": [2]}}
    (tmp_path / "d3/d3_pkl/groups.pkl").write_bytes(pickle.dumps(groups))
    perfect = detector()
    result = run(tmp_path, "d3", perfect)
    assert perfect.asked == [("person. dog",), ("dog. car",), ("person. dog",)]
    assert [number(result, part) for part in ("FULL", "PRES", "ABS")] == [pytest.approx(100)] * 3
    assert result.rows[0].published == 19.1


def test_a_results_file_gets_the_same_numbers_as_the_run_that_made_it(tmp_path: Path) -> None:
    made = run(write_coco(tmp_path), "coco", Everything())
    results = (tmp_path / "out/coco/results.json").rename(tmp_path / "results.json")
    scored = run(tmp_path, "coco", predictions=results)
    assert dict(scored.sets[0].numbers) == dict(made.sets[0].numbers)
    assert scored.model == "" and all(row.published is None for row in scored.rows)
    assert "results.json" in scored.protocol["boxes"] and "prompts" not in scored.protocol


def test_scoring_results_loads_no_torch(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    script = f"""
import sys
from pathlib import Path
from glip.evaluation.run import EvalRequest, evaluate
root = Path({str(tmp_path)!r})
evaluate(EvalRequest("coco", root / "out", root, predictions=root / "results.json"))
assert "torch" not in sys.modules
import glip.prompts
assert glip.prompts.Prompt.from_names(["dog"]).caption == "dog" and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_results_of_several_sets_come_from_a_folder_or_from_a_submission(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        write_set(tmp_path / f"sets/{name}/test/annotations.json", tmp_path / f"sets/{name}/test")
    made = run(tmp_path, str(tmp_path / "sets"), gallery=0)
    again = run(tmp_path, str(tmp_path / "sets"), gallery=0, predictions=tmp_path / "out")
    assert again.summary == made.summary == {"average": pytest.approx(100), "median": pytest.approx(100)}
    rows = json.loads((tmp_path / "out/cats/results.json").read_text())
    (tmp_path / "both.json").write_text(json.dumps({"cats": rows, "dogs": []}))
    half = run(tmp_path, str(tmp_path / "sets"), gallery=0, predictions=tmp_path / "both.json")
    assert half.summary["average"] == pytest.approx(50)
    (tmp_path / "one.json").write_text(json.dumps({"cats": rows}))
    with pytest.raises(InputError, match="dogs"):
        run(tmp_path, str(tmp_path / "sets"), predictions=tmp_path / "one.json")
    (tmp_path / "out/dogs/results.json").unlink()
    with pytest.raises(InputError, match="dogs"):
        run(tmp_path, str(tmp_path / "sets"), predictions=tmp_path / "out")


def test_a_limit_scores_fewer_images_and_compares_with_nobody(tmp_path: Path) -> None:
    result = run(write_coco(tmp_path), "coco", limit=2)
    assert result.sets[0].images == 2 and number(result, "AP") == pytest.approx(100)
    assert result.rows[0].published is None
    results = tmp_path / "out/coco/results.json"
    (tmp_path / "all.json").write_text(json.dumps([*json.loads(results.read_text()), THIRD]))
    assert run(tmp_path, "coco", limit=2, predictions=tmp_path / "all.json").sets[0].found == 3


THIRD = {"image_id": 3, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}


def test_images_that_are_missing_are_named_and_broken_ones_counted(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "coco/val2017/p2.png").write_bytes(b"no image")
    result = run(tmp_path, "coco")
    assert [(entry.kind, entry.count, entry.examples) for entry in result.left_out] == [
        ("unreadable_images", 1, ("p2.png",))
    ]
    assert result.sets[0].numbers["AP"] == pytest.approx((100 + 50.5) / 2, abs=0.1)
    (tmp_path / "coco/val2017/p2.png").unlink()
    (tmp_path / "coco/val2017/p3.png").unlink()
    with pytest.raises(InputError, match=r"2 of 3 images.*val2017/p2\.png"):
        run(tmp_path, "coco")


def test_images_that_a_tag_rotates_are_noted(tmp_path: Path) -> None:
    from PIL import Image

    write_coco(tmp_path)
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.open(tmp_path / "coco/val2017/p2.png").save(tmp_path / "coco/val2017/p2.png", exif=tag)
    perfect = detector()
    result = run(tmp_path, "coco", replace(perfect, truth={**perfect.truth, (60, 50): ()}))
    assert any("1 images of coco are annotated" in note or "1 of 3 images" in note for note in result.sets[0].notes)


def test_images_of_a_file_of_ones_own_may_be_anywhere(tmp_path: Path) -> None:
    write_set(tmp_path / "here/mine.json", tmp_path / "there")
    result = run(tmp_path, str(tmp_path / "here/mine.json"), images=tmp_path / "there")
    assert number(result, "AP") == pytest.approx(100) and result.sets[0].name == "mine"
    with pytest.raises(InputError, match="3 of 3 images"):
        run(tmp_path, str(tmp_path / "here/mine.json"))
    with pytest.raises(InputError, match="nowhere"):
        run(tmp_path, str(tmp_path / "here/mine.json"), images=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"images .*coco"):
        run(write_coco(tmp_path), "coco", images=tmp_path / "there")


def test_an_annotation_that_cocos_evaluator_ignores_is_noted(tmp_path: Path) -> None:
    write_coco(tmp_path)
    path = tmp_path / "coco/annotations/instances_val2017.json"
    path.write_text(path.read_text().replace('"id": 5, "image_id"', '"id": 0, "image_id"'))
    result = run(tmp_path, "coco")
    assert "id 0" in result.sets[0].notes[0] and (number(result, "AP") or 0) < 99


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"max_det": 301}, "max_det is 301"),
        ({"gallery": -1}, "gallery is -1"),
        ({"predictions": Path("x.json"), "tta": True}, "tta"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        EvalRequest("coco", Path("out"), **options)


def test_an_adapter_needs_a_model_and_one_class_list(tmp_path: Path) -> None:
    tuned = DetectorSpec("glip-t", adapter=tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="adapter"):
        EvalRequest("coco", tmp_path, detector=tuned, predictions=tmp_path / "results.json")
    write_set(tmp_path / "coco/annotations/lvis_v1_minival.json", tmp_path / "coco/val2017", lvis=True)
    with pytest.raises(InputError, match=r"adapter .*lvis-minival"):
        evaluate(EvalRequest("lvis-minival", tmp_path / "out", tmp_path, tuned))
