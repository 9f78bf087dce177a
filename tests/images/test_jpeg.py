"""JPEG files that end too early or too late, and other notes about files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.images.reading import (
    BYTES_AFTER_END,
    CUT_OFF,
    FIRST_FRAME_ONLY,
    NO_END,
    UnreadableImage,
    decode_image,
    read_image,
)
from tests.images.images import encoded, photo, write


def noisy(mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(-20, 20, (240, 320, 3))
    return Image.fromarray(np.clip(np.asarray(photo(320, 240)).astype(int) + noise, 0, 255).astype(np.uint8)).convert(
        mode
    )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_what_viewers_show_is_read_with_a_note(tmp_path: Path, progressive: bool, mode: str) -> None:
    content = encoded(noisy(mode), "JPEG", quality=90, progressive=progressive)
    whole = np.asarray(read_image(write(tmp_path, content)))
    ends = {content[:-2]: NO_END, content[:-1]: NO_END, content[:-2] + bytes(500): NO_END}
    ends |= {content + b"more": BYTES_AFTER_END, content + bytes(9): BYTES_AFTER_END, content[:-30]: CUT_OFF}
    assert decode_image(write(tmp_path, content)).notes == ()
    for cut, note in ends.items():
        decoded = decode_image(write(tmp_path, cut))
        assert decoded.notes == (note,)
        same = np.asarray(decoded.image) == whole
        assert same[:200].all() and (note == CUT_OFF or same.all())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_more_than_a_tenth_of_the_rows_must_not_be_missing(tmp_path: Path, share: float, mode: str) -> None:
    content = encoded(noisy(mode), "JPEG", quality=90)
    with pytest.raises(UnreadableImage, match="cut short"):
        read_image(write(tmp_path, content[: int(len(content) * share)]))
    assert decode_image(write(tmp_path, content[: int(len(content) * 0.95)])).notes == (CUT_OFF,)


def test_a_progressive_file_may_lack_the_lowest_bits_but_no_more(tmp_path: Path) -> None:
    content = encoded(noisy(), "JPEG", quality=90, progressive=True)
    whole = np.asarray(read_image(write(tmp_path, content))).astype(int)
    scans = [found.start() for found in re.finditer(b"\xff\xda", content)]
    assert len(scans) == 10
    for end in (scans[2], scans[4], scans[5]):
        with pytest.raises(UnreadableImage, match="cut short"):
            read_image(write(tmp_path, content[:end]))
    for end in (scans[9], scans[9] + 500):
        decoded = decode_image(write(tmp_path, content[:end]))
        assert decoded.notes == (CUT_OFF,) and np.abs(np.asarray(decoded.image) - whole).mean() < 6  # of noise


def test_a_reduced_size_works_for_a_cut_file_too(tmp_path: Path) -> None:
    content = encoded(noisy(), "JPEG", quality=90)
    decoded = decode_image(write(tmp_path, content[:-2]), lambda size_hw: (60, 80))
    assert decoded.image.size == (80, 60) and decoded.size_hw == (240, 320) and decoded.notes == (NO_END,)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP", "AVIF"])
def test_further_frames_are_noted(tmp_path: Path, kind: str) -> None:
    frames = [photo(), photo().rotate(180), photo().rotate(90)]
    several = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert decode_image(write(tmp_path, several)).notes == (FIRST_FRAME_ONLY,)
    assert decode_image(write(tmp_path, encoded(frames[0], kind))).notes == ()


def test_a_smaller_copy_in_a_tiff_file_is_no_further_page(tmp_path: Path) -> None:
    small = photo(12, 8)
    small.encoderinfo = {"tiffinfo": {254: 1}}
    content = encoded(photo(), "TIFF", save_all=True, append_images=[small])
    with Image.open(write(tmp_path, content)) as file:
        file.seek(1)
        assert file.tag_v2.get(254) == 1  # type: ignore[attr-defined]
    assert decode_image(write(tmp_path, content)).notes == ()
