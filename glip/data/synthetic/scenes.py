"""Scenes: images made of named things, with boxes, a caption and names to ask for, each from its seed and number.

Scene k of a seed is the same to the byte, whoever makes it, in whatever order.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter

from glip.data.synthetic.backgrounds import paint, with_noise
from glip.data.synthetic.captions import BoxXYWH, Caption, write_caption
from glip.data.synthetic.cast import Cast, Look, Split, cast_of
from glip.data.synthetic.clutter import bar, blob
from glip.data.synthetic.compose import LEAST_VISIBLE, Canvas
from glip.data.synthetic.naming import Asked, Thing, sample_names
from glip.data.synthetic.shapes import VARIANTS, coloured, colours_of, shape_sprite
from glip.data.synthetic.sprite_pool import SpritePool
from glip.data.synthetic.sprites import Pose
from glip.data.synthetic.words import PLAIN
from glip.errors import InputError

SMALLEST_SIDE = 64  # pixels of a scene
SMALL, LARGE = 0.16, 0.30  # long side of an object, of the geometric mean of the scene's sides
_UNCLEAR = 1.08  # factor around these two within which no object is made: nobody could say which it is
_LEAST_PIXELS = 16  # long side of an object
_REPEATED = 0.15  # share of the objects that are of the same kind as one before

# How far a shape may turn before it is another: a square on its corner is nearly a diamond.
_TURNS = {"square": 20.0, "diamond": 20.0, "heart": 40.0}
# Never much darker: orange in the dark is brown.
_LIT = (
    Image.linear_gradient("L").resize((32, 32)).point([195 + value * 60 // 255 for value in range(256)]).convert("RGB")
)
_SHADINGS = tuple(_LIT.rotate(angle) for angle in (0, 90, 180, 270))


@dataclass(frozen=True)
class SceneObject:
    """A named thing in a scene.

    Attributes:
        thing: what it is; see `fits` for what it may be called.
        box_xywh: left, top, width, height in pixels, tight around what can be seen of it.
        visible: share of its pixels that can be seen.
    """

    thing: Thing
    box_xywh: BoxXYWH
    visible: float


@dataclass(frozen=True, eq=False)
class Scene:
    """An image, RGB, with all that there is to say about it."""

    image: Image.Image
    objects: tuple[SceneObject, ...]
    caption: Caption


class SceneMaker:
    """Makes scenes of one cast."""

    def __init__(self, pool: SpritePool, cast: Cast, seed: int = 0, look: Look | None = None) -> None:
        self.pool = pool
        self.cast = cast
        self.seed = seed
        self.look = look or Look()

    @classmethod
    def of_split(cls, pool: SpritePool, split: Split = "train", seed: int = 0, shapes: float = 0.4) -> SceneMaker:
        """Makes the scenes of a split. See `cast_of`."""
        return cls(pool, cast_of(split, pool.trained, pool.held_out, shapes), seed)

    def size_wh(self, index: int, least: tuple[int, int], most: tuple[int, int]) -> tuple[int, int]:
        """A size for scene number `index`: width and height from `least` to `most`, each on its own."""
        rng = self._rng("size", index)
        return rng.randint(least[0], most[0]), rng.randint(least[1], most[1])

    def scene(self, index: int, size_wh: tuple[int, int]) -> Scene:
        """Scene number `index`.

        Args:
            index: any number; each gives another scene.
            size_wh: width and height in pixels.

        Raises:
            InputError: the size is too small for anything to be seen.
        """
        if min(size_wh) < SMALLEST_SIDE:
            raise InputError(
                f"A scene of {size_wh[0]} × {size_wh[1]} pixels is too small. Both sides need at least {SMALLEST_SIDE}."
            )
        rng = self._rng("scene", index)
        objects: tuple[SceneObject, ...] = ()
        while not objects:  # now and then nothing stands out from a background
            image, objects = self._compose(rng, size_wh)
        things, boxes = [item.thing for item in objects], [item.box_xywh for item in objects]
        return Scene(image, objects, write_caption(things, boxes, self.cast.vocabulary, rng))

    def names(self, index: int, scene: Scene, count: tuple[int, int] = (5, 25)) -> tuple[Asked, ...]:
        """Names to ask for in scene number `index`: those of its objects among others. See `sample_names`."""
        things = [item.thing for item in scene.objects]
        return sample_names(things, self.cast.vocabulary, self._rng("names", index), count)

    def _rng(self, purpose: str, index: int) -> random.Random:
        return random.Random(f"{self.seed}/{self.cast.stream}/{purpose}/{index}")  # noqa: S311  # images, no secret

    def _compose(self, rng: random.Random, size_wh: tuple[int, int]) -> tuple[Image.Image, tuple[SceneObject, ...]]:
        look, side = self.look, math.sqrt(size_wh[0] * size_wh[1])
        canvas = Canvas(paint(rng, size_wh, look.backgrounds), look.grey)
        for _ in range(rng.randint(0, look.clutter) if rng.random() < 0.5 else 0):
            canvas.scatter(blob(rng, side * math.exp(rng.uniform(math.log(0.05), math.log(0.35)))), rng)
        # Few objects are more frequent than many.
        wanted = min(rng.randint(*look.objects), rng.randint(*look.objects))
        least_visible = LEAST_VISIBLE if rng.random() < 0.4 else 0.97
        things: list[Thing] = []
        for _ in range(2 * wanted):
            if len(things) == wanted:
                break
            thing, image = self._next(rng, things, side, wanted)
            if canvas.place(image, rng, least_visible=least_visible):
                things.append(thing)
        for _ in range(rng.randint(1, 3) if rng.random() < 0.25 else 0):
            canvas.place(rng.choice((bar, bar, blob))(rng, side * rng.uniform(0.15, 0.7)), rng, named=False)
        objects = tuple(
            SceneObject(thing, _xywh(*placed.box_ltrb()), placed.visible)
            for thing, placed in zip(things, canvas.objects, strict=True)
        )
        return _finish(canvas.image, rng), objects

    def _next(self, rng: random.Random, before: list[Thing], side: float, wanted: int) -> tuple[Thing, Image.Image]:
        """Another thing and its image, RGBA."""
        drawn = rng.choice(before) if before and rng.random() < _REPEATED else self.cast.draw(rng)
        long_side = self._long_side(rng, side, wanted)
        share = long_side / side
        size = "small" if share < SMALL else "large" if share > LARGE else ""
        thing = Thing(drawn.noun, drawn.colour, drawn.texture, size)
        return thing, _shape(thing, rng, long_side) if thing.is_shape else self._sprite(thing, rng, long_side)

    def _long_side(self, rng: random.Random, side: float, wanted: int) -> float:
        """Pixels, small and large equally often by ratio; never so that small or large is a matter of taste."""
        smallest = max(self.look.scale[0] * side, _LEAST_PIXELS)
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
    # Fine textures need room: the coarsest ones on the smallest shapes.
    variant = 0 if thing.texture == PLAIN else rng.randrange(min(VARIANTS, 1 + int(long_side // 24)))
    weights, opacity = shape_sprite(thing.noun, thing.texture, variant).posed(pose).split()
    shading = rng.choice(_SHADINGS) if rng.random() < 0.25 else None
    return coloured(weights, opacity, colours_of(thing.colour, thing.texture, rng), shading)


def _lit(image: Image.Image, rng: random.Random, most: int, spread: int = 0) -> Image.Image:
    """Darker or brighter by up to `most` grey levels of 255, channels up to `spread` apart."""
    level = rng.randint(0, most)
    tint = tuple(max(0, level - rng.randint(0, spread)) for _ in range(3))
    if rng.random() < 0.5:
        return ImageChops.add(image, Image.new(image.mode, image.size, (*tint, 0)[: len(image.mode)]))
    shade = (*(255 - value for value in tint), 255)
    return ImageChops.multiply(image, Image.new(image.mode, image.size, shade[: len(image.mode)]))


def _blur(rng: random.Random, long_side: float) -> float:
    return rng.uniform(0.3, min(2.5, 0.4 + 0.015 * long_side)) if rng.random() < 0.2 else 0.0


def _finish(image: Image.Image, rng: random.Random) -> Image.Image:
    """What a camera adds: brightness, blur, noise."""
    if rng.random() < 0.3:
        image = _lit(image, rng, 30)
    if rng.random() < 0.1:
        image = image.filter(ImageFilter.BoxBlur(0.6))
    if rng.random() < 0.3:
        image = with_noise(image, rng, rng.uniform(2, 9))
    return image


def _xywh(left: int, top: int, right: int, bottom: int) -> BoxXYWH:
    return float(left), float(top), float(right - left), float(bottom - top)
