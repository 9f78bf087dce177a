"""Tells boxes that make no sense as left, top, width, height, but do as two corners or as fractions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MANY = 3  # of fewer boxes their form cannot be told


def why_not_pixels(bbox: NDArray[np.float64], size_wh: NDArray[np.float64]) -> str | None:
    """What boxes are instead of left, top, width, height in pixels; None if nothing speaks against that.

    Args:
        bbox: (N, 4)
        size_wh: (N, 2) pixels of the image of each box.
    """
    count = len(bbox)
    if count < _MANY:
        return None
    first, second = bbox[:, :2], bbox[:, 2:]
    if (bbox <= 1).all() and (second > 0).any() and (size_wh > 2).all():
        return (
            f"no number of the {count} boxes is above 1, so they look like fractions of the image. Boxes are left, "
            f"top, width, height in pixels."
        )
    # A detector's boxes may reach out of the image a little, so a fiftieth of its size is let pass.
    outside = np.any(first + second > 1.02 * size_wh + 1, axis=1)
    corners = np.all((second >= first) & (second <= 1.02 * size_wh + 1), axis=1)
    if np.mean(outside) > 0.5 and np.mean(corners) > 0.95:
        return (
            f"{int(outside.sum())} of {count} boxes reach beyond their image if read as left, top, width, height, "
            f"and {int(corners.sum())} of {count} fit if read as two corners, so they are almost certainly "
            f"x1, y1, x2, y2. Write [x1, y1, x2 - x1, y2 - y1]."
        )
    return None
