"""Small objects: an image as overlapping tiles beside its whole view, and back.

    tile_views → the detector, view by view → seams.merge_views

A tile shows its part of the image larger than the whole view does, so that more of what is small is seen. Numbers
and pixels only. Knows nothing of models, files, prompts or boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal, get_args

from PIL import Image

from glip.errors import InputError

Merge = Literal["nms", "wbf"]
ViewBox = tuple[int, int, int, int]

MIN_TILE = 64
MAX_OVERLAP = 0.8  # tiles that overlap by this much are 25 times the work already


@dataclass(frozen=True)
class Tiling:
    """How an image is cut, and its parts are merged.

    Attributes:
        tile: side of a tile in pixels of the image.
        overlap: of neighbouring tiles, as a part of the side. Objects up to tile * overlap are whole in one of them.
        merge: `nms` keeps the surest of boxes that mean the same; `wbf`, weighted box fusion, their mean.
    """

    tile: int
    overlap: float = 0.2
    merge: Merge = "nms"

    def __str__(self) -> str:
        return f"tiles of {self.tile} pixels, overlap {self.overlap:g}, merged by {self.merge}"

    def __post_init__(self) -> None:
        if self.tile < MIN_TILE:
            raise InputError(f"--tile is {self.tile}; it must be {MIN_TILE} pixels or more.")
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise InputError(f"--overlap is {self.overlap}; it must lie between 0 and {MAX_OVERLAP}.")
        if self.merge not in get_args(Merge):
            raise InputError(f"--tile-merge is {self.merge!r}; accepted are {' and '.join(get_args(Merge))}.")


def plan_tiles(size_hw: tuple[int, int], tile: int, overlap: float) -> tuple[ViewBox, ...]:
    """Tiles that cover an image exactly, row by row.

    All are equally large, so that they share batches: the last row and column move inwards instead of being cut. A
    image that is smaller than a tile in both directions is one tile.

    Args:
        size_hw: of the image.
        tile: side of a tile in pixels.
        overlap: least overlap of neighbours, as a part of the side.

    Returns:
        xyxy in pixels of the image, whole numbers.
    """
    height, width = size_hw
    rows, columns = _starts(height, tile, overlap), _starts(width, tile, overlap)
    return tuple((x, y, min(x + tile, width), min(y + tile, height)) for y in rows for x in columns)


def plan_views(size_hw: tuple[int, int], tiling: Tiling) -> tuple[ViewBox, ...]:
    """The whole image, then its tiles; only the whole where one tile would be all of it.

    Returns:
        xyxy in pixels of the image.
    """
    height, width = size_hw
    tiles = plan_tiles(size_hw, tiling.tile, tiling.overlap)
    whole = (0, 0, width, height)
    return (whole, *tiles) if len(tiles) > 1 else (whole,)


@dataclass(frozen=True, eq=False)
class View:
    """A part of an image.

    Attributes:
        box: xyxy in pixels of the image.
        image: that part, RGB.
    """

    box: ViewBox
    image: Image.Image


def tile_views(image: Image.Image, tiling: Tiling) -> Iterator[View]:
    """The views of `plan_views`, cut one by one: a large image in tiles takes several times its memory."""
    for box in plan_views((image.height, image.width), tiling):
        yield View(box, image if box == (0, 0, image.width, image.height) else image.crop(box))


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along one side."""
    # Rounded in favour of the overlap, but not by a last binary digit of it.
    step = tile - ceil(tile * overlap - 1e-9)
    count = max(0, ceil((length - tile) / step)) + 1
    return [max(0, min(index * step, length - tile)) for index in range(count)]
