"""Recall of phrases on Flickr30k Entities: is one of the first k boxes found for a phrase one of its boxes?

Two protocols are published: `any-box`, where each box of a phrase is as good as another, and `merged`, where the one
box around all of them must be found. Boxes are xyxy in pixels of the original image, float64, without any +1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from msgspec import UnsetType

from glip.data.annotations import Bools, Floats, Integers
from glip.data.flickr30k import Phrase, Sentence, words_of
from glip.data.grounding import GroundingDataset, Span
from glip.errors import InputError
from glip.labeling.records import Record

Protocol = Literal["any-box", "merged"]
FIRST = (1, 5, 10)
ALL = "all"
IOU = 0.5


@dataclass(frozen=True, eq=False)
class Answers:
    """What was found, as columns.

    Attributes:
        sentence: (N,) place in the list of sentences.
        phrase: (N,) place in `Sentence.phrases`.
        boxes: (N, 4) xyxy.
        score: (N,)
    """

    sentence: Integers
    phrase: Integers
    boxes: Floats
    score: Floats


@dataclass(frozen=True)
class PhraseRecall:
    """Recall, 0 to 1; -1 where there is no phrase.

    Attributes:
        protocol: which boxes count as found.
        phrases: how many phrases there are of each type; 'all' is the first.
        recall: for each type, Recall@1, @5 and @10, and under 0 the recall of all boxes together.
    """

    protocol: Protocol
    phrases: Mapping[str, int]
    recall: Mapping[str, Mapping[int, float]]


def phrase_recall(sentences: Sequence[Sentence], answers: Answers, protocol: Protocol) -> PhraseRecall:
    """Scores what was found.

    Every phrase counts once, whatever the number of its boxes. Of boxes with equal scores the first goes first.

    Args:
        sentences: the truth.
        answers: made by `answers_of`.
        protocol: `any-box` or `merged`.
    """
    phrases = [phrase for sentence in sentences for phrase in sentence.phrases]
    rank = first_hits(sentences, answers, protocol)
    types: dict[str, list[int]] = {ALL: list(range(len(phrases)))}
    for place, phrase in enumerate(phrases):
        for name in phrase.types:
            types.setdefault(name, []).append(place)
    recall = {}
    for name, places in sorted(types.items(), key=lambda item: (item[0] != ALL, item[0])):
        ranks = rank[places]
        found = {first: _part(ranks < first) for first in FIRST}
        recall[name] = found | {0: _part(np.isfinite(ranks))}
    return PhraseRecall(protocol, {name: len(types[name]) for name in recall}, recall)


def first_hits(sentences: Sequence[Sentence], answers: Answers, protocol: Protocol) -> Floats:
    """(P,) for all phrases of all sentences, how many better boxes stand before the first right one; inf without one.

    Args:
        sentences: the truth.
        answers: made by `answers_of`.
        protocol: `any-box` or `merged`.
    """
    phrases = [phrase for sentence in sentences for phrase in sentence.phrases]
    return _first_hit(phrases, phrase_places(sentences, answers), answers, protocol)


def phrase_places(sentences: Sequence[Sentence], answers: Answers) -> Integers:
    """(N,) which of all phrases of all sentences each box was found for."""
    first = np.cumsum([0, *(len(sentence.phrases) for sentence in sentences)])
    return np.asarray(first[answers.sentence] + answers.phrase)


def answers_of(source: Iterable[Record] | GroundingDataset, sentences: Sequence[Sentence]) -> Answers:
    """Brings what was found to the phrases of the truth, by image, caption and character ranges.

    Args:
        source: records of images that were asked for the phrases of a caption, or a grounding file with scores.
        sentences: the truth.

    Raises:
        InputError: a sentence with phrases was not asked, or a phrase of it was not.
    """
    asked: dict[tuple[str, str], _Asked] = {}
    for one in _from_grounding(source) if isinstance(source, GroundingDataset) else _from_records(source):
        # The same caption asked twice gets the same boxes twice, which must not use up places.
        asked.setdefault((PurePosixPath(one.file_name).stem, one.caption), one)
    columns: list[tuple[int, int, Sequence[float], float]] = []
    for place, sentence in enumerate(sentences):
        if not sentence.phrases:
            continue
        if (sentence.image, sentence.caption) not in asked:
            raise InputError(
                f"Nothing is known of the caption {sentence.caption!r} of image {sentence.image}. "
                f"Label all captions of the split before they are scored."
            )
        columns += [(place, *row) for row in _to_phrases(sentence, asked[sentence.image, sentence.caption])]
    return Answers(
        np.array([row[0] for row in columns], np.int64),
        np.array([row[1] for row in columns], np.int64),
        np.array([row[2] for row in columns], np.float64).reshape(-1, 4),
        np.array([row[3] for row in columns], np.float64),
    )


@dataclass(frozen=True, eq=False)
class _Asked:
    """What was found of one caption: the label of a box counts `spans`."""

    file_name: str
    caption: str
    spans: Sequence[Sequence[Span]]
    found: Sequence[tuple[int, Sequence[float], float]]


def _from_records(records: Iterable[Record]) -> Iterator[_Asked]:
    for record in records:
        if record.error is None and record.caption is not None:
            found = list(zip(record.labels, record.boxes, record.scores, strict=True))
            yield _Asked(record.file_name, record.caption, record.spans, found)


def _from_grounding(dataset: GroundingDataset) -> Iterator[_Asked]:
    boxes = dataset.boxes_by_caption()
    for image in dataset.images:
        label = {_key(ranges): place for place, ranges in enumerate(image.tokens_positive_eval)}
        found = []
        for box in boxes[image.id]:
            if isinstance(box.score, UnsetType):
                raise InputError(f"Box {box.id} has no score; only a file that a detector made can be scored.")
            left, top, width, height = box.bbox
            if _key(box.tokens_positive) in label:
                corners = (left, top, left + width, top + height)
                found.append((label[_key(box.tokens_positive)], corners, box.score))
        yield _Asked(image.file_name, image.caption, image.tokens_positive_eval, found)


def _to_phrases(sentence: Sentence, asked: _Asked) -> Iterator[tuple[int, Sequence[float], float]]:
    """(place of the phrase, box, score) of all that was found of the phrases of a sentence."""
    places: dict[tuple[Span, ...], list[int]] = {}
    for place, phrase in enumerate(sentence.phrases):
        places.setdefault(_key(phrase.spans), []).append(place)
    meaning = [places.get(_key(ranges), []) for ranges in asked.spans]
    if missing := set(places) - {_key(ranges) for ranges in asked.spans}:
        raise InputError(
            f"Image {sentence.image}: the phrase {words_of(sentence.caption, min(missing))!r} of the caption "
            f"{sentence.caption!r} was not asked. Ask for the phrases of the benchmark's file."
        )
    for label, box, score in asked.found:
        for place in meaning[label]:
            yield place, box, score


def _key(spans: Sequence[Span]) -> tuple[Span, ...]:
    return tuple(sorted((start, end) for start, end in spans))


def _first_hit(phrases: Sequence[Phrase], own: Integers, answers: Answers, protocol: Protocol) -> Floats:
    """(P,) how many better boxes stand before the first one that is right; infinite where none is."""
    order = np.lexsort((-answers.score, own))
    own = own[order]
    rank = np.arange(len(own)) - np.searchsorted(own, own, "left")
    boxes = [_merged(phrase.boxes) if protocol == "merged" else phrase.boxes for phrase in phrases]
    count = np.array([len(group) for group in boxes], np.int64)
    stacked = np.concatenate([np.zeros((0, 4)), *boxes])
    start = np.cumsum(count) - count
    found = np.repeat(np.arange(len(own)), count[own])
    within = np.arange(len(found)) - np.repeat(np.cumsum(count[own]) - count[own], count[own])
    hit = _iou(answers.boxes[order][found], stacked[start[own[found]] + within]) >= IOU
    best = np.full(len(phrases), np.inf)
    np.minimum.at(best, own[found[hit]], rank[found[hit]])
    return best


def _merged(boxes: Floats) -> Floats:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])[None]


def _iou(one: Floats, other: Floats) -> Floats:
    """(N,) overlaps of (N, 4) with (N, 4) xyxy boxes; 0 where both have no area."""
    sides = np.maximum(np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2]), 0)
    shared = sides[:, 0] * sides[:, 1]
    area, other_area = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other))
    union = area + other_area - shared
    return np.divide(shared, union, out=np.zeros(len(one)), where=union > 0)


def _part(found: Bools) -> float:
    return float(np.mean(found)) if len(found) else -1.0
