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
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, _imaging

from glip.errors import GlipError, InputError
from glip.images.remote import NotFetched, RemoteFile

ImageInput: TypeAlias = str | Path | Image.Image | NDArray[Any]  # the input of `as_image`

Resize: TypeAlias = Callable[[tuple[int, int]], tuple[int, int]]  # from height and width to height and width

# Formats that are recognised by their first bytes, whatever the file's name. With others (TGA, EPS) a damaged file
# would be read as noise, or start another program.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI")

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


def read_image(path: str | Path | RemoteFile) -> Image.Image:
    """Returns an image as RGB, turned according to its EXIF orientation; of an animation the first frame.

    Alpha is dropped; 16-bit grey keeps its upper 8 bits, as Pillow does with 16-bit colours.

    Raises:
        UnreadableImage: the image cannot be read. No other exception is raised, whatever the file holds.
    """
    return _read(path, None)[0]


def read_reduced(path: str | Path | RemoteFile, minimum_hw: Resize) -> tuple[Image.Image, tuple[int, int]]:
    """Returns an image as `read_image` does, but may decode a JPEG file at 1/2, 1/4 or 1/8 size, which is faster.

    Once resized, its pixels differ from those of the whole image by about half a grey level on average.

    Args:
        path: as for `read_image`.
        minimum_hw: returns the minimum height and width of the result, given those of the file.

    Returns:
        The upright image, and height and width of the whole image.

    Raises:
        UnreadableImage: as for `read_image`.
    """
    return _read(path, minimum_hw)


def read_image_size(path: Path) -> tuple[int, int]:
    """Returns width and height of a local image as it is shown, from its header alone.

    Raises:
        UnreadableImage: the header cannot be read.
    """
    _silence_pillow()
    try:
        with path.open("rb") as file, _open(file) as image:
            width, height = image.size
            turned = _TURNS.get(_orientation(image)) in _ON_THEIR_SIDE
    except Exception as error:  # on damaged data Pillow raises exceptions of any kind
        raise UnreadableImage(path, _reason(error)) from error
    return (height, width) if turned else (width, height)


def _read(path: str | Path | RemoteFile, minimum_hw: Resize | None) -> tuple[Image.Image, tuple[int, int]]:
    _silence_pillow()
    try:
        if isinstance(path, RemoteFile):
            content = path.read()
            if not content:
                raise UnreadableImage(path, "the file is empty")
            return _decode(BytesIO(content), path, minimum_hw)
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


def _decode(
    file: BinaryIO, path: str | Path | RemoteFile, minimum_hw: Resize | None
) -> tuple[Image.Image, tuple[int, int]]:
    image = _open(file)
    width, height = image.size
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 10**6
        raise UnreadableImage(path, f"its {width} x {height} pixels are more than the {limit} million that are read")
    if minimum_hw is not None and image.format == "JPEG":
        image.draft(None, minimum_hw((height, width))[::-1])
    rgb = _to_rgb(image, path)
    turn = _TURNS.get(_orientation(image))
    upright = rgb if turn is None else rgb.transpose(turn)
    upright.info.clear()  # otherwise the next reader would turn it again
    if image.format != "JPEG":  # Pillow has turned the size of a TIFF file as well
        return upright, (upright.height, upright.width)
    return upright, (width, height) if turn in _ON_THEIR_SIDE else (height, width)


def _open(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError:
        # Pillow's own limit is below the size of today's largest phone images, and holds for the whole process. It is
        # lifted while the header is read; `MAX_PIXELS` is checked before any pixel is decoded.
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(file, formats=_FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image) -> Any:
    # Only after the pixels are loaded: Pillow turns TIFF images itself while it loads them, and removes the tag.
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - damaged metadata do not make an image unreadable
        return None


def _to_rgb(image: Image.Image, path: str | Path | RemoteFile) -> Image.Image:
    """Returns a new RGB image of the same pixels."""
    if image.mode == "F":
        raise UnreadableImage(path, "its pixels are floating point numbers of unknown range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if low < 0 or high > 65535:
        raise UnreadableImage(path, f"its grey values reach from {low} to {high}; save it with 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


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
        return _to_rgb(source, name)
    except UnreadableImage:
        raise
    except Exception as error:  # a PIL image may be decoded only here; see `read_image`
        raise UnreadableImage(name, _reason(error)) from error
