"""Decides which names fit an object, and draws the class list of a scene.

Knows words. Knows nothing of images.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from glip.data.synthetic.words import COLOURS, KINDS, PLAIN, SIZES, TEXTURES, Pair

_NAMED = 0.85  # share of the objects that get a name in the class list; the others must not be detected
_MAXIMUM_PRESENT = 0.7  # maximum share of the names that fit an object
_HARD = 0.6  # share of the negative names that differ little from an object's
_NEIGHBOURS = 6  # images within this distance in the order of Unicode are similar: fruit beside fruit


@dataclass(frozen=True)
class Thing:
    """The attributes of an object.

    Attributes:
        noun: 'circle', or the name of an image: 'dog face'.
        colour: colour of a drawn shape; '' for images.
        texture: texture of a drawn shape; '' for images.
        size: 'small', 'large', or '' for sizes between.
    """

    noun: str
    colour: str = ""
    texture: str = ""
    size: str = ""

    @property
    def is_shape(self) -> bool:
        """Returns whether it is a drawn shape rather than an image."""
        return self.texture != ""

    @property
    def label(self) -> str:
        """Returns its class: 'red circle', 'dog face'."""
        return _joined(self.colour, self.noun)

    @property
    def name(self) -> str:
        """Returns its full name: 'small striped red circle', 'dog face'."""
        return _joined(self.size if self.is_shape else "", self.texture, self.colour, self.noun)


def fits(name: str, thing: Thing) -> bool:
    """Returns whether a name is right for a thing: 'circle' and 'red circle' fit a small striped red circle."""
    before, found, after = name.rpartition(thing.noun)
    if not found or after or (before and not before.endswith(" ")):
        return False
    return all(word in (thing.size, thing.texture, thing.colour) for word in before.split())


@dataclass(frozen=True)
class SceneVocabulary:
    """The names that class lists are drawn from.

    Attributes:
        nouns: names of the small images in scenes, with similar ones near each other.
        pairs: colours and kinds of drawn shapes; () if none may be named. A pair listed twice is drawn twice as often.
    """

    nouns: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()

    def similar(self, noun: str) -> tuple[str, ...]:
        """Returns nouns of similar images: neighbours in `nouns`, and those with a word in common."""
        return self._similar.get(noun, self.nouns)

    def allows(self, thing: Thing) -> bool:
        """Returns whether a shape of this colour may be named; a shape without a colour always may."""
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
        for index, noun in enumerate(self.nouns):
            near = self.nouns[max(0, index - _NEIGHBOURS) : index + _NEIGHBOURS + 1]
            kin = (other for word in noun.split() if len(word) > 3 for other in holders[word])
            groups[noun] = tuple(dict.fromkeys(other for other in (*near, *kin) if other != noun))
        return groups


@dataclass(frozen=True)
class AskedName:
    """A name of a scene's class list, and the indices of the objects that it fits; () for a negative."""

    name: str
    objects: tuple[int, ...]


def sample_names(
    things: Sequence[Thing], vocabulary: SceneVocabulary, rng: random.Random, count: tuple[int, int] = (5, 25)
) -> tuple[AskedName, ...]:
    """Draws the class list of a scene: names of most of its objects, of similar things, and of others; shuffled.

    Args:
        things: the objects of the scene.
        vocabulary: the names to draw from.
        rng: source of randomness.
        count: minimum and maximum number of names; fewer if the vocabulary is too small.
    """
    wanted = rng.randint(*count)
    names: dict[str, tuple[int, ...]] = {}
    for thing in rng.sample(list(things), len(things)):
        if len(names) < _MAXIMUM_PRESENT * wanted and rng.random() < _NAMED:
            name = choose_name(thing, vocabulary, rng)
            names[name] = tuple(index for index, other in enumerate(things) if fits(name, other))
    for _ in range(8 * wanted):  # a small vocabulary may have fewer names
        if len(names) >= wanted:
            break
        name = _negative(things, vocabulary, rng)
        if name and name not in names and not any(fits(name, thing) for thing in things):
            names[name] = ()
    asked = [AskedName(name, objects) for name, objects in names.items()]
    rng.shuffle(asked)
    return tuple(asked)


def choose_name(thing: Thing, vocabulary: SceneVocabulary, rng: random.Random) -> str:
    """Returns one of the names that fit an object, with more or fewer of its attributes."""
    if not thing.is_shape:
        return _joined(thing.size if rng.random() < 0.1 else "", thing.noun)
    colour = thing.colour if rng.random() < 0.85 and vocabulary.allows(thing) else ""
    texture = thing.texture if rng.random() < (0.1 if thing.texture == PLAIN else 0.5) else ""
    size = thing.size if rng.random() < 0.35 else ""
    return _joined(size, texture, colour, thing.noun, keep_plain=True)


def _negative(things: Sequence[Thing], vocabulary: SceneVocabulary, rng: random.Random) -> str:
    """Returns a name that probably fits no object of the scene; '' if none was found."""
    if things and rng.random() < _HARD:
        return _nearly(rng.choice(things), vocabulary, rng)
    if vocabulary.pairs and (not vocabulary.nouns or rng.random() < 0.4):
        colour, kind = rng.choice(vocabulary.pairs)
        return choose_name(Thing(kind, colour, rng.choice(TEXTURES), rng.choice(SIZES)), vocabulary, rng)
    return rng.choice(vocabulary.nouns) if vocabulary.nouns else ""


def _nearly(thing: Thing, vocabulary: SceneVocabulary, rng: random.Random) -> str:
    """Returns the name of something that differs from `thing` in one attribute, or is similar; '' if there is none."""
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
    # The changed attribute must be named, else the name would still fit.
    words = {part: getattr(other, part) if rng.random() < 0.5 else "" for part in ("size", "texture", "colour")}
    words |= {changed: getattr(other, changed)} if changed != "noun" else {}
    return _joined(words["size"], words["texture"], words["colour"], other.noun, keep_plain=True)


def _other(choices: Sequence[str], value: str, rng: random.Random) -> str:
    return rng.choice([choice for choice in choices if choice != value])


def _joined(*words: str, keep_plain: bool = False) -> str:
    return " ".join(word for word in words if word and (keep_plain or word != PLAIN))
