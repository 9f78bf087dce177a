"""The images of a data set by index, and millions of texts in little memory.

A broken file does not end a long training: the next image is used instead. Knows files and sizes. Knows nothing of
boxes or captions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glip.data.sampling import EpochOrder
from glip.errors import InputError, JobFailed
from glip.images.reading import UnreadableImage, read_image

MAX_UNREADABLE = 64  # unusable images in a row before training stops

logger = logging.getLogger(__name__)


def starts_of(counts: Iterable[int]) -> NDArray[np.int64]:
    """Returns (N + 1,) the start of each of N groups in one long array, given their sizes; the last is its length."""
    return np.concatenate(([0], np.cumsum(np.fromiter(counts, np.int64)))).astype(np.int64)


class TextTable:
    """Texts in one block of memory. A list of millions would take several times as much, in every process."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = [text.encode() for text in texts]
        self._starts = starts_of(map(len, encoded))
        self._bytes = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._bytes[self._starts[index] : self._starts[index + 1]].decode()


@dataclass(frozen=True, eq=False)
class ImageTable:
    """The image files of a data set.

    Attributes:
        file_names: (N) relative, '/' between folders.
        sizes_wh: (N, 2) width and height in pixels as the data set states them; its boxes are valid only for these.
        folders: searched for a file in this order.
    """

    file_names: TextTable
    sizes_wh: NDArray[np.int32]
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, listed: Iterable[tuple[str, int, int]], folders: Path | str | Sequence[Path | str]) -> ImageTable:
        """Returns the table of images given as (file name, width, height).

        Raises:
            InputError: a folder does not exist.
        """
        listed = list(listed)
        paths = tuple(Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders))
        for path in paths:
            if not path.is_dir():
                raise InputError(f"{path} is not a folder; the images to learn from are expected there.")
        sizes = np.array([size for _, *size in listed], np.int32).reshape(-1, 2)
        return cls(TextTable(name for name, *_ in listed), sizes, paths)

    def read(self, index: int) -> Image.Image:
        """Returns an image, RGB and upright.

        Raises:
            UnreadableImage: the file is missing or broken, or its size is not the one that its boxes are made for.
        """
        name = self.file_names[index]
        paths = [folder / name for folder in self.folders]
        # With one folder the reader itself reports best what is wrong.
        path = next((path for path in paths if path.exists()), paths[0]) if len(paths) > 1 else paths[0]
        image = read_image(path)
        width, height = self.sizes_wh[index].tolist()
        if image.size != (width, height):
            reason = f"its size is {image.width} × {image.height} pixels, but its boxes are made for {width} × {height}"
            raise UnreadableImage(path, reason)
        return image

    def readable(
        self, order: EpochOrder, position: int, indices: Sequence[int] | None = None
    ) -> tuple[int, Image.Image]:
        """Returns the index and image at a position, or at the next that can be read. Logs unreadable files once.

        Args:
            order: of the images, or of `indices`.
            position: any, from 0.
            indices: the images that take part, some perhaps several times; None for every image once.

        Raises:
            JobFailed: none of 64 images in a row can be read.
        """
        tried: set[int] = set()
        # Two epochs: from any position on they contain a whole one, in which every image comes.
        for candidate in range(position, position + 2 * order.epoch_length):
            index = order.index(candidate) if indices is None else indices[order.index(candidate)]
            if index in tried:
                continue
            if len(tried) == MAX_UNREADABLE:
                break
            tried.add(index)
            try:
                return index, self.read(index)
            except UnreadableImage as error:
                _warn_of_unusable(str(error))
                last = error
        raise JobFailed(
            f"None of {len(tried)} images in a row can be used. The last: {last} "
            f"Check the folder of images and its disk."
        )


@lru_cache(maxsize=1 << 16)  # once per file and process, not once per epoch
def _warn_of_unusable(message: str) -> None:
    logger.warning("%s Another image is used instead.", message)
