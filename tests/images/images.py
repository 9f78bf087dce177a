"""Makes images and image files for the tests."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ORIENTATION = 0x0112


def photo(width: int = 48, height: int = 32) -> Image.Image:
    """An image without symmetry, smooth enough to survive JPEG."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, (across + down) / 2], -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    result = Image.Exif()
    result[ORIENTATION] = orientation
    return result


def write(folder: Path, content: bytes, name: str = "image.jpg") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def assert_similar(image: Image.Image, expected: Image.Image, tolerance: int) -> None:
    assert image.mode == "RGB"
    assert image.size == expected.size
    difference = np.abs(np.asarray(image, np.int16) - np.asarray(expected.convert("RGB"), np.int16))
    assert difference.max() <= tolerance


def grey_16(order: str = "<") -> NDArray[np.uint16]:
    return np.array([[0, 255, 256, 257], [0x1234, 0x8000, 0xFEFF, 0xFFFF]], order + "u2")


def tiff_16(order: str) -> bytes:
    """A 16-bit grey TIFF of either byte order, written by hand: Pillow writes the machine's own only."""
    tags = [(256, 4), (257, 2), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2), (279, 16)]
    ifd = struct.pack(order + "H", len(tags))
    ifd += b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags) + bytes(4)
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 24)
    return start + grey_16(order).tobytes() + ifd
