"""Cuts an image into overlapping tiles, to run beside the whole image and find small objects.

    tile_views → the detector, view by view → tile_merging.merge_views

A tile shows its part of the image at a larger scale than the whole image does. Knows pixels; knows nothing of models,
files, prompts or boxes.
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
MAX_OVERLAP = 0.8  # makes 25 times as many tiles as no overlap


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles, and how their boxes are merged.

    Attributes:
        tile: side of a tile in pixels of the image.
        overlap: of neighbouring tiles, as a fraction of the side. Objects up to tile * overlap are whole in one tile.
        merge: `nms` keeps the best of the boxes of one object; `wbf`, weighted box fusion, takes their mean.

    Raises:
        InputError: a value is out of range.
    """

    tile: int
    overlap: float = 0.2
    merge: Merge = "nms"

    def __str__(self) -> str:
        return f"tiles of {self.tile} pixels, overlap {self.overlap:g}, merged by {self.merge}"

    def __post_init__(self) -> None:
        if self.tile < MIN_TILE:
            raise InputError(f"tile is {self.tile}; it must be {MIN_TILE} pixels or more.")
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise InputError(f"overlap is {self.overlap}; it must lie between 0 and {MAX_OVERLAP}.")
        if self.merge not in get_args(Merge):
            raise InputError(f"tile_merge is {self.merge!r}; accepted are {' and '.join(get_args(Merge))}.")


def plan_tiles(size_hw: tuple[int, int], tile: int, overlap: float) -> tuple[ViewBox, ...]:
    """Returns tiles that cover an image exactly, row by row.

    All have the same size, so that they share batches: the last row and column move inwards instead of being cut. An
    image that is smaller than a tile in both directions is one tile.

    Args:
        size_hw: of the image.
        tile: side of a tile in pixels.
        overlap: minimum overlap of neighbours, as a fraction of the side.

    Returns:
        xyxy in pixels of the image, whole numbers.
    """
    height, width = size_hw
    rows, columns = _starts(height, tile, overlap), _starts(width, tile, overlap)
    return tuple((x, y, min(x + tile, width), min(y + tile, height)) for y in rows for x in columns)


def plan_views(size_hw: tuple[int, int], tiling: Tiling) -> tuple[ViewBox, ...]:
    """Returns the whole image, then its tiles; only the whole image where a single tile would cover it.

    Returns:
        xyxy in pixels of the image.
    """
    height, width = size_hw
    tiles = plan_tiles(size_hw, tiling.tile, tiling.overlap)
    whole = (0, 0, width, height)
    return (whole, *tiles) if len(tiles) > 1 else (whole,)


@dataclass(frozen=True, eq=False)
class TileView:
    """A part of an image.

    Attributes:
        box: xyxy in pixels of the image.
        image: that part, RGB.
    """

    box: ViewBox
    image: Image.Image


def tile_views(image: Image.Image, tiling: Tiling) -> Iterator[TileView]:
    """Yields the views of `plan_views`, cut one by one: all tiles together take several times the image's memory."""
    for box in plan_views((image.height, image.width), tiling):
        yield TileView(box, image if box == (0, 0, image.width, image.height) else image.crop(box))


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Returns where tiles begin along one side."""
    # Rounded in favour of the overlap; 1e-9 keeps the last binary digit of `overlap` from adding a pixel.
    step = tile - ceil(tile * overlap - 1e-9)
    count = max(0, ceil((length - tile) / step)) + 1
    return [max(0, min(index * step, length - tile)) for index in range(count)]
