"""Reads images: any file, near or far, PIL image or array → an upright RGB image, or the reason why not.

Knows files and Pillow; what lies elsewhere is fetched by `remote`. Knows nothing of what the model wants.
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

ImageInput: TypeAlias = str | Path | Image.Image | NDArray[Any]  # what `as_image` takes

Resize: TypeAlias = Callable[[tuple[int, int]], tuple[int, int]]  # height and width to height and width

# Formats that say what they are in their first bytes: others (TGA, EPS) would make noise, or a call of
# another program, out of damaged files. The names of the files do not count.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI")

# Decoded, a pixel takes 4 bytes, and for a moment twice that: at most 3.2 GB for one image.
MAX_PIXELS = 400_000_000

# What undoes each value of the EXIF orientation.
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
        path: the file.
        reason: why, in one line without the path.
    """

    def __init__(self, path: str | Path | RemoteFile, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the exception survives the way back from another process
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"The image {str(self.path)!r} cannot be read: {self.reason}."


def read_image(path: str | Path | RemoteFile) -> Image.Image:
    """An image as RGB, turned as its EXIF orientation says; the first frame of an animation.

    Alpha is dropped; 16-bit grey keeps its upper 8 bits, as Pillow does with 16-bit colours.

    Raises:
        UnreadableImage: whatever the file holds, nothing else is raised.
    """
    return _read(path, None)[0]


def read_reduced(path: str | Path | RemoteFile, least_hw: Resize) -> tuple[Image.Image, tuple[int, int]]:
    """`read_image`, but a JPEG file may be decoded at a half, a quarter or an eighth of its size, which is faster.

    Resized afterwards, the pixels are not quite those of the whole image: about half a grey level apart on average.

    Args:
        path: as for `read_image`.
        least_hw: gives, for a height and width, those that the result must not be smaller than.

    Returns:
        The image, upright, and the height and width that the whole one has.

    Raises:
        UnreadableImage: as for `read_image`.
    """
    return _read(path, least_hw)


def _read(path: str | Path | RemoteFile, least_hw: Resize | None) -> tuple[Image.Image, tuple[int, int]]:
    _silence_pillow()
    try:
        if isinstance(path, RemoteFile):
            content = path.read()
            if not content:
                raise UnreadableImage(path, "the file is empty")
            return _decode(BytesIO(content), path, least_hw)
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise UnreadableImage(path, f"it is {kind}")
        if not status.st_size:
            raise UnreadableImage(path, "the file is empty")
        with Path(path).open("rb") as file:
            return _decode(file, path, least_hw)
    except UnreadableImage:
        raise
    except Exception as error:  # on damaged data Pillow raises whatever its parsers stumble upon
        raise UnreadableImage(path, _reason(error)) from error


def _silence_pillow() -> None:
    """What matters of Pillow's warnings and messages becomes a reason."""
    # A filter, and one for each call since others may reset it: `warnings.catch_warnings` is not safe in threads.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    _silence_libtiff()


@cache
def _silence_libtiff() -> None:
    # The C library writes a line to stderr for every damaged strip of a TIFF file. Where Pillow is built without
    # it, or hides its functions, nothing can be done, and the lines do no harm.
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
            # EINVAL comes from places outside the file that damaged data point to.
            return f"the system says: {text}"
        case _ if "truncated" in str(error).lower():
            return "the file is cut short"
        case _:
            return "its data are damaged"


def _decode(
    file: BinaryIO, path: str | Path | RemoteFile, least_hw: Resize | None
) -> tuple[Image.Image, tuple[int, int]]:
    image = _open(file)
    width, height = image.size
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 10**6
        raise UnreadableImage(path, f"its {width} x {height} pixels are more than the {limit} million that are read")
    if least_hw is not None and image.format == "JPEG":
        image.draft(None, least_hw((height, width))[::-1])
    rgb = _to_rgb(image, path)
    turn = _TURNS.get(_orientation(image))
    upright = rgb if turn is None else rgb.transpose(turn)
    upright.info.clear()  # or the next reader of the orientation would turn it again
    if image.format != "JPEG":  # of a TIFF file Pillow has turned the size, too
        return upright, (upright.height, upright.width)
    return upright, (width, height) if turn in _ON_THEIR_SIDE else (height, width)


def _open(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError:
        # Pillow's own limit lies below the size of today's largest phone images, and belongs to the whole
        # process: it is lifted for the header only, and `MAX_PIXELS` is checked before any pixel is decoded.
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(file, formats=_FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image) -> Any:
    # Only once the pixels are loaded: Pillow turns TIFF images itself while it loads them, and takes the tag away.
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - damaged notes about an image do not spoil the image
        return None


def _to_rgb(image: Image.Image, path: str | Path | RemoteFile) -> Image.Image:
    """A new RGB image of the same pixels."""
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
    """Any form of image as an RGB image.

    Args:
        source: a file (turned as its EXIF orientation says); a PIL image or a uint8 array, taken as they lie:
            (H, W, 3) RGB, (H, W, 4) RGBA (alpha is dropped) or (H, W) grey. OpenCV's BGR arrays need `[..., ::-1]`.

    Raises:
        UnreadableImage: the file, or the data behind the PIL image, cannot be read.
        InputError: anything else.
    """
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, np.ndarray):
        shape_fits = source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (3, 4))
        if source.dtype != np.uint8 or not shape_fits or not source.size:
            raise InputError(
                f"An image as an array must be uint8 and (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey, "
                f"not {source.dtype} and {source.shape}."
            )
        return Image.fromarray(source).convert("RGB")
    if not isinstance(source, Image.Image) or not source.width or not source.height:
        raise InputError(f"An image must be a path, a PIL image or an array, not {source!r}.")
    name = getattr(source, "filename", "") or "(a PIL image)"
    _silence_pillow()
    try:
        return _to_rgb(source, name)
    except UnreadableImage:
        raise
    except Exception as error:  # a PIL image may be decoded only now; see `read_image`
        raise UnreadableImage(name, _reason(error)) from error
