"""The misses of phrases: which they are, in which order, and what their photographs say and show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.data.flickr30k import Phrase, Sentence
from glip.evaluation import error_gallery as gallery
from glip.evaluation import phrase_gallery
from glip.evaluation import plots as drawing
from glip.evaluation.metrics.phrase_recall import Answers
from glip.evaluation.phrase_gallery import draw_phrases, phrase_misses

NEAR, FAR = [0.0, 0, 10, 10], [30.0, 30, 50, 50]


def sentence(image: str, *types: str) -> Sentence:
    """A caption of as many phrases, each with one box at the same place."""
    phrases = [Phrase(((2 * place, 2 * place + 1),), (kind,), np.array([NEAR])) for place, kind in enumerate(types)]
    return Sentence(image, 0, "a b c d e", tuple(phrases))


def answers(*rows: tuple[int, int, list[float], float]) -> Answers:
    columns = list(zip(*rows, strict=True))
    boxes = np.array(columns[2])
    return Answers(np.array(columns[0]), np.array(columns[1]), boxes, np.array(columns[3]))


SENTENCES = [sentence("p1", "people", "animals"), sentence("p2", "people"), sentence("p3", "people", "scene")]
FOUND = answers(
    (0, 0, NEAR, 0.9),  # right
    (0, 1, FAR, 0.6),  # wrong, and the right one comes third
    (0, 1, FAR, 0.5),
    (0, 1, NEAR, 0.4),
    (1, 0, FAR, 0.7),  # wrong, and no other
    (2, 0, NEAR, 0.2),  # right; the last phrase has no box
)


def test_misses_are_the_phrases_whose_best_box_is_not_right_the_surest_first() -> None:
    misses = phrase_misses(SENTENCES, FOUND)
    assert [(miss.image_id, miss.phrase, miss.reason, miss.score) for miss in misses] == [
        ("p2", 0, "not found", 0.7),
        ("p1", 1, "wrong first", 0.6),
        ("p3", 1, "not found", 0.0),
    ]
    assert [miss.found.tolist() for miss in misses] == [[FAR], [FAR], []]


def test_photographs_say_what_was_found_and_show_both_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = []
    plain = drawing.draw_boxes

    def draw(path: Path, title: str, *boxes: np.ndarray) -> bytes | None:
        titles.append((title, *(box.tolist() for box in boxes)))
        return plain(path, title, *boxes)

    monkeypatch.setattr(drawing, "draw_boxes", draw)
    for name in ("p1", "p2", "p3"):
        Image.new("RGB", (60, 60)).save(tmp_path / f"{name}.png")
    written = draw_phrases(tmp_path, "set", SENTENCES, FOUND, lambda image: tmp_path / f"{image}.png", 3)
    assert written == [tmp_path / phrase_gallery.RECALL_FILE, tmp_path / gallery.GALLERY_FOLDER]
    assert sorted(path.name for path in written[1].iterdir()) == [
        "001-not-found-a-p2.png",
        "002-wrong-first-b-p1.png",
        "003-not-found-b-p3.png",
    ]
    side = [30.0, 30, 20, 20]
    assert titles == [
        ("'a': the best box, 0.70, is not right, and no other. a b c d e", [NEAR], [NEAR], [side]),
        ("'b': the best box, 0.60, is not right; number 3 is. a b c d e", [NEAR, NEAR], [NEAR], [side]),
        ("'b': no box. a b c d e", [NEAR, NEAR], [NEAR], []),
    ]


def test_the_curves_are_recall_over_boxes_of_both_protocols_and_each_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    monkeypatch.setattr(drawing, "draw_curves", lambda title, curves, axes, most: drawn.update(curves) or b"")
    draw_phrases(tmp_path, "set", SENTENCES, FOUND, lambda image: tmp_path / image, 0)
    assert list(drawn) == [
        "any-box, all phrases: R@1 40.0",
        "merged, all phrases: R@1 40.0",
        "any-box, animals: R@1 0.0",
        "any-box, people: R@1 66.7",
        "any-box, scene: R@1 0.0",
    ]
    assert drawn["any-box, animals: R@1 0.0"][1].tolist() == [0, 0] + [1] * 8
    assert drawn["any-box, all phrases: R@1 40.0"][0].tolist() == list(range(1, 11))
