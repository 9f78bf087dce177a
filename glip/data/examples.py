"""What a model learns from: an image, a text, and which words of the text each box shows.

Detection, grounding and pseudo-labelled captions all become this one form. Knows nothing of tokens, models or losses.
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
    """One image with a text about it.

    Attributes:
        image: RGB.
        caption: what the text encoder reads; '' only if nothing is asked.
        boxes: (N, 4) float32, xyxy in pixels of `image`: left, top, left + width, top + height. N may be 0.
        spans: (N) for each box the character ranges [start, end) of the caption that name it; at least one each.
    """

    image: Image.Image
    caption: str
    boxes: NDArray[np.float32]
    spans: tuple[tuple[Span, ...], ...]

    def __post_init__(self) -> None:
        assert self.image.mode == "RGB", f"an RGB image is needed, not {self.image.mode}"
        assert self.boxes.shape == (len(self.spans), 4), f"boxes {self.boxes.shape}, {len(self.spans)} lists of spans"


class ExampleStream(Protocol):
    """Examples without end, by position. The same position gives the same example in every process: so a run goes on
    where it stopped, whatever the number of workers. Streams can be pickled."""

    @property
    def epoch_length(self) -> int | None:
        """After how many positions every image has come once; None if there is no such number."""
        ...

    def example(self, position: int) -> Example:
        """The example at any position from 0."""
        ...
