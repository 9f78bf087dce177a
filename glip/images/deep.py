"""Turns pixels of more than 8 bits into 8: 16-bit grey and colour files, whose values may use fewer bits.

Cameras and microscopes store 10, 12 or 14 bits in files of 16. Read as 16 bits, 12 bits are a black image: 4095 of
65535. The number of bits comes from the file if it states one, else from its largest value:

    file states it           TIFF's BitsPerSample below 16, or MaxSampleValue
    all values are widened   8-bit values times 256 or 257: the file uses all 16 bits, however dark it is
    largest value            below 2^8, 2^10, 2^12, 2^14: that many bits; else 16

Knows Pillow's images. Knows nothing of files and paths.
"""

from __future__ import annotations

import re
import sys
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281  # TIFF tags
_USUAL_BITS = (8, 10, 12, 14)
# Pillow's names for 16-bit pixels in the file; it keeps the upper byte of each value.
_WIDE = re.compile(r";16([BLN])$")
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_ALPHA_BANDS = {"RGBA": 3, "RGBa": 3, "RGBX": 3, "LA": 1, "La": 1}  # number of bands that are colours


def grey_of_integers(image: Image.Image) -> tuple[Image.Image | None, int, str]:
    """Returns an integer image (mode I or I;16) as 8-bit grey.

    Returns:
        The image, its number of bits, and "". None, 0 and the reason if its values are no grey values of 16 bits.
    """
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        return None, 0, f"its grey values reach from {low} to {high}; save it with 8 or 16 bits"
    bits = _stated_bits(image, high) or _bits_of(values, high)
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8)), bits, ""


def is_wide(image: Image.Image) -> bool:
    """Returns whether a file holds 16-bit colours, before it is loaded. Pillow reads the upper 8 bits of them."""
    return any(_WIDE.search(rawmode) for rawmode in _rawmodes(image)) or _ppm_maximum(image) >= 1 << max(_USUAL_BITS)


def brighten(image: Image.Image, file: BinaryIO, formats: tuple[str, ...]) -> tuple[Image.Image, int]:
    """Returns a loaded image with 16-bit colours as 8-bit colours of the bits it uses, and their number.

    Args:
        image: loaded: the upper bytes of the colours.
        file: the file of the image; read a second time for the lower bytes, if the upper ones are nearly all zero.
        formats: that Pillow may try.

    Returns:
        16 bits if the image is as it should be; 0 if it uses fewer, but the lower bytes cannot be read.
    """
    count = _ALPHA_BANDS.get(image.mode, len(image.getbands()))
    upper = np.asarray(image)
    colours = upper[..., :count] if upper.ndim == 3 else upper
    if colours.max(initial=0) >= 1 << (max(_USUAL_BITS) - 8):
        return image, 16
    try:
        values = _values(upper, file, formats, image.size)
    except Exception:  # noqa: BLE001 - Pillow does not know every order; the image then stays as dark as it is
        values = None
    if values is None:
        return image, 0
    seen = values[..., :count] if values.ndim == 3 else values
    high = int(seen.max(initial=0))
    bits = _stated_bits(image, high) or _bits_of(seen, high)
    if bits == 16:
        return image, 16
    scaled = np.minimum(values >> (bits - 8), 255).astype(np.uint8)  # an alpha channel may use more bits
    return Image.fromarray(scaled, image.mode), bits


def _values(
    upper: NDArray[np.uint8], file: BinaryIO, formats: tuple[str, ...], size: tuple[int, int]
) -> NDArray[np.uint16] | None:
    """Returns the 16-bit values of an image, given their upper bytes; None if they cannot be read."""
    file.seek(0)
    again = Image.open(file, formats=formats)
    if again.size != size or not is_wide(again):
        return None
    if again.format == "PPM":
        if again.tile[0].codec_name != "ppm":
            return None
        file.seek(again.tile[0].offset)
        return np.frombuffer(file.read(upper.size * 2), ">u2").astype(np.uint16).reshape(upper.shape)
    if _rawmodes(again) == ["LA;16B"] and again.mode == "RGBA":
        again.tile = [tile._replace(args="RGBA") for tile in again.tile]  # grey, its lower byte, alpha, its lower byte
        bytes_of_both = np.asarray(again).astype(np.uint16)
        grey = (bytes_of_both[..., 0] << 8) | bytes_of_both[..., 1]
        return np.stack([grey, grey, grey, upper[..., 3].astype(np.uint16) << 8], axis=-1)
    again.tile = [tile._replace(args=_other_order(tile.args)) for tile in again.tile]
    lower = np.asarray(again)
    return None if lower.shape != upper.shape else (upper.astype(np.uint16) << 8) | lower


def _other_order(args: Any) -> Any:
    """Returns the arguments of a decoder that reads the other byte of each value: in the other byte order."""
    if isinstance(args, str):
        return _WIDE.sub(lambda found: f";16{_SWAPPED[found[1]]}", args)
    return (_other_order(args[0]), *args[1:]) if isinstance(args, tuple) else args


def _ppm_maximum(image: Image.Image) -> int:
    """Returns the largest value that a PPM file may hold; 0 for other files. Pillow maps it to 255."""
    if image.format != "PPM" or image.mode != "RGB":
        return 0
    tiles = getattr(image, "tile", ())
    args = tiles[0].args if tiles else ()
    maximum = args[-1] if isinstance(args, tuple) and args else 0
    return maximum if isinstance(maximum, int) else 0


def _rawmodes(image: Image.Image) -> list[str]:
    found = []
    for tile in getattr(image, "tile", ()):
        args = tile.args
        first = args[0] if isinstance(args, tuple) and args else args
        if isinstance(first, str):
            found.append(first)
    return found


def _stated_bits(image: Image.Image, high: int) -> int:
    """Returns the bits that a TIFF file states; 0 if it states none, or fewer than its largest value needs."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 0
    try:
        per_sample = tags.get(_BITS_PER_SAMPLE, 16)
        largest = tags.get(_MAX_SAMPLE_VALUE, 0)
        bits = int(min(per_sample) if isinstance(per_sample, tuple) else per_sample)
        if bits == 16:
            bits = int(max(largest) if isinstance(largest, tuple) else largest).bit_length()
    except (TypeError, ValueError):  # damaged tags
        return 0
    return bits if 8 <= bits <= 16 and high < 1 << bits else 0


def _bits_of(values: NDArray[Any], high: int) -> int:
    fitting = next((bits for bits in _USUAL_BITS if high < 1 << bits), 16)
    if not high:
        return 16
    if fitting < 16 and high >= 256 and any(not np.any(values % step) for step in (256, 257)):
        return 16
    return fitting
