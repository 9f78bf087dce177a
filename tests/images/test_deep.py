"""16-bit files whose values use fewer bits."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glip.images.reading import decode_image, fewer_bits
from tests.images.images import encoded, photo, write

RGB = np.asarray(photo()).astype(np.uint16)
GREY = np.asarray(photo().convert("L")).astype(np.uint16)
OPAQUE = np.full(GREY.shape, 65535, np.uint16)


def png_16(values: NDArray[Any]) -> bytes:
    """A PNG file of big-endian 16-bit values; Pillow writes grey ones only."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    colour = {2: 0, 32: 4, 33: 2, 34: 6}[values.ndim if values.ndim == 2 else 30 + values.shape[2]]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_16(values: NDArray[Any], order: str, *, bits: int = 16, maximum: int = 0) -> bytes:
    """An uncompressed TIFF file, which may state the largest value."""
    data = values.astype(f"{order}u2").tobytes()
    (height, width), bands = values.shape[:2], 1 if values.ndim == 2 else values.shape[2]
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1 if bands == 1 else 2)]
    tags += [(273, 4, 8), (277, 3, bands), (278, 4, height), (279, 4, len(data))]
    tags += [(281, 3, maximum)] if maximum else []
    first, directory = 8 + len(data), struct.pack(f"{order}H", len(tags))
    for tag, kind, value in tags:
        if tag == 258 and bands > 2:
            where = first + 2 + 12 * len(tags) + 4
            directory += struct.pack(f"{order}HHII", tag, kind, bands, where)
        else:
            directory += struct.pack(f"{order}HHI", tag, kind, 1)
            directory += struct.pack(
                f"{order}HH" if kind == 3 else f"{order}I", *((value, 0) if kind == 3 else (value,))
            )
    directory += struct.pack(f"{order}I", 0) + struct.pack(f"{order}{bands}H", *[bits] * bands)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}I", first) + data + directory


def as_ppm(values: NDArray[Any], maximum: int) -> bytes:
    kind = 5 if values.ndim == 2 else 6
    return f"P{kind} {values.shape[1]} {values.shape[0]} {maximum}\n".encode() + values.astype(">u2").tobytes()


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("order", ["png", "<", ">"])
@pytest.mark.parametrize("colour", [True, False])
def test_values_of_fewer_bits_are_read_as_such(tmp_path: Path, bits: int, order: str, colour: bool) -> None:
    pixels = RGB if colour else GREY
    values = (pixels << (bits - 8)) | ((1 << (bits - 8)) - 1)  # the lowest bits are dropped again
    content = png_16(values) if order == "png" else tiff_16(values, order)
    decoded = decode_image(write(tmp_path, content))
    assert np.array_equal(np.asarray(decoded.image), RGB if colour else np.stack([GREY] * 3, -1))
    assert decoded.notes == (fewer_bits(bits),)


@pytest.mark.parametrize(
    "content",
    [
        png_16(np.dstack([RGB * 16, OPAQUE])),
        png_16(np.dstack([GREY * 16, OPAQUE])),
        as_ppm(GREY * 16, 65535),
        as_ppm(RGB * 16, 65535),
        encoded(Image.fromarray((GREY * 16).astype(np.int32)), "TIFF"),
        tiff_16(GREY * 16, "<", maximum=4095),
    ],
    ids=["RGBA", "grey with alpha", "PGM", "PPM", "32-bit TIFF", "stated"],
)
def test_twelve_bits_are_found_in_every_kind_of_file(tmp_path: Path, content: bytes) -> None:
    decoded = decode_image(write(tmp_path, content))
    shown = np.asarray(decoded.image)
    assert np.array_equal(shown, RGB) or np.array_equal(shown, np.stack([GREY] * 3, -1))
    assert decoded.notes == (fewer_bits(12),)


@pytest.mark.parametrize(
    "values",
    [RGB * 257, GREY * 257, (GREY // 20) * 257, (RGB // 20) * 256, GREY * 70, GREY * 0, RGB * 0],
    ids=["colour", "grey", "dark grey", "dark colour", "above 14 bits", "black", "black colour"],
)
def test_true_16_bit_files_keep_their_upper_bits(tmp_path: Path, values: NDArray[Any]) -> None:
    decoded = decode_image(write(tmp_path, png_16(values)))
    shown = np.asarray(decoded.image)
    assert np.array_equal(shown if values.ndim == 3 else shown[..., 0], values >> 8) and decoded.notes == ()


def test_what_a_tiff_file_states_outranks_its_largest_value(tmp_path: Path) -> None:
    dark = decode_image(write(tmp_path, tiff_16(GREY * 4, "<", maximum=4095)))
    assert np.array_equal(np.asarray(dark.image)[..., 0], GREY >> 2) and dark.notes == (fewer_bits(12),)
    whole = decode_image(write(tmp_path, tiff_16(GREY * 4, "<", maximum=65535)))
    assert np.array_equal(np.asarray(whole.image)[..., 0], GREY >> 6) and whole.notes == ()
