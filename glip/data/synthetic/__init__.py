"""Draws synthetic scenes: named objects on varied backgrounds, with boxes, captions and class lists.

    pool = load_pool()                                # emoji of the system's font; drawn shapes always
    maker = SceneMaker.of_split(pool, "train", seed=0)
    scene = maker.scene(index, size_wh=(224, 192))    # image, objects with boxes, caption with spans
    names = maker.names(index, scene)                 # 5-25 names, present and absent, with the objects that each fits

Everything follows from (seed, split, index). Only needs numpy and Pillow.
"""

from __future__ import annotations

from glip.data.synthetic.captions import SceneCaption, ScenePhrase
from glip.data.synthetic.folder import FolderSummary, SceneJob, write_scenes
from glip.data.synthetic.mini_odinw import MINI_ODINW, MiniSet, sets_of_themes, write_mini_odinw
from glip.data.synthetic.naming import AskedName, SceneVocabulary, Thing, fits, sample_names
from glip.data.synthetic.object_sampler import SPLITS, Look, ObjectSampler, Split, sampler_of_split
from glip.data.synthetic.scenes import Scene, SceneMaker, SceneObject
from glip.data.synthetic.sprite_pool import SpritePool, load_pool

__all__ = [
    "MINI_ODINW",
    "SPLITS",
    "AskedName",
    "FolderSummary",
    "Look",
    "MiniSet",
    "ObjectSampler",
    "Scene",
    "SceneCaption",
    "SceneJob",
    "SceneMaker",
    "SceneObject",
    "ScenePhrase",
    "SceneVocabulary",
    "Split",
    "SpritePool",
    "Thing",
    "fits",
    "load_pool",
    "sample_names",
    "sampler_of_split",
    "sets_of_themes",
    "write_mini_odinw",
    "write_scenes",
]
