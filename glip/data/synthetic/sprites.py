"""Turns, scales and blurs the images that scenes are made of.

Knows single images. Knows nothing of scenes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from PIL import Image, ImageFilter

LARGEST = 136  # maximum long side in pixels; emoji fonts are not larger
_LEVELS = (LARGEST, 96, 68, 48, 34, 24)


@dataclass(frozen=True)
class Pose:
    """Position-independent pose of an image in a scene.

    Attributes:
        long_side: pixels of its longer side before it is turned.
        angle: degrees, counter-clockwise.
        stretch: width over height, relative to the image's own.
        slant: horizontal shift per vertical pixel.
        mirrored: whether left and right are exchanged, before it is turned.
        blur: radius in pixels; 0 for none.
    """

    long_side: float
    angle: float = 0.0
    stretch: float = 1.0
    slant: float = 0.0
    mirrored: bool = False
    blur: float = 0.0


@dataclass(frozen=True, eq=False)
class Sprite:
    """An image cropped to its visible part: RGBA, or LA where L weighs two colours that are chosen later."""

    image: Image.Image
    _levels: dict[int, Image.Image] = field(default_factory=dict, init=False, repr=False)

    def posed(self, pose: Pose) -> Image.Image:
        """Returns the image turned, scaled and blurred, on a canvas just large enough.

        It is computed at twice the resolution from a copy of about that size and then averaged, which is smoother than
        one bilinear step from the full image, and faster.
        """
        source = self._level(pose.long_side)
        fine = 2.0 if pose.long_side <= LARGEST else 2.0 * LARGEST / pose.long_side
        matrix, width, height = _geometry(source.size, pose, fine)
        canvas = (math.ceil(fine * width), math.ceil(fine * height))
        turned = source.transform(canvas, Image.Transform.AFFINE, _centred(matrix, canvas, source.size))
        turned = turned.reduce(2) if fine == 2.0 else turned.resize((width, height), Image.Resampling.BILINEAR)
        if pose.blur:
            turned = turned.filter(ImageFilter.GaussianBlur(pose.blur))
        return turned.convert(self.image.mode)

    def _level(self, long_side: float) -> Image.Image:
        """Returns the smallest cached copy of at least 1.4 times the wanted size, with colours times opacity."""
        wanted = 1.4 * long_side
        side = next((level for level in reversed(_LEVELS) if level >= wanted), LARGEST)
        if side not in self._levels:
            scale = side / max(self.image.size)
            size = (max(1, round(self.image.width * scale)), max(1, round(self.image.height * scale)))
            # Colours are averaged by opacity, else the black of transparent pixels makes dark seams.
            weighted = self.image.convert({"RGBA": "RGBa", "LA": "La"}[self.image.mode])
            self._levels[side] = weighted.resize(size, Image.Resampling.BOX if scale <= 1 else Image.Resampling.BICUBIC)
        return self._levels[side]


Matrix = tuple[float, float, float, float]


def _geometry(source_wh: tuple[int, int], pose: Pose, fine: float) -> tuple[Matrix, int, int]:
    """Returns the step in the source per pixel of the fine canvas, and width and height of the result with border."""
    source_width, source_height = source_wh
    scale = pose.long_side / max(source_wh)
    across, down = scale * math.sqrt(pose.stretch), scale / math.sqrt(pose.stretch)
    cos, sin = math.cos(math.radians(pose.angle)), math.sin(math.radians(pose.angle))
    mirror = -1.0 if pose.mirrored else 1.0
    # Source to result: mirror and stretch, slant, turn. With y downwards, counter-clockwise is (cos, sin; -sin, cos).
    a, b, d, e = across * mirror, pose.slant * down, 0.0, down
    a, b, d, e = cos * a + sin * d, cos * b + sin * e, -sin * a + cos * d, -sin * b + cos * e
    width = abs(a) * source_width + abs(b) * source_height
    height = abs(d) * source_width + abs(e) * source_height
    determinant = (a * e - b * d) * fine
    inverse = (e / determinant, -b / determinant, -d / determinant, a / determinant)
    border = 1 + math.ceil(3 * pose.blur)  # room for the blurred edge
    return inverse, math.ceil(width) + 2 * border, math.ceil(height) + 2 * border


def _centred(matrix: Matrix, canvas_wh: tuple[int, int], source_wh: tuple[int, int]) -> tuple[float, ...]:
    """Returns Pillow's affine map from canvas to source that aligns the centres."""
    a, b, d, e = matrix
    x, y = canvas_wh[0] / 2, canvas_wh[1] / 2
    return (a, b, source_wh[0] / 2 - a * x - b * y, d, e, source_wh[1] / 2 - d * x - e * y)
