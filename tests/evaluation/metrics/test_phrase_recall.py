"""Recall of phrases against a plain reading of the protocol, and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glip.data.flickr30k import Phrase, Sentence
from glip.data.grounding import GroundingAnnotation, GroundingDataset, GroundingImage
from glip.errors import InputError
from glip.evaluation.metrics.phrase_recall import TOP_K, PhraseBoxes, RecallProtocol, phrase_boxes, phrase_recall
from glip.labeling.records import Record

TYPES = ("people", "animals", "scene")


def random_sentences(random: np.random.Generator) -> list[Sentence]:
    sentences = []
    for number in range(6):
        phrases = []
        for index in range(int(random.integers(0, 4))):
            corners = np.sort(random.integers(0, 12, (random.integers(1, 4), 2, 2)), axis=1)
            types = tuple(random.choice(TYPES, int(random.integers(0, 3)), replace=False).tolist())
            phrases.append(Phrase(((5 * index, 5 * index + 4),), types, corners.reshape(-1, 4).astype(np.float64)))
        sentences.append(Sentence(f"{number // 2}", number % 2, "word " * 5, tuple(phrases)))
    return sentences


def random_boxes(random: np.random.Generator, sentences: list[Sentence]) -> PhraseBoxes:
    rows = []
    for index, sentence in enumerate(sentences):
        for phrase in range(len(sentence.phrases)):
            for _ in range(int(random.integers(0, 15))):
                corners = np.sort(random.integers(0, 12, (2, 2)), axis=0).reshape(4).tolist()
                rows.append((index, phrase, corners, float(random.integers(0, 8)) / 8))
    random.shuffle(rows)
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return PhraseBoxes(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64).reshape(-1, 4),
        np.array(columns[3], np.float64),
    )


def plain_iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    union = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
    return shared / union if union else 0.0


def plain_recall(
    sentences: list[Sentence], predicted: PhraseBoxes, protocol: RecallProtocol
) -> dict[str, dict[int, float]]:
    hits: dict[str, dict[int, list[bool]]] = {"all": {first: [] for first in TOP_K}}
    for index, sentence in enumerate(sentences):
        for number, phrase in enumerate(sentence.phrases):
            own = np.flatnonzero((predicted.sentence == index) & (predicted.phrase == number)).tolist()
            own.sort(key=lambda row: -predicted.score[row])
            boxes = phrase.boxes.tolist()
            if protocol == "merged":
                left, top, right, bottom = zip(*boxes, strict=True)
                boxes = [[min(left), min(top), max(right), max(bottom)]]
            for first in TOP_K:
                some = own[:first]
                hit = any(plain_iou(predicted.boxes[row].tolist(), box) >= 0.5 for row in some for box in boxes)
                for name in ("all", *phrase.types):
                    hits.setdefault(name, {first: [] for first in TOP_K})[first].append(hit)
    return {name: {first: float(np.mean(list_)) for first, list_ in one.items()} for name, one in hits.items()}


@pytest.mark.parametrize("protocol", ["any-box", "merged"])
@pytest.mark.parametrize("seed", range(15))
def test_recall_equals_a_plain_reading_of_the_protocol(seed: int, protocol: RecallProtocol) -> None:
    random = np.random.default_rng(seed)
    sentences = random_sentences(random)
    predicted = random_boxes(random, sentences)
    found = phrase_recall(sentences, predicted, protocol)
    assert found.recall == plain_recall(sentences, predicted, protocol)
    assert list(found.recall) == ["all", *sorted(set(found.recall) - {"all"})]


CAPTION = "A dog and two cats ."
DOG, CATS = (0, 5), (10, 18)
SENTENCE = Sentence(
    "36",
    0,
    CAPTION,
    (
        Phrase((DOG,), ("animals",), np.array([[0.0, 0, 10, 10]])),
        Phrase((CATS,), ("animals",), np.array([[0.0, 0, 10, 10], [30, 30, 40, 40]])),
    ),
)
FAR = (80.0, 80.0, 90.0, 90.0)
NEAR = (0.0, 0.0, 10.0, 10.0)
AROUND = (0.0, 0.0, 40.0, 40.0)


def record(boxes: list[tuple[float, float, float, float]], labels: list[int]) -> Record:
    scores = np.linspace(0.9, 0.1, len(boxes)).tolist()
    return Record("36.jpg", "1", 100, 100, boxes, scores, labels, None, ("a", "b"), CAPTION, ((CATS,), (DOG,)))


def test_the_two_protocols_differ_where_a_phrase_has_several_boxes() -> None:
    predicted = phrase_boxes([record([NEAR, AROUND, NEAR], [0, 0, 1])], [SENTENCE])
    one, merged = (phrase_recall([SENTENCE], predicted, protocol).recall["all"] for protocol in ("any-box", "merged"))
    assert one == {1: 1.0, 5: 1.0, 10: 1.0}
    assert merged == {1: 0.5, 5: 1.0, 10: 1.0}


def test_a_box_counts_for_its_own_phrase_only_and_by_its_rank() -> None:
    predicted = phrase_boxes([record([FAR] * 5 + [NEAR], [1] * 6)], [SENTENCE])
    assert phrase_recall([SENTENCE], predicted, "any-box").recall["all"] == {1: 0.0, 5: 0.0, 10: 0.5}


def grounding(score: float | None) -> GroundingDataset:
    image = GroundingImage(3, "sub/36.jpg", 100, 100, CAPTION, tokens_positive_eval=((CATS,), (DOG,)))
    box = GroundingAnnotation(1, 3, (0, 0, 10, 10), (DOG,))
    return GroundingDataset((image,), (box if score is None else replace_score(box, score),))


def replace_score(box: GroundingAnnotation, score: float) -> GroundingAnnotation:
    return GroundingAnnotation(box.id, box.image_id, box.bbox, box.tokens_positive, score=score)


def test_a_grounding_file_with_scores_can_be_scored_too() -> None:
    predicted = phrase_boxes(grounding(0.5), [SENTENCE])
    assert (predicted.phrase.tolist(), predicted.boxes.tolist(), predicted.score.tolist()) == ([0], [list(NEAR)], [0.5])


def test_a_grounding_file_without_scores_is_refused() -> None:
    with pytest.raises(InputError, match="Box 1 "):
        phrase_boxes(grounding(None), [SENTENCE])


def test_a_caption_that_occurs_twice_counts_once() -> None:
    twice = phrase_boxes([record([NEAR], [0]), record([NEAR], [0])], [SENTENCE])
    assert len(twice.score) == 1


def test_captions_and_phrases_without_results_are_named() -> None:
    with pytest.raises(InputError, match=r"'A dog and two cats \.'.*36"):
        phrase_boxes([], [SENTENCE])
    other = replace(SENTENCE, phrases=(Phrase(((0, 3),), (), np.zeros((1, 4))),))
    with pytest.raises(InputError, match="'A d'"):
        phrase_boxes([record([], [])], [other])


def test_a_sentence_without_phrases_needs_no_result() -> None:
    nothing = phrase_recall(
        [replace(SENTENCE, phrases=())], phrase_boxes([], [replace(SENTENCE, phrases=())]), "any-box"
    )
    assert nothing.recall["all"][1] == -1
