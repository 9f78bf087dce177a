"""Test-time augmentation: detects at twelve scales, each also mirrored, and merges the boxes of all views.

The scales, the ranges of box sizes, the merge (NMS by class at IoU 0.6) and the maximum of 1000 boxes are the defaults
of the original code (microsoft/GLIP maskrcnn_benchmark/config/defaults.py, TEST; data/datasets/evaluation/box_aug.py).
It is not published which of them the paper changed for its 60.8 and 61.5 AP on COCO. One thing differs here: the long
side of a view is at most 1333/800 of its short side, while the original allows 2500 pixels at every scale.

Every view is a labelling job of its own and can be resumed like any other.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from glip.boxes import grouped_nms
from glip.detectors.base import DetectionLimits, ObjectDetector, OnDownload, OpensDetector
from glip.evaluation.inference import LabelledSplit, SplitLabelling, label_split

if TYPE_CHECKING:
    from PIL import Image

    from glip.detections import Detections
    from glip.images import PreparedImage
    from glip.labeling.image_prompts import PromptPlan
    from glip.labeling.records import Record
    from glip.prompts import Prompt, Wording

# Short side of the view, and minimum and maximum size of a box (square root of its area), all in pixels of the view:
# large views detect small objects, and small views large ones.
SCALES = (
    (400, 96, 10_000),
    (500, 96, 10_000),
    (600, 64, 10_000),
    (640, 64, 10_000),
    (700, 64, 10_000),
    (900, 0, 10_000),
    (1000, 0, 10_000),
    (1100, 0, 256),
    (1200, 0, 256),
    (1300, 0, 192),
    (1400, 0, 192),
    (1800, 0, 96),
)
MERGE_IOU = 0.6
MAX_BOXES = 1000  # of an image


@dataclass(frozen=True)
class ScaledView:
    """One scale of the images, mirrored or not.

    Attributes:
        imgsz: short side in pixels.
        min_size: minimum square root of a box's area, in pixels of the view; smaller boxes do not count.
        max_size: the maximum.
        mirrored: left and right are exchanged.
    """

    imgsz: int
    min_size: int
    max_size: int
    mirrored: bool

    @property
    def name(self) -> str:
        """Returns the name of its folder."""
        return f"{self.imgsz}-mirrored" if self.mirrored else str(self.imgsz)


VIEWS = tuple(ScaledView(*scale, mirrored) for scale in SCALES for mirrored in (False, True))


@dataclass(frozen=True)
class Augmented:
    """A split that was labelled in several views; a stopped run has fewer.

    Attributes:
        views: the views with their records.
        wanted: number of views of a complete run.
    """

    views: tuple[tuple[ScaledView, LabelledSplit], ...]
    wanted: int

    @property
    def interrupted(self) -> bool:
        """Returns whether the run was stopped."""
        return len(self.views) < self.wanted or self.views[-1][1].summary.interrupted

    @property
    def failed(self) -> int:
        """Returns the number of images that could not be labelled, in the view with most of them."""
        return max(labelled.summary.failed for _, labelled in self.views)

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Yields every image with the merged boxes of its views, best first."""
        streams = [labelled.records() for _, labelled in self.views]
        for entries in zip(*streams, strict=True):
            paths = {path for path, _ in entries}
            assert len(paths) == 1, paths
            records = [record for _, record in entries]
            yield paths.pop(), merge_views([view for view, _ in self.views], records)


def label_in_views(
    out: Path,
    images: Sequence[Path],
    prompts: PromptPlan,
    labelling: SplitLabelling,
    views: Sequence[ScaledView] = VIEWS,
) -> Augmented:
    """Labels images into `out`/tta/VIEW/labels, one view after the other.

    Args:
        out: folder of the split.
        images, prompts, labelling: see `label_split`; `labelling.options.imgsz` is not used.
        views: the views, in order.

    Raises:
        InputError: see `label_split`.
    """
    spec = labelling.detector or labelling.spec
    limits = DetectionLimits(max_detections=100)
    done: list[tuple[ScaledView, LabelledSplit]] = []
    for view in views:
        own = replace(
            labelling,
            options=replace(labelling.options, imgsz=view.imgsz),
            detector=MirroredSpec(spec) if view.mirrored else spec,
        )
        labelled = label_split(out / "tta" / view.name, images, prompts, own, limits)
        done.append((view, labelled))
        if labelled.summary.interrupted:
            break
    return Augmented(tuple(done), len(views))


def merge_views(views: Sequence[ScaledView], records: Sequence[Record]) -> Record:
    """Merges the boxes of an image in several views into one record.

    Args:
        views: in the order of `records`.
        records: of one image; boxes in pixels of the original image.
    """
    parts = [_in_range(view, record) for view, record in zip(views, records, strict=True)]
    boxes = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts])
    labels = np.concatenate([part[2] for part in parts])
    order = np.argsort(-scores, kind="stable")
    order = order[grouped_nms(boxes[order], labels[order], MERGE_IOU)][:MAX_BOXES]
    read = next((record for record in records if record.error is None), records[0])
    return msgspec.structs.replace(
        read,
        boxes=[tuple(box) for box in boxes[order].astype(float).tolist()],
        scores=scores[order].astype(float).tolist(),
        labels=labels[order].tolist(),
    )


def _in_range(view: ScaledView, record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns boxes (N, 4), scores (N,) and labels (N,) of the boxes that count in this view."""
    from glip.images import resized_hw

    boxes = np.asarray(record.boxes, np.float32).reshape(-1, 4)
    scores, labels = np.asarray(record.scores, np.float32), np.asarray(record.labels, np.int64)
    if record.error is not None:
        return boxes, scores, labels
    height, width = resized_hw((record.height, record.width), view.imgsz)
    scale = np.array([record.width / width, record.height / height])
    # In pixels of the view, both ends inclusive, as the original counts them.
    sides = (boxes[:, 2:] - boxes[:, :2] - 1) / scale + 1
    area = sides[:, 0] * sides[:, 1]
    keep = (area > view.min_size**2) & (area < view.max_size**2)
    return boxes[keep], scores[keep], labels[keep]


@dataclass(frozen=True)
class MirroredSpec:
    """Opens a detector that runs on mirrored images; picklable, as the spec it holds."""

    spec: OpensDetector

    def open(self, on_download: OnDownload | None = None) -> ObjectDetector:
        """Opens the detector in this process."""
        return Mirrored(self.spec.open(on_download))


class Mirrored(ObjectDetector):
    """Runs a detector on mirrored images, and returns boxes of the images as they are."""

    def __init__(self, detector: ObjectDetector) -> None:
        self._detector = detector
        self.name, self.sha256, self.device = detector.name, detector.sha256, detector.device
        self.precision, self.imgsz, self.conf = detector.precision, detector.imgsz, detector.conf
        self.nms_iou, self.max_tokens, self.score_rule = detector.nms_iou, detector.max_tokens, detector.score_rule

    def prompts_for(
        self, names: Sequence[str], *, wordings: Sequence[Wording] | None = None, names_per_prompt: int | None = None
    ) -> tuple[Prompt, ...]:
        """Returns a class list as prompts; see `ObjectDetector.prompts_for`."""
        return self._detector.prompts_for(names, wordings=wordings, names_per_prompt=names_per_prompt)

    def count_tokens(self, prompt: Prompt) -> int:
        """Returns the number of tokens of a prompt; see `ObjectDetector.count_tokens`."""
        return self._detector.count_tokens(prompt)

    def resized_hw(self, size_hw: tuple[int, int], imgsz: int) -> tuple[int, int]:
        """Returns the size at which the model sees an image."""
        return self._detector.resized_hw(size_hw, imgsz)

    def prepare(self, image: Image.Image, imgsz: int, size_hw: tuple[int, int] | None = None) -> PreparedImage:
        """Resizes an image; see `ObjectDetector.prepare`."""
        return self._detector.prepare(image, imgsz, size_hw)

    def batch_key(self, image: PreparedImage) -> Hashable:
        """Returns a key: images with equal keys can share a batch."""
        return self._detector.batch_key(image)

    def apply_floor(self, found: Detections, floor: float) -> Detections:
        """Returns the boxes that reach a minimum score; see `ObjectDetector.apply_floor`."""
        return self._detector.apply_floor(found, floor)

    def detect(
        self, images: Sequence[PreparedImage], prompts: Sequence[Prompt], limits: DetectionLimits
    ) -> list[Detections]:
        """Detects the phrases of prompts in one batch of images; see `ObjectDetector.detect`."""
        mirrored = [replace(image, rgb=image.rgb.flip(1)) for image in images]
        found = self._detector.detect(mirrored, prompts, limits)
        return [
            replace(
                detections, boxes=_mirror(detections.boxes, image.size_hw[1], image.size_hw[1] / image.resized_hw[1])
            )
            for detections, image in zip(found, images, strict=True)
        ]


def _mirror(boxes: np.ndarray, width: int, scale: float) -> np.ndarray:
    """Returns the boxes of a mirrored image in the image itself, xyxy in pixels of the original.

    Both ends are inclusive pixels of the view: x becomes w - 1 - x there, and `width` - `scale` - x in the original.
    """
    mirrored = boxes.copy()
    mirrored[:, 0] = width - scale - (boxes[:, 2] - 1)
    mirrored[:, 2] = width - scale - boxes[:, 0] + 1
    return mirrored
