"""Computes the recall of phrases on Flickr30k Entities: is one of the first k boxes of a phrase right?

Two protocols are published: `any-box`, where any box of a phrase may be found, and `merged`, where the one box around
all of them must be found. Boxes are xyxy in pixels of the original image, float64, without any +1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from msgspec import UnsetType

from glip.boxes import box_iou, xywh_to_xyxy
from glip.data.annotations import Bools, Floats, Integers
from glip.data.flickr30k import Phrase, Sentence, words_of
from glip.data.grounding import GroundingDataset, Span
from glip.errors import InputError
from glip.evaluation.metrics.matching import index_in_run
from glip.labeling.records import Record

RecallProtocol = Literal["any-box", "merged"]
PROTOCOLS: tuple[RecallProtocol, ...] = ("any-box", "merged")
TOP_K = (1, 5, 10)
ALL = "all"
IOU = 0.5


@dataclass(frozen=True, eq=False)
class PhraseBoxes:
    """The predicted boxes of all phrases, as columns.

    Attributes:
        sentence: (N,) index into the list of sentences.
        phrase: (N,) index into `Sentence.phrases`.
        boxes: (N, 4) xyxy.
        score: (N,)
    """

    sentence: Integers
    phrase: Integers
    boxes: Floats
    score: Floats


@dataclass(frozen=True)
class PhraseRecall:
    """The recall of each type of phrase, 0 to 1; -1 if there is no phrase.

    Attributes:
        protocol: which boxes count as right.
        recall: for each type of phrase Recall@1, @5 and @10; the type 'all' comes first.
    """

    protocol: RecallProtocol
    recall: Mapping[str, Mapping[int, float]]


def phrase_recall(sentences: Sequence[Sentence], predicted: PhraseBoxes, protocol: RecallProtocol) -> PhraseRecall:
    """Returns the recall of the phrases.

    Every phrase counts once, whatever the number of its boxes. Of boxes with equal scores the first comes first.

    Args:
        sentences: the truth.
        predicted: made by `phrase_boxes`.
        protocol: `any-box` or `merged`.
    """
    phrases = [phrase for sentence in sentences for phrase in sentence.phrases]
    rank = rank_of_first_right(sentences, predicted, protocol)
    types: dict[str, list[int]] = {ALL: list(range(len(phrases)))}
    for index, phrase in enumerate(phrases):
        for name in phrase.types:
            types.setdefault(name, []).append(index)
    recall = {}
    for name, indices in sorted(types.items(), key=lambda item: (item[0] != ALL, item[0])):
        recall[name] = {k: _share(rank[indices] < k) for k in TOP_K}
    return PhraseRecall(protocol, recall)


def rank_of_first_right(sentences: Sequence[Sentence], predicted: PhraseBoxes, protocol: RecallProtocol) -> Floats:
    """Returns (P,) for all phrases of all sentences the number of boxes before the first right one; inf without one.

    Args:
        sentences: the truth.
        predicted: made by `phrase_boxes`.
        protocol: `any-box` or `merged`.
    """
    phrases = [phrase for sentence in sentences for phrase in sentence.phrases]
    return _rank_of_first_right(phrases, phrase_indices(sentences, predicted), predicted, protocol)


def phrase_indices(sentences: Sequence[Sentence], predicted: PhraseBoxes) -> Integers:
    """Returns (N,) the phrase of each box, as an index into all phrases of all sentences."""
    first = np.cumsum([0, *(len(sentence.phrases) for sentence in sentences)])
    return np.asarray(first[predicted.sentence] + predicted.phrase)


def phrase_boxes(source: Iterable[Record] | GroundingDataset, sentences: Sequence[Sentence]) -> PhraseBoxes:
    """Assigns predicted boxes to the phrases of the truth, by image, caption and character ranges.

    Args:
        source: records of images that were labelled with the phrases of a caption, or a grounding file with scores.
        sentences: the truth.

    Raises:
        InputError: the source has no result for a sentence with phrases, or none for one of its phrases.
    """
    results: dict[tuple[str, str], _CaptionResult] = {}
    for result in _from_grounding(source) if isinstance(source, GroundingDataset) else _from_records(source):
        # A caption that occurs twice gets the same boxes twice; counting both would push others out of the first k.
        results.setdefault((PurePosixPath(result.file_name).stem, result.caption), result)
    columns: list[tuple[int, int, Sequence[float], float]] = []
    for index, sentence in enumerate(sentences):
        if not sentence.phrases:
            continue
        if (sentence.image, sentence.caption) not in results:
            raise InputError(
                f"There are no boxes for the caption {sentence.caption!r} of image {sentence.image}. "
                f"Label all captions of the split before scoring it."
            )
        columns += [(index, *row) for row in _to_phrases(sentence, results[sentence.image, sentence.caption])]
    return PhraseBoxes(
        np.array([row[0] for row in columns], np.int64),
        np.array([row[1] for row in columns], np.int64),
        np.array([row[2] for row in columns], np.float64).reshape(-1, 4),
        np.array([row[3] for row in columns], np.float64),
    )


@dataclass(frozen=True, eq=False)
class _CaptionResult:
    """The boxes of one caption.

    Attributes:
        file_name: of the image.
        caption: the text.
        spans: character ranges of each phrase.
        boxes: (index into `spans`, xyxy, score) of each box.
    """

    file_name: str
    caption: str
    spans: Sequence[Sequence[Span]]
    boxes: Sequence[tuple[int, Sequence[float], float]]


def _from_records(records: Iterable[Record]) -> Iterator[_CaptionResult]:
    for record in records:
        if record.error is None and record.caption is not None:
            boxes = list(zip(record.labels, record.boxes, record.scores, strict=True))
            yield _CaptionResult(record.file_name, record.caption, record.spans, boxes)


def _from_grounding(dataset: GroundingDataset) -> Iterator[_CaptionResult]:
    boxes_of = dataset.boxes_by_caption()
    for image in dataset.images:
        label = {_key(ranges): index for index, ranges in enumerate(image.tokens_positive_eval)}
        boxes = []
        for box in boxes_of[image.id]:
            if isinstance(box.score, UnsetType):
                raise InputError(f"Box {box.id} has no score. Give a grounding file that a detector made.")
            if _key(box.tokens_positive) in label:
                corners = xywh_to_xyxy(np.array(box.bbox, np.float64)).tolist()
                boxes.append((label[_key(box.tokens_positive)], corners, box.score))
        yield _CaptionResult(image.file_name, image.caption, image.tokens_positive_eval, boxes)


def _to_phrases(sentence: Sentence, result: _CaptionResult) -> Iterator[tuple[int, Sequence[float], float]]:
    """Yields (phrase index, box, score) of all boxes of a sentence's phrases."""
    indices: dict[tuple[Span, ...], list[int]] = {}
    for index, phrase in enumerate(sentence.phrases):
        indices.setdefault(_key(phrase.spans), []).append(index)
    phrases_of_label = [indices.get(_key(ranges), []) for ranges in result.spans]
    if missing := set(indices) - {_key(ranges) for ranges in result.spans}:
        raise InputError(
            f"Image {sentence.image}: there are no boxes for the phrase "
            f"{words_of(sentence.caption, min(missing))!r} of the caption {sentence.caption!r}. "
            f"Label the phrases of the benchmark's file."
        )
    for label, box, score in result.boxes:
        for index in phrases_of_label[label]:
            yield index, box, score


def _key(spans: Sequence[Span]) -> tuple[Span, ...]:
    return tuple(sorted((start, end) for start, end in spans))


def _rank_of_first_right(
    phrases: Sequence[Phrase], phrase_of: Integers, predicted: PhraseBoxes, protocol: RecallProtocol
) -> Floats:
    """Returns (P,) the number of boxes before the first right one; infinite without one."""
    order = np.lexsort((-predicted.score, phrase_of))
    phrase_of = phrase_of[order]
    rank = index_in_run(phrase_of)
    boxes = [_merged(phrase.boxes) if protocol == "merged" else phrase.boxes for phrase in phrases]
    count = np.array([len(group) for group in boxes], np.int64)
    stacked = np.concatenate([np.zeros((0, 4)), *boxes])
    start = np.cumsum(count) - count
    # All pairs of a predicted box and an annotated box of its phrase.
    row = np.repeat(np.arange(len(phrase_of)), count[phrase_of])
    offset = np.arange(len(row)) - np.repeat(np.cumsum(count[phrase_of]) - count[phrase_of], count[phrase_of])
    hit = box_iou(predicted.boxes[order][row], stacked[start[phrase_of[row]] + offset]) >= IOU
    first = np.full(len(phrases), np.inf)
    np.minimum.at(first, phrase_of[row[hit]], rank[row[hit]])
    return first


def _merged(boxes: Floats) -> Floats:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])[None]


def _share(found: Bools) -> float:
    return float(np.mean(found)) if len(found) else -1.0
