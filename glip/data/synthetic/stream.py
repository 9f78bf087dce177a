"""Makes an endless stream of scenes to learn from, with class lists or sentences. Each follows from its position."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from glip.boxes import xywh_to_xyxy
from glip.data.examples import Example, Span
from glip.data.synthetic.object_sampler import Look, Split, sampler_of_split
from glip.data.synthetic.scenes import Scene, SceneMaker
from glip.data.synthetic.sprite_pool import load_pool
from glip.prompts import SEPARATOR


@dataclass(frozen=True)
class Sides:
    """Sizes of scenes: the minimum and maximum of the square root of width times height, in pixels, and their share."""

    minimum: int
    maximum: int
    weight: float = 1.0


@dataclass(frozen=True)
class SceneStream:
    """Scenes as examples.

    Attributes:
        seed: determines all scenes.
        split: see `sampler_of_split`.
        names: number of images to draw from, those with the simplest names; None: all.
        shapes: share of the objects that are drawn shapes.
        objects: minimum and maximum number of objects in a scene.
        scale: minimum and maximum long side of an object, see `Look`.
        sides: sizes to draw from.
        widest: maximum ratio of a scene's sides.
        asked: minimum and maximum number of names in a class list.
        sentences: share of the scenes whose text is a sentence instead of a class list.
        group: number of consecutive scenes of one size, so that a batch needs no padding.
        sprites: folder of images, instead of the emoji font.
    """

    seed: int = 0
    split: Split = "train"
    names: int | None = None
    shapes: float = 0.4
    objects: tuple[int, int] = (1, 12)
    scale: tuple[float, float] = (0.07, 0.5)
    sides: tuple[Sides, ...] = (Sides(160, 480),)
    widest: float = 1.5
    asked: tuple[int, int] = (5, 25)
    sentences: float = 0.15
    group: int = 1
    sprites: Path | None = None

    @property
    def epoch_length(self) -> int | None:
        """Returns None: no scene is repeated."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        # A worker process loads the images itself, which is faster than sending them.
        return {name: value for name, value in vars(self).items() if name != "maker"}

    @cached_property
    def maker(self) -> SceneMaker:
        """Returns the maker of the scenes."""
        pool = load_pool(self.sprites)
        if self.names is not None:
            pool = pool.simplest(self.names)
        sampler = sampler_of_split(self.split, pool.trained, pool.held_out, self.shapes)
        return SceneMaker(pool, sampler, self.seed, Look(objects=self.objects, scale=self.scale))

    def example(self, position: int, size_wh: tuple[int, int] | None = None) -> Example:
        """Returns scene number `position`, in its own size or in the given width and height (pixels)."""
        scene = self.maker.scene(position, size_wh or self.size_wh(position))
        rng = random.Random(f"{self.seed}/kind/{position}")  # noqa: S311  # images, no secret
        return _sentence(scene) if rng.random() < self.sentences else self._class_list(scene, position)

    def size_wh(self, position: int) -> tuple[int, int]:
        """Returns width and height of a scene, multiples of 32 so that nothing is padded."""
        rng = random.Random(f"{self.seed}/size/{position // self.group}")  # noqa: S311
        sides = rng.choices(self.sides, [item.weight for item in self.sides])[0]
        side, ratio = rng.uniform(sides.minimum, sides.maximum), self.widest ** rng.uniform(-0.5, 0.5)
        return round(side * ratio / 32) * 32, round(side / ratio / 32) * 32

    def _class_list(self, scene: Scene, position: int) -> Example:
        asked = self.maker.names(position, scene, self.asked)
        spans: list[list[Span]] = [[] for _ in scene.objects]
        caption = ""
        for name in asked:
            caption += SEPARATOR if caption else ""
            for index in name.objects:
                spans[index].append((len(caption), len(caption) + len(name.name)))
            caption += name.name
        return _example(scene, caption, spans)


def _sentence(scene: Scene) -> Example:
    spans: list[list[Span]] = [[] for _ in scene.objects]
    for phrase in scene.caption.phrases:
        for index in phrase.objects:
            spans[index].append(phrase.span)
    return _example(scene, scene.caption.text, spans)


def _example(scene: Scene, caption: str, spans: list[list[Span]]) -> Example:
    named = [index for index, ranges in enumerate(spans) if ranges]
    boxes = np.array([scene.objects[index].box_xywh for index in named], dtype=np.float32).reshape(-1, 4)
    return Example(scene.image, caption, xywh_to_xyxy(boxes), tuple(tuple(spans[index]) for index in named))
