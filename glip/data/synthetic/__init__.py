"""Synthetic scenes: images made of named things on varied backgrounds, with boxes, captions and names to ask for.

    pool = load_pool()                                # emoji of the system's font; drawn shapes always
    maker = SceneMaker.of_split(pool, "train", seed=0)
    scene = maker.scene(index, size_wh=(224, 192))    # image, objects with boxes, caption with spans
    asked = maker.names(index, scene)                 # 5-25 names, right and wrong, with the objects that each fits

Everything follows from (seed, split, index). Needs numpy and Pillow only.
"""

from __future__ import annotations

from glip.data.synthetic.captions import Caption, Phrase
from glip.data.synthetic.cast import SPLITS, Cast, Look, Split, cast_of
from glip.data.synthetic.folder import FolderSummary, SceneJob, write_scenes
from glip.data.synthetic.mini_odinw import MINI_ODINW, MiniSet, write_mini_odinw
from glip.data.synthetic.naming import Asked, Thing, Vocabulary, fits, sample_names
from glip.data.synthetic.scenes import Scene, SceneMaker, SceneObject
from glip.data.synthetic.sprite_pool import SpritePool, load_pool

__all__ = [
    "MINI_ODINW",
    "SPLITS",
    "Asked",
    "Caption",
    "Cast",
    "FolderSummary",
    "Look",
    "MiniSet",
    "Phrase",
    "Scene",
    "SceneJob",
    "SceneMaker",
    "SceneObject",
    "Split",
    "SpritePool",
    "Thing",
    "Vocabulary",
    "cast_of",
    "fits",
    "load_pool",
    "sample_names",
    "write_mini_odinw",
    "write_scenes",
]
