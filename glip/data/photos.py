"""Photographs as an endless stream of examples: random views, pasted cut-outs, captions of class names and synonyms.

Unlike in `datasets`, the caption is made after the view, and the view has the size that the caller gives. An image is
asked for its own set's classes only: one that another set marks is not absent because it is not marked here. Knows
COCO files. Knows nothing of tensors or models.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from glip.boxes import xywh_to_xyxy
from glip.data.canvas import Boxes, SizeWH, View, coloured, framed, mosaic
from glip.data.coco import CocoDataset, load_coco
from glip.data.cutouts import Cutout, posed
from glip.data.examples import Example, Span
from glip.data.image_table import ImageTable
from glip.data.sampling import EpochOrder
from glip.data.synonyms import SYNONYMS
from glip.errors import InputError
from glip.names import clean_name
from glip.prompts import SEPARATOR

ANNOTATIONS = "annotations.json"
_RATIO = 1.5  # maximum factor between the aspect ratios of an image and of the canvas it is shown on
_PASTED = (0.12, 0.5)  # long side of a cut-out, relative to the root of the canvas's area
_MOST_COVERED = 0.35  # share of a box that a cut-out may hide
_TRIES = 8
_MOST_NAMES = 80  # maximum number of names in a caption
# Families of cut-outs whose members are all of one class.
_CLASS_OF_GROUP = {"animals/birds": "bird", "animals/mammals/bears": "bear", "animals/mammals/deer": "deer"}


@dataclass(frozen=True)
class Looks:
    """How photographs are augmented, and how many names their captions have.

    Attributes:
        mosaic: share of the images that are made of four photographs.
        pasted: share of the images with cut-outs.
        most_pasted: largest number of cut-outs in an image.
        synonyms: how often a class is called by another word.
        absent: smallest and largest number of names of absent classes.
        repeat_below: classes in a smaller share of a set's images come more often (LVIS's repeat factor).
    """

    mosaic: float = 0.12
    pasted: float = 0.3
    most_pasted: int = 3
    synonyms: float = 0.25
    absent: tuple[int, int] = (1, 9)
    repeat_below: float = 0.05


@dataclass
class _Thing:
    """A box of an image with all of its valid names: labels of classes, or words of a cut-out."""

    box: Sequence[float]
    labels: tuple[int, ...]
    word: str | None = None


@dataclass(frozen=True, eq=False)
class PhotoStream:
    """One set of photographs with boxes of classes.

    Attributes:
        folder: holds `annotations.json` and the images.
        seed: of the order, the views and the captions.
        looks: augmentation, and the number of names in captions.
        cutouts: objects to paste; empty for none.
    """

    folder: Path
    seed: int = 0
    looks: Looks = field(default_factory=Looks)
    cutouts: tuple[Cutout, ...] = ()

    def __post_init__(self) -> None:
        self._set  # noqa: B018  # read now, so that errors in the files appear before training

    @property
    def epoch_length(self) -> int:
        """Returns the number of images, with repeated ones counted each time."""
        return len(self._set.repeated)

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the class names."""
        return self._set.names

    @cached_property
    def _set(self) -> _Set:
        return _read_set(self.folder, self.looks.repeat_below)

    def example(self, position: int, size_wh: SizeWH, most_absent: int | None = None) -> Example:
        """Returns the example at a position from 0.

        Args:
            position: any, from 0.
            size_wh: width and height of the image, in pixels.
            most_absent: maximum number of absent names in the caption; None for a number from `Looks.absent`.

        Raises:
            JobFailed: no image can be read any more.
        """
        rng = random.Random(f"{self.seed}/photo/{position}")  # noqa: S311  # views of photographs, no secret
        view, labels = self._view(position, size_wh, rng)
        clear = view.clear.tolist()
        boxes = view.boxes.tolist()
        things = [_Thing(box, (label,)) for box, label, seen in zip(boxes, labels, clear, strict=True) if seen]
        # A class of which too little can be seen is neither present nor absent in the caption.
        unclear = {label for label, seen in zip(labels, clear, strict=True) if not seen}
        image = coloured(view.image, rng)
        pastes = bool(self.cutouts) and rng.random() < self.looks.pasted
        if pastes:
            image, things = self._paste(image, things, rng)
        return self._asked(image, things, unclear, most_absent, pastes, rng)

    def _view(self, position: int, size_wh: SizeWH, rng: random.Random) -> tuple[View, list[int]]:
        count = 4 if rng.random() < self.looks.mosaic else 1
        parts, labels = [], []
        for part in range(count):
            index, image = self._read(position if part == 0 else rng.randrange(1 << 30), size_wh)
            parts.append((image, self._set.boxes[index]))
            labels += self._set.labels[index]
        if count == 1:
            return framed(*parts[0], size_wh, rng), labels
        return mosaic(parts, size_wh, rng), labels

    def _read(self, position: int, size_wh: SizeWH) -> tuple[int, Image.Image]:
        indices = self._set.shown_on(size_wh)
        return self._set.images.readable(EpochOrder(len(indices), self.seed), position, indices)

    def _paste(self, image: Image.Image, things: list[_Thing], rng: random.Random) -> tuple[Image.Image, list[_Thing]]:
        image, things = image.copy(), list(things)
        side = math.sqrt(image.width * image.height)
        for _ in range(rng.randint(1, self.looks.most_pasted)):
            cutout = rng.choice(self.cutouts)
            long_side = round(side * math.exp(rng.uniform(*map(math.log, _PASTED))))
            sprite = posed(cutout, long_side, rng)
            corner = _free_corner(image.size, sprite.size, [thing.box for thing in things], rng)
            if corner is None:
                continue
            image.paste(sprite, corner, sprite)
            box = (*corner, corner[0] + sprite.width, corner[1] + sprite.height)
            things.append(_Thing(box, self._set.labels_of(cutout), cutout.name))
        return image, things

    def _asked(
        self,
        image: Image.Image,
        things: Sequence[_Thing],
        unclear: set[int],
        most_absent: int | None,
        pastes: bool,
        rng: random.Random,
    ) -> Example:
        """Returns the example, with a caption of present and absent names in random order."""
        present = sorted({label for thing in things for label in thing.labels})
        words: dict[str, list[int]] = {}
        for label in present:
            rows = [row for row, thing in enumerate(things) if label in thing.labels]
            words.setdefault(self._wording(label, rng), []).extend(rows)
        for row, thing in enumerate(things):
            if thing.word is not None and row not in words.setdefault(thing.word, []):
                words[thing.word].append(row)
        absent = [label for label in range(len(self.names)) if label not in present and label not in unclear]
        count = min(len(absent), most_absent or rng.randint(*self.looks.absent))
        used = {part for word in words for part in word.split()}
        for label in rng.sample(absent, min(count, max(0, _MOST_NAMES - len(words)))):
            word = self._wording(label, rng)
            if word not in words:
                words[word] = []
                used.update(word.split())
        for cutout in rng.sample(self.cutouts, min(rng.randint(1, 4), len(self.cutouts))) if pastes else ():
            # The photograph may show unannotated objects, so only names that share no word with the others are used.
            if not self._set.labels_of(cutout) and not used & set(cutout.name.split()):
                words[cutout.name] = []
        order = list(words)
        rng.shuffle(order)
        return _written(image, things, [(word, words[word]) for word in order])

    def _wording(self, label: int, rng: random.Random) -> str:
        name = self.names[label]
        others = self._set.others[label]
        return rng.choice(others) if others and rng.random() < self.looks.synonyms else name


@dataclass(frozen=True, eq=False)
class _Set:
    names: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]
    images: ImageTable
    boxes: tuple[Boxes, ...]
    labels: tuple[list[int], ...]
    repeated: tuple[int, ...]
    label_of_word: Mapping[str, int]

    def shown_on(self, size_wh: SizeWH) -> tuple[int, ...]:
        """Returns indices of the images that fit a canvas, repeated ones several times; all if too few do."""
        key = size_wh[0] / size_wh[1]
        if key not in self._shown:
            ratios = self.images.sizes_wh[:, 0] / self.images.sizes_wh[:, 1]
            fits = tuple(i for i in self.repeated if key / _RATIO < ratios[i] < key * _RATIO)
            self._shown[key] = fits if len(fits) > len(self.repeated) // 20 else self.repeated
        return self._shown[key]

    @cached_property
    def _shown(self) -> dict[float, tuple[int, ...]]:
        return {}

    def labels_of(self, cutout: Cutout) -> tuple[int, ...]:
        """Returns the classes of a cut-out: by its name, the last words of it, or its family."""
        parts = cutout.name.split()
        words = [" ".join(parts[start:]) for start in range(len(parts))]
        words.append(_CLASS_OF_GROUP.get(cutout.group, ""))
        return tuple(sorted({self.label_of_word[word] for word in words if word in self.label_of_word}))


def _read_set(folder: Path, repeat_below: float) -> _Set:
    dataset = load_coco(folder / ANNOTATIONS)
    names = tuple(" ".join(clean_name(name).lower().split()) for name in dataset.names)
    if not names or not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"{folder / ANNOTATIONS} has the classes {list(dataset.names)!r}; names must differ and contain letters."
        )
    others = tuple(tuple(word for word in SYNONYMS.get(name, ()) if word not in names) for name in names)
    kept = [image for image in dataset.images if image.width and image.height]
    boxes, labels = zip(*_boxes_of(dataset, [image.id for image in kept]), strict=True) if kept else ((), ())
    if not any(labels):
        raise InputError(f"There is nothing to learn from: {folder / ANNOTATIONS} has no box.")
    images = ImageTable.of(((image.file_name, image.width, image.height) for image in kept), folder)
    words = {word: label for label, group in enumerate(others) for word in group}
    words |= {name: label for label, name in enumerate(names)}
    return _Set(names, others, images, tuple(boxes), tuple(labels), repeated_indices(labels, repeat_below), words)


def _boxes_of(dataset: CocoDataset, images: Sequence[int]) -> Iterator[tuple[Boxes, list[int]]]:
    label_of, by_image = dataset.label_of_category, dataset.boxes_by_image()
    for image in images:
        own = [box for box in by_image[image] if not box.iscrowd]
        boxes = np.array([box.bbox for box in own], np.float32).reshape(-1, 4)
        yield xywh_to_xyxy(boxes), [label_of[box.category_id] for box in own]


def repeated_indices(labels: Sequence[Sequence[int]], below: float) -> tuple[int, ...]:
    """Returns indices of images, those with a rare class several times. Source: repeat factors, arXiv:1908.03195.

    Args:
        labels: of the boxes of each image.
        below: share of the images; a class in fewer is rare.
    """
    share = {label: count / len(labels) for label, count in Counter(x for own in labels for x in set(own)).items()}
    indices: list[int] = []
    debt = 0.0  # fractions of a copy add up, so that 1.5 copies are one and two in turn
    for index, own in enumerate(labels):
        factor = max((math.sqrt(below / share[label]) for label in set(own)), default=1.0)
        debt += max(1.0, factor)
        indices += [index] * int(debt)
        debt -= int(debt)
    return tuple(indices)


def _free_corner(
    image_wh: SizeWH, sprite_wh: SizeWH, boxes: Sequence[Sequence[float]], rng: random.Random
) -> tuple[int, int] | None:
    """Draws the upper left corner of a sprite that hides little of every box; None if there is none."""
    room = [side - own for side, own in zip(image_wh, sprite_wh, strict=True)]
    if min(room) < 0:
        return None
    for _ in range(_TRIES):
        left, top = rng.randint(0, room[0]), rng.randint(0, room[1])
        right, bottom = left + sprite_wh[0], top + sprite_wh[1]
        for box in boxes:
            shared = max(0.0, min(right, box[2]) - max(left, box[0])) * max(0.0, min(bottom, box[3]) - max(top, box[1]))
            if shared > _MOST_COVERED * (box[2] - box[0]) * (box[3] - box[1]):
                break
        else:
            return left, top
    return None


def _written(image: Image.Image, things: Sequence[_Thing], words: Sequence[tuple[str, list[int]]]) -> Example:
    spans: list[list[Span]] = [[] for _ in things]
    caption = ""
    for word, rows in words:
        caption += SEPARATOR if caption else ""
        for row in rows:
            spans[row].append((len(caption), len(caption) + len(word)))
        caption += word
    boxes = np.array([thing.box for thing in things], np.float32).reshape(-1, 4)
    return Example(image, caption, boxes, tuple(map(tuple, spans)))


def photo_words(streams: Sequence[PhotoStream]) -> list[str]:
    """Returns every word that captions of these streams use, in alphabetical order."""
    texts = [name for stream in streams for name in stream.names]
    texts += [word for name in set(texts) for word in SYNONYMS.get(name, ())]
    texts += [cutout.name for stream in streams for cutout in stream.cutouts]
    return sorted({word for text in texts for word in re.findall(r"[a-z0-9]+", text.lower())})
