"""Makes tensors of images: resized, normalised and padded as the published models expect them.

Source: `docs/model.md`, "Image input". Knows pixels and sizes; knows nothing of files.
Torch is imported where a tensor is made: files are listed and refused without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from glip.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SIZE_DIVISOR = 32
_LONG_SIDE, _SHORT_SIDE = 1333, 800  # of the published models; other sizes keep this ratio
_MEAN_BGR = (103.530, 116.280, 123.675)
_STD_BGR = (57.375, 57.120, 58.395)


def resized_hw(size_hw: tuple[int, int], imgsz: int) -> tuple[int, int]:
    """Returns height and width of the network input for an image of height and width `size_hw`.

    The short side becomes `imgsz`, or less if the long side would exceed imgsz * 1333 / 800.

    Raises:
        InputError: `imgsz` is not a whole number from 32 to 4096.
    """
    if not isinstance(imgsz, Integral) or not 32 <= imgsz <= 4096:
        raise InputError(f"imgsz is {imgsz!r}; it must be a whole number from 32 to 4096 (published: 800).")
    return fitted_hw(size_hw, int(imgsz), round(int(imgsz) * _LONG_SIDE / _SHORT_SIDE))


def fitted_hw(size_hw: tuple[int, int], short_side: int, limit: int) -> tuple[int, int]:
    """Returns the size with a short side of `short_side` pixels, or less if the long side would exceed `limit`."""
    height, width = size_hw
    short, long = min(size_hw), max(size_hw)
    # Published: rounded here, truncated below. The golden numbers need both.
    size = round(limit * short / long) if long / short * short_side > limit else short_side
    # For images thinner than 1 : 2 * limit the published rule gives a side of 0 pixels.
    small, large = (size, int(size * long / short)) if size else (1, limit)
    return (large, small) if width < height else (small, large)


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One image at the size of the network input.

    Attributes:
        rgb: (h, w, 3) uint8, a quarter of the memory of normalised pixels; normalised on the model's device.
        size_hw: height and width of the original image.
    """

    rgb: Tensor
    size_hw: tuple[int, int]

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Returns h and w."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @property
    def pixels(self) -> Tensor:
        """Returns the normalised pixels (3, h, w), float32, BGR."""
        return _normalised(self.rgb[None])[0]


def prepare(image: Image.Image, imgsz: int = 800, size_hw: tuple[int, int] | None = None) -> PreparedImage:
    """Resizes an RGB image as published.

    Args:
        image: RGB, of any size.
        imgsz: short side of the network input, see `resized_hw`.
        size_hw: height and width of the original image, if `image` was decoded smaller; boxes refer to the original.
    """
    assert image.mode == "RGB", f"an RGB image is needed, not {image.mode}; see as_image"
    size_hw = size_hw or (image.height, image.width)
    height, width = resized_hw(size_hw, imgsz)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return PreparedImage(as_it_is(image), size_hw)


def as_it_is(image: Image.Image) -> Tensor:
    """Returns the values of an RGB image, (h, w, 3) uint8."""
    import torch

    return torch.from_numpy(np.array(image))


def _normalised(rgb: Tensor) -> Tensor:
    """Maps (B, h, w, 3) uint8 to (B, 3, h, w) float32, BGR, with the published mean and deviation."""
    import torch

    mean, std = (rgb.new_tensor(values, dtype=torch.float32)[:, None, None] for values in (_MEAN_BGR, _STD_BGR))
    return rgb.flip(-1).permute(0, 3, 1, 2).contiguous().to(torch.float32).sub_(mean).div_(std)


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images in one tensor.

    Attributes:
        rgb: (B, H, W, 3) uint8, each image in the upper left corner.
        sizes_hw: (B) height and width of each resized image inside `rgb`.
        scales: (B) factors from x and y in the resized image to those in the original.
        original_sizes_hw: (B) height and width of each original image.
    """

    rgb: Tensor
    sizes_hw: list[tuple[int, int]]
    scales: list[tuple[float, float]]
    original_sizes_hw: list[tuple[int, int]]

    @property
    def pixels(self) -> Tensor:
        """Returns `pixels_on` the device of `rgb`."""
        return self.pixels_on(self.rgb.device)

    def pixels_on(self, device: torch.device) -> Tensor:
        """Returns the network input (B, 3, H, W) on a device: float32, BGR, normalised, 0 outside each image."""
        # From pinned memory the copy runs asynchronously.
        rgb = self.rgb.pin_memory() if device.type == "cuda" else self.rgb
        pixels = _normalised(rgb.to(device, non_blocking=True))
        for image, (height, width) in zip(pixels, self.sizes_hw, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return pixels


def padded_hw(resized_hw: tuple[int, int]) -> tuple[int, int]:
    """Returns height and width to which a single image is padded.

    Images with equal padded sizes can share a batch without changing each other's results.
    """
    height, width = resized_hw
    return -(-height // SIZE_DIVISOR) * SIZE_DIVISOR, -(-width // SIZE_DIVISOR) * SIZE_DIVISOR


def collate(prepared: Sequence[PreparedImage]) -> ImageBatch:
    """Joins at least one image to a batch, padded at the right and the bottom."""
    import torch

    sizes = [image.resized_hw for image in prepared]
    height, width = padded_hw((max(height for height, _ in sizes), max(width for _, width in sizes)))
    rgb = torch.zeros(len(prepared), height, width, 3, dtype=torch.uint8)
    for image, target in zip(prepared, rgb, strict=True):
        target[: image.resized_hw[0], : image.resized_hw[1]] = image.rgb
    originals = [image.size_hw for image in prepared]
    scales = [(original[1] / size[1], original[0] / size[0]) for original, size in zip(originals, sizes, strict=True)]
    return ImageBatch(rgb, sizes, scales, originals)
