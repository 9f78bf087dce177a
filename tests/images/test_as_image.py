"""Images from memory: PIL images and arrays beside files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glip.errors import InputError
from glip.images import UnreadableImage, as_image
from tests.images.images import assert_similar, encoded, exif, grey_16, photo, write


def test_a_file_an_image_and_an_array_are_the_same(tmp_path: Path) -> None:
    image = photo()
    path = write(tmp_path, encoded(image, "PNG"))
    for source in (path, str(path), image, np.asarray(image), Image.open(path)):
        assert_similar(as_image(source), image, 0)


def test_arrays_of_other_shapes_become_rgb() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert_similar(as_image(grey), Image.fromarray(grey), 0)
    rgba = np.dstack([np.asarray(photo()), np.zeros((32, 48), np.uint8)])
    assert_similar(as_image(rgba), photo(), 0)
    assert_similar(as_image(np.asarray(photo())[::2, ::-1]), Image.fromarray(np.asarray(photo())[::2, ::-1].copy()), 0)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 3), np.uint16),
        np.zeros((4, 5, 3), bool),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((1, 4, 5, 3), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((), np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_other_arrays_are_refused_with_shape_and_type(array: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="uint8") as caught:
        as_image(array)
    assert str(array.shape) in str(caught.value)
    assert str(array.dtype) in str(caught.value)


@pytest.mark.parametrize(
    "source", [None, 3, b"bytes", [1, 2], Image.new("RGB", (0, 4))], ids=lambda it: type(it).__name__
)
def test_other_things_are_refused(source: Any) -> None:
    with pytest.raises(InputError) as caught:
        as_image(source)
    assert repr(source) in str(caught.value)


def test_pil_images_are_converted_as_files_are(tmp_path: Path) -> None:
    assert np.asarray(as_image(Image.fromarray(grey_16())))[..., 0].tolist() == (grey_16() >> 8).tolist()
    with pytest.raises(UnreadableImage, match="floating point"):
        as_image(Image.new("F", (2, 2)))
    content = encoded(photo(200, 200), "JPEG")
    with (
        Image.open(write(tmp_path, content[: len(content) // 2])) as cut,
        pytest.raises(UnreadableImage, match=r"image\.jpg"),
    ):
        as_image(cut)


def test_a_pil_image_is_taken_as_it_lies(tmp_path: Path) -> None:
    with Image.open(write(tmp_path, encoded(photo(), "JPEG", exif=exif(6)))) as image:
        assert as_image(image).size == (48, 32)
