"""Labels are scored against true boxes by FiftyOne."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, load_coco, save_coco
from glip.errors import InputError
from glip.review.push import save_views
from glip.review.truth import compare_with_truth
from tests.conftest import CommandResult
from tests.review.test_roundtrip import coco_file, pushed, sample


def truth_of(labels: Path, boxes: int, *more: CocoAnnotation) -> CocoDataset:
    """The first boxes of the labels themselves, and more."""
    coco = load_coco(labels / "annotations.coco.json")
    return CocoDataset(coco.images, (*coco.annotations[:boxes], *more), coco.categories)


def test_verdicts_stand_on_the_labels_that_people_see(fiftyone: ModuleType, labels: Path, name: str) -> None:
    pushed(labels, name)
    missed = CocoAnnotation(99, 1, 1, (1.0, 1.0, 50.0, 50.0))
    scores = compare_with_truth(fiftyone, name, truth_of(labels, 3, missed), "truth.json")
    assert (scores["true_positives"], scores["false_positives"], scores["missed"]) == (3, 2, 1)
    assert 0 < scores["average_precision"] < 1
    dataset = fiftyone.load_dataset(name)
    save_views(fiftyone, dataset)
    assert dataset.load_saved_view("missed truth").values("file_name") == ["a.png"]
    assert dataset.load_saved_view("false positives").count("labels.detections") == 2
    assert dataset.load_saved_view("true positives").count("labels.detections") == 3
    assert "labels.detections.verdict" in dataset.get_field_schema(flat=True)
    perfect = compare_with_truth(fiftyone, name, truth_of(labels, 5), "truth.json")
    assert perfect == {
        "average_precision": pytest.approx(1.0),
        "true_positives": 5,
        "false_positives": 0,
        "missed": 0,
    }
    assert pushed(labels, name).unchanged == 4


def test_what_was_found_below_the_threshold_only_is_missed(fiftyone: ModuleType, labels: Path, name: str) -> None:
    pushed(labels, name)
    sample_b = sample(fiftyone, name, "b.png")
    sample_b.labels = None  # as a script may leave it
    sample_b.save()
    low = CocoAnnotation(99, 2, 2, (80.0, 30.0, 40.0, 40.0))
    crowd = CocoAnnotation(100, 4, 2, (0.0, 60.0, 40.0, 40.0), iscrowd=1)
    scores = compare_with_truth(fiftyone, name, truth_of(labels, 5, low, crowd), "truth.json")
    assert (scores["true_positives"], scores["false_positives"], scores["missed"]) == (5, 0, 1)
    dataset = fiftyone.load_dataset(name)
    save_views(fiftyone, dataset)
    assert dataset.load_saved_view("missed truth").values("file_name") == ["b.png", "sub/d.png"]
    assert (sample(fiftyone, name, "b.png").verdict_tp, sample(fiftyone, name, "b.png").verdict_fn) == (2, 1)


def test_boxes_without_scores_are_compared_but_have_no_precision(
    fiftyone: ModuleType, name: str, tmp_path: Path
) -> None:
    path = coco_file(tmp_path)  # one of its boxes has a score, the other none
    pushed(path, name)
    scores = compare_with_truth(fiftyone, name, load_coco(path), "truth.json")
    assert scores == {"average_precision": None, "true_positives": 2, "false_positives": 0, "missed": 0}


def test_classes_that_the_labels_do_not_have_are_left_out(
    fiftyone: ModuleType, labels: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    pushed(labels, name)
    coco = truth_of(labels, 5, CocoAnnotation(99, 1, 9, (1.0, 1.0, 50.0, 50.0)))
    more = CocoDataset(coco.images, coco.annotations, (*coco.categories, CocoCategory(9, "cat")))
    assert compare_with_truth(fiftyone, name, more, "truth.json")["missed"] == 0
    assert "'cat'" in caplog.text
    others = CocoDataset(coco.images, (), (CocoCategory(9, "cat"),))
    with pytest.raises(InputError, match=r"truth\.json.*'person', 'dog', 'traffic.*'cat'"):
        compare_with_truth(fiftyone, name, others, "truth.json")


def test_a_truth_of_other_images_is_refused(fiftyone: ModuleType, labels: Path, name: str) -> None:
    pushed(labels, name)
    other = CocoDataset((CocoImage(1, "q.png", 9, 9),), (), (CocoCategory(1, "dog"),))
    with pytest.raises(InputError, match=r"truth\.json.*'q\.png'"):
        compare_with_truth(fiftyone, name, other, "truth.json")


def test_verdicts_follow_the_labels_when_they_are_pushed_again(
    glip: Callable[..., CommandResult], fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path
) -> None:
    push = ("review", "push", labels, "--name", name, "--no-launch")
    save_coco(tmp_path / "empty.json", truth_of(labels, 0))
    nothing = glip(*push, "--truth", tmp_path / "empty.json")
    assert "no AP" in nothing.stdout
    assert "0 true positives, 5 false positives; 0 true boxes missed" in nothing.stdout
    save_coco(tmp_path / "truth.json", truth_of(labels, 5))
    assert glip(*push, "--truth", tmp_path / "truth.json", "--json").json["true_positives"] == 5
    assert "average_precision" not in glip(*push, "--json").json  # nothing changed
    result = glip(*push, "--conf", ".7", "--json").json
    assert (result["true_positives"], result["missed"]) == (2, 3)
    assert fiftyone.load_dataset(name).load_saved_view("true positives").count("labels.detections") == 2
