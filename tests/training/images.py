"""Examples that need no files: coloured squares on grey, with the colours' names."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from glip.data.examples import Example

NAMES = ("red", "green", "blue")
_RGB = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230)}


@dataclass(frozen=True)
class SquareStream:
    """One or two squares in 64 × 64 pixels; the text names all three colours."""

    seed: int = 0

    @property
    def epoch_length(self) -> int | None:
        return None

    def example(self, position: int) -> Example:
        rng = random.Random(f"{self.seed}/{position}")
        image = Image.new("RGB", (64, 64), (120, 120, 120))
        boxes, spans = [], []
        caption = ". ".join(NAMES)
        for name in rng.sample(NAMES, rng.randint(1, 2)):
            side, left, top = rng.randint(16, 28), rng.randint(0, 34), rng.randint(0, 34)
            ImageDraw.Draw(image).rectangle((left, top, left + side - 1, top + side - 1), fill=_RGB[name])
            boxes.append((left, top, left + side, top + side))
            start = caption.index(name)
            spans.append(((start, start + len(name)),))
        return Example(image, caption, np.array(boxes, np.float32), tuple(spans))
