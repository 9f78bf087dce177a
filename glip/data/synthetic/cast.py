"""Who may appear in scenes, what they may be called, and how scenes look: one cast for each split.

Knows names. Knows nothing of pixels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from glip.data.synthetic.naming import Thing, Vocabulary
from glip.data.synthetic.words import PLAIN, SEEN_PAIRS, TEXTURES, UNSEEN_PAIRS, Pair
from glip.errors import InputError

Split = Literal["train", "seen", "unseen pairs", "held out"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Cast:
    """Who appears.

    Attributes:
        stream: part of the seed, so that no scene of one split is one of another.
        groups: what is drawn from, each with its weight: names of images, or colours with kinds.
        vocabulary: what may be asked for.
    """

    stream: str
    groups: tuple[tuple[float, tuple[str, ...] | tuple[Pair, ...]], ...]
    vocabulary: Vocabulary

    def draw(self, rng: random.Random) -> Thing:
        """One who appears, without a size yet."""
        group: Sequence[str | Pair] = rng.choices([group for _, group in self.groups], [w for w, _ in self.groups])[0]
        choice = rng.choice(group)
        if isinstance(choice, str):
            return Thing(choice)
        texture = PLAIN if rng.random() < 0.5 else rng.choice(TEXTURES)
        return Thing(choice[1], choice[0], texture)


@dataclass(frozen=True)
class Look:
    """How scenes look.

    Attributes:
        objects: fewest and most in a scene.
        scale: smallest and largest long side of an object, of the geometric mean of the scene's sides.
        backgrounds: keys of `BACKGROUNDS`.
        clutter: most things without a name, behind the objects.
        grey: without colours.
    """

    objects: tuple[int, int] = (1, 12)
    scale: tuple[float, float] = (0.07, 0.5)
    backgrounds: tuple[str, ...] = ("noise", "gradient", "stripes", "texture", "blobs", "patches", "strokes", "flat")
    clutter: int = 5
    grey: bool = False


def cast_of(split: Split, trained: tuple[str, ...], held_out: tuple[str, ...], shapes: float = 0.4) -> Cast:
    """The cast of a split.

    Args:
        split: 'train' and 'seen' show the same things in different scenes; half of the shapes of 'unseen pairs'
            have a colour that 'train' never gives to their kind; 'held out' shows images that 'train' never does.
        trained, held_out: names of images, as in `SpritePool`.
        shapes: share of the objects that are drawn shapes; all of them where there is no image.

    Raises:
        InputError: an unknown split, a share that is none, or no image that is held out.
    """
    if split not in SPLITS:
        raise InputError(f"There is no split {split!r}. Accepted: {', '.join(SPLITS)}.")
    if not 0 <= shapes <= 1:
        raise InputError(f"The share of drawn shapes is {shapes}, but must lie between 0 and 1.")
    if split == "held out":
        if not held_out:
            raise InputError("The split 'held out' needs images, and none of those at hand is held out.")
        return Cast(split, ((1.0, held_out),), Vocabulary((*held_out, *trained), SEEN_PAIRS))
    shapes = shapes if trained else 1.0
    if split == "unseen pairs":
        groups = ((1 - shapes, trained), (shapes / 2, SEEN_PAIRS), (shapes / 2, UNSEEN_PAIRS))
        # Asked for as often as seen pairs, else they are in the prompt only where they are in the image.
        balanced = SEEN_PAIRS + UNSEEN_PAIRS * (len(SEEN_PAIRS) // len(UNSEEN_PAIRS))
        return Cast(split, groups, Vocabulary(trained, balanced))
    return Cast(split, ((1 - shapes, trained), (shapes, SEEN_PAIRS)), Vocabulary(trained, SEEN_PAIRS))
