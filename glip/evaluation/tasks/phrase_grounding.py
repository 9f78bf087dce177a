"""Flickr30k Entities: each image is prompted with its sentences one by one, on features that are computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from glip.data.flickr30k import ENTITIES_FOLDER, Sentence, read_flickr30k
from glip.data.grounding import load_grounding
from glip.data.splits import Split
from glip.evaluation.inference import count_within
from glip.evaluation.metrics.phrase_recall import (
    ALL,
    PROTOCOLS,
    TOP_K,
    PhraseBoxes,
    PhraseRecall,
    phrase_boxes,
    phrase_recall,
)
from glip.evaluation.results import SetResult
from glip.evaluation.tasks import ScoreOptions

if TYPE_CHECKING:
    from glip.detectors.base import DetectionLimits
    from glip.labeling.image_prompts import PromptPlan
    from glip.labeling.records import Record

_PUBLISHED_LIMIT = 100  # boxes of a sentence


@dataclass(frozen=True, eq=False)
class PhraseScore:
    """The recall of phrases.

    Attributes:
        result: the numbers.
        sentences: that were scored.
        predicted: the boxes of their phrases.
        image_of: the path of each image, by `Sentence.image`.
    """

    result: SetResult
    sentences: Sequence[Sentence]
    predicted: PhraseBoxes
    image_of: dict[str, Path]

    def write(self, out: Path, gallery: int) -> list[Path]:
        """Draws recall and errors, see `Score.write`."""
        from glip.evaluation.error_gallery import draw_phrases

        return draw_phrases(out, self.result.name, self.sentences, self.predicted, self.image_of.__getitem__, gallery)


class PhraseGrounding:
    """Prompts and scores a split of Flickr30k Entities, sentence by sentence; see `Task`."""

    def __init__(self, split: Split, options: ScoreOptions) -> None:
        self._split, self._options = split, options
        opened = read_flickr30k(split.annotations)
        self._opened = opened if options.limit is None else opened.first_images(options.limit)
        self._sentences = [sentence for sentence in self._opened.sentences if sentence.phrases]

    @cached_property
    def _sentences_of_image(self) -> dict[Path, list[Sentence]]:
        sentences: dict[Path, list[Sentence]] = {}
        for sentence in self._sentences:
            path = self._split.image_path(self._opened.file_names[sentence.image]).resolve()
            sentences.setdefault(path, []).append(sentence)
        return sentences

    def images(self) -> Sequence[Path]:
        """Returns the absolute paths of the images to label: those with a phrase to score."""
        return list(self._sentences_of_image)

    def prompts(self, adapter: Path | None) -> PromptPlan:
        """Returns the sentences of each image; an adapter is not supported."""
        from glip.labeling.image_prompts import PromptsByImage
        from glip.prompts import Prompt

        assert adapter is None, "an adapter has one class list"
        return PromptsByImage(
            {
                path: tuple(
                    Prompt.from_caption(sentence.caption, [phrase.spans for phrase in sentence.phrases])
                    for sentence in sentences
                )
                for path, sentences in self._sentences_of_image.items()
            }
        )

    def limits(self) -> DetectionLimits:
        """Returns which boxes are recorded: the published number per sentence."""
        from glip.detectors.base import DetectionLimits

        maximum = max(_PUBLISHED_LIMIT, self._options.max_det)
        return DetectionLimits(max_detections=maximum, limit_per_prompt=True)

    def score_records(self, records: Iterator[tuple[Path, Record]], notes: Sequence[str] = ()) -> PhraseScore:
        """Scores the boxes of a labelling run; phrases of images that could not be labelled count as missed."""
        return self._score(phrase_boxes(self._records_of_sentences(records), self._sentences), notes)

    def score_file(self, path: Path) -> PhraseScore:
        """Scores a grounding file with scores."""
        return self._score(phrase_boxes(load_grounding(path), self._sentences), ())

    def protocol(self) -> dict[str, str]:
        """Returns the prompts, limits and batch size in words."""
        return {
            "prompts": "each sentence alone, unchanged",
            "limits": f"{self._options.max_det} boxes per sentence",
            "batch size": "1: each image has its own captions",
        }

    def limits_of_file(self) -> str:
        """Returns which boxes of a grounding file are scored, in words."""
        return f"the best {TOP_K[-1]} boxes per phrase"

    def _records_of_sentences(self, records: Iterable[tuple[Path, Record]]) -> Iterator[Record]:
        """Yields a record for each sentence; the labels of an image's record count through all of its sentences."""
        for path, record in records:
            first = 0
            for sentence in self._sentences_of_image[path]:
                last = first + len(sentence.phrases)
                rows = [row for row, label in enumerate(record.labels) if first <= label < last]
                rows = rows[: count_within(np.asarray(record.scores, np.float32)[rows], self._options.max_det)]
                yield msgspec.structs.replace(
                    record,
                    file_name=path.name,
                    boxes=[record.boxes[row] for row in rows],
                    scores=[record.scores[row] for row in rows],
                    labels=[record.labels[row] - first for row in rows],
                    names=[str(index) for index in range(last - first)],
                    caption=sentence.caption,
                    spans=[phrase.spans for phrase in sentence.phrases],
                    error=None,
                )
                first = last

    def _score(self, predicted: PhraseBoxes, notes: Sequence[str]) -> PhraseScore:
        split, sentences = self._split, self._sentences
        numbers: dict[str, float | None] = {}
        for protocol in PROTOCOLS:
            numbers |= _numbers(phrase_recall(sentences, predicted, protocol))
        all_notes = [*split.notes, *notes]
        if not self._opened.has_types:
            folder = split.annotations.parent.parent / ENTITIES_FOLDER
            all_notes.append(f"{folder} is missing, so recall by type of phrase is unknown.")
        result = SetResult(
            split.name,
            split.split,
            split.format,
            numbers,
            (),
            images=len({sentence.image for sentence in self._opened.sentences}),
            annotated=sum(len(phrase.boxes) for sentence in sentences for phrase in sentence.phrases),
            found=len(predicted.score),
            notes=tuple(all_notes),
        )
        images = {image: split.image_path(name) for image, name in self._opened.file_names.items()}
        return PhraseScore(result, sentences, predicted, images)


def _numbers(recall: PhraseRecall) -> dict[str, float | None]:
    """Returns R@1, R@5 and R@10 in percent, of all phrases and of each type, by the name of their protocol."""
    name = "merged-box" if recall.protocol == "merged" else recall.protocol
    return {
        f"{name} R@{first}{'' if kind == ALL else f' {kind}'}": 100 * recall.recall[kind][first]
        for kind in recall.recall
        for first in TOP_K
    }
