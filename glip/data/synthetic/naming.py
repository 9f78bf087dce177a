"""What an object may be called: which names fit it, and which names to ask for in a scene.

Knows words. Knows nothing of images.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from glip.data.synthetic.words import COLOURS, KINDS, PLAIN, SIZES, TEXTURES, Pair

_ASKED = 0.85  # share of the objects that the names of a scene are made for; the others must be left alone
_MOST_RIGHT = 0.7  # share of the names that fit something
_HARD = 0.6  # share of the negatives that are nearly right
_NEIGHBOURS = 6  # so far apart in the order of Unicode images are alike: fruit beside fruit


@dataclass(frozen=True)
class Thing:
    """What an object is.

    Attributes:
        noun: 'circle', or the name of an image: 'dog face'.
        colour, texture: of drawn shapes; '' for images.
        size: 'small', 'large', or '' where neither may be said.
    """

    noun: str
    colour: str = ""
    texture: str = ""
    size: str = ""

    @property
    def is_shape(self) -> bool:
        """Whether it is drawn, not an image."""
        return self.texture != ""

    @property
    def label(self) -> str:
        """Its class: 'red circle', 'dog face'."""
        return _joined(self.colour, self.noun)

    @property
    def name(self) -> str:
        """All that can be said: 'small striped red circle', 'dog face'."""
        return _joined(self.size if self.is_shape else "", self.texture, self.colour, self.noun)


def fits(name: str, thing: Thing) -> bool:
    """Whether a thing may be called so: 'circle', 'red circle' and 'small circle' fit a small striped red circle."""
    before, found, after = name.rpartition(thing.noun)
    if not found or after or (before and not before.endswith(" ")):
        return False
    return all(word in (thing.size, thing.texture, thing.colour) for word in before.split())


@dataclass(frozen=True)
class Vocabulary:
    """What may be asked for.

    Attributes:
        nouns: names of images, similar ones near each other.
        pairs: of drawn shapes; () if none may be named. One that stands there twice is asked for twice as often.
    """

    nouns: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()

    def similar(self, noun: str) -> tuple[str, ...]:
        """Images of the same group: with a word in common, or neighbours."""
        return self._similar.get(noun, self.nouns)

    def allows(self, thing: Thing) -> bool:
        """Whether a shape of this colour may be named; a shape without a colour always may."""
        return not thing.colour or (thing.colour, thing.noun) in self._pairs

    @cached_property
    def _pairs(self) -> frozenset[Pair]:
        return frozenset(self.pairs)

    @cached_property
    def _similar(self) -> dict[str, tuple[str, ...]]:
        holders: dict[str, list[str]] = {}
        for noun in self.nouns:
            for word in noun.split():
                holders.setdefault(word, []).append(noun)
        groups = {}
        for place, noun in enumerate(self.nouns):
            near = self.nouns[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS + 1]
            kin = (other for word in noun.split() if len(word) > 3 for other in holders[word])
            groups[noun] = tuple(dict.fromkeys(other for other in (*near, *kin) if other != noun))
        return groups


@dataclass(frozen=True)
class Asked:
    """A name to look for in a scene, and the indices of the objects that it fits; () if it is a negative."""

    name: str
    objects: tuple[int, ...]


def sample_names(
    things: Sequence[Thing], vocabulary: Vocabulary, rng: random.Random, count: tuple[int, int] = (5, 25)
) -> tuple[Asked, ...]:
    """Names to ask for in a scene: of most of its objects, of things nearly like them, and of others; shuffled.

    Args:
        things: what the scene shows.
        count: least and most names; fewer if the vocabulary has no more, or the objects need more.
    """
    wanted = rng.randint(*count)
    names: dict[str, tuple[int, ...]] = {}
    for thing in rng.sample(list(things), len(things)):
        if len(names) < _MOST_RIGHT * wanted and rng.random() < _ASKED:
            name = said(thing, vocabulary, rng)
            names[name] = tuple(index for index, other in enumerate(things) if fits(name, other))
    for _ in range(8 * wanted):  # a small vocabulary may not have that many
        if len(names) >= wanted:
            break
        name = _negative(things, vocabulary, rng)
        if name and name not in names and not any(fits(name, thing) for thing in things):
            names[name] = ()
    asked = [Asked(name, objects) for name, objects in names.items()]
    rng.shuffle(asked)
    return tuple(asked)


def said(thing: Thing, vocabulary: Vocabulary, rng: random.Random) -> str:
    """One of the names that fit a thing: sometimes all that can be said, sometimes little."""
    if not thing.is_shape:
        return _joined(thing.size if rng.random() < 0.1 else "", thing.noun)
    colour = thing.colour if rng.random() < 0.85 and vocabulary.allows(thing) else ""
    texture = thing.texture if rng.random() < (0.1 if thing.texture == PLAIN else 0.5) else ""
    size = thing.size if rng.random() < 0.35 else ""
    return _joined(size, texture, colour, thing.noun, keep_plain=True)


def _negative(things: Sequence[Thing], vocabulary: Vocabulary, rng: random.Random) -> str:
    """A name that probably fits nothing here; '' if none was found."""
    if things and rng.random() < _HARD:
        return _nearly(rng.choice(things), vocabulary, rng)
    if vocabulary.pairs and (not vocabulary.nouns or rng.random() < 0.4):
        colour, kind = rng.choice(vocabulary.pairs)
        return said(Thing(kind, colour, rng.choice(TEXTURES), rng.choice(SIZES)), vocabulary, rng)
    return rng.choice(vocabulary.nouns) if vocabulary.nouns else ""


def _nearly(thing: Thing, vocabulary: Vocabulary, rng: random.Random) -> str:
    """A name of something that differs from `thing` in one attribute, or is of its group."""
    if not thing.is_shape:
        if thing.size and rng.random() < 0.1:
            return f"{_other(SIZES, thing.size, rng)} {thing.noun}"
        group = vocabulary.similar(thing.noun)
        return rng.choice(group) if group else ""
    changed = rng.choices(("colour", "noun", "texture", "size"), (4, 3, 2, 1))[0]
    choices: Mapping[str, tuple[str, ...]] = {"colour": COLOURS, "noun": KINDS, "texture": TEXTURES, "size": SIZES}
    other = replace(thing, **{changed: _other(choices[changed], getattr(thing, changed), rng)})
    if not vocabulary.allows(other) or not vocabulary.pairs:
        return ""
    # What was changed must be said, else the name fits as before.
    words = {part: getattr(other, part) if rng.random() < 0.5 else "" for part in ("size", "texture", "colour")}
    words |= {changed: getattr(other, changed)} if changed != "noun" else {}
    return _joined(words["size"], words["texture"], words["colour"], other.noun, keep_plain=True)


def _other(choices: Sequence[str], value: str, rng: random.Random) -> str:
    return rng.choice([choice for choice in choices if choice != value])


def _joined(*words: str, keep_plain: bool = False) -> str:
    return " ".join(word for word in words if word and (keep_plain or word != PLAIN))
