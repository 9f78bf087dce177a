"""Finds images that show the same, also resized, recompressed or brighter. Mirrored and cropped ones are others.

Every image becomes a thumbnail of 16 × 16 pixels. Pairs whose grey levels correlate are compared again in colour: after
a change of brightness and contrast, no pixel of the thumbnails may differ much. All pairs are compared, so nothing is
missed by a hash: 10 000 images take seconds, 100 000 a minute or two. Knows nothing of annotations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 16
_ALIKE = 0.97  # correlation of the grey levels of two images that are compared again
# Mean over the colours, of 255, of the pixel that differs most. `python -m benchmarks.data_check` measures it: of
# copies at 30 % size in JPEG quality 60, one in twenty differs more; of other photographs, none differs less.
_MAX_DIFFERENCE = 16.0
_FLAT = 2.0  # standard deviation of grey levels below which an image shows nothing
_BLOCK = 2048

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """An image reduced to 16 × 16 pixels.

    Attributes:
        grey: (256,) grey levels without mean, of length 1; zeros for an image that shows nothing.
        colours: (256, 3) 0 to 255.
    """

    grey: Floats
    colours: NDArray[np.uint8]


def thumbnail(image: Image.Image) -> Thumbnail:
    """Reduces an RGB image."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    grey = np.asarray(small.convert("L"), np.float32).ravel()
    centred = grey - grey.mean()
    length = float(np.linalg.norm(centred))
    shown = centred / np.float32(length) if length >= _FLAT * _SIDE else np.zeros_like(centred)
    return Thumbnail(shown, np.asarray(small, np.uint8).reshape(-1, 3))


def near_duplicates(thumbnails: Sequence[Thumbnail]) -> list[tuple[int, int]]:
    """Returns the pairs of indices (smaller first) of images that show the same, in order.

    Images that show nothing (one colour) are not compared.
    """
    return [pair for pair in _candidates(thumbnails) if _are_alike(*(thumbnails[index].colours for index in pair))]


def _candidates(thumbnails: Sequence[Thumbnail]) -> Iterator[tuple[int, int]]:
    if not thumbnails:
        return
    features = np.stack([one.grey for one in thumbnails])
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK]
        alike = block @ features[start:].T >= _ALIKE
        # Of each pair once: the second index is greater.
        for row, column in np.argwhere(np.triu(alike, 1)).tolist():
            yield start + row, start + column


def _are_alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    first, second = (values.astype(np.float32) - values.mean(dtype=np.float32) for values in (one, other))
    energy = float((first**2).sum())
    if energy == 0:
        return False
    contrast = float((first * second).sum()) / energy
    return float(np.abs(contrast * first - second).mean(1).max()) <= _MAX_DIFFERENCE
