"""Puts things into an image, and keeps track of what can be seen of each.

Knows pixels and places. Knows nothing of splits, captions or prompts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST_VISIBLE = 0.5  # of an object's pixels; what would hide more is put elsewhere
_OPAQUE = 96  # of 255: from here on a pixel belongs to the object
_TRIES = 10
_SAMPLES = 12  # per side, for the comparison with what lies behind
_DIFFERENT = 40  # grey levels in at least one channel
_STANDS_OUT = 0.5  # share of the object's pixels that must be different from what lies behind

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
_Part = tuple[slice, slice]
BoxLTRB = tuple[int, int, int, int]


@dataclass(eq=False)
class Placed:
    """An object in the image.

    Attributes:
        left, top: place of `mask` in the image; may be negative where the border cuts the object.
        mask: (h, w) pixels that can be seen, cut to the object.
        pixels: how many there were before anything hid or cut any.
    """

    left: int
    top: int
    mask: Mask
    pixels: int

    @property
    def visible(self) -> float:
        """Share of the pixels that can be seen."""
        return float(np.count_nonzero(self.mask)) / self.pixels

    def box_ltrb(self) -> BoxLTRB:
        """The tightest box around what can be seen."""
        columns, rows = np.flatnonzero(self.mask.any(axis=0)), np.flatnonzero(self.mask.any(axis=1))
        left, top = int(columns[0]) + self.left, int(rows[0]) + self.top
        return left, top, int(columns[-1]) + self.left + 1, int(rows[-1]) + self.top + 1


class Canvas:
    """An image that is filled from back to front."""

    def __init__(self, background: Image.Image, grey: bool = False) -> None:
        self.image = _grey(background) if grey else background
        self.objects: list[Placed] = []
        self._grey = grey
        self._pixels: Pixels | None = None

    def scatter(self, thing: Image.Image, rng: random.Random) -> None:
        """Puts something without a name anywhere; to be used before any object is there."""
        thing = _grey(thing) if self._grey else thing
        left = rng.randint(-thing.width // 2, self.image.width - thing.width // 2)
        top = rng.randint(-thing.height // 2, self.image.height - thing.height // 2)
        self.image.paste(thing, (left, top), thing)

    def place(
        self, thing: Image.Image, rng: random.Random, *, named: bool = True, least_visible: float = LEAST_VISIBLE
    ) -> bool:
        """Looks for a place where a thing stands out, and it hides little of others.

        Args:
            thing: RGBA.
            named: it is an object; else it may lie anywhere and need not be seen well.
            least_visible: share of the pixels of this and every other object that must stay visible.

        Returns:
            Whether there was such a place.
        """
        # Grey before it is compared: a colour that differs may be the same grey.
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
            placed = Placed(left, top, _only(mask, part), total)
            if named and not (placed.visible >= least_visible and self._stands_out(pixels, placed, part)):
                continue
            if self._hide(placed, mask, least_visible):
                self.image.paste(thing, (left - int(columns[0]), top - int(rows[0])), thing)
                np.copyto(self._behind(placed, part), pixels[part][..., :3], where=mask[part][..., None])
                if named:
                    self.objects.append(placed)
                return True
        return False

    def _inside(self, shape_hw: tuple[int, ...], left: int, top: int) -> _Part:
        """The part of a thing that is inside of the image."""
        bottom, right = self.image.height - top, self.image.width - left
        return np.s_[max(0, -top) : min(shape_hw[0], bottom), max(0, -left) : min(shape_hw[1], right)]

    def _behind(self, placed: Placed, part: _Part) -> Pixels:
        """(h, w, 3) the pixels of the image below a part of a thing, to be read and written."""
        if self._pixels is None:
            self._pixels = np.array(self.image)
        rows, columns = part
        return self._pixels[
            placed.top + rows.start : placed.top + rows.stop, placed.left + columns.start : placed.left + columns.stop
        ]

    def _stands_out(self, pixels: Pixels, placed: Placed, part: _Part) -> bool:
        """Whether enough of the object's pixels that are to be seen differ from what lies behind."""
        height, width = placed.mask.shape
        sampled = np.s_[:: max(1, height // _SAMPLES), :: max(1, width // _SAMPLES)]
        seen = placed.mask[part][sampled]
        behind = self._behind(placed, part)[sampled].astype(np.int16)
        different = np.abs(pixels[part][sampled][..., :3] - behind).max(axis=2) >= _DIFFERENT
        return bool(np.count_nonzero(different & seen) >= _STANDS_OUT * np.count_nonzero(seen))

    def _hide(self, front: Placed, mask: Mask, least_visible: float) -> bool:
        """Takes what `front` hides from the objects behind; does nothing if that is too much of one."""
        hidden = []
        for behind in self.objects:
            overlap = _overlap(front, mask.shape, behind)
            if overlap is None:
                continue
            part_front, part_behind = overlap
            left_over = behind.mask.copy()
            left_over[part_behind] &= ~mask[part_front]
            if np.count_nonzero(left_over) < least_visible * behind.pixels:
                return False
            hidden.append((behind, left_over))
        for behind, left_over in hidden:
            behind.mask = left_over
        return True


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("LA" if image.mode == "RGBA" else "L").convert(image.mode)


def _only(mask: Mask, part: _Part) -> Mask:
    """The mask without what lies outside of `part`; itself where that is all of it."""
    if part[0].stop - part[0].start == mask.shape[0] and part[1].stop - part[1].start == mask.shape[1]:
        return mask
    cut = np.zeros_like(mask)
    cut[part] = mask[part]
    return cut


def _overlap(front: Placed, front_hw: tuple[int, ...], behind: Placed) -> tuple[_Part, _Part] | None:
    """Where the rectangles of two things meet, in the coordinates of each; None if they do not."""
    top, bottom = max(front.top, behind.top), min(front.top + front_hw[0], behind.top + behind.mask.shape[0])
    left, right = max(front.left, behind.left), min(front.left + front_hw[1], behind.left + behind.mask.shape[1])
    if top >= bottom or left >= right:
        return None
    return (
        np.s_[top - front.top : bottom - front.top, left - front.left : right - front.left],
        np.s_[top - behind.top : bottom - behind.top, left - behind.left : right - behind.left],
    )
