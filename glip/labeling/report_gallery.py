"""Chooses the images that are worth a person's look: those whose boxes lie nearest to their threshold.

One pass over the records, in memory that does not grow with their number.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glip.detections import Detections
from glip.labeling.filtering import Chooser, ExportSettings
from glip.labeling.records import Record, RunInfo, read_records

if TYPE_CHECKING:
    from glip.images import RemoteFile

BINS = 20  # steps of the score in a histogram
THUMBNAIL = 480  # pixels of the longer side
MOST_BOXES = 100  # drawn over one image
MOST_ERRORS = 500
MOST_VAIN = 3  # remote images in a row that do not come, before no more are asked for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """An image of the gallery.

    Attributes:
        found: its boxes down to the floor of the records, best first.
        kept: (N,) which of them are above their threshold.
        jpeg: a small version of it; None if it was not found.
    """

    file_name: str
    width: int
    height: int
    found: Detections
    kept: NDArray[np.bool_]
    jpeg: bytes | None = None


@dataclass(frozen=True)
class Gallery:
    """The images to show, most uncertain first, and whether room for thumbnails ran out before they were all."""

    shown: tuple[Shown, ...]
    cut_short: bool


@dataclass
class Tally:
    """What was counted.

    Attributes:
        kept: (C,) boxes of each class above their threshold.
        with_class: (C,) images that have one.
        scores: (C, BINS) boxes of each class down to the floor, by score.
        errors: the first unreadable images with the reason.
    """

    kept: NDArray[np.int64]
    with_class: NDArray[np.int64]
    scores: NDArray[np.int64]
    images: int = 0
    empty: int = 0
    unreadable: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)


def look_through(
    folder: Path, run: RunInfo, settings: ExportSettings, chooser: Chooser, limit: int
) -> tuple[Tally, list[Shown]]:
    """Counts everything, and remembers the images nearest to a decision.

    Args:
        folder: of the run.
        run: its question.
        settings: which boxes count.
        chooser: the same, made for this run.
        limit: so many images are remembered.

    Returns:
        The counts, and the images, most uncertain first. Images without any box come last.
    """
    classes = len(chooser.classes.names)
    tally = Tally(np.zeros(classes, np.int64), np.zeros(classes, np.int64), np.zeros((classes, BINS), np.int64))
    down_to_floor = _without_thresholds(settings, chooser, run)
    nearest: list[tuple[float, int, Record]] = []
    for record in read_records(folder):
        if record.error is not None:
            tally.unreadable += 1
            if len(tally.errors) < MOST_ERRORS:
                tally.errors.append((record.file_name, record.error))
            continue
        tally.images += 1
        found = down_to_floor.choose(record)
        _count(tally, chooser.choose(record), found)
        # The heap gives up its smallest entry first: of the least uncertain images the one listed last.
        entry = (-_distance(found, chooser), -tally.images, record)
        if len(nearest) < limit:
            heapq.heappush(nearest, entry)
        elif nearest and entry[:2] > nearest[0][:2]:
            heapq.heapreplace(nearest, entry)
    ordered = sorted(nearest, key=lambda entry: entry[:2], reverse=True)
    return tally, [_shown(record, down_to_floor, chooser) for _, _, record in ordered]


def most_uncertain(candidates: Sequence[Shown], images: Mapping[str, Path | RemoteFile], most_bytes: int) -> Gallery:
    """Adds thumbnails, as long as there is room for them.

    Args:
        candidates: most uncertain first.
        images: where they are, by name.
        most_bytes: of all thumbnails together.
    """
    from glip.images import RemoteFile

    shown: list[Shown] = []
    room = most_bytes
    vain = 0  # remote images in a row that did not come: each may take as long as its server is waited for
    for candidate in candidates:
        path = images.get(candidate.file_name)
        far = isinstance(path, RemoteFile)
        jpeg = None if far and vain >= MOST_VAIN else _thumbnail(path)
        vain = vain + (jpeg is None) if far else vain
        room -= len(jpeg or b"")
        if room < 0:
            return Gallery(tuple(shown), cut_short=True)
        shown.append(replace(candidate, jpeg=jpeg))
    return Gallery(tuple(shown), cut_short=False)


def _without_thresholds(settings: ExportSettings, chooser: Chooser, run: RunInfo) -> Chooser:
    lowest = dict.fromkeys(chooser.classes.names, run.floor)
    return Chooser(replace(settings, conf=run.floor, class_conf=lowest), chooser.classes, run)


def _count(tally: Tally, kept: Detections, found: Detections) -> None:
    tally.empty += not len(kept)
    np.add.at(tally.kept, kept.labels, 1)
    tally.with_class[np.unique(kept.labels)] += 1
    steps = np.minimum((found.scores * BINS).astype(np.int64), BINS - 1)
    np.add.at(tally.scores, (found.labels, steps), 1)


def _distance(found: Detections, chooser: Chooser) -> float:
    """How far the box nearest to a decision is from it; infinite without boxes."""
    thresholds = np.array(chooser.conf, np.float32)[found.labels]
    return float(np.abs(found.scores - thresholds).min(initial=np.inf))


def _shown(record: Record, down_to_floor: Chooser, chooser: Chooser) -> Shown:
    found = down_to_floor.choose(record)
    found = found.filter(np.arange(min(len(found), MOST_BOXES)))
    kept = found.scores >= np.array(chooser.conf, np.float32)[found.labels]
    return Shown(record.file_name, record.width, record.height, found, kept)


def _thumbnail(path: Path | RemoteFile | None) -> bytes | None:
    """A small JPEG of an image, upright; None if it cannot be read any more."""
    from glip.images import UnreadableImage, read_image

    if path is None:
        return None
    try:
        image = read_image(path)
    except UnreadableImage as error:
        logger.warning("The report shows no image of %s: %s.", path, error.reason)
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    jpeg = BytesIO()
    image.save(jpeg, "JPEG", quality=72)
    return jpeg.getvalue()
