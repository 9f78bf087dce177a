"""The table of `benchmarks.photos`: a perfect model gets full marks, and words replace names."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import photos
from benchmarks.photos import Answers, at_threshold, average_precisions
from glip.data.coco import load_coco
from glip.detections import Detections
from tests.data.photo_sets import write_photos

NAMES = ("dog", "lamp", "tv")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos" / "voc_photos" / "valid", NAMES, [(0,), (0, 1), ()])
    return tmp_path


def detections(rows: list[tuple[tuple[float, ...], float, int]]) -> Detections:
    boxes = np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in rows], np.float32)
    return Detections(boxes, scores, np.array([label for _, _, label in rows], np.int64), NAMES)


DOG, LAMP = (5.0, 30.0, 35.0, 50.0), (45.0, 30.0, 75.0, 50.0)


def answers(root: Path, found: list[Detections]) -> Answers:
    return Answers(load_coco(root / "photos" / "voc_photos" / "valid" / "annotations.json"), NAMES, found, 1.0)


def test_a_perfect_model_gets_full_marks(root: Path) -> None:
    found = [detections([(DOG, 0.9, 0)]), detections([(DOG, 0.8, 0), (LAMP, 0.7, 1)]), detections([])]
    ap, ap50 = average_precisions(answers(root, found))
    full = pytest.approx([1.0, 1.0, np.nan], nan_ok=True)  # no box of the third class
    assert ap.tolist() == full
    assert ap50.tolist() == full
    assert at_threshold(answers(root, found), 0.5) == (1.0, 1.0, 0.0)
    assert at_threshold(answers(root, found), 0.75) == pytest.approx((1.0, 2 / 3, 0.0))


def test_boxes_that_are_wrong_doubled_or_absent_count_against_it(root: Path) -> None:
    found = [detections([(DOG, 0.9, 0), (DOG, 0.6, 0)]), detections([(LAMP, 0.9, 0)]), detections([(DOG, 0.9, 2)])]
    assert at_threshold(answers(root, found), 0.5, ("dog",)) == (1 / 3, 0.5, 1 / 3)
    nothing = average_precisions(answers(root, [detections([])] * 3))[0].tolist()
    assert nothing == pytest.approx([0, 0, np.nan], nan_ok=True)


class FakeDetector:
    """Finds the dog wherever it is called by the word it knows."""

    conf = 0.5

    def __init__(self, word: str) -> None:
        self.word = word

    def predict(self, image: Path, names: list[str], floor: float) -> list[Detections]:
        assert image.is_file()
        assert floor == 0.05
        return [detections([(DOG, 0.9, names.index(self.word))] if self.word in names else [])]


@pytest.mark.parametrize(("word", "by_name", "by_word"), [("dog", "100.0", "0.0"), ("puppy", "0.0", "100.0")])
def test_the_table_compares_names_with_words_that_were_never_trained(
    word: str,
    by_name: str,
    by_word: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(photos, "load_detector", lambda model: FakeDetector(word))
    words = ["photos", "tiny", "--data-root", str(root), "--sets", "voc_photos", "--limit", "2"]
    monkeypatch.setattr(sys, "argv", words)
    photos.main()
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in reversed(lines) if "voc_photos" in line)
    assert row[:4] == ["voc_photos", "1", by_name, by_word]
