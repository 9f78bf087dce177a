"""Reading images: every odd file is an image or a reason, never a crash."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from glip.errors import GlipError
from glip.images import MAX_PIXELS, UnreadableImage, read_image, reading
from tests.images.images import ORIENTATION, assert_similar, encoded, exif, grey_16, photo, tiff_16, write

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="another kind of file system")


def reason_of(path: str | Path) -> str:
    """Why a file cannot be read; one line of plain words."""
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    assert isinstance(caught.value, GlipError)
    assert caught.value.path == path
    assert str(caught.value) == f"The image {str(path)!r} cannot be read: {caught.value.reason}."
    assert "\n" not in str(caught.value)
    return caught.value.reason


# --- formats and modes


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        ("JPEG", 12),
        ("PNG", 0),
        ("BMP", 0),
        ("TIFF", 0),
        ("PPM", 0),
        ("WEBP", 40),
        ("AVIF", 40),
        ("JPEG2000", 0),
        ("QOI", 0),
    ],
)
def test_every_format_is_read_whatever_the_file_is_called(tmp_path: Path, kind: str, tolerance: int) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = write(tmp_path, encoded(photo(), kind), "image.xyz")
    assert_similar(read_image(str(path)), photo(), tolerance)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((mode, "PNG") for mode in ("1", "L", "P", "LA", "RGB", "RGBA")),
        *((mode, "TIFF") for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr")),
        *((mode, "JPEG") for mode in ("L", "RGB", "CMYK")),
    ],
)
def test_every_mode_becomes_rgb_as_the_original_converts_it(tmp_path: Path, mode: str, kind: str) -> None:
    path = write(tmp_path, encoded(photo().convert(mode), kind))
    with Image.open(path) as expected:
        assert expected.mode == mode
        assert_similar(read_image(path), expected, 0)


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (10, 200, 30, 0))
    assert read_image(write(tmp_path, encoded(image, "PNG"))).getpixel((0, 0)) == (10, 200, 30)


def test_a_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([7, 8, 9, 200, 100, 50])
    image.putpixel((1, 0), 1)
    read = read_image(write(tmp_path, encoded(image, "PNG", transparency=b"\x00\x80")))
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(7, 8, 9), (200, 100, 50)]


def test_cmyk_is_read_as_photo_programs_write_it(tmp_path: Path) -> None:
    content = encoded(Image.new("CMYK", (8, 8), (255, 255, 0, 0)), "JPEG")
    assert b"Adobe" in content  # the mark of inverted values
    assert read_image(write(tmp_path, content)).getpixel((0, 0)) == pytest.approx((0, 0, 255), abs=3)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_the_first_frame_of_an_animation_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "lime")]
    path = tmp_path / f"animation.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with Image.open(path) as animation:
        assert getattr(animation, "n_frames", 1) == 3
    assert_similar(read_image(path), frames[0], 2)


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(grey_16()), "PNG"),
        tiff_16("<"),
        tiff_16(">"),
        b"P5 4 2 65535 " + grey_16(">").tobytes(),
        encoded(Image.fromarray(grey_16().astype(np.int32)), "TIFF"),
    ],
    ids=["PNG", "TIFF little-endian", "TIFF big-endian", "PGM", "32-bit TIFF"],
)
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, content: bytes) -> None:
    values = np.asarray(read_image(write(tmp_path, content)))
    assert values[..., 0].tolist() == [[0, 0, 1, 1], [0x12, 0x80, 0xFE, 0xFF]]
    assert (values == values[..., :1]).all()


def test_16_bit_colours_lose_their_lower_bits_in_the_same_way(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = struct.pack(">6H", 0, 255, 256, 0x1234, 0xFEFF, 0xFFFF)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    content += chunk(b"IDAT", zlib.compress(b"\x00" + pixels)) + chunk(b"IEND", b"")
    assert np.asarray(read_image(write(tmp_path, content))).tolist() == [[[0, 0, 1], [0x12, 0xFE, 0xFF]]]


@pytest.mark.parametrize("values", [[[-1, 5]], [[0, 65536]]])
def test_numbers_beyond_16_bits_are_refused_with_their_range(tmp_path: Path, values: list[list[int]]) -> None:
    path = write(tmp_path, encoded(Image.fromarray(np.array(values, np.int32)), "TIFF"))
    assert f"from {values[0][0]} to {values[0][1]}" in reason_of(path)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))
    assert "floating point" in reason_of(path)


def test_the_smallest_image_and_long_thin_ones_are_read(tmp_path: Path) -> None:
    for size in ((1, 1), (1, 30000), (30000, 1)):
        for kind in ("PNG", "JPEG"):
            assert_similar(
                read_image(write(tmp_path, encoded(Image.new("RGB", size, "white"), kind))),
                Image.new("RGB", size, "white"),
                0,
            )


# --- orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    path = write(tmp_path, encoded(photo(), kind, exif=exif(orientation), **options))
    with Image.open(path) as expected:
        upright = ImageOps.exif_transpose(expected)
    assert upright.size == ((32, 48) if orientation > 4 else (48, 32))
    read = read_image(path)
    assert_similar(read, upright, 0)
    assert read.getexif().get(ORIENTATION, 1) == 1  # no reader turns it again
    assert ImageOps.exif_transpose(read).tobytes() == read.tobytes()


def test_a_grey_image_stands_upright_too(tmp_path: Path) -> None:
    image = Image.fromarray(grey_16())
    read = np.asarray(read_image(write(tmp_path, encoded(image, "PNG", exif=exif(6)))))
    assert read[..., 0].tolist() == np.rot90(grey_16() >> 8, -1).tolist()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("damaged", [b"", b"II*\x00\xff\xff\xff\x7f", b"MM\x00*", b"\xff" * 40])
def test_damaged_notes_do_not_spoil_the_image(tmp_path: Path, damaged: bytes, kind: str) -> None:
    content = encoded(photo(), kind, exif=b"Exif\x00\x00" + damaged)
    assert_similar(read_image(write(tmp_path, content)), photo(), 40)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_means_none(tmp_path: Path, orientation: int) -> None:
    path = write(tmp_path, encoded(photo(), "PNG", exif=exif(orientation)))
    assert_similar(read_image(path), photo(), 0)


# --- files that are not images


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    assert reason_of(write(tmp_path, b"")) == "the file is empty"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_file_that_ends_too_early_is_unreadable(tmp_path: Path, kind: str) -> None:
    content = encoded(photo(200, 200), kind)
    reason = reason_of(write(tmp_path, content[: len(content) // 2]))
    assert reason in ("the file is cut short", "its data are damaged")
    if kind in ("JPEG", "PNG", "BMP"):
        assert reason == "the file is cut short"


@pytest.mark.parametrize(
    "content",
    [b"x", b"<html>not found</html>", b"%PDF-1.4", bytes(1000), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"],
)
def test_what_is_no_image_is_called_so(tmp_path: Path, content: bytes) -> None:
    assert reason_of(write(tmp_path, content)).startswith("it is no image in a known format")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    assert reason_of(tmp_path / "folder.jpg") == "it is a folder"


def test_a_vanished_file_is_said_to_be_gone(tmp_path: Path) -> None:
    assert "does not exist" in reason_of(tmp_path / "gone.jpg")
    assert "does not exist" in reason_of(str(tmp_path / "gone.jpg"))


@needs_posix
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason_of(tmp_path / "pipe.jpg") == "it is no ordinary file"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "its permissions forbid it"),
        (FileNotFoundError(2, "No such file or directory"), "it does not exist, or does not any more"),
        (OSError(5, "Input/output error"), "the system says: Input/output error"),
        (MemoryError(), "there is not enough memory for it"),
        (OSError(22, "Invalid argument"), "its data are damaged"),
        (ZeroDivisionError("division by zero"), "its data are damaged"),
    ],
    ids=repr,
)
def test_faults_while_reading_have_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    path = write(tmp_path, encoded(photo(), "PNG"))
    monkeypatch.setattr(Image, "open", fail)
    assert reason_of(path) == reason


def test_an_interrupt_is_not_taken_for_a_damaged_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path = write(tmp_path, encoded(photo(), "PNG"))
    monkeypatch.setattr(Image, "open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_image(path)


def test_the_reason_survives_the_way_from_another_process(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage) as caught:
        read_image(write(tmp_path, b"x"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.path, again.reason) == (str(caught.value), caught.value.path, caught.value.reason)


# --- large ones


def test_what_would_fill_the_memory_is_refused_with_its_size(tmp_path: Path) -> None:
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 60000, 50000, 1, 24, 0, 0, 0, 0, 0, 0)
    assert "its 60000 x 50000 pixels are more than the 400 million" in reason_of(write(tmp_path, header))


def test_images_beyond_pillows_own_limit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, encoded(photo(100, 100), "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    monkeypatch.setattr(reading, "MAX_PIXELS", 10_000)
    assert_similar(read_image(path), photo(100, 100), 0)
    assert Image.MAX_IMAGE_PIXELS == 4000
    monkeypatch.setattr(reading, "MAX_PIXELS", 9_999)
    assert "100 x 100" in reason_of(path)
    assert MAX_PIXELS > 200_000_000  # today's largest phone images


def test_pillows_own_limit_comes_back_after_threads_have_passed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, encoded(photo(100, 100), "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with ThreadPoolExecutor(8) as pool:
        assert {image.size for image in pool.map(read_image, [path] * 200)} == {(100, 100)}
    assert Image.MAX_IMAGE_PIXELS == 4000


def test_photographs_equal_what_the_original_reads(real_data: Path) -> None:
    photographs = sorted((real_data / "coco" / "val2017").glob("*.jpg"))[:8]
    assert photographs
    for path in photographs:
        with Image.open(path) as image:
            assert read_image(path).tobytes() == image.convert("RGB").tobytes()
