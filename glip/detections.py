"""Holds `Detections`, the one result type, in numpy: files and people use it without torch.

Also draws it on images, and converts it to the types of other libraries.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glip.errors import InputError, require

if TYPE_CHECKING:
    import fiftyone
    import pandas as pd
    import supervision
    from PIL import Image

# Pixels of the longer side of a drawn image. Boxes and text stay readable when larger images are scaled down to it.
DRAWN_SIDE = 1600


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes found in one image, best score first.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the original image, continuous: x2 - x1 is the width in COCO's sense.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, 0-based index into `names`.
        names: the phrases of the prompt, exactly as they were given.
        path: the file of the image; None if it came from memory.
        size_hw: height and width of the original image in pixels; None if unknown.

    Raises:
        ValueError: a shape does not fit, or a label is no index into `names`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    path: Path | None = None
    size_hw: tuple[int, int] | None = None

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
        """Returns the result of an image in which nothing was found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), names)

    def is_finite(self) -> bool:
        """Returns whether no box and no score is NaN or infinite."""
        return bool(np.isfinite(self.boxes).all() and np.isfinite(self.scores).all())

    def filter(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Returns the detections selected by a mask (N,) or by indices, in that order."""
        return replace(self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep])

    def to_supervision(self) -> supervision.Detections:
        """Returns the same boxes as supervision's type; class names are in `data["class_name"]`."""
        sv = _import_supervision()
        names = np.array([self.names[label] for label in self.labels], dtype=object)
        return sv.Detections(
            xyxy=self.boxes, confidence=self.scores, class_id=self.labels, data={"class_name": names.astype(str)}
        )

    def to_coco(self, image_id: int = 1, first_id: int = 1) -> dict[str, Any]:
        """Returns the image as a COCO data set of its own: `images`, `annotations` with scores, and `categories`.

        Category ids count the names from 1. To join several images, give each its own `image_id` and let `first_id`
        follow on.

        Raises:
            InputError: the size of the image is unknown.
        """
        height, width = self._known_size()
        name = "" if self.path is None else self.path.name
        rows = []
        for number, (label, score, (x1, y1, x2, y2)) in enumerate(self._rows(), start=first_id):
            bbox = [x1, y1, x2 - x1, y2 - y1]
            row = {
                "id": number,
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
            }
            rows.append({**row, "iscrowd": 0, "segmentation": [], "score": score})
        return {
            "images": [{"id": image_id, "file_name": name, "width": width, "height": height}],
            "annotations": rows,
            "categories": [{"id": number, "name": name} for number, name in enumerate(self.names, start=1)],
        }

    def to_pandas(self) -> pd.DataFrame:
        """Returns a row per box: `path`, `name`, `label`, `score`, `x1`, `y1`, `x2`, `y2`, best score first.

        Raises:
            MissingExtra: pandas is not installed.
        """
        frames = require("pandas", "pandas")
        labels = self.labels.tolist()
        columns = {
            "path": [None if self.path is None else str(self.path)] * len(self),
            "name": [self.names[label] for label in labels],
            "label": labels,
            "score": self.scores,
        }
        edges = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True))
        return frames.DataFrame({**columns, **edges})

    def to_fiftyone(self) -> fiftyone.Detections:
        """Returns FiftyOne's type, whose boxes are shares of the image: left, top, width, height.

        Raises:
            InputError: the size of the image is unknown.
            MissingExtra: FiftyOne is not installed.
        """
        fo = require("fiftyone", "review")
        height, width = self._known_size()
        return fo.Detections(
            detections=[
                fo.Detection(
                    label=self.names[label],
                    bounding_box=[x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height],
                    confidence=score,
                )
                for label, score, (x1, y1, x2, y2) in self._rows()
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON: `path`, `width`, `height`, and `boxes` with `name`, `score` and `xyxy`."""
        height, width = (None, None) if self.size_hw is None else self.size_hw
        return {
            "path": None if self.path is None else str(self.path),
            "width": width,
            "height": height,
            "boxes": [{"name": self.names[label], "score": score, "xyxy": box} for label, score, box in self._rows()],
        }

    def _rows(self) -> list[tuple[int, float, list[float]]]:
        return list(
            zip(self.labels.tolist(), self.scores.tolist(), self.boxes.astype(np.float64).tolist(), strict=True)
        )

    def _known_size(self) -> tuple[int, int]:
        if self.size_hw is None:
            raise InputError("size_hw is None; it must be the height and width of the image. `predict` sets it.")
        return self.size_hw

    def draw(
        self,
        image: Image.Image | None = None,
        *,
        tags: Sequence[str] | None = None,
        colors: Sequence[str] | None = None,
        thickness: int | None = None,
        max_side: int = DRAWN_SIDE,
    ) -> Image.Image:
        """Returns a copy of the image with the boxes and a tag above each.

        Args:
            image: RGB, the image in whose pixels the boxes are given; None reads it from `path`.
            tags: (N,) text above each box; () for none; None for name and score.
            colors: of the classes by label, as '#d62728', repeated if there are fewer; None for those of `class_color`.
            thickness: of the lines in pixels; None adapts it to the size of the image.
            max_side: an image with a longer side (pixels) is scaled down to it.

        Raises:
            InputError: there is no image, and `path` is None or cannot be read.
        """
        from glip.drawing import class_color, draw_boxes

        image = self._read() if image is None else image
        scale = min(1.0, max_side / max(image.size))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        scene = image.copy() if scale == 1 else image.resize(size)
        if tags is None:
            tags = [f"{self.names[label]} {score:.2f}" for label, score in zip(self.labels, self.scores, strict=True)]
        labels = self.labels.tolist()
        chosen = [class_color(label) if colors is None else colors[label % len(colors)] for label in labels]
        draw_boxes(scene, self.boxes * np.float32(scale), tags, chosen, thickness=thickness)
        return scene

    def _read(self) -> Image.Image:
        from PIL import Image, ImageOps

        if self.path is None:
            raise InputError("image is None, and the boxes come from an image in memory; give that image.")
        try:
            with Image.open(self.path) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError) as error:
            raise InputError(f"Cannot read {self.path}: {error}.") from error


def _import_supervision() -> supervision:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that OpenCV would draw faster
        import supervision as sv
    return sv
