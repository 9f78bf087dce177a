"""The charts and photographs that an evaluation leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.data.flickr30k import Phrase, Sentence
from glip.evaluation import error_gallery, plots
from glip.evaluation.error_analysis import Confusion
from glip.evaluation.error_gallery import (
    GALLERY_FOLDER,
    RECALL_FILE,
    confusion_figure,
    draw_phrases,
    phrase_misses,
    phrase_recall_figure,
    precision_recall_figure,
)
from glip.evaluation.metrics.coco import coco_scores
from glip.evaluation.metrics.phrase_recall import PhraseBoxes
from glip.evaluation.run import EvalRequest, evaluate
from tests.evaluation.cases import large_case
from tests.evaluation.perfect import write_coco


def test_the_mean_of_a_precision_recall_curve_is_the_ap_of_its_label() -> None:
    case = large_case(10)
    scores = coco_scores(case.truth, case.predictions)
    (axes,) = precision_recall_figure("a set", scores).axes
    means = {str(line.get_label()): 100 * float(np.mean(np.asarray(line.get_ydata()))) for line in axes.lines}
    assert list(means) == [
        f"mean over IoU 0.5 to 0.95: AP {100 * scores.ap():.1f}",
        *(f"IoU {iou}: AP {100 * scores.ap(iou):.1f}" for iou in (0.5, 0.75, 0.9)),
    ]
    assert all(label.endswith(f"AP {mean:.1f}") for label, mean in means.items())


def test_of_many_classes_those_with_the_most_errors_are_drawn() -> None:
    counts = np.zeros((101, 101), np.int64)
    counts[70, 3] = 5
    names = (*(f"class {index}" for index in range(100)), "background")
    axes = confusion_figure("set", Confusion(names, counts), [0.5]).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(shown) == 41
    assert {"class 3", "class 70", "background"} <= set(shown)
    shares = np.asarray(axes.images[0].get_array())
    assert shares.sum() == 1
    assert shares[shown.index("class 70"), shown.index("class 3")] == 1


@pytest.mark.parametrize(
    ("thresholds", "said"), [([0.451], ["0.45"]), ([0.2, 0.6, 0.4], ["0.20", "0.60"]), ([], ["no score threshold"])]
)
def test_the_title_of_the_matrix_states_the_thresholds(thresholds: list[float], said: list[str]) -> None:
    confusion = Confusion(("cat", "background"), np.eye(2, dtype=np.int64))
    title = " ".join(confusion_figure("a set", confusion, thresholds).get_suptitle().split())
    assert all(part in title for part in ("a set", *said))


@pytest.mark.parametrize("count", [0, 2, 12])
def test_the_worst_errors_are_photographs_named_by_their_reason(count: int, tmp_path: Path) -> None:
    write_coco(tmp_path)
    boxes = [
        {"image_id": 1, "category_id": 2, "bbox": [2, 3, 18, 27], "score": 0.9},
        {"image_id": 2, "category_id": 2, "bbox": [1, 1, 29, 39], "score": 0.8},
    ]
    (tmp_path / "results.json").write_text(json.dumps(boxes))
    out = tmp_path / "out/coco" / GALLERY_FOLDER
    out.mkdir(parents=True)
    (out / "999-of-an-earlier-run.png").touch()
    request = EvalRequest("coco", tmp_path / "out", tmp_path, predictions=tmp_path / "results.json", gallery=count)
    result = evaluate(request)
    names = sorted(path.name for path in out.iterdir())
    if count:
        assert (out in result.files) and "999-of-an-earlier-run.png" not in names and len(names) <= count
        assert any("wrong-class-dog-p1" in name for name in names)
    else:
        assert out not in result.files


def test_missing_images_are_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_coco(tmp_path)
    for path in (tmp_path / "coco/val2017").iterdir():
        path.unlink()
    (tmp_path / "results.json").write_text("[]")
    evaluate(EvalRequest("coco", tmp_path / "out", tmp_path, predictions=tmp_path / "results.json"))
    (record,) = [record for record in caplog.records if record.name == error_gallery.__name__]
    assert record.args == (3, "coco")


NEAR, FAR = [0.0, 0, 10, 10], [30.0, 30, 50, 50]


def sentence(image: str, *types: str) -> Sentence:
    """Returns a caption with one phrase per type, each with one box at the same location."""
    phrases = [Phrase(((2 * index, 2 * index + 1),), (kind,), np.array([NEAR])) for index, kind in enumerate(types)]
    return Sentence(image, 0, "a b c d e", tuple(phrases))


def predicted(*rows: tuple[int, int, list[float], float]) -> PhraseBoxes:
    columns = list(zip(*rows, strict=True))
    return PhraseBoxes(np.array(columns[0]), np.array(columns[1]), np.array(columns[2]), np.array(columns[3]))


SENTENCES = [sentence("p1", "people", "animals"), sentence("p2", "people"), sentence("p3", "people", "scene")]
FOUND = predicted(
    (0, 0, NEAR, 0.9),  # right
    (0, 1, FAR, 0.6),  # wrong, and the right one comes third
    (0, 1, FAR, 0.5),
    (0, 1, NEAR, 0.4),
    (1, 0, FAR, 0.7),  # wrong, and no other
    (2, 0, NEAR, 0.2),  # right; the last phrase has no box
)


def test_misses_are_the_phrases_whose_best_box_is_wrong_the_highest_score_first() -> None:
    misses = phrase_misses(SENTENCES, FOUND)
    assert [(miss.image_id, miss.phrase, miss.reason, miss.score) for miss in misses] == [
        ("p2", 0, "not found", 0.7),
        ("p1", 1, "wrong first", 0.6),
        ("p3", 1, "not found", 0.0),
    ]
    assert [miss.predicted.tolist() for miss in misses] == [[FAR], [FAR], []]


def test_photographs_of_phrases_have_a_title_and_both_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles, boxes = [], []
    draw = plots.photo_figure

    def photo_figure(path: Path, title: str, *groups: np.ndarray) -> object:
        titles.append(title)
        boxes.append(tuple(group.tolist() for group in groups))
        return draw(path, title, *groups)

    monkeypatch.setattr(error_gallery, "photo_figure", photo_figure)
    for name in ("p1", "p2", "p3"):
        Image.new("RGB", (60, 60)).save(tmp_path / f"{name}.png")
    written = draw_phrases(tmp_path, "set", SENTENCES, FOUND, lambda image: tmp_path / f"{image}.png", 3)
    assert written == [tmp_path / RECALL_FILE, tmp_path / GALLERY_FOLDER]
    assert sorted(path.name for path in written[1].iterdir()) == [
        "001-not-found-a-p2.png",
        "002-wrong-first-b-p1.png",
        "003-not-found-b-p3.png",
    ]
    far = [30.0, 30, 20, 20]
    assert boxes == [([NEAR], [NEAR], [far]), ([NEAR, NEAR], [NEAR], [far]), ([NEAR, NEAR], [NEAR], [])]
    for title, parts in zip(titles, (("'a'", "0.70"), ("'b'", "0.60", "3"), ("'b'", "no box")), strict=True):
        assert all(part in title for part in (*parts, "a b c d e"))


def test_the_curves_are_recall_over_boxes_of_both_protocols_and_each_type() -> None:
    (axes,) = phrase_recall_figure("set", SENTENCES, FOUND).axes
    drawn = {str(line.get_label()): line for line in axes.lines}
    assert list(drawn) == [
        "any-box, all phrases: R@1 40.0",
        "merged, all phrases: R@1 40.0",
        "any-box, animals: R@1 0.0",
        "any-box, people: R@1 66.7",
        "any-box, scene: R@1 0.0",
    ]
    assert np.asarray(drawn["any-box, animals: R@1 0.0"].get_ydata()).tolist() == [0, 0] + [1] * 8
    assert np.asarray(drawn["any-box, all phrases: R@1 40.0"].get_xdata()).tolist() == list(range(1, 11))
