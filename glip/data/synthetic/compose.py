"""Places objects in an image, and records which pixels of each are visible.

Knows pixels and positions. Knows nothing of splits, captions or prompts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MINIMUM_VISIBLE = 0.5  # minimum share of an object's pixels that stays visible
_OPAQUE = 96  # opacity, of 255, from which a pixel belongs to the object
_TRIES = 10
_SAMPLES = 12  # per side, for the comparison with the background
_DIFFERENT = 40  # grey levels in at least one channel
_STANDS_OUT = 0.5  # minimum share of the object's pixels that differ from the background

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
_Part = tuple[slice, slice]
BoxLTRB = tuple[int, int, int, int]


@dataclass(eq=False)
class PlacedObject:
    """An object in the image.

    Attributes:
        left: left side of `mask` in the image; negative if the border cuts the object.
        top: top side of `mask` in the image; negative if the border cuts the object.
        mask: (h, w) visible pixels, cropped to the object.
        pixels: number of pixels before any were hidden or cut.
    """

    left: int
    top: int
    mask: Mask
    pixels: int

    @property
    def visible(self) -> float:
        """Returns the share of the pixels that is visible."""
        return float(np.count_nonzero(self.mask)) / self.pixels

    def box_ltrb(self) -> BoxLTRB:
        """Returns the tightest box around the visible pixels."""
        columns, rows = np.flatnonzero(self.mask.any(axis=0)), np.flatnonzero(self.mask.any(axis=1))
        left, top = int(columns[0]) + self.left, int(rows[0]) + self.top
        return left, top, int(columns[-1]) + self.left + 1, int(rows[-1]) + self.top + 1


class Canvas:
    """An image on which things are placed from back to front."""

    def __init__(self, background: Image.Image, grey: bool = False) -> None:
        self.image = _grey(background) if grey else background
        self.objects: list[PlacedObject] = []
        self._grey = grey
        self._pixels: Pixels | None = None

    def scatter(self, thing: Image.Image, rng: random.Random) -> None:
        """Puts an unnamed thing anywhere; to be called before any object is placed."""
        thing = _grey(thing) if self._grey else thing
        left = rng.randint(-thing.width // 2, self.image.width - thing.width // 2)
        top = rng.randint(-thing.height // 2, self.image.height - thing.height // 2)
        self.image.paste(thing, (left, top), thing)

    def place(
        self, thing: Image.Image, rng: random.Random, *, named: bool = True, minimum_visible: float = MINIMUM_VISIBLE
    ) -> bool:
        """Places a thing where it stands out and hides little of others.

        Args:
            thing: RGBA.
            rng: source of randomness.
            named: whether it is an object; else it may be anywhere, even if it is hard to see.
            minimum_visible: minimum share of the pixels of this and every other object that stays visible.

        Returns:
            Whether a position was found.
        """
        # Converted before the comparison: different colours may be the same grey.
        thing = _grey(thing) if self._grey else thing
        pixels = np.asarray(thing)
        opaque = pixels[..., 3] >= _OPAQUE
        columns, rows = np.flatnonzero(opaque.any(axis=0)), np.flatnonzero(opaque.any(axis=1))
        if not len(columns):
            return False
        inner = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        pixels, mask = pixels[inner], opaque[inner]
        total = int(np.count_nonzero(mask))
        overhang = 0.2 if rng.random() < 0.2 else 0.0
        for _ in range(_TRIES):
            left, top = (
                rng.randint(min(0, -round(overhang * side)), max(0, room - round((1 - overhang) * side)))
                for side, room in zip(mask.shape[::-1], self.image.size, strict=True)
            )
            part = self._inside(mask.shape, left, top)
            placed = PlacedObject(left, top, _only(mask, part), total)
            if named and not (placed.visible >= minimum_visible and self._stands_out(pixels, placed, part)):
                continue
            if self._hide(placed, mask, minimum_visible):
                self.image.paste(thing, (left - int(columns[0]), top - int(rows[0])), thing)
                np.copyto(self._behind(placed, part), pixels[part][..., :3], where=mask[part][..., None])
                if named:
                    self.objects.append(placed)
                return True
        return False

    def _inside(self, shape_hw: tuple[int, ...], left: int, top: int) -> _Part:
        """Returns the part of a thing that is inside the image."""
        bottom, right = self.image.height - top, self.image.width - left
        return np.s_[max(0, -top) : min(shape_hw[0], bottom), max(0, -left) : min(shape_hw[1], right)]

    def _behind(self, placed: PlacedObject, part: _Part) -> Pixels:
        """Returns a writable view (h, w, 3) of the image below a part of a thing."""
        if self._pixels is None:
            self._pixels = np.array(self.image)
        rows, columns = part
        return self._pixels[
            placed.top + rows.start : placed.top + rows.stop, placed.left + columns.start : placed.left + columns.stop
        ]

    def _stands_out(self, pixels: Pixels, placed: PlacedObject, part: _Part) -> bool:
        """Returns whether enough of the object's visible pixels differ from the background."""
        height, width = placed.mask.shape
        sampled = np.s_[:: max(1, height // _SAMPLES), :: max(1, width // _SAMPLES)]
        seen = placed.mask[part][sampled]
        behind = self._behind(placed, part)[sampled].astype(np.int16)
        different = np.abs(pixels[part][sampled][..., :3] - behind).max(axis=2) >= _DIFFERENT
        return bool(np.count_nonzero(different & seen) >= _STANDS_OUT * np.count_nonzero(seen))

    def _hide(self, front: PlacedObject, mask: Mask, minimum_visible: float) -> bool:
        """Removes the pixels that `front` hides from the objects behind; returns False if too much of one is hidden."""
        hidden = []
        for behind in self.objects:
            overlap = _overlap(front, mask.shape, behind)
            if overlap is None:
                continue
            part_front, part_behind = overlap
            left_over = behind.mask.copy()
            left_over[part_behind] &= ~mask[part_front]
            if np.count_nonzero(left_over) < minimum_visible * behind.pixels:
                return False
            hidden.append((behind, left_over))
        for behind, left_over in hidden:
            behind.mask = left_over
        return True


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("LA" if image.mode == "RGBA" else "L").convert(image.mode)


def _only(mask: Mask, part: _Part) -> Mask:
    """Returns the mask inside `part` only; the mask itself if that is all of it."""
    if part[0].stop - part[0].start == mask.shape[0] and part[1].stop - part[1].start == mask.shape[1]:
        return mask
    cut = np.zeros_like(mask)
    cut[part] = mask[part]
    return cut


def _overlap(front: PlacedObject, front_hw: tuple[int, ...], behind: PlacedObject) -> tuple[_Part, _Part] | None:
    """Returns the overlap of the rectangles of two things, in the coordinates of each; None if there is none."""
    top, bottom = max(front.top, behind.top), min(front.top + front_hw[0], behind.top + behind.mask.shape[0])
    left, right = max(front.left, behind.left), min(front.left + front_hw[1], behind.left + behind.mask.shape[1])
    if top >= bottom or left >= right:
        return None
    return (
        np.s_[top - front.top : bottom - front.top, left - front.left : right - front.left],
        np.s_[top - behind.top : bottom - behind.top, left - behind.left : right - behind.left],
    )
