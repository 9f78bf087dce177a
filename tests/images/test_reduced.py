"""JPEG files decoded no larger than needed: the sizes are those of the whole image, the pixels nearly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glip.images import decode_image, prepare, read_image, resized_hw
from tests.images.images import encoded, exif, photo, write


def at_96(size_hw: tuple[int, int]) -> tuple[int, int]:
    return resized_hw(size_hw, 96)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_is_decoded_smaller_but_never_smaller_than_needed(tmp_path: Path, orientation: int) -> None:
    path = write(tmp_path, encoded(photo(800, 500), "JPEG", exif=exif(orientation), quality=95))
    whole = read_image(path)
    decoded = decode_image(path, at_96)
    image, size_hw = decoded.image, decoded.size_hw
    assert size_hw == (whole.height, whole.width)
    assert image.width < whole.width / 2 and min(image.size) >= 96
    exact, near = prepare(whole, 96), prepare(image, 96, size_hw)
    assert (near.size_hw, near.resized_hw) == (exact.size_hw, exact.resized_hw)
    difference = (near.pixels - exact.pixels).abs() * 57.3  # grey levels
    assert difference.mean() < 1.5


def test_others_are_read_as_they_are(tmp_path: Path) -> None:
    for kind in ("PNG", "TIFF", "WEBP"):
        path = write(tmp_path, encoded(photo(800, 500), kind))
        decoded = decode_image(path, at_96)
        image, size_hw = decoded.image, decoded.size_hw
        assert np.array_equal(np.asarray(image), np.asarray(read_image(path))) and size_hw == (500, 800)
    small = write(tmp_path, encoded(photo(120, 100), "JPEG"), "small.jpg")
    assert np.array_equal(np.asarray(decode_image(small, at_96).image), np.asarray(read_image(small)))
