"""Which formats are read, which need a plug-in, and which are named as not read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glip.images import UnreadableImage, list_sources, read_image
from glip.images import formats as formats_module
from glip.images.formats import INSTALL_HEIF, is_image, is_unread_image, left_out_formats, readable_suffixes
from tests.images.images import encoded, exif, photo, write

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture(autouse=True)
def fresh_suffixes() -> Iterator[None]:
    readable_suffixes.cache_clear()
    yield
    readable_suffixes.cache_clear()


@pytest.mark.parametrize("name", ["a.HEIC", "a.heif", "a.DNG", "a.cr3", "a.psd", "a.tga", "a.svg", "a.pdf", "a.jxl"])
def test_images_that_are_not_read_are_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats_module, "has_heif", lambda: False)
    assert is_unread_image(name) and not is_image(name)
    (entry,) = left_out_formats([name, name])
    assert entry.count == 2 and f"2 {Path(name).suffix.lower()}" in entry.sentence
    assert (INSTALL_HEIF in entry.sentence) == (Path(name).suffix.lower() in (".heic", ".heif"))


@pytest.mark.parametrize("name", ["a.txt", "a.mp4", "heic", ".heic/a", "a.heic.part", ""])
def test_other_files_are_none_of_them(name: str) -> None:
    assert not is_unread_image(name) and not is_image(name)


def test_heic_counts_as_an_image_where_its_plugin_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, HEIC, "a.heic")
    write(tmp_path, encoded(photo(), "PNG"), "b.png")
    monkeypatch.setattr(formats_module, "has_heif", lambda: False)
    assert [image.name for image in list_sources([tmp_path]).images] == ["b.png"]
    readable_suffixes.cache_clear()
    monkeypatch.setattr(formats_module, "has_heif", lambda: True)
    assert [image.name for image in list_sources([tmp_path]).images] == ["a.heic", "b.png"]


def test_a_heic_image_without_the_plugin_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("glip.images.reading.has_heif", lambda: False)
    with pytest.raises(UnreadableImage, match=re.escape(INSTALL_HEIF)):
        read_image(write(tmp_path, HEIC, "a.jpg"))


def test_heic_is_read_upright(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_pillow(photo(96, 64))
    file.info["exif"] = exif(6).tobytes()
    file.save(tmp_path / "a.heic", quality=95)
    upright = read_image(tmp_path / "a.heic")
    expected = photo(96, 64).rotate(-90, expand=True)
    assert np.abs(np.asarray(upright).astype(int) - np.asarray(expected)).mean() < 5


def test_a_raw_file_is_not_read_as_its_preview(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="raw"):
        read_image(write(tmp_path, encoded(photo(), "TIFF"), "a.dng"))
