"""The images of an evaluation of phrases: recall over the number of boxes, and the worst misses as photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from glip.data.annotations import Floats
from glip.data.flickr30k import Sentence, words_of
from glip.evaluation.error_analysis import worst
from glip.evaluation.error_gallery import GALLERY_FOLDER, Shown, draw_gallery
from glip.evaluation.metrics.phrase_recall import FIRST, Answers, Protocol, first_hits, phrase_places
from glip.files import whole_file

RECALL_FILE = "recall.png"


@dataclass(frozen=True, eq=False)
class PhraseMiss:
    """A phrase whose best box is not right.

    Attributes:
        image_id: the image's file name without its ending.
        reason: `wrong first`: a worse box is right; `not found`: none is.
        sentence: the caption.
        phrase: place in `Sentence.phrases`.
        better: boxes before the first right one; inf where none is right.
        found: (1, 4) xyxy, the best box; (0, 4) where there is none.
        score: of that box, 0 where there is none.
    """

    image_id: str
    reason: Literal["wrong first", "not found"]
    sentence: Sentence
    phrase: int
    better: float
    found: Floats
    score: float


def phrase_misses(sentences: Sequence[Sentence], answers: Answers) -> list[PhraseMiss]:
    """Every phrase that Recall@1 lacks where each box of a phrase is as good as another, the surest first.

    Args:
        sentences: the truth.
        answers: made by `answers_of`.
    """
    own = phrase_places(sentences, answers)
    best: dict[int, int] = {}
    for row in np.argsort(-answers.score, kind="stable").tolist():
        best.setdefault(int(own[row]), row)
    misses = []
    rank = first_hits(sentences, answers, "any-box")
    phrases = [(sentence, phrase) for sentence in sentences for phrase in range(len(sentence.phrases))]
    for place, (sentence, phrase) in enumerate(phrases):
        if rank[place] == 0:
            continue
        row = best.get(place)
        misses.append(
            PhraseMiss(
                sentence.image,
                "wrong first" if np.isfinite(rank[place]) else "not found",
                sentence,
                phrase,
                float(rank[place]),
                np.zeros((0, 4)) if row is None else answers.boxes[[row]],
                0.0 if row is None else float(answers.score[row]),
            )
        )
    return sorted(misses, key=lambda miss: -miss.score)


def draw_phrases(
    out: Path,
    name: str,
    sentences: Sequence[Sentence],
    answers: Answers,
    image_of: Callable[[str], Path],
    count: int,
) -> list[Path]:
    """Draws what can be seen of a score of phrases.

    Args:
        out: the set's folder.
        name: of the set.
        sentences: the truth.
        answers: what was found.
        image_of: the file of an image, by `Sentence.image`.
        count: so many images with the worst misses; fewer if fewer have any. 0 draws none.

    Returns:
        The files, and the folder of the misses.

    Raises:
        JobFailed: a file cannot be written.
    """
    with whole_file(out / RECALL_FILE) as file:
        file.write(_recall_curves(name, sentences, answers))
    written = [out / RECALL_FILE]
    if count:
        chosen = worst(phrase_misses(sentences, answers), count)
        shown = [_shown(miss, image_of(miss.image_id)) for miss in chosen]
        if draw_gallery(out / GALLERY_FOLDER, shown, name):
            written.append(out / GALLERY_FOLDER)
    return written


def _recall_curves(name: str, sentences: Sequence[Sentence], answers: Answers) -> bytes:
    """A PNG of the recall of the first one to ten boxes: both protocols, and each type by any box."""
    from glip.evaluation.plots import draw_curves

    types = [phrase.types for sentence in sentences for phrase in sentence.phrases]
    names: tuple[Protocol, ...] = ("any-box", "merged")
    ranks = {protocol: first_hits(sentences, answers, protocol) for protocol in names}
    shown: dict[str, Floats] = {f"{protocol}, all phrases": rank for protocol, rank in ranks.items()}
    for kind in sorted({kind for own in types for kind in own}):
        shown[f"any-box, {kind}"] = ranks["any-box"][[kind in own for own in types]]
    firsts = np.arange(1, FIRST[-1] + 1)
    curves: Mapping[str, tuple[Floats, Floats]] = {
        f"{label}: R@1 {100 * np.mean(rank < 1):.1f}": (
            firsts.astype(np.float64),
            (rank[:, None] < firsts).mean(axis=0),
        )
        for label, rank in shown.items()
        if len(rank)
    }
    return draw_curves(name, curves, "recall over the number of boxes of a phrase", FIRST[-1])


def _shown(miss: PhraseMiss, path: Path) -> Shown:
    phrase = miss.sentence.phrases[miss.phrase]
    words = words_of(miss.sentence.caption, phrase.spans)
    if not len(miss.found):
        said = "no box"
    elif np.isfinite(miss.better):
        said = f"the best box, {miss.score:.2f}, is not right; number {miss.better + 1:.0f} is"
    else:
        said = f"the best box, {miss.score:.2f}, is not right, and no other"
    return Shown(
        path,
        f"{words!r}: {said}. {miss.sentence.caption}",
        f"{miss.reason}-{words[:40]}",
        *(_with_sides(boxes) for boxes in (_all_boxes(miss.sentence), phrase.boxes, miss.found)),
    )


def _all_boxes(sentence: Sentence) -> Floats:
    return np.concatenate([phrase.boxes for phrase in sentence.phrases])


def _with_sides(corners: Floats) -> Floats:
    """(B, 4) left, top, width and height of xyxy boxes."""
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
