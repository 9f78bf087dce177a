"""Damaged images: read or refused with a reason, and never a word on the terminal."""

from __future__ import annotations

import logging
import random
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from glip.images import UnreadableImage, read_image, reading
from tests.images.images import encoded, exif, grey_16, photo, tiff_16, write


def small_images() -> Iterator[bytes]:
    """One photo of each format and compression, some turned, some in odd modes."""
    image = photo(60, 40)
    yield encoded(image, "JPEG", exif=exif(6))
    yield encoded(image, "JPEG", progressive=True)
    yield encoded(image.convert("CMYK"), "JPEG")
    yield encoded(image, "PNG", exif=exif(8))
    yield encoded(image.convert("P"), "PNG")
    yield encoded(Image.fromarray(grey_16()), "PNG")
    yield encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)])
    yield encoded(image, "BMP")
    yield encoded(image, "PPM")
    yield encoded(image, "WEBP", exif=exif(3))
    yield encoded(image, "WEBP", lossless=True)
    yield encoded(image, "JPEG2000")
    yield encoded(image, "QOI")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        yield encoded(image, "TIFF", compression=compression)
    yield encoded(image.convert("1"), "TIFF", compression="group4")


def mutated(content: bytes, donor: bytes, dice: random.Random) -> bytes:
    """The image with bytes changed, cut out, cut off or put in from another."""
    result = bytearray(content)
    for _ in range(dice.choice([1, 1, 2, 5, 30])):
        place = dice.randrange(min(len(result), dice.choice([64, 600, 10**9])))
        match dice.choice("fffffcsd"):
            case "f":
                result[place] = dice.randrange(256)
            case "c":
                del result[max(place, 1) :]
            case "d":
                del result[place + 1 : place + dice.randrange(2, 60)]
            case "s":
                start = dice.randrange(len(donor))
                result[place:place] = donor[start : start + dice.randrange(1, 80)]
    return bytes(result)


def check_mutations(seeds: list[bytes], count: int, folder: Path) -> None:
    dice = random.Random(20)
    read = 0
    for number in range(count):
        content = mutated(seeds[number % len(seeds)], dice.choice(seeds), dice)
        path = write(folder, content)
        try:
            image = read_image(path)
        except UnreadableImage as error:
            assert re.fullmatch(r"(it|its|the|there) [^\n]+[^\n.]", error.reason), error.reason
        else:
            assert image.mode == "RGB"
            assert image.tobytes()
            read += 1
    assert 0.1 < read / count < 0.9  # the mutations are neither harmless nor hopeless


def test_mutated_images_of_every_format_are_read_or_refused(tmp_path: Path) -> None:
    check_mutations(list(small_images()), 600, tmp_path)


def test_mutated_photographs_are_read_or_refused(tmp_path: Path, real_data: Path) -> None:
    photographs = sorted((real_data / "coco" / "val2017").glob("*.jpg"))[:20]
    assert photographs
    check_mutations([path.read_bytes() for path in photographs], 300, tmp_path)


def test_damaged_images_leave_no_word_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    packed = bytearray(encoded(photo(200, 200), "TIFF", compression="tiff_adobe_deflate"))
    packed[20:60] = bytes(40)  # libtiff writes a line about it
    odd_exif = encoded(
        photo(), "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x02\x00" + b"\x0f\x01\x02\x00\xff\xff\x00\x00" * 3
    )
    deep = bytearray(tiff_16("<"))
    deep[deep.index(struct.pack("<HHIH", 277, 3, 1, 1)) + 8] = 9  # nine samples a pixel: Pillow logs an error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for content in (bytes(packed), odd_exif, bytes(deep)):
            path = write(tmp_path, content)
            with suppress(UnreadableImage):
                read_image(path)
    assert not caught
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_the_warnings_of_others_stay() -> None:
    reading._silence_pillow()
    with pytest.warns(UserWarning, match="of another"):
        warnings.warn("of another", stacklevel=1)


def test_images_are_read_in_threads(tmp_path: Path) -> None:
    path = write(tmp_path, encoded(photo(), "JPEG", exif=b"Exif\x00\x00" + b"\xff" * 40))
    before = threading.active_count()
    filters = len(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert len({image.tobytes() for image in pool.map(read_image, [path] * 200)}) == 1
    assert threading.active_count() == before
    assert len(warnings.filters) <= filters + 8  # the filter is not added again and again
