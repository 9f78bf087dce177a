"""Makes tensors of images: resized, normalised and padded as the published models take them.

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
    """The size at which the model looks at an image.

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
    """One image at the size that the model looks at.

    Attributes:
        rgb: (h, w, 3) uint8. It stays so until the model's device has it: a quarter of the memory, and of the way.
        size_hw: of the original image.
    """

    rgb: Tensor
    size_hw: tuple[int, int]

    @property
    def resized_hw(self) -> tuple[int, int]:
        """h and w."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @property
    def pixels(self) -> Tensor:
        """(3, h, w) float32, BGR, normalised."""
        return _normalised(self.rgb[None])[0]


def prepare(image: Image.Image, imgsz: int = 800, size_hw: tuple[int, int] | None = None) -> PreparedImage:
    """Resizes an RGB image as published.

    Args:
        image: RGB, of any size.
        imgsz: the short side to look at, see `resized_hw`.
        size_hw: of the whole image, if `image` was decoded smaller; boxes are found in that one.
    """
    assert image.mode == "RGB", f"an RGB image is needed, not {image.mode}; see as_image"
    size_hw = size_hw or (image.height, image.width)
    height, width = resized_hw(size_hw, imgsz)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return PreparedImage(as_it_is(image), size_hw)


def as_it_is(image: Image.Image) -> Tensor:
    """The numbers of an RGB image, (h, w, 3) uint8."""
    return torch.from_numpy(np.array(image))


def _normalised(rgb: Tensor) -> Tensor:
    """(B, h, w, 3) uint8 to (B, 3, h, w) float32, BGR, in the numbers that the model reads."""
    mean, std = (rgb.new_tensor(values, dtype=torch.float32)[:, None, None] for values in (_MEAN_BGR, _STD_BGR))
    return rgb.flip(-1).permute(0, 3, 1, 2).contiguous().to(torch.float32).sub_(mean).div_(std)


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images in one tensor.

    Attributes:
        rgb: (B, H, W, 3) uint8, each image in the upper left corner.
        sizes_hw: (B) height and width of each resized image inside `rgb`.
        scales: (B) by which x and y of the resized image must be multiplied to get those of the original.
        original_sizes_hw: (B) height and width of each original image.
    """

    rgb: Tensor
    sizes_hw: list[tuple[int, int]]
    scales: list[tuple[float, float]]
    original_sizes_hw: list[tuple[int, int]]

    @property
    def pixels(self) -> Tensor:
        """See `pixels_on`."""
        return self.pixels_on(self.rgb.device)

    def pixels_on(self, device: torch.device) -> Tensor:
        """What the model reads: (B, 3, H, W) float32, BGR, normalised there; zeros beyond each image."""
        # From pinned memory the copy runs while this process goes on.
        rgb = self.rgb.pin_memory() if device.type == "cuda" else self.rgb
        pixels = _normalised(rgb.to(device, non_blocking=True))
        for image, (height, width) in zip(pixels, self.sizes_hw, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return pixels


def padded_hw(resized_hw: tuple[int, int]) -> tuple[int, int]:
    """The size to which an image alone is padded.

    Images with equal ones can share a batch without changing each other's result.
    """
    height, width = resized_hw
    return -(-height // SIZE_DIVISOR) * SIZE_DIVISOR, -(-width // SIZE_DIVISOR) * SIZE_DIVISOR


def collate(prepared: Sequence[PreparedImage]) -> ImageBatch:
    """A batch, padded at the right and the bottom; at least one image."""
    sizes = [image.resized_hw for image in prepared]
    height, width = padded_hw((max(height for height, _ in sizes), max(width for _, width in sizes)))
    rgb = torch.zeros(len(prepared), height, width, 3, dtype=torch.uint8)
    for image, target in zip(prepared, rgb, strict=True):
        target[: image.resized_hw[0], : image.resized_hw[1]] = image.rgb
    originals = [image.size_hw for image in prepared]
    scales = [(original[1] / size[1], original[0] / size[0]) for original, size in zip(originals, sizes, strict=True)]
    return ImageBatch(rgb, sizes, scales, originals)
