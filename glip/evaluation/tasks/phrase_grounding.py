"""Flickr30k through a model: each image is asked its sentences one by one, on features that are computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from glip.data.flickr30k import ENTITIES_FOLDER, Sentence, read_flickr30k
from glip.data.grounding import load_grounding
from glip.data.splits import Split
from glip.evaluation.inference import Labelled, Looking, label_split, within
from glip.evaluation.metrics.phrase_recall import ALL, PROTOCOLS, TOP_K, PhraseRecall, phrase_boxes, phrase_recall
from glip.evaluation.results import SetResult

if TYPE_CHECKING:
    from glip.labeling.records import Record
    from glip.prompts import Prompt

_PUBLISHED_LIMIT = 100  # boxes of a sentence


def evaluate_flickr(
    item: Split, out: Path, look: Looking, given: Path | None, *, limit: int | None, max_det: int, gallery: int
) -> tuple[SetResult, list[Path]] | None:
    """Scores a split of Flickr30k.

    Args:
        item: the set.
        out: its folder.
        look: the model.
        given: a grounding file with scores to score instead of a model's boxes.
        limit: only the first so many images.
        max_det: most boxes of a sentence.
        gallery: so many of the worst images are drawn.

    Returns:
        The result, and the files that were drawn; None if the labelling was stopped.

    Raises:
        InputError: a file cannot be used, or lacks sentences.
    """
    opened = read_flickr30k(item.annotations)
    if limit is not None:
        opened = opened.first_images(limit)
    sentences, paths = opened.sentences, opened.file_names
    asked = [sentence for sentence in sentences if sentence.phrases]
    notes = list(item.notes)
    if not opened.has_types:
        entities = item.annotations.parent.parent / ENTITIES_FOLDER
        notes.append(f"{entities} is not there, so recall by phrase type is not known.")
    if given is not None:
        answers = phrase_boxes(load_grounding(given), asked)
    else:
        by_image: dict[Path, list[Sentence]] = {}
        for sentence in asked:
            by_image.setdefault(item.image_path(paths[sentence.image]).resolve(), []).append(sentence)
        labelled = _label(out, by_image, look, max(_PUBLISHED_LIMIT, max_det))
        if labelled.summary.interrupted:
            return None
        if labelled.summary.failed:
            notes.append(f"{labelled.summary.failed} images could not be asked; errors.jsonl says why.")
        answers = phrase_boxes(_one_by_one(labelled, by_image, max_det), asked)
    numbers: dict[str, float | None] = {}
    for protocol in PROTOCOLS:
        numbers |= _numbers(phrase_recall(asked, answers, protocol))
    result = SetResult(
        item.name,
        item.split,
        item.format,
        numbers,
        (),
        images=len({sentence.image for sentence in sentences}),
        annotated=sum(len(phrase.boxes) for sentence in asked for phrase in sentence.phrases),
        found=len(answers.score),
        notes=tuple(notes),
    )
    from glip.evaluation.error_gallery import draw_phrases

    return result, draw_phrases(out, item.name, asked, answers, lambda image: item.image_path(paths[image]), gallery)


def _numbers(recall: PhraseRecall) -> dict[str, float | None]:
    """R@1, R@5 and R@10 of all phrases, then of each type, under the name of their protocol."""
    name = "merged-box" if recall.protocol == "merged" else recall.protocol
    return {
        f"{name} R@{first}{'' if kind == ALL else f' {kind}'}": 100 * recall.recall[kind][first]
        for kind in recall.recall
        for first in TOP_K
    }


def _label(out: Path, sentences: Mapping[Path, Sequence[Sentence]], look: Looking, limit: int) -> Labelled:
    from glip.detectors.base import DetectionLimits
    from glip.labeling.image_prompts import PromptsByImage

    prompts = {path: tuple(_prompt(sentence) for sentence in own) for path, own in sentences.items()}
    limits = DetectionLimits(max_detections=limit, limit_per_prompt=True)
    return label_split(out, list(prompts), PromptsByImage(prompts), look, limits)


def _prompt(sentence: Sentence) -> Prompt:
    from glip.prompts import Prompt

    return Prompt.from_caption(sentence.caption, [phrase.spans for phrase in sentence.phrases])


def _one_by_one(labelled: Labelled, sentences: Mapping[Path, Sequence[Sentence]], most: int) -> Iterator[Record]:
    """A record for each sentence, of the records of images, whose labels count through all of an image's sentences.

    An image that could not be asked has records without boxes: its phrases are not found.
    """
    for path, record in labelled.records():
        first = 0
        for sentence in sentences[path]:
            last = first + len(sentence.phrases)
            own = [place for place, label in enumerate(record.labels) if first <= label < last]
            own = own[: within(np.asarray(record.scores, np.float32)[own], most)]
            yield msgspec.structs.replace(
                record,
                file_name=path.name,
                boxes=[record.boxes[place] for place in own],
                scores=[record.scores[place] for place in own],
                labels=[record.labels[place] - first for place in own],
                names=[str(place) for place in range(last - first)],
                caption=sentence.caption,
                spans=[phrase.spans for phrase in sentence.phrases],
                error=None,
            )
            first = last
