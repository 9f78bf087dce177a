"""Draws the objects of scenes, with one sampler per split, and describes the style of scenes.

Knows names. Knows nothing of pixels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from glip.data.synthetic.naming import SceneVocabulary, Thing
from glip.data.synthetic.words import PLAIN, SEEN_PAIRS, TEXTURES, UNSEEN_PAIRS, Pair
from glip.errors import InputError

Split = Literal["train", "seen", "unseen pairs", "held out"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class ObjectSampler:
    """Draws the objects of a split's scenes.

    Attributes:
        stream: part of the seed, so that no scene of one split equals one of another.
        groups: groups to draw from, each with its weight: names of images, or colours with kinds.
        vocabulary: the names that class lists and captions may use.
    """

    stream: str
    groups: tuple[tuple[float, tuple[str, ...] | tuple[Pair, ...]], ...]
    vocabulary: SceneVocabulary

    def draw(self, rng: random.Random) -> Thing:
        """Draws an object, without a size."""
        group: Sequence[str | Pair] = rng.choices([group for _, group in self.groups], [w for w, _ in self.groups])[0]
        choice = rng.choice(group)
        if isinstance(choice, str):
            return Thing(choice)
        texture = PLAIN if rng.random() < 0.5 else rng.choice(TEXTURES)
        return Thing(choice[1], choice[0], texture)


@dataclass(frozen=True)
class Look:
    """The style of scenes.

    Attributes:
        objects: minimum and maximum number of objects in a scene.
        scale: minimum and maximum long side of an object, relative to the geometric mean of the scene's sides.
        backgrounds: keys of `BACKGROUNDS`.
        clutter: maximum number of unnamed things behind the objects.
        grey: whether scenes have no colours.
    """

    objects: tuple[int, int] = (1, 12)
    scale: tuple[float, float] = (0.07, 0.5)
    backgrounds: tuple[str, ...] = ("noise", "gradient", "stripes", "texture", "blobs", "patches", "strokes", "flat")
    clutter: int = 5
    grey: bool = False


def sampler_of_split(
    split: Split, trained: tuple[str, ...], held_out: tuple[str, ...], shapes: float = 0.4
) -> ObjectSampler:
    """Returns the sampler of a split.

    Args:
        split: 'train' and 'seen' show the same things in different scenes; half of the shapes of 'unseen pairs' have a
            colour that 'train' never gives to their kind; 'held out' shows images that 'train' never shows.
        trained: names of images that pre-training shows, as in `SpritePool`.
        held_out: names of images that it does not show.
        shapes: share of the objects that are drawn shapes; without images all are.

    Raises:
        InputError: the split or the share cannot be used, or no image is held out.
    """
    if split not in SPLITS:
        raise InputError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}.")
    if not 0 <= shapes <= 1:
        raise InputError(f"shapes is {shapes}; it must lie between 0 and 1.")
    if split == "held out":
        if not held_out:
            raise InputError(
                "split is 'held out', but none of the available images is held out. Install an emoji font."
            )
        return ObjectSampler(split, ((1.0, held_out),), SceneVocabulary((*held_out, *trained), SEEN_PAIRS))
    shapes = shapes if trained else 1.0
    if split == "unseen pairs":
        groups = ((1 - shapes, trained), (shapes / 2, SEEN_PAIRS), (shapes / 2, UNSEEN_PAIRS))
        # Named as often as seen pairs, else they would only be in the prompt where they are in the image.
        balanced = SEEN_PAIRS + UNSEEN_PAIRS * (len(SEEN_PAIRS) // len(UNSEEN_PAIRS))
        return ObjectSampler(split, groups, SceneVocabulary(trained, balanced))
    return ObjectSampler(split, ((1 - shapes, trained), (shapes, SEEN_PAIRS)), SceneVocabulary(trained, SEEN_PAIRS))
