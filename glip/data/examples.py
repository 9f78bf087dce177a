"""The training example: an image, a caption, and the words of the caption that each box shows.

Detection, grounding and pseudo-labelled captions all become examples. Knows nothing of tokens, models or losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Example:
    """One image with a caption.

    Attributes:
        image: RGB.
        caption: the text that the text encoder reads; '' if there is none.
        boxes: (N, 4) float32, xyxy in pixels of `image`: left, top, left + width, top + height. N may be 0.
        spans: (N) the character ranges [start, end) of the caption that name each box; at least one each.
    """

    image: Image.Image
    caption: str
    boxes: NDArray[np.float32]
    spans: tuple[tuple[Span, ...], ...]

    def __post_init__(self) -> None:
        assert self.image.mode == "RGB", f"image must be RGB, not {self.image.mode}"
        assert self.boxes.shape == (len(self.spans), 4), f"boxes {self.boxes.shape}, {len(self.spans)} lists of spans"


class ExampleStream(Protocol):
    """An endless sequence of examples, read by position.

    The same position gives the same example in every process, so that a run can resume with any number of workers.
    Streams are picklable.
    """

    @property
    def epoch_length(self) -> int | None:
        """Returns the number of positions after which every image has come once; None if the stream has no epochs."""
        ...

    def example(self, position: int) -> Example:
        """Returns the example at a position, from 0."""
        ...
