"""Lists images, reads them upright, and makes the tensors that a model takes.

Knows files, formats and pixels. Knows nothing of prompts, boxes or the model.
"""

from __future__ import annotations

from glip.images.batch import ImageBatch, PreparedImage, collate, padded_hw, prepare, resized_hw
from glip.images.listing import IMAGE_SUFFIXES, ImageFile, list_images
from glip.images.reading import MAX_PIXELS, ImageInput, UnreadableImage, as_image, read_image, read_reduced
from glip.images.remote import NotFetched, RemoteFile, is_remote, shown

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "ImageBatch",
    "ImageFile",
    "ImageInput",
    "NotFetched",
    "PreparedImage",
    "RemoteFile",
    "UnreadableImage",
    "as_image",
    "collate",
    "is_remote",
    "list_images",
    "padded_hw",
    "prepare",
    "read_image",
    "read_reduced",
    "resized_hw",
    "shown",
]
