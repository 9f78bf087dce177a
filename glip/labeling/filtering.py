"""From everything that was recorded of an image to the boxes that go into a file: thresholds, aliases, negatives, NMS.

Arrays in, arrays out, without torch, so that changing a threshold takes seconds. Knows nothing of files or formats.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glip.detections import Detections
from glip.errors import InputError
from glip.labeling.classes import ClassFile, comparable
from glip.labeling.records import Record, RunInfo
from glip.model.config import DEFAULT_CONF as DEFAULT_CONF  # of the settings below

Suppression = Literal["class", "agnostic", "none"]

# Overlap between a box and a better box of a negative phrase above which the negative owns the place.
CLAIM_IOU = 0.5
# So many boxes are compared with all others at once: fast for few boxes, and bounded in memory for thousands.
_ROWS = 256

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ExportSettings:
    """What to take from the records, and how to write it.

    Attributes:
        conf: lowest score of a box.
        class_conf: the same for single classes; outranks `conf` and the class file.
        nms: who drops whom: a better box of the same `class`, any better box (`agnostic`), or `none` beyond what
            the records went through already.
        iou: overlap above which the weaker box is dropped.
        max_det: most boxes of an image, best first.
        classes: aliases, thresholds, ids and negatives; None if every phrase is a class.
        image_prefix: put before file names where a format wants an address (Label Studio).
    """

    conf: float = DEFAULT_CONF
    class_conf: Mapping[str, float] = field(default_factory=dict)
    nms: Suppression = "class"
    iou: float = 0.6
    max_det: int = 100
    classes: ClassFile | None = None
    image_prefix: str = ""

    def __post_init__(self) -> None:
        for option, value in [("--conf", self.conf), *((f"--class-conf {n}", v) for n, v in self.class_conf.items())]:
            if not 0 <= value <= 1:
                raise InputError(f"{option} is a score between 0 and 1, not {value}.")
        if self.nms not in get_args(Suppression):
            raise InputError(f"--nms is class, agnostic or none, not {self.nms!r}.")
        if not 0 < self.iou <= 1:
            raise InputError(f"--iou is an overlap above 0 and up to 1, not {self.iou}.")
        if self.max_det < 1:
            raise InputError(f"--max-det is at least 1, not {self.max_det}.")


class Chooser:
    """Applies one set of settings to the records of one run.

    Args:
        settings: what to take.
        classes: of the run: the class file of the settings brought into the order of the run's phrases, or
            the phrases themselves.
        run: what the records hold.

    Raises:
        InputError: a class is unknown, or the records no longer hold what the settings ask for.
    """

    def __init__(self, settings: ExportSettings, classes: ClassFile, run: RunInfo) -> None:
        self.classes = classes
        self.conf = _thresholds(settings, classes)
        _check_still_held(settings, self, run)
        self._settings = settings
        # One more at the end: a phrase of a caption that no class knows has the place -1.
        self._class_of = np.array([*(-1 if place is None else place for place in classes.class_of), -1], np.int64)
        self._place = {comparable(phrase): index for index, phrase in enumerate(classes.phrases)}
        self._negatives: dict[int, list[int]] = {}
        for phrase, claimed in enumerate(classes.negative_of):
            for index in claimed:
                self._negatives.setdefault(index, []).append(phrase)
        # Boxes of one phrase that went through this very NMS when they were recorded are left alone: its arithmetic
        # on resized images and ours on original ones could round a borderline overlap to different sides.
        self._settled = run.record == "detections" and run.nms_iou == settings.iou
        self._nothing_to_drop = settings.nms == "none" or (
            settings.nms == "class" and self._settled and len(classes.phrases) == len(classes.names)
        )
        self._conf32 = np.array(self.conf, np.float32)
        # Scores are compared as float32, where 0.7 equals a recorded 0.7; this is safely below all of them.
        self._surely_below = min(self.conf, default=0.0) - 1e-6

    def choose(self, record: Record) -> Detections:
        """The boxes of an image that are kept, best first; labels index `classes.names`."""
        order, boxes, scores, labels = self._keep(record)
        return Detections(boxes[order], scores[order], labels[order], self.classes.names)

    def grounded(self, record: Record) -> Detections:
        """The same boxes of an image with a caption of its own; labels index its phrases, `record.names`."""
        order, boxes, scores, _ = self._keep(record)
        phrases = np.asarray(record.labels, np.int64)[order]
        return Detections(boxes[order], scores[order], phrases, tuple(record.names or ()))

    def places(self, record: Record) -> tuple[Integers, Integers]:
        """Of the same boxes, their (K,) places in the record and their (K,) classes, best first."""
        order, _, _, labels = self._keep(record)
        return order, labels[order]

    def _keep(self, record: Record) -> tuple[Integers, Floats, Floats, Integers]:
        """Places of the boxes that are kept, best first, and the boxes, scores and classes that they index."""
        # Nothing under the lowest threshold can matter: not as a box, and not as a negative, which claims weaker
        # boxes only. Records are sorted, so what remains to be made into arrays is short.
        count = bisect_right(record.scores, -self._surely_below, key=lambda score: -score)
        boxes = np.asarray(record.boxes[:count], np.float32).reshape(-1, 4)
        scores = np.asarray(record.scores[:count], np.float32)
        phrases = self._phrases(record, count)
        labels = self._class_of[phrases]
        keep = (labels >= 0) & (scores >= self._conf32[labels])
        for index, negatives in self._negatives.items():
            mine = np.flatnonzero(keep & (labels == index))
            theirs = np.flatnonzero(np.isin(phrases, negatives))
            keep[mine[_claimed(boxes, scores, mine, theirs)]] = False
        order = np.flatnonzero(keep)
        order = order[np.argsort(-scores[order], kind="stable")]
        if not self._nothing_to_drop:
            groups = labels[order] if self._settings.nms == "class" else np.zeros(len(order), np.int64)
            settled = phrases[order] if self._settled else None
            order = order[suppress(boxes[order], groups, self._settings.iou, settled)]
        return order[: self._settings.max_det], boxes, scores, labels

    def _phrases(self, record: Record, count: int) -> Integers:
        labels = np.asarray(record.labels[:count], np.int64)
        if record.names is None:
            return labels
        places = np.array([self._place.get(comparable(name), -1) for name in record.names], np.int64)
        return places[labels]


def suppress(boxes: Floats, groups: Integers, iou: float, settled: Integers | None = None) -> Integers:
    """Greedy non-maximum suppression inside groups, decided as `torchvision.ops.nms` decides.

    Args:
        boxes: (N, 4) xyxy, continuous, best first.
        groups: (N,) boxes of different groups never drop each other.
        iou: a box goes if it overlaps a better one that stays by more than this.
        settled: (N,) boxes with the same number here never drop each other either; None if that is nobody.

    Returns:
        (K,) indices of the boxes that stay, in order.
    """
    places = np.arange(len(boxes))
    stays = np.ones(len(boxes), bool)
    for start in range(0, len(boxes), _ROWS):
        rows = start + np.flatnonzero(stays[start : start + _ROWS])
        drops = box_iou(boxes[rows], boxes) > np.float64(iou)
        drops &= (groups[rows, None] == groups) & (rows[:, None] < places)
        if settled is not None:
            drops &= settled[rows, None] != settled
        for row in np.flatnonzero(drops.any(axis=1)):
            if stays[rows[row]]:
                stays &= ~drops[row]
    return np.flatnonzero(stays)


def box_iou(one: Floats, other: Floats) -> Floats:
    """(N, M) overlap of (N, 4) with (M, 4) xyxy boxes; not a number where both have no area."""
    corner = np.maximum(one[:, None, :2], other[None, :, :2])
    sides = np.maximum(np.minimum(one[:, None, 2:], other[None, :, 2:]) - corner, np.float32(0))
    shared = sides[..., 0] * sides[..., 1]
    with np.errstate(invalid="ignore"):
        overlap: Floats = shared / (_area(one)[:, None] + _area(other)[None, :] - shared)
    return overlap


def nearest_name(name: str, known: Sequence[str]) -> str:
    """` Did you mean 'x'?` for a name that is nearly known, else nothing."""
    close = get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def _claimed(boxes: Floats, scores: Floats, mine: Integers, theirs: Integers) -> NDArray[np.bool_]:
    """Which of `mine` lie where one of `theirs` scores higher."""
    better = scores[theirs][None, :] > scores[mine][:, None]
    claims = better & (box_iou(boxes[mine], boxes[theirs]) > CLAIM_IOU)
    return np.any(claims, axis=1)


def _thresholds(settings: ExportSettings, classes: ClassFile) -> tuple[float, ...]:
    """Per class: what --class-conf says, else the class file, else --conf."""
    for name in settings.class_conf:
        if name not in classes.names:
            few = ", ".join(classes.names[:12]) + (", …" if len(classes.names) > 12 else "")
            raise InputError(
                f"--class-conf names {name!r}, which is no class of these labels."
                f"{nearest_name(name, classes.names)} Classes: {few}."
            )
    own = zip(classes.names, classes.conf, strict=True)
    return tuple(settings.class_conf.get(name, settings.conf if conf is None else conf) for name, conf in own)


def _check_still_held(settings: ExportSettings, chooser: Chooser, run: RunInfo) -> None:
    """Refuses what was thrown away when the images were labelled."""
    for name, conf in zip(chooser.classes.names, chooser.conf, strict=True):
        if conf < run.floor:
            raise InputError(
                f"The threshold {conf:g} of {name!r} lies below {run.floor:g}, the floor of these records. "
                f"Raise it, or label again with `glip label --floor {conf:g} --overwrite`."
            )
    recorded_iou = run.nms_iou if run.record == "detections" else None
    if settings.nms != "none" and recorded_iou is not None and settings.iou > recorded_iou:
        raise InputError(
            f"--iou {settings.iou:g} keeps boxes that overlap by more than {recorded_iou:g}, which were not recorded. "
            f"Lower it, or label again with `glip label --record candidates --overwrite`."
        )
    if run.max_detections is not None and settings.max_det > run.max_detections:
        raise InputError(
            f"--max-det {settings.max_det} is more than the {run.max_detections} boxes recorded for an image. "
            f"Lower it, or label again with `glip label --record candidates --overwrite`."
        )
