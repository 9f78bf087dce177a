"""Makes tensors of pictures: resized, normalised and padded as the published models take them.

Knows pixels and sizes. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glip.errors import InputError

SIZE_DIVISOR = 32
_LONG_SIDE, _SHORT_SIDE = 1333, 800  # of the published models; other sizes keep this ratio
_MEAN_BGR = (103.530, 116.280, 123.675)
_STD_BGR = (57.375, 57.120, 58.395)


def resized_hw(size_hw: tuple[int, int], imgsz: int) -> tuple[int, int]:
    """The size at which the model looks at a picture.

    The short side becomes `imgsz`, unless the long side would then be longer than imgsz * 1333 / 800.

    Raises:
        InputError: `imgsz` is no whole number from 32 to 4096.
    """
    if not isinstance(imgsz, Integral) or not 32 <= imgsz <= 4096:
        raise InputError(f"imgsz must be a whole number from 32 to 4096, not {imgsz!r}. 800 is the published size.")
    return fitted_hw(size_hw, int(imgsz), round(int(imgsz) * _LONG_SIDE / _SHORT_SIDE))


def fitted_hw(size_hw: tuple[int, int], short_side: int, limit: int) -> tuple[int, int]:
    """The size at which the short side is `short_side`, or less if the long side would be longer than `limit`."""
    height, width = size_hw
    short, long = min(size_hw), max(size_hw)
    # Rounding here, truncation below, as published: the golden numbers need both.
    size = round(limit * short / long) if long / short * short_side > limit else short_side
    # Thinner than 1 : 2 * limit, where the published rule gives a side of no pixels.
    small, large = (size, int(size * long / short)) if size else (1, limit)
    return (large, small) if width < height else (small, large)


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One picture as the model takes it.

    Attributes:
        pixels: (3, h, w) float32, BGR, normalised.
        size_hw: of the original picture.
        resized_hw: h and w.
    """

    pixels: Tensor
    size_hw: tuple[int, int]
    resized_hw: tuple[int, int]


def prepare(image: Image.Image, imgsz: int = 800, size_hw: tuple[int, int] | None = None) -> PreparedImage:
    """Resizes an RGB picture and normalises it as published.

    Args:
        image: RGB, of any size.
        imgsz: the short side to look at, see `resized_hw`.
        size_hw: of the whole picture, if `image` was decoded smaller; boxes are found in that one.
    """
    assert image.mode == "RGB", f"an RGB picture is needed, not {image.mode}; see as_image"
    size_hw = size_hw or (image.height, image.width)
    height, width = resized_hw(size_hw, imgsz)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return PreparedImage(normalised(image), size_hw, (height, width))


def normalised(image: Image.Image) -> Tensor:
    """An RGB picture as it is, in the numbers the model reads: (3, h, w) float32, BGR."""
    rgb = torch.from_numpy(np.array(image))
    bgr = rgb.flip(-1).permute(2, 0, 1).contiguous().to(torch.float32)
    return bgr.sub_(torch.tensor(_MEAN_BGR)[:, None, None]).div_(torch.tensor(_STD_BGR)[:, None, None])


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Pictures in one tensor.

    Attributes:
        pixels: (B, 3, H, W) float32, BGR, normalised; zeros to the right of and below each picture.
        sizes_hw: (B) height and width of each resized picture inside `pixels`.
        scales: (B) by which x and y of the resized picture must be multiplied to get those of the original.
        original_sizes_hw: (B) height and width of each original picture.
    """

    pixels: Tensor
    sizes_hw: list[tuple[int, int]]
    scales: list[tuple[float, float]]
    original_sizes_hw: list[tuple[int, int]]


def padded_hw(resized_hw: tuple[int, int]) -> tuple[int, int]:
    """The size to which a picture alone is padded.

    Pictures with equal ones can share a batch without changing each other's result.
    """
    height, width = resized_hw
    return -(-height // SIZE_DIVISOR) * SIZE_DIVISOR, -(-width // SIZE_DIVISOR) * SIZE_DIVISOR


def collate(prepared: Sequence[PreparedImage]) -> ImageBatch:
    """A batch, padded with zeros at the right and the bottom; at least one picture."""
    sizes = [image.resized_hw for image in prepared]
    height, width = padded_hw((max(height for height, _ in sizes), max(width for _, width in sizes)))
    pixels = torch.zeros(len(prepared), 3, height, width)
    for image, target in zip(prepared, pixels, strict=True):
        target[:, : image.resized_hw[0], : image.resized_hw[1]] = image.pixels
    originals = [image.size_hw for image in prepared]
    scales = [(original[1] / size[1], original[0] / size[0]) for original, size in zip(originals, sizes, strict=True)]
    return ImageBatch(pixels, sizes, scales, originals)
