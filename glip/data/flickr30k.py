"""The phrases of Flickr30k Entities with their boxes, read from the data set's own files or from MDETR's JSON of it.

    FOLDER/{train,val,test}.txt      names of images, one a line
    FOLDER/Sentences/NAME.txt        captions, one a line: [/EN#283585/people Two people] photo each other .
    FOLDER/Annotations/NAME.xml      boxes by the number after EN#
    final_flickr_separateGT_{val,test}.json      captions, phrases to score and boxes, by MDETR

Boxes are xyxy in pixels of the original image, float64, as the files have them. Knows nothing of scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as ET

import numpy as np

from glip.data.annotations import Floats
from glip.data.grounding import Span, load_grounding
from glip.errors import InputError

_PHRASE = re.compile(r"\[/EN#(?P<id>[^/\s]+)(?P<types>(?:/[^/\s\]]+)+) (?P<words>[^\]]*)\]")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, eq=False)
class Phrase:
    """A phrase that stands for something in the image.

    Attributes:
        spans: its character ranges in the caption.
        types: people, clothing, bodyparts, animals, vehicles, instruments, scene, other; () if they are not known.
        boxes: (B, 4) xyxy, at least one.
    """

    spans: tuple[Span, ...]
    types: tuple[str, ...]
    boxes: Floats


@dataclass(frozen=True, eq=False)
class Sentence:
    """A caption of an image, with the phrases that have boxes, in order.

    Attributes:
        image: the image's file name without its ending, as 1007129816.
        number: which of the image's captions, from 0.
        caption: the text.
        phrases: those that are scored.
    """

    image: str
    number: int
    caption: str
    phrases: tuple[Phrase, ...]


def read_entities(folder: Path, split: str) -> list[Sentence]:
    """Reads the data set in its own layout.

    Raises:
        InputError: a file is not there or is not as expected.
    """
    images = _text(folder / f"{split}.txt").split()
    return [sentence for image in images for sentence in _sentences(folder, image)]


def read_mdetr(path: Path, entities: Path | None = None) -> list[Sentence]:
    """Reads MDETR's JSON of the data set: phrases are `tokens_positive_eval`, boxes those with the same ranges.

    Args:
        path: final_flickr_separateGT_val.json or the like.
        entities: the data set's own folder, for the types of the phrases; None leaves them unknown.

    Raises:
        InputError: the file is not as expected, or the two do not tell the same phrases.
    """
    dataset = load_grounding(path)
    boxes = dataset.boxes_by_caption()
    sentences = []
    for position, image in enumerate(dataset.images):
        groups = []
        for ranges in image.tokens_positive_eval:
            own = [box.bbox for box in boxes[image.id] if set(box.tokens_positive) & set(ranges)]
            if not own:
                raise InputError(
                    f"{path}: caption {image.id} has the phrase {words_of(image.caption, ranges)!r} to score, but no "
                    f"box with its character ranges. Is it one of MDETR's final_flickr_*.json?"
                )
            groups.append(Phrase(ranges, (), _to_xyxy(own)))
        stem = PurePosixPath(image.file_name).stem
        number = image.sentence_id if isinstance(image.sentence_id, int | str) else position
        sentences.append(Sentence(stem, int(number), image.caption, tuple(groups)))
    return sentences if entities is None else _with_types(sentences, entities)


def words_of(caption: str, spans: Sequence[Span]) -> str:
    """The text of a phrase."""
    return " ".join(caption[start:end] for start, end in spans)


def _parse_sentence(line: str) -> tuple[str, list[tuple[str, tuple[str, ...], Span]]]:
    """The caption without its marks, and for each mark the number, the types and the characters that it stands for."""
    line = " ".join(line.split())
    caption, marked, end = "", [], 0
    for mark in _PHRASE.finditer(line):
        caption += line[end : mark.start()]
        span = (len(caption), len(caption) + len(mark["words"]))
        marked.append((mark["id"], tuple(mark["types"].strip("/").split("/")), span))
        caption += mark["words"]
        end = mark.end()
    return caption + line[end:], marked


def _boxes(path: Path) -> dict[str, Floats]:
    """The boxes of each number; things that are not visible or are the whole scene have none."""
    boxes: dict[str, list[list[float]]] = {}
    try:
        for item in ET.fromstring(_text(path)).iterfind("object"):  # noqa: S314 (a file the user has chosen)
            for box in item.iterfind("bndbox"):
                corners = [float(box.findtext(corner, "")) for corner in _CORNERS]
                for name in item.iterfind("name"):
                    boxes.setdefault(name.text or "", []).append(corners)
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"{path} is not an annotation file of Flickr30k Entities: {error}.") from error
    return {id: np.array(corners, np.float64) for id, corners in boxes.items()}


def _with_types(sentences: Sequence[Sentence], folder: Path) -> list[Sentence]:
    images = dict.fromkeys(sentence.image for sentence in sentences)
    known = {(own.image, own.number): own.phrases for image in images for own in _sentences(folder, image)}
    typed = []
    for sentence in sentences:
        own = known.get((sentence.image, sentence.number), ())
        if len(own) != len(sentence.phrases):
            raise InputError(
                f"{folder} tells other phrases of caption {sentence.number} of image {sentence.image} than the JSON. "
                f"Take both from the same release."
            )
        phrases = zip(sentence.phrases, own, strict=True)
        typed.append(replace(sentence, phrases=tuple(replace(phrase, types=other.types) for phrase, other in phrases)))
    return typed


def _sentences(folder: Path, image: str) -> Iterator[Sentence]:
    boxes = _boxes(folder / "Annotations" / f"{image}.xml")
    for number, line in enumerate(filter(None, _text(folder / "Sentences" / f"{image}.txt").split("\n"))):
        caption, marked = _parse_sentence(line)
        phrases = tuple(Phrase((span,), types, boxes[id]) for id, types, span in marked if id in boxes)
        yield Sentence(image, number, caption, phrases)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"There is no {path}. Flickr30k Entities holds val.txt, test.txt, Sentences/ and Annotations/; it is at "
            f"github.com/BryanPlummer/flickr30k_entities."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from error


def _to_xyxy(boxes: Sequence[Sequence[float]]) -> Floats:
    corners = np.array(boxes, np.float64)
    corners[:, 2:] += corners[:, :2]
    return corners
