"""Images of a data set by number, and texts of millions of them in few bytes.

Long training does not end because of one broken file: the next image takes its place. Knows files and sizes. Knows
nothing of boxes or captions.
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

from glip.data.sampling import Order
from glip.errors import InputError, JobFailed
from glip.images.reading import UnreadableImage, read_image

MOST_BROKEN = 64  # so many unusable images in a row are no accident

logger = logging.getLogger(__name__)


def starts_of(counts: Iterable[int]) -> NDArray[np.int64]:
    """(N + 1,) where each group starts in one long array, from the (N) sizes of the groups; the last is its length."""
    return np.concatenate(([0], np.cumsum(np.fromiter(counts, np.int64)))).astype(np.int64)


class Texts:
    """Texts in one piece of memory: a list of millions would take several times as much, in every process anew."""

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
class Images:
    """The files of a data set.

    Attributes:
        file_names: (N) relative, '/' between folders.
        sizes_wh: (N, 2) what the data set says of each, in pixels: its boxes mean nothing in an image of another size.
        folders: where a file is looked for, in this order.
    """

    file_names: Texts
    sizes_wh: NDArray[np.int32]
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, listed: Iterable[tuple[str, int, int]], folders: Path | str | Sequence[Path | str]) -> Images:
        """From (file name, width, height) of each.

        Raises:
            InputError: a folder does not exist.
        """
        listed = list(listed)
        places = tuple(Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders))
        for place in places:
            if not place.is_dir():
                raise InputError(f"There is no folder {place}, where images to learn from should be.")
        sizes = np.array([size for _, *size in listed], np.int32).reshape(-1, 2)
        return cls(Texts(name for name, *_ in listed), sizes, places)

    def read(self, index: int) -> Image.Image:
        """An image, RGB and upright.

        Raises:
            UnreadableImage: there is none, it is broken or of another size than the boxes are made for.
        """
        name = self.file_names[index]
        paths = [folder / name for folder in self.folders]
        # With one folder the reader itself says best what is wrong.
        path = next((path for path in paths if path.exists()), paths[0]) if len(paths) > 1 else paths[0]
        image = read_image(path)
        width, height = self.sizes_wh[index].tolist()
        if image.size != (width, height):
            said = f"it is {image.width} × {image.height} pixels large, but its boxes are made for {width} × {height}"
            raise UnreadableImage(path, said)
        return image

    def readable(self, order: Order, position: int) -> tuple[int, Image.Image]:
        """The first image that can be used from a position on, and its number. Others are named in the log, once.

        Raises:
            JobFailed: none of many in a row can be used.
        """
        for place in range(position, position + min(MOST_BROKEN, order.epoch_length)):
            index = order.index(place)
            try:
                return index, self.read(index)
            except UnreadableImage as error:
                _warn_of_unusable(str(error))
                last = error
        raise JobFailed(
            f"None of {place - position + 1} images in a row can be learned from. The last: {last} "
            f"Look whether the folder is the right one and its disk is there."
        )


@lru_cache(maxsize=1 << 16)  # once per file and process, not once per epoch
def _warn_of_unusable(message: str) -> None:
    logger.warning("%s Another image takes its place.", message)
