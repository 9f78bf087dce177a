"""Lists images, reads them upright, and makes the tensors that a model takes.

Knows files, formats and pixels. Knows nothing of prompts, boxes or the model.
"""

from __future__ import annotations

from glip.images.batch import ImageBatch, PreparedImage, collate, padded_hw, prepare, resized_hw
from glip.images.formats import IMAGE_SUFFIXES
from glip.images.listing import ImageFile, Listing, list_images, list_sources
from glip.images.reading import (
    MAX_PIXELS,
    DecodedImage,
    ImageInput,
    UnreadableImage,
    as_image,
    decode_image,
    read_image,
)
from glip.images.remote import NotFetched, RemoteFile, is_remote, shown

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "DecodedImage",
    "ImageBatch",
    "ImageFile",
    "ImageInput",
    "Listing",
    "NotFetched",
    "PreparedImage",
    "RemoteFile",
    "UnreadableImage",
    "as_image",
    "collate",
    "decode_image",
    "is_remote",
    "list_images",
    "list_sources",
    "padded_hw",
    "prepare",
    "read_image",
    "resized_hw",
    "shown",
]
