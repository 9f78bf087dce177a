"""Writes a sentence about a scene, and records the span of every phrase.

Knows names and boxes. Knows nothing of pixels.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from glip.data.synthetic.naming import SceneVocabulary, Thing, choose_name, fits

BoxXYWH = tuple[float, float, float, float]
MAXIMUM_PHRASES = 5
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
RELATIONS = ("left of", "right of", "above", "below")
_LINK = re.compile(r" (?=(?:of|with|without|and|in|on|over|at|holding|behind|throwing|screaming|savouring) )")
OPENINGS = ("", "", "an image of ", "I see ", "here you see ")


@dataclass(frozen=True)
class ScenePhrase:
    """A part of a caption.

    Attributes:
        span: its characters [start, end).
        objects: indices of the objects it names.
    """

    span: tuple[int, int]
    objects: tuple[int, ...]


@dataclass(frozen=True)
class SceneCaption:
    """A text and its phrases."""

    text: str
    phrases: tuple[ScenePhrase, ...]


@dataclass
class _Writer:
    text: str = ""
    phrases: list[ScenePhrase] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.text += text

    def name(self, mention: _Mention) -> None:
        self.text += mention.before
        start = len(self.text)
        self.text += mention.words
        self.phrases.append(ScenePhrase((start, len(self.text)), mention.objects))


@dataclass(frozen=True)
class _Mention:
    before: str  # 'a ', 'two '
    words: str
    objects: tuple[int, ...]


def write_caption(
    things: Sequence[Thing], boxes_xywh: Sequence[BoxXYWH], vocabulary: SceneVocabulary, rng: random.Random
) -> SceneCaption:
    """Writes a sentence about some of the objects; every phrase stands for all objects that it fits.

    Args:
        things: at least one object.
        boxes_xywh: box of each object in pixels.
        vocabulary: the names that may be used.
        rng: source of randomness.
    """
    mentions = _mentions(things, vocabulary, rng)
    writer = _Writer(rng.choice(OPENINGS))
    for index, mention in enumerate(mentions):
        last = index == len(mentions) - 1
        relation = _relation(mentions[index - 1], mention, boxes_xywh) if index % 2 else None
        if index:
            writer.add(f" {relation} " if relation else " and " if last else ", ")
        writer.name(mention)
    return SceneCaption(writer.text, tuple(writer.phrases))


def _mentions(things: Sequence[Thing], vocabulary: SceneVocabulary, rng: random.Random) -> list[_Mention]:
    """Returns up to `MAXIMUM_PHRASES` phrases; no object is in two of them."""
    mentions: list[_Mention] = []
    spoken: set[int] = set()
    wanted = rng.randint(1, MAXIMUM_PHRASES)
    for index in rng.sample(range(len(things)), len(things)):
        name = choose_name(things[index], vocabulary, rng)
        objects = tuple(other for other, thing in enumerate(things) if fits(name, thing))
        if spoken.isdisjoint(objects) and len(mentions) < wanted:
            spoken.update(objects)
            if len(objects) > 1:
                mentions.append(_Mention(f"{_number(len(objects))} ", plural(name), objects))
            else:
                mentions.append(_Mention(article(name), name, objects))
    return mentions


def _relation(one: _Mention, other: _Mention, boxes_xywh: Sequence[BoxXYWH]) -> str | None:
    """Returns the relation of `one` to `other`; None if either is several objects, or the boxes overlap."""
    if len(one.objects) > 1 or len(other.objects) > 1:
        return None
    (x, y, width, height), (x2, y2, width2, height2) = boxes_xywh[one.objects[0]], boxes_xywh[other.objects[0]]
    plain_to_see = (x + width <= x2, x2 + width2 <= x, y + height <= y2, y2 + height2 <= y)
    return next((relation for relation, seen in zip(RELATIONS, plain_to_see, strict=True) if seen), None)


def _number(count: int) -> str:
    """Returns a count of at least two as a word."""
    return NUMBERS[count - 2] if count - 2 < len(NUMBERS) else "many"


def article(name: str) -> str:
    """Returns the article of a name: 'a ', 'an ', or '' for what looks like a plural, as 'jeans'."""
    head = _LINK.split(name)[0]
    if head.endswith("s") and not head.endswith(("ss", "us")):
        return ""
    return "an " if head[0] in "aeiou" and not head.startswith(("one", "uni", "eu")) else "a "


def plural(name: str) -> str:
    """Returns the plural of a name: 'dog faces', 'slices of pizza', 'cherries'."""
    head = _LINK.split(name)[0]
    return _plural(head) + name[len(head) :]


def _plural(head: str) -> str:
    if head.endswith("y") and head[-2:-1] not in tuple("aeiou"):
        return head[:-1] + "ies"
    if head.endswith(("ch", "sh", "ss", "us", "x", "z")):
        return head + "es"
    return head if head.endswith("s") else head + "s"
