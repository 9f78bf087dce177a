"""Decodes JPEG files whose end is missing, as viewers do, where nearly the whole image is there.

A decoder fills what is missing with grey, or leaves details out, and reports nothing. So the rows that are missing are
those at the bottom which the last scan of the file did not change: at most `MAX_MISSING` of them are accepted. A
progressive file stores an image in several scans, coarse to fine: of each coefficient at most the lowest bit, which
nobody sees, may be missing altogether.

Knows the markers of JPEG (ITU-T T.81, annex B) and Pillow. Knows nothing of paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_MISSING = 0.1  # share of the rows
_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in the data of a scan; \x00 is an escaped \xff, D0-D7 restart it
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN, _EOI = 0xDA, 0xD9
_GREYS = (127, 128)  # of a block without data; 127 where the colours are stored inverted
_FILLER = b"\x5a" * 64  # after the data of a complete scan it changes nothing


@dataclass(frozen=True)
class _Scan:
    """A scan: its place in the file, its components, the range of its coefficients, and the bits it refines."""

    start: int
    components: tuple[int, ...]
    first: int
    last: int
    refines: int  # 0 for the first scan of its coefficients
    bit: int  # the lowest that it holds; 0 if the coefficients are complete after it


@dataclass(frozen=True)
class _Layout:
    components: tuple[int, ...]
    scans: tuple[_Scan, ...]
    ended: bool
    size: int  # bytes up to a segment that is cut off


def has_end(content: bytes) -> bool:
    """Returns whether a JPEG file has the marker that ends its image, wherever."""
    layout = _layout(content)
    return layout is not None and layout.ended


def decode_cut_off(content: bytes, load: Callable[[bytes], Image.Image]) -> tuple[Image.Image, bool] | None:
    """Decodes a JPEG file that has no end.

    Args:
        content: the file.
        load: opens and loads a JPEG file.

    Returns:
        The loaded image, and whether rows are missing rather than the end marker alone. None if the file has an end, or
        too much is missing.
    """
    # Zeros are the rest of a file that was preallocated and not wholly downloaded; \xff is half a marker.
    content = content.rstrip(b"\0").rstrip(b"\xff")
    layout = _layout(content)
    if layout is None or layout.ended or not layout.scans or not _has_coefficients(layout, missing_bits=1):
        return None
    content = content[: layout.size]
    image, last = load(content + _END), layout.scans[-1]
    pixels = np.asarray(image)
    if _has_coefficients(layout) and np.array_equal(pixels, np.asarray(load(content + _FILLER + _END))):
        return image, False
    if last.refines:  # bits that nobody sees
        return image, True
    before = None if last is layout.scans[0] else np.asarray(load(content[: last.start] + _END))
    missing = _unchanged_rows(pixels, before)
    return (image, True) if missing <= MAX_MISSING * image.height else None


def _has_coefficients(layout: _Layout, missing_bits: int = 0) -> bool:
    """Returns whether the scans hold all coefficients of all components, but for some of their lowest bits."""
    complete = {
        (part, k)
        for scan in layout.scans
        if scan.bit <= missing_bits
        for part in scan.components
        for k in range(scan.first, scan.last + 1)
    }
    return all((part, k) in complete for part in layout.components for k in range(64))


def _unchanged_rows(image: NDArray[np.uint8], before: NDArray[np.uint8] | None) -> int:
    """Returns the number of rows at the bottom that equal the image before the last scan."""
    same = np.isin(image, _GREYS) if before is None else image == before
    changed = np.flatnonzero(~same.reshape(len(same), -1).all(axis=1))
    return len(image) - 1 - int(changed[-1]) if len(changed) else len(image)


def _layout(content: bytes) -> _Layout | None:
    """Returns the frame and the scans of a file; None if it is damaged before its end."""
    position = 2
    components: tuple[int, ...] = ()
    scans: list[_Scan] = []
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            return None
        kind = content[position + 1]
        if kind == 0xFF:  # padding
            position += 1
            continue
        if kind == _EOI:
            return _Layout(components, tuple(scans), ended=True, size=position)
        length = int.from_bytes(content[position + 2 : position + 4])
        body = content[position + 4 : position + 2 + length]
        if length < 2 or len(body) < length - 2:
            break
        start, position = position, position + 2 + length
        if kind in _FRAMES:
            components = tuple(body[6::3])
        elif kind == _SCAN:
            scan = _scan(start, body)
            if scan is None:
                return None
            scans.append(scan)
            found = _MARKER.search(content, position)
            position = len(content) if found is None else found.start()
    return _Layout(components, tuple(scans), ended=content[position : position + 2] == _END, size=position)


def _scan(start: int, body: bytes) -> _Scan | None:
    count = body[0] if body else 0
    if len(body) != 4 + 2 * count:
        return None
    first, last, bits = body[-3:]
    return _Scan(start, tuple(body[1 : 1 + 2 * count : 2]), first, last, bits >> 4, bits & 15)
