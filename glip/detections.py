"""Detections: the one result type, in numpy, so that files and people can use it without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image, best score first.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the original image, continuous: x2 - x1 is the width in COCO's sense.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, 0-based index into `names`.
        names: the phrases that were looked for, exactly as they were given.

    Raises:
        ValueError: a shape does not fit, or a label points outside `names`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4) or self.labels.shape != (count,) or self.scores.shape != (count,):
            raise ValueError(
                f"Detections need boxes (N, 4), scores (N,), labels (N,), "
                f"not {self.boxes.shape}, {self.scores.shape}, {self.labels.shape}."
            )
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            raise ValueError(
                f"Labels must lie in 0..{len(self.names) - 1}, not {self.labels.min()}..{self.labels.max()}."
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, names: tuple[str, ...]) -> Detections:
        """Nothing found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), names)

    def filter(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """The detections chosen by a mask (N,) or by indices, in that order."""
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep], self.names)
