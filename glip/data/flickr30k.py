"""Reads the phrases and boxes of Flickr30k Entities, from its own files or from MDETR's JSON.

    flickr30k_entities/{train,val,test}.txt      names of images, one per line
    flickr30k_entities/Sentences/NAME.txt        captions: [/EN#283585/people Two people] photo each other .
    flickr30k_entities/Annotations/NAME.xml      boxes, by the number after EN#
    mdetr_annotations/final_flickr_separateGT_{val,test}.json      captions, phrases to score, and boxes

Boxes are xyxy in pixels of the original image, float64, as in the files. Knows nothing of scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as ET

import numpy as np

from glip.boxes import xywh_to_xyxy
from glip.data.annotations import Floats
from glip.data.coco import is_inside
from glip.data.grounding import GroundingDataset, GroundingImage, Span, load_grounding
from glip.data.xml_files import number, read_xml
from glip.errors import InputError
from glip.files import read_content

ENTITIES_FOLDER = "flickr30k_entities"  # the data set's own files, which alone have the types of the phrases
# Without '[' inside a mark, the search takes linear time on any text.
_MARK = re.compile(r"\[/EN#(?P<id>[^/\s\[]+)(?P<types>(?:/[^/\s\[\]]+)+) (?P<words>[^\[\]]*)\]")
_MAX_TEXT = 256_000_000  # bytes
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, eq=False)
class Phrase:
    """A phrase of a caption, with the boxes it names.

    Attributes:
        spans: its character ranges in the caption.
        types: people, clothing, bodyparts, animals, vehicles, instruments, scene, other; () if unknown.
        boxes: (B, 4) xyxy, at least one.
    """

    spans: tuple[Span, ...]
    types: tuple[str, ...]
    boxes: Floats


@dataclass(frozen=True, eq=False)
class Sentence:
    """A caption of an image, and its phrases that have boxes, in order.

    Attributes:
        image: the image's file name without its suffix, such as 1007129816.
        number: index of the caption among those of the image.
        caption: the text.
        phrases: those that are scored.
    """

    image: str
    number: int
    caption: str
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, eq=False)
class FlickrSplit:
    """A split of Flickr30k Entities.

    Attributes:
        sentences: all captions, in the order of the file.
        file_names: file name of each image by its name without suffix, in the order of the file.
        has_types: whether the types of the phrases are known.
    """

    sentences: tuple[Sentence, ...]
    file_names: Mapping[str, str]
    has_types: bool

    def first_images(self, count: int) -> FlickrSplit:
        """Returns the split with its first images only."""
        kept = dict(list(self.file_names.items())[:count])
        sentences = tuple(sentence for sentence in self.sentences if sentence.image in kept)
        return replace(self, sentences=sentences, file_names=kept)


def read_flickr30k(path: Path) -> FlickrSplit:
    """Reads a split.

    Args:
        path: MDETR's JSON (the types of the phrases are read from `flickr30k_entities` next to its folder, if that
            exists), or `flickr30k_entities/SPLIT.txt`.

    Raises:
        InputError: a file is missing or has another format, or the two sources have different phrases.
    """
    if path.suffix == ".txt":
        images = _text(path).split()
        outside = next((image for image in images if not is_inside(image)), None)
        if outside is not None:
            raise InputError(f"{path}: the image {outside[:200]!r} leads out of its folder; write names only.")
        sentences = [sentence for image in images for sentence in _sentences(path.parent, image)]
        return FlickrSplit(tuple(sentences), {image: f"{image}.jpg" for image in images}, has_types=True)
    entities = path.parent.parent / ENTITIES_FOLDER
    dataset = load_grounding(path)
    sentences = _sentences_of_mdetr(path, dataset)
    if entities.is_dir():
        sentences = _with_types(sentences, entities)
    file_names = {PurePosixPath(image.file_name).stem: image.file_name for image in dataset.images}
    return FlickrSplit(tuple(sentences), file_names, entities.is_dir())


def words_of(caption: str, spans: Sequence[Span]) -> str:
    """Returns the text of a phrase."""
    return " ".join(caption[start:end] for start, end in spans)


def _sentences_of_mdetr(path: Path, dataset: GroundingDataset) -> list[Sentence]:
    """Returns the captions of MDETR's JSON: phrases are `tokens_positive_eval`, boxes those with the same ranges."""
    boxes = dataset.boxes_by_caption()
    sentences = []
    for index, image in enumerate(dataset.images):
        phrases = []
        for ranges in image.tokens_positive_eval:
            own = [box.bbox for box in boxes[image.id] if set(box.tokens_positive) & set(ranges)]
            if not own:
                raise InputError(
                    f"{path}: caption {image.id} has the phrase {words_of(image.caption, ranges)!r} to score, but no "
                    f"box with its character ranges. Is it one of MDETR's final_flickr_*.json?"
                )
            phrases.append(Phrase(ranges, (), xywh_to_xyxy(np.array(own, np.float64))))
        stem = PurePosixPath(image.file_name).stem
        sentences.append(Sentence(stem, _sentence_number(path, image, index), image.caption, tuple(phrases)))
    return sentences


def _sentence_number(path: Path, image: GroundingImage, index: int) -> int:
    """Returns the number of a caption among those of its image; `index` where the file has none."""
    id = image.sentence_id
    if isinstance(id, str) and not re.fullmatch(r"\s*\d{1,18}\s*", id, re.ASCII):
        raise InputError(f"{path}: caption {image.id} has the sentence_id {id[:40]!r}; it must be a whole number.")
    return int(id) if isinstance(id, int | str) else index


def _parse_sentence(line: str) -> tuple[str, list[tuple[str, tuple[str, ...], Span]]]:
    """Returns the caption without its marks, and of each mark its number, types and character range."""
    line = " ".join(line.split())
    caption, marked, end = "", [], 0
    for mark in _MARK.finditer(line):
        caption += line[end : mark.start()]
        span = (len(caption), len(caption) + len(mark["words"]))
        marked.append((mark["id"], tuple(mark["types"].strip("/").split("/")), span))
        caption += mark["words"]
        end = mark.end()
    return caption + line[end:], marked


def _boxes(path: Path) -> dict[str, Floats]:
    """Returns the (B, 4) boxes of each number; things that are not visible or are the whole scene have none."""
    boxes: dict[str, list[list[float]]] = {}
    for item in _xml(path).iterfind("object"):
        for box in item.iterfind("bndbox"):
            corners = [number(box.findtext(corner), corner, path) for corner in _CORNERS]
            for name in item.iterfind("name"):
                boxes.setdefault(name.text or "", []).append(corners)
    return {id: np.array(corners, np.float64) for id, corners in boxes.items()}


def _with_types(sentences: Sequence[Sentence], folder: Path) -> list[Sentence]:
    images = dict.fromkeys(sentence.image for sentence in sentences)
    known = {(own.image, own.number): own.phrases for image in images for own in _sentences(folder, image)}
    typed = []
    for sentence in sentences:
        own = known.get((sentence.image, sentence.number), ())
        if len(own) != len(sentence.phrases):
            raise InputError(
                f"{folder} has {len(own)} phrases for caption {sentence.number} of image {sentence.image}, and the "
                f"JSON has {len(sentence.phrases)}. Take both from the same release."
            )
        phrases = zip(sentence.phrases, own, strict=True)
        typed.append(replace(sentence, phrases=tuple(replace(phrase, types=other.types) for phrase, other in phrases)))
    return typed


def _sentences(folder: Path, image: str) -> Iterator[Sentence]:
    boxes = _boxes(folder / "Annotations" / f"{image}.xml")
    for index, line in enumerate(filter(None, _text(folder / "Sentences" / f"{image}.txt").split("\n"))):
        caption, marked = _parse_sentence(line)
        phrases = tuple(Phrase((span,), types, boxes[id]) for id, types, span in marked if id in boxes)
        yield Sentence(image, index, caption, phrases)


def _xml(path: Path) -> ET.Element:
    _refuse_missing(path)
    return read_xml(path, "an annotation file of Flickr30k Entities")


def _text(path: Path) -> str:
    _refuse_missing(path)
    try:
        return read_content(path, "a text of Flickr30k Entities", _MAX_TEXT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"Cannot read {path}: {error}.") from error


def _refuse_missing(path: Path) -> None:
    if not path.exists():
        raise InputError(
            f"{path} is missing. Flickr30k Entities consists of val.txt, test.txt, Sentences/ and Annotations/; it is "
            f"at github.com/BryanPlummer/flickr30k_entities."
        )
