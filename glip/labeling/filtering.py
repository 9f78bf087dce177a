"""Selects the boxes of a record that go into a file: thresholds, aliases, negatives, suppression.

Arrays in, arrays out, without torch, so that changing a threshold takes seconds. Knows nothing of output formats.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from glip.boxes import box_iou, grouped_nms
from glip.detections import Detections
from glip.errors import InputError, did_you_mean
from glip.labeling.classes import ClassFile
from glip.labeling.records import Record, RunInfo, read_names
from glip.model.config import DEFAULT_CONF as DEFAULT_CONF  # of the settings below
from glip.names import find_names, name_key
from glip.run_folder import RUN_FILE

Suppression = Literal["class", "agnostic", "none"]

CLAIM_IOU = 0.5  # IoU with a better box of a negative phrase above which a box belongs to the negative

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ExportSettings:
    """Which boxes to take from the records, and how to write them.

    Attributes:
        conf: minimum score of a box.
        class_conf: minimum score by class; overrides `conf` and the class file.
        nms: which better box suppresses a box: one of the same `class`, any (`agnostic`), or `none` beyond the
            suppression that the records went through.
        iou: IoU above which the weaker box is suppressed.
        max_det: maximum number of boxes per image, best first.
        classes: aliases, thresholds, ids and negatives; None makes every phrase a class.
        image_prefix: put before file names where a format needs an address (Label Studio).

    Raises:
        InputError: a value is out of range.
    """

    conf: float = DEFAULT_CONF
    class_conf: Mapping[str, float] = field(default_factory=dict)
    nms: Suppression = "class"
    iou: float = 0.6
    max_det: int = 100
    classes: ClassFile | None = None
    image_prefix: str = ""

    def __post_init__(self) -> None:
        for name, value in [("conf", self.conf), *((f"class_conf of {n!r}", v) for n, v in self.class_conf.items())]:
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; it must lie between 0 and 1.")
        if self.nms not in get_args(Suppression):
            raise InputError(f"nms is {self.nms!r}; accepted are {', '.join(get_args(Suppression))}.")
        if not 0 < self.iou <= 1:
            raise InputError(f"iou is {self.iou}; it must lie above 0 and up to 1.")
        if self.max_det < 1:
            raise InputError(f"max_det is {self.max_det}; it must be 1 or more.")


class Chooser:
    """Applies one set of settings to the records of one run. `open_run` makes one.

    Args:
        settings: which boxes to take.
        classes: the classes, in the order of the run's phrases.
        run: the configuration of the records.

    Raises:
        InputError: a class is unknown, or the records do not hold what the settings need.
    """

    def __init__(self, settings: ExportSettings, classes: ClassFile, run: RunInfo) -> None:
        self.classes = classes
        self.conf = _thresholds(settings, classes)
        _check_recorded(settings, self, run)
        self._settings = settings
        # One more at the end, for index -1: a phrase of a caption that belongs to no class.
        self._class_of = np.array([*(-1 if index is None else index for index in classes.class_of), -1], np.int64)
        self._phrase_indices: dict[tuple[str, ...], Integers] = {}
        self._negatives: dict[int, list[int]] = {}
        for phrase, claimed in enumerate(classes.negative_of):
            for index in claimed:
                self._negatives.setdefault(index, []).append(phrase)
        # Boxes of one phrase that were suppressed with this very IoU when they were recorded are not suppressed again:
        # on the original image instead of the resized one, rounding could move a borderline overlap over the threshold.
        self._suppressed = run.record == "detections" and run.nms_iou == settings.iou
        self._nothing_to_suppress = settings.nms == "none" or (
            settings.nms == "class" and self._suppressed and len(classes.phrases) == len(classes.names)
        )
        self._conf32 = np.array(self.conf, np.float32)
        # Scores are compared as float32, where 0.7 equals a recorded 0.7; this lies safely below all thresholds.
        self._surely_below = min(self.conf, default=0.0) - 1e-6

    def choose(self, record: Record) -> Detections:
        """Returns the boxes of an image that are kept, best first; labels index `classes.names`."""
        order, boxes, scores, labels = self._keep(record)
        return Detections(boxes[order], scores[order], labels[order], self.classes.names)

    def grounded(self, record: Record) -> Detections:
        """Returns the same boxes of an image with its own caption; labels index its phrases, `record.names`."""
        order, boxes, scores, _ = self._keep(record)
        phrases = np.asarray(record.labels, np.int64)[order]
        return Detections(boxes[order], scores[order], phrases, tuple(record.names or ()))

    def indices(self, record: Record) -> tuple[Integers, Integers]:
        """Returns the (K,) indices of the same boxes in the record and their (K,) classes, best first."""
        order, _, _, labels = self._keep(record)
        return order, labels[order]

    def _keep(self, record: Record) -> tuple[Integers, Floats, Floats, Integers]:
        """Returns indices of the kept boxes, best first, and the boxes, scores and classes they index."""
        # Nothing below the lowest threshold matters: neither as a box nor as a negative, which only claims weaker
        # boxes. Records are sorted by score, so the part that becomes arrays is short.
        record.check_labels(self.classes.phrases)
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
        if not self._nothing_to_suppress:
            groups = labels[order] if self._settings.nms == "class" else np.zeros(len(order), np.int64)
            exempt = phrases[order] if self._suppressed else None
            order = order[grouped_nms(boxes[order], groups, self._settings.iou, exempt)]
        return order[: self._settings.max_det], boxes, scores, labels

    def _phrases(self, record: Record, count: int) -> Integers:
        """Returns the phrase of each box, as an index into `classes.phrases`; -1 if it is none of them."""
        labels = np.asarray(record.labels[:count], np.int64)
        if record.names is None:
            return labels
        names = tuple(record.names)
        if names not in self._phrase_indices:
            found = find_names(names, self.classes.phrases)
            self._phrase_indices = {names: np.array([-1 if index is None else index for index in found], np.int64)}
        return self._phrase_indices[names][labels]


def open_run(folder: Path, run: RunInfo, settings: ExportSettings) -> Chooser:
    """Brings settings and the records of a run together.

    Args:
        folder: of the run.
        run: its configuration.
        settings: which boxes to take.

    Raises:
        InputError: they do not fit.
    """
    names = run.names or _caption_names(folder)
    requested = settings.classes or _recorded_classes(run)
    classes = ClassFile.from_phrases(names) if requested is None else requested.for_phrases(names)
    return Chooser(settings, classes, run)


def _recorded_classes(run: RunInfo) -> ClassFile | None:
    """Returns the class file that the images were labelled with, if there was one."""
    plain = run.job.get("classes")
    try:
        return None if plain is None else msgspec.convert(plain, ClassFile)
    except msgspec.ValidationError as error:
        raise InputError(
            f"`classes` in the {RUN_FILE} of this run is damaged: {error}. Label again with the class file and "
            f"overwrite, or into another folder."
        ) from error


def _caption_names(folder: Path) -> tuple[str, ...]:
    """Returns every phrase of the images' own captions.

    The header of an annotation file lists all classes, so this passes over the records once before the export.
    """
    found: dict[str, str] = {}
    for names in read_names(folder):
        for name in names:
            found.setdefault(name_key(name), name)
    return tuple(sorted(found.values()))


def _claimed(boxes: Floats, scores: Floats, mine: Integers, theirs: Integers) -> NDArray[np.bool_]:
    """Returns which boxes of `mine` overlap a box of `theirs` with a higher score."""
    better = scores[theirs][None, :] > scores[mine][:, None]
    claims = better & (box_iou(boxes[mine][:, None], boxes[theirs][None]) > CLAIM_IOU)
    return np.any(claims, axis=1)


def _thresholds(settings: ExportSettings, classes: ClassFile) -> tuple[float, ...]:
    """Returns the threshold of each class: from `class_conf`, else the class file, else `conf`."""
    for name in settings.class_conf:
        if name not in classes.names:
            few = ", ".join(classes.names[:12]) + (", …" if len(classes.names) > 12 else "")
            raise InputError(
                f"class_conf names {name!r}, but these labels have no such class.{did_you_mean(name, classes.names)} "
                f"Classes: {few}."
            )
    own = zip(classes.names, classes.conf, strict=True)
    return tuple(settings.class_conf.get(name, settings.conf if conf is None else conf) for name, conf in own)


def _check_recorded(settings: ExportSettings, chooser: Chooser, run: RunInfo) -> None:
    """Refuses settings that need boxes which were not recorded."""
    for name, conf in zip(chooser.classes.names, chooser.conf, strict=True):
        if conf < run.floor:
            raise InputError(
                f"The threshold of {name!r} is {conf:g}, but only boxes from the floor {run.floor:g} were recorded. "
                f"Set a threshold of {run.floor:g} or more, or label again with `glip label --floor {conf:g}`."
            )
    recorded_iou = run.nms_iou if run.record == "detections" else None
    if settings.nms != "none" and recorded_iou is not None and settings.iou > recorded_iou:
        raise InputError(
            f"iou is {settings.iou:g}, but boxes that overlap by more than {recorded_iou:g} were not recorded. "
            f"Lower it, or label again with `glip label --record candidates`."
        )
    if run.max_detections is not None and settings.max_det > run.max_detections:
        raise InputError(
            f"max_det is {settings.max_det}, but at most {run.max_detections} boxes per image were recorded. "
            f"Lower it, or label again with `glip label --record candidates`."
        )
