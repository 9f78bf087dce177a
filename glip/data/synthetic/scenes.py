"""Makes scenes: images of named objects, with boxes, a caption and a class list.

Scene k of a seed is always the same to the byte, in whatever order and process scenes are made.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter

from glip.data.synthetic.backgrounds import paint, with_noise
from glip.data.synthetic.captions import BoxXYWH, SceneCaption, write_caption
from glip.data.synthetic.clutter import bar, blob
from glip.data.synthetic.compose import MINIMUM_VISIBLE, Canvas
from glip.data.synthetic.naming import AskedName, Thing, sample_names
from glip.data.synthetic.object_sampler import Look, ObjectSampler, Split, sampler_of_split
from glip.data.synthetic.shapes import VARIANTS, coloured, colours_of, shape_sprite
from glip.data.synthetic.sprite_pool import SpritePool
from glip.data.synthetic.sprites import Pose
from glip.data.synthetic.words import PLAIN
from glip.errors import InputError

SMALLEST_SIDE = 64  # minimum side of a scene in pixels
SMALL, LARGE = 0.16, 0.30  # limits of small and large long sides, relative to the geometric mean of the scene's sides
_UNCLEAR = 1.08  # no object is made within this factor of the two limits, where its size would be ambiguous
_MINIMUM_PIXELS = 16  # minimum long side of an object
_REPEATED = 0.15  # share of the objects that repeat an earlier one of the scene

# Maximum turn of shapes that become another one: a square on its corner is nearly a diamond.
_TURNS = {"square": 20.0, "diamond": 20.0, "heart": 40.0}
# Never much darker, because dark orange is brown.
_LIT = (
    Image.linear_gradient("L").resize((32, 32)).point([195 + value * 60 // 255 for value in range(256)]).convert("RGB")
)
_SHADINGS = tuple(_LIT.rotate(angle) for angle in (0, 90, 180, 270))


@dataclass(frozen=True)
class SceneObject:
    """A named thing in a scene.

    Attributes:
        thing: its attributes; `fits` tells which names it may have.
        box_xywh: left, top, width, height in pixels, tight around its visible part.
        visible: share of its pixels that is visible.
    """

    thing: Thing
    box_xywh: BoxXYWH
    visible: float


@dataclass(frozen=True, eq=False)
class Scene:
    """An RGB image with its objects and its caption."""

    image: Image.Image
    objects: tuple[SceneObject, ...]
    caption: SceneCaption


class SceneMaker:
    """Makes scenes with the objects of one sampler."""

    def __init__(self, pool: SpritePool, sampler: ObjectSampler, seed: int = 0, look: Look | None = None) -> None:
        self.pool = pool
        self.sampler = sampler
        self.seed = seed
        self.look = look or Look()

    @classmethod
    def of_split(cls, pool: SpritePool, split: Split = "train", seed: int = 0, shapes: float = 0.4) -> SceneMaker:
        """Returns the maker of a split's scenes, see `sampler_of_split`."""
        return cls(pool, sampler_of_split(split, pool.trained, pool.held_out, shapes), seed)

    def size_wh(self, index: int, minimum: tuple[int, int], maximum: tuple[int, int]) -> tuple[int, int]:
        """Returns a size for scene `index`: width and height independently between `minimum` and `maximum`."""
        rng = self._rng("size", index)
        return rng.randint(minimum[0], maximum[0]), rng.randint(minimum[1], maximum[1])

    def scene(self, index: int, size_wh: tuple[int, int]) -> Scene:
        """Returns scene `index`.

        Args:
            index: any number; each gives another scene.
            size_wh: width and height in pixels.

        Raises:
            InputError: a side is too small.
        """
        if min(size_wh) < SMALLEST_SIDE:
            raise InputError(
                f"size_wh is {size_wh[0]} × {size_wh[1]} pixels; both sides must have at least {SMALLEST_SIDE}."
            )
        rng = self._rng("scene", index)
        objects: tuple[SceneObject, ...] = ()
        while not objects:  # sometimes no object stands out from the background
            image, objects = self._compose(rng, size_wh)
        things, boxes = [item.thing for item in objects], [item.box_xywh for item in objects]
        return Scene(image, objects, write_caption(things, boxes, self.sampler.vocabulary, rng))

    def names(self, index: int, scene: Scene, count: tuple[int, int] = (5, 25)) -> tuple[AskedName, ...]:
        """Returns the class list of scene `index`: names of its objects among others, see `sample_names`."""
        things = [item.thing for item in scene.objects]
        return sample_names(things, self.sampler.vocabulary, self._rng("names", index), count)

    def _rng(self, purpose: str, index: int) -> random.Random:
        return random.Random(f"{self.seed}/{self.sampler.stream}/{purpose}/{index}")  # noqa: S311  # images, no secret

    def _compose(self, rng: random.Random, size_wh: tuple[int, int]) -> tuple[Image.Image, tuple[SceneObject, ...]]:
        look, side = self.look, math.sqrt(size_wh[0] * size_wh[1])
        canvas = Canvas(paint(rng, size_wh, look.backgrounds), look.grey)
        for _ in range(rng.randint(0, look.clutter) if rng.random() < 0.5 else 0):
            canvas.scatter(blob(rng, side * math.exp(rng.uniform(math.log(0.05), math.log(0.35)))), rng)
        # Few objects are more frequent than many.
        wanted = min(rng.randint(*look.objects), rng.randint(*look.objects))
        minimum_visible = MINIMUM_VISIBLE if rng.random() < 0.4 else 0.97
        things: list[Thing] = []
        for _ in range(2 * wanted):
            if len(things) == wanted:
                break
            thing, image = self._next(rng, things, side, wanted)
            if canvas.place(image, rng, minimum_visible=minimum_visible):
                things.append(thing)
        for _ in range(rng.randint(1, 3) if rng.random() < 0.25 else 0):
            canvas.place(rng.choice((bar, bar, blob))(rng, side * rng.uniform(0.15, 0.7)), rng, named=False)
        objects = tuple(
            SceneObject(thing, _xywh(*placed.box_ltrb()), placed.visible)
            for thing, placed in zip(things, canvas.objects, strict=True)
        )
        return _finish(canvas.image, rng), objects

    def _next(self, rng: random.Random, before: list[Thing], side: float, wanted: int) -> tuple[Thing, Image.Image]:
        """Draws another object and its image, RGBA."""
        drawn = rng.choice(before) if before and rng.random() < _REPEATED else self.sampler.draw(rng)
        long_side = self._long_side(rng, side, wanted)
        share = long_side / side
        size = "small" if share < SMALL else "large" if share > LARGE else ""
        thing = Thing(drawn.noun, drawn.colour, drawn.texture, size)
        return thing, _shape(thing, rng, long_side) if thing.is_shape else self._sprite(thing, rng, long_side)

    def _long_side(self, rng: random.Random, side: float, wanted: int) -> float:
        """Draws a long side in pixels, uniform in its logarithm, never near the limits of small and large."""
        smallest = max(self.look.scale[0] * side, _MINIMUM_PIXELS)
        largest = max(smallest, min(self.look.scale[1], 1.2 / math.sqrt(wanted)) * side)
        while True:
            long_side = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
            ratios = (long_side / side / limit for limit in (SMALL, LARGE))
            if all(not 1 / _UNCLEAR < ratio < _UNCLEAR for ratio in ratios) or largest < _UNCLEAR**2 * smallest:
                return long_side

    def _sprite(self, thing: Thing, rng: random.Random, long_side: float) -> Image.Image:
        pose = Pose(
            long_side,
            angle=rng.gauss(0, 12),
            stretch=math.exp(rng.uniform(-0.15, 0.15)),
            slant=rng.uniform(-0.1, 0.1),
            mirrored=rng.random() < 0.3,
            blur=_blur(rng, long_side),
        )
        image = self.pool.sprites[thing.noun].posed(pose)
        return _lit(image, rng, 40, spread=13) if rng.random() < 0.5 else image


def _shape(thing: Thing, rng: random.Random, long_side: float) -> Image.Image:
    limit = _TURNS.get(thing.noun, 180.0)
    pose = Pose(
        long_side,
        angle=rng.uniform(-limit, limit) if rng.random() < 0.8 else 0.0,
        stretch=math.exp(rng.uniform(-0.08, 0.08)),
        slant=rng.uniform(-0.05, 0.05),
        blur=_blur(rng, long_side),
    )
    # Fine textures need room, so the smallest shapes get the coarsest ones.
    variant = 0 if thing.texture == PLAIN else rng.randrange(min(VARIANTS, 1 + int(long_side // 24)))
    weights, opacity = shape_sprite(thing.noun, thing.texture, variant).posed(pose).split()
    shading = rng.choice(_SHADINGS) if rng.random() < 0.25 else None
    return coloured(weights, opacity, colours_of(thing.colour, thing.texture, rng), shading)


def _lit(image: Image.Image, rng: random.Random, maximum: int, spread: int = 0) -> Image.Image:
    """Returns the image darker or brighter by up to `maximum` grey levels of 255, channels up to `spread` apart."""
    level = rng.randint(0, maximum)
    tint = tuple(max(0, level - rng.randint(0, spread)) for _ in range(3))
    if rng.random() < 0.5:
        return ImageChops.add(image, Image.new(image.mode, image.size, (*tint, 0)[: len(image.mode)]))
    shade = (*(255 - value for value in tint), 255)
    return ImageChops.multiply(image, Image.new(image.mode, image.size, shade[: len(image.mode)]))


def _blur(rng: random.Random, long_side: float) -> float:
    return rng.uniform(0.3, min(2.5, 0.4 + 0.015 * long_side)) if rng.random() < 0.2 else 0.0


def _finish(image: Image.Image, rng: random.Random) -> Image.Image:
    """Adds the effects of a camera: brightness, blur, noise."""
    if rng.random() < 0.3:
        image = _lit(image, rng, 30)
    if rng.random() < 0.1:
        image = image.filter(ImageFilter.BoxBlur(0.6))
    if rng.random() < 0.3:
        image = with_noise(image, rng, rng.uniform(2, 9))
    return image


def _xywh(left: int, top: int, right: int, bottom: int) -> BoxXYWH:
    return float(left), float(top), float(right - left), float(bottom - top)
