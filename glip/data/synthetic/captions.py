"""A sentence about a scene, with the place of every phrase, noted while it is written.

Knows names and boxes. Knows nothing of pixels.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from glip.data.synthetic.naming import Thing, Vocabulary, fits, said

BoxXYWH = tuple[float, float, float, float]
MOST_PHRASES = 5
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
RELATIONS = ("left of", "right of", "above", "below")
_LINK = re.compile(r" (?=(?:of|with|without|and|in|on|over|at|holding|behind|throwing|screaming|savouring) )")
OPENINGS = ("", "", "an image of ", "I see ", "here you see ")


@dataclass(frozen=True)
class Phrase:
    """A part of a caption.

    Attributes:
        span: its characters [start, end).
        objects: indices of what it speaks of.
    """

    span: tuple[int, int]
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Caption:
    """A text and what its phrases speak of."""

    text: str
    phrases: tuple[Phrase, ...]


@dataclass
class _Writer:
    text: str = ""
    phrases: list[Phrase] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.text += text

    def name(self, mention: _Mention) -> None:
        self.text += mention.before
        start = len(self.text)
        self.text += mention.words
        self.phrases.append(Phrase((start, len(self.text)), mention.objects))


@dataclass(frozen=True)
class _Mention:
    before: str  # 'a ', 'two '
    words: str
    objects: tuple[int, ...]


def write_caption(
    things: Sequence[Thing], boxes_xywh: Sequence[BoxXYWH], vocabulary: Vocabulary, rng: random.Random
) -> Caption:
    """A sentence about some of the objects; every phrase speaks of all objects that it fits.

    Args:
        things: at least one.
        boxes_xywh: where each is, in pixels.
        vocabulary: what may be said.
    """
    mentions = _mentions(things, vocabulary, rng)
    writer = _Writer(rng.choice(OPENINGS))
    for place, mention in enumerate(mentions):
        last = place == len(mentions) - 1
        relation = _relation(mentions[place - 1], mention, boxes_xywh) if place % 2 else None
        if place:
            writer.add(f" {relation} " if relation else " and " if last else ", ")
        writer.name(mention)
    return Caption(writer.text, tuple(writer.phrases))


def _mentions(things: Sequence[Thing], vocabulary: Vocabulary, rng: random.Random) -> list[_Mention]:
    """Up to `MOST_PHRASES` phrases, no object in two of them."""
    mentions: list[_Mention] = []
    spoken: set[int] = set()
    wanted = rng.randint(1, MOST_PHRASES)
    for index in rng.sample(range(len(things)), len(things)):
        name = said(things[index], vocabulary, rng)
        objects = tuple(other for other, thing in enumerate(things) if fits(name, thing))
        if spoken.isdisjoint(objects) and len(mentions) < wanted:
            spoken.update(objects)
            if len(objects) > 1:
                mentions.append(_Mention(f"{_number(len(objects))} ", plural(name), objects))
            else:
                mentions.append(_Mention(article(name), name, objects))
    return mentions


def _relation(one: _Mention, other: _Mention, boxes_xywh: Sequence[BoxXYWH]) -> str | None:
    """How `one` stands to `other`; None if they are many, or it is not plain to see."""
    if len(one.objects) > 1 or len(other.objects) > 1:
        return None
    (x, y, width, height), (x2, y2, width2, height2) = boxes_xywh[one.objects[0]], boxes_xywh[other.objects[0]]
    plain_to_see = (x + width <= x2, x2 + width2 <= x, y + height <= y2, y2 + height2 <= y)
    return next((relation for relation, seen in zip(RELATIONS, plain_to_see, strict=True) if seen), None)


def _number(count: int) -> str:
    """In a word; from two."""
    return NUMBERS[count - 2] if count - 2 < len(NUMBERS) else "many"


def article(name: str) -> str:
    """'a ', 'an ', or nothing before what looks like a plural: 'jeans'."""
    head = _LINK.split(name)[0]
    if head.endswith("s") and not head.endswith(("ss", "us")):
        return ""
    return "an " if head[0] in "aeiou" and not head.startswith(("one", "uni", "eu")) else "a "


def plural(name: str) -> str:
    """'dog faces', 'slices of pizza', 'cherries'."""
    head = _LINK.split(name)[0]
    return _plural(head) + name[len(head) :]


def _plural(head: str) -> str:
    if head.endswith("y") and head[-2:-1] not in tuple("aeiou"):
        return head[:-1] + "ies"
    if head.endswith(("ch", "sh", "ss", "us", "x", "z")):
        return head + "es"
    return head if head.endswith("s") else head + "s"
