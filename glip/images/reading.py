"""Reads images: a file, an address, a PIL image or an array → an upright RGB image, or the reason why not.

Knows files and Pillow; `remote` fetches from addresses. Knows nothing of models. Reasons are stored in records, so
their wording is part of the format.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import stat
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, _imaging

from glip.errors import GlipError, InputError
from glip.images.deep import brighten, grey_of_integers, is_wide
from glip.images.formats import INSTALL_HEIF, RAW_SUFFIXES, has_heif, is_heif, register_plugins, suffix_of
from glip.images.jpeg import decode_cut_off, has_end
from glip.images.remote import NotFetched, RemoteFile

ImageInput: TypeAlias = str | Path | Image.Image | NDArray[Any]  # the input of `as_image`

Resize: TypeAlias = Callable[[tuple[int, int]], tuple[int, int]]  # from height and width to height and width

# Formats that are recognised by their first bytes, whatever the file's name. With others (TGA, EPS) a damaged file
# would be read as noise, or start another program.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI")
_ANIMATED = ("PNG", "WEBP", "AVIF", "HEIF")  # formats that state the number of frames in their header
_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101  # TIFF tag; a smaller copy of the first page, or its mask
_MAX_REPAIRED = 512 * 2**20  # bytes of a JPEG file whose end is missing

# Notes of `DecodedImage`. They are counted by their text, so they hold no number of a single file.
FIRST_FRAME_ONLY = "it holds several frames or pages, of which the first is read"
NO_END = "its file has no end marker; the image is whole"
CUT_OFF = "its file is cut off near the end; the last rows or the finest details are missing"
BYTES_AFTER_END = "its file goes on after the end of the image; what follows is not read"
NEARLY_BLACK = "it is nearly black: it uses the lowest values of 16 bits"


def fewer_bits(bits: int) -> str:
    """Returns the note for a 16-bit file that is read as having fewer bits."""
    return f"its 16-bit values are read as {bits}-bit values, because none is larger"


# A decoded pixel takes 4 bytes, briefly twice that: at most 3.2 GB per image.
MAX_PIXELS = 400_000_000

# EXIF orientation -> the operation that undoes it.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = {_TURNS[value] for value in (5, 6, 7, 8)}
_pillow_limit = threading.Lock()


class UnreadableImage(GlipError):
    """An image that cannot be used.

    Attributes:
        path: the file or address.
        reason: the reason, in one line without the path.
    """

    def __init__(self, path: str | Path | RemoteFile, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the exception can be pickled
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"The image {str(self.path)!r} cannot be read: {self.reason}."


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image as it is labelled.

    Attributes:
        image: RGB, upright.
        size_hw: height and width of the whole image, which may have been decoded smaller.
        notes: what a person should know about the file: frames that are not read, missing data.
    """

    image: Image.Image
    size_hw: tuple[int, int]
    notes: tuple[str, ...] = ()


def read_image(path: str | Path | RemoteFile) -> Image.Image:
    """Returns an image as RGB, turned according to its EXIF orientation; of an animation the first frame.

    Alpha is dropped. Of 16-bit values the upper 8 bits are kept; if a file uses only 8, 10, 12 or 14 of the 16 bits,
    the upper 8 of those (`glip.images.deep`).

    Raises:
        UnreadableImage: the image cannot be read. No other exception is raised, whatever the file holds.
    """
    return decode_image(path).image


def decode_image(path: str | Path | RemoteFile, minimum_hw: Resize | None = None) -> DecodedImage:
    """Returns an image as `read_image` does, with notes about its file.

    Args:
        path: as for `read_image`.
        minimum_hw: returns the minimum height and width of the result, given those of the file. A JPEG file may then be
            decoded at 1/2, 1/4 or 1/8 size, which is faster. Once resized, its pixels differ from those of the whole
            image by about half a grey level on average. None decodes at full size.

    Raises:
        UnreadableImage: as for `read_image`.
    """
    _silence_pillow()
    try:
        if isinstance(path, RemoteFile):
            with path.open() as file:
                if not file.getbuffer().nbytes:
                    raise UnreadableImage(path, "the file is empty")
                return _decode(file, path, minimum_hw)
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait forever
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise UnreadableImage(path, f"it is {kind}")
        if not status.st_size:
            raise UnreadableImage(path, "the file is empty")
        with Path(path).open("rb") as file:
            return _decode(file, path, minimum_hw)
    except UnreadableImage:
        raise
    except Exception as error:  # on damaged data Pillow raises exceptions of any kind
        raise UnreadableImage(path, _reason(error)) from error


def _silence_pillow() -> None:
    """Suppresses Pillow's warnings and messages; problems are told as reasons instead."""
    # Set at each call, because others may reset it; `warnings.catch_warnings` is not safe in threads.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    _silence_libtiff()


@cache
def _silence_libtiff() -> None:
    # The C library writes a line to stderr for every damaged strip of a TIFF file. If Pillow is built without it, or
    # hides its functions, the lines cannot be suppressed; they do no harm.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _reason(error: Exception) -> str:
    match error:
        case NotFetched():
            return error.reason
        case FileNotFoundError():
            return "it does not exist, or does not any more"
        case PermissionError():
            return "its permissions forbid it"
        case _NoPlugin():
            return f"it is a HEIC image, which needs a plug-in: {INSTALL_HEIF}"
        case UnidentifiedImageError():
            return "it is no image in a known format, or its beginning is damaged"
        case MemoryError():
            return "there is not enough memory for it"
        case OSError(errno=int(number), strerror=str(text)) if number != errno.EINVAL:
            # EINVAL comes from damaged data that point outside the file.
            return f"the system says: {text}"
        case _ if "truncated" in str(error).lower():
            return "the file is cut short"
        case _:
            return "its data are damaged"


def _decode(file: BinaryIO, path: str | Path | RemoteFile, minimum_hw: Resize | None) -> DecodedImage:
    image = _open(file)
    width, height = image.size
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 10**6
        raise UnreadableImage(path, f"its {width} x {height} pixels are more than the {limit} million that are read")
    if image.format == "TIFF" and suffix_of(str(path)) in RAW_SUFFIXES:
        raise UnreadableImage(path, "it is a camera's raw file, of which only a preview could be read")
    notes = [FIRST_FRAME_ONLY] if _has_more_frames(image) else []
    draft = None if minimum_hw is None else minimum_hw((height, width))[::-1]
    if image.format == "JPEG":
        if draft is not None:
            image.draft(None, draft)
        image = _load_jpeg(image, file, draft, notes)
    rgb = _to_rgb(image, path, file, notes)
    turn = _TURNS.get(_orientation(image))
    upright = rgb if turn is None else rgb.transpose(turn)
    upright.info.clear()  # otherwise the next reader would turn it again
    if image.format != "JPEG":  # Pillow has turned the size of a TIFF file as well
        return DecodedImage(upright, (upright.height, upright.width), tuple(notes))
    return DecodedImage(upright, (width, height) if turn in _ON_THEIR_SIDE else (height, width), tuple(notes))


def _open(file: BinaryIO) -> Image.Image:
    formats = _formats(file)
    try:
        return Image.open(file, formats=formats)
    except Image.DecompressionBombError:
        # Pillow's own limit is below the size of today's largest phone images, and holds for the whole process. It is
        # lifted while the header is read; `MAX_PIXELS` is checked before any pixel is decoded.
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(file, formats=formats)
            finally:
                Image.MAX_IMAGE_PIXELS = limit


def _formats(file: BinaryIO) -> tuple[str, ...]:
    """Returns the formats to try."""
    start = file.read(12)
    file.seek(0)
    if start[4:8] != b"ftyp":
        return _FORMATS
    register_plugins()
    if not is_heif(start):
        return _FORMATS
    if not has_heif():
        raise _NoPlugin
    return (*_FORMATS, "HEIF")


class _NoPlugin(Exception):
    """A HEIC image, and no plug-in that reads it."""


def _has_more_frames(image: Image.Image) -> bool:
    """Returns whether a file holds further frames or pages. The second picture of a phone's JPEG does not count."""
    try:
        if image.format in _ANIMATED:
            return int(getattr(image, "n_frames", 1)) > 1
        if image.format not in ("GIF", "TIFF"):
            return False
        try:
            image.seek(1)  # counting all frames would take long in a file of millions
            tags = getattr(image, "tag_v2", {})
            return not int(tags.get(_SUBFILE_TYPE, 0)) & _REDUCED_OR_MASK
        finally:
            image.seek(0)
    except Exception:  # noqa: BLE001 - EOFError for a single frame; a damaged second frame does no harm to the first
        return False


def _load_jpeg(image: Image.Image, file: BinaryIO, draft: tuple[int, int] | None, notes: list[str]) -> Image.Image:
    """Returns a loaded JPEG image; of a file that is cut off near its end, what is there."""
    try:
        image.load()
    except OSError as error:
        if "truncated" not in str(error):
            raise
    else:
        file.seek(-2, 2)
        if file.read(2) == b"\xff\xd9":
            return image
    file.seek(0)
    content = file.read(_MAX_REPAIRED)
    if has_end(content):
        image.load()  # raises the error again
        notes.append(BYTES_AFTER_END)
        return image
    found = decode_cut_off(content, lambda content: _load_again(content, draft))
    if found is None:
        raise OSError("truncated")
    notes.append(CUT_OFF if found[1] else NO_END)
    return found[0]


def _load_again(content: bytes, draft: tuple[int, int] | None) -> Image.Image:
    image = Image.open(BytesIO(content), formats=("JPEG",))
    if draft is not None:
        image.draft(None, draft)
    image.load()
    return image


def _orientation(image: Image.Image) -> Any:
    # Only after the pixels are loaded: Pillow turns TIFF images itself while it loads them, and removes the tag.
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - damaged metadata do not make an image unreadable
        return None


def _to_rgb(image: Image.Image, path: str | Path | RemoteFile, file: BinaryIO | None, notes: list[str]) -> Image.Image:
    """Returns a new RGB image of the same pixels. Notes what was done to 16-bit values."""
    if image.mode == "F":
        raise UnreadableImage(path, "its pixels are floating point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        grey, bits, problem = grey_of_integers(image)
        if grey is None:
            raise UnreadableImage(path, problem)
        image = grey
    elif file is not None and is_wide(image):
        image.load()
        image, bits = brighten(image, file, _FORMATS)
    else:
        return image.convert("RGB")
    if bits < 16:
        notes.append(fewer_bits(bits) if bits else NEARLY_BLACK)
    return image.convert("RGB")


def as_image(source: ImageInput) -> Image.Image:
    """Returns any form of image as an RGB image.

    Args:
        source: a file, turned according to its EXIF orientation; or a PIL image or uint8 array, which is not turned:
            (H, W, 3) RGB, (H, W, 4) RGBA (alpha is dropped) or (H, W) grey. OpenCV's BGR arrays need `[..., ::-1]`.

    Raises:
        UnreadableImage: the file, or the file behind the PIL image, cannot be read.
        InputError: `source` is something else.
    """
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, np.ndarray):
        shape_fits = source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (3, 4))
        if source.dtype != np.uint8 or not shape_fits or not source.size:
            raise InputError(
                f"The image array has type {source.dtype} and shape {source.shape}; it must be uint8 and (H, W, 3) "
                f"RGB, (H, W, 4) RGBA or (H, W) grey."
            )
        return Image.fromarray(source).convert("RGB")
    if not isinstance(source, Image.Image) or not source.width or not source.height:
        raise InputError(f"The image is {source!r}; it must be a path, a PIL image or an array.")
    name = getattr(source, "filename", "") or "(a PIL image)"
    _silence_pillow()
    try:
        return _to_rgb(source, name, None, [])
    except UnreadableImage:
        raise
    except Exception as error:  # a PIL image may be decoded only here; see `read_image`
        raise UnreadableImage(name, _reason(error)) from error
