"""Makes the word pieces of a model that learns from synthetic scenes: their words whole, others letter by letter."""

from __future__ import annotations

import re
import string

from glip.data.synthetic.captions import NUMBERS, OPENINGS, RELATIONS, plural
from glip.data.synthetic.sprite_pool import SpritePool
from glip.data.synthetic.words import COLOURS, HELD_OUT, KINDS, SIZES, TEXTURES

_GLUE = ("a", "an", "and", "many")


def scene_words(pool: SpritePool) -> list[str]:
    """Returns every word of scenes' names and sentences, in alphabetical order.

    Words of held-out names are included, so that learning these later begins with one token per word.
    """
    nouns = {*pool.sprites, *HELD_OUT, *KINDS}
    texts = [*nouns, *map(plural, nouns), *COLOURS, *TEXTURES, *SIZES, *OPENINGS, *NUMBERS, *RELATIONS, *_GLUE]
    return sorted({word for text in texts for word in re.findall(r"[a-z0-9]+", text.lower())})


def scene_vocabulary(pool: SpritePool, special: tuple[str, ...]) -> list[str]:
    """Returns a vocabulary in the order of the ids: special tokens, punctuation, letters, whole words."""
    letters = string.ascii_lowercase + string.digits
    spelled = [*special, *string.punctuation, *letters, *(f"##{letter}" for letter in letters)]
    return [*spelled, *(word for word in scene_words(pool) if word not in letters)]
