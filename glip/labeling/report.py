"""report.html: counts, score histograms, and the images most worth checking, in one file that opens from the disk.

The page needs no network: style and script are in it, thumbnails are embedded, and boxes are drawn over them as SVG.
`report.html` beside this file is its frame. One pass over the records fills it, in memory that does not grow with them.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import logging
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
import numpy as np
from numpy.typing import NDArray

from glip.detections import Detections
from glip.drawing import class_color, text_color
from glip.errors import GlipError
from glip.files import path_text, whole_file
from glip.labeling.filtering import Chooser, ExportSettings
from glip.labeling.records import Record, RunInfo

if TYPE_CHECKING:
    from glip.images import RemoteFile

REPORT_FILE = "report.html"
GALLERY_IMAGES = 200  # images shown
MAX_THUMBNAIL_BYTES = 12_000_000  # of all thumbnails together; the gallery ends early rather than exceed it
MAX_HISTOGRAMS = 60  # classes with a histogram
MAX_BOXES = 100  # drawn over one image
MAX_ERRORS = 500  # listed
MAX_UNREACHABLE = 3  # remote images that fail in a row before no more are requested
BINS = 20  # bars of a histogram
STEPS = 100  # of the score that are counted, the steps of the slider
THUMBNAIL = 480  # pixels of the longer side

logger = logging.getLogger(__name__)
_MARK = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class _Card:
    """An image of the gallery.

    Attributes:
        found: its boxes down to the floor of the records, best first.
        kept: (N,) which of them reach their threshold.
    """

    file_name: str
    width: int
    height: int
    found: Detections
    kept: NDArray[np.bool_]


class ReportBuilder:
    """Counts records, keeps the images closest to a decision, and writes the report.

    Args:
        run: configuration of the records.
        settings: which boxes count. Weaker ones can be shown, dashed.
        chooser: the same, opened for this run.
        limit: maximum number of images shown, those whose boxes lie closest to their threshold first.
        max_bytes: maximum size of all thumbnails together.
        run_folder: of the records, for the command that exports them; None: the folder of the report.
    """

    def __init__(
        self,
        run: RunInfo,
        settings: ExportSettings,
        chooser: Chooser,
        *,
        limit: int = GALLERY_IMAGES,
        max_bytes: int = MAX_THUMBNAIL_BYTES,
        run_folder: Path | None = None,
    ) -> None:
        self._run, self._settings, self._chooser = run, settings, chooser
        self._limit, self._max_bytes, self._run_folder = limit, max_bytes, run_folder
        lowest = dict.fromkeys(chooser.classes.names, run.floor)
        self._down_to_floor = Chooser(replace(settings, conf=run.floor, class_conf=lowest), chooser.classes, run)
        classes = len(chooser.classes.names)
        self._kept, self._with_class = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        self._scores = np.zeros((classes, STEPS), np.int64)
        self._best = np.zeros((classes, STEPS), np.int64)  # images by the best score of each class
        self._best_of_all = np.zeros(STEPS, np.int64)
        self._images = self._empty = self._unreadable = 0
        self._errors: list[tuple[str, str]] = []
        self._nearest: list[tuple[float, int, Record]] = []

    def add_error(self, record: Record) -> None:
        """Counts an image that could not be labelled."""
        self._unreadable += 1
        if len(self._errors) < MAX_ERRORS:
            self._errors.append((record.file_name, record.error or ""))

    def add(self, record: Record, kept: Detections) -> None:
        """Counts a labelled image, and keeps it if its boxes lie close to their threshold.

        Args:
            record: of the image.
            kept: its boxes that count.
        """
        self._images += 1
        self._empty += not len(kept)
        np.add.at(self._kept, kept.labels, 1)
        self._with_class[np.unique(kept.labels)] += 1
        found = self._down_to_floor.choose(record)
        self._count(found)
        # The heap drops its smallest entry first: the least uncertain image, of equal ones the one listed last.
        entry = (-self._distance(found), -self._images, record)
        if len(self._nearest) < self._limit:
            heapq.heappush(self._nearest, entry)
        elif self._nearest and entry[:2] > self._nearest[0][:2]:
            heapq.heapreplace(self._nearest, entry)

    def _count(self, found: Detections) -> None:
        # A score such as 0.29 is slightly less in float32; it belongs to the step that it begins.
        steps = np.minimum((found.scores.astype(np.float64) * STEPS + 1e-5).astype(np.int64), STEPS - 1)
        np.add.at(self._scores, (found.labels, steps), 1)
        for label in np.unique(found.labels).tolist():
            self._best[label, steps[found.labels == label].max()] += 1
        if len(found):
            self._best_of_all[steps.max()] += 1

    def write(self, folder: Path, images: Mapping[str, Path | RemoteFile]) -> Path:
        """Writes report.html; returns its path.

        Args:
            folder: for the file.
            images: where the images are, by name. An image that is missing is shown without its pixels.

        Raises:
            JobFailed: the file cannot be written.
        """
        ordered = sorted(self._nearest, key=lambda entry: entry[:2], reverse=True)
        cards = [self._card(record) for _, _, record in ordered]
        thumbnails = _thumbnails([card.file_name for card in cards], images, self._max_bytes)
        path = folder / REPORT_FILE
        with whole_file(path) as file:
            cut_short = len(thumbnails) < len(cards)
            sources = {card.file_name: _relative_url(images.get(card.file_name), folder) for card in cards}
            command = f"glip export {shlex.quote(path_text(self._run_folder or folder))}"
            file.write(self._page(cards[: len(thumbnails)], thumbnails, cut_short, sources, command).encode())
        return path

    def _distance(self, found: Detections) -> float:
        """Returns the distance of the nearest score to its threshold; infinity without boxes."""
        thresholds = np.array(self._chooser.conf, np.float32)[found.labels]
        return float(np.abs(found.scores - thresholds).min(initial=np.inf))

    def _card(self, record: Record) -> _Card:
        found = self._down_to_floor.choose(record)
        found = found.filter(np.arange(min(len(found), MAX_BOXES)))
        kept = found.scores >= np.array(self._chooser.conf, np.float32)[found.labels]
        return _Card(record.file_name, record.width, record.height, found, kept)

    def _page(
        self,
        cards: Sequence[_Card],
        thumbnails: Sequence[bytes | None],
        cut_short: bool,
        sources: Mapping[str, str],
        command: str,
    ) -> str:
        frame = files("glip.labeling").joinpath(REPORT_FILE).read_text(encoding="utf-8")
        script = frame.partition("<script>")[2].partition("</script>")[0]
        parts = {
            "policy": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "tiles": self._tiles(),
            "facts": self._facts(),
            "classes": self._classes(),
            "not_found": self._not_found(),
            "gallery_says": escape(self._gallery_caption(len(cards), cut_short)),
            "errors": self._error_table(),
            "data": self._data(cards, thumbnails, sources, command),
        }
        return _MARK.sub(lambda mark: parts[mark[1]], frame)

    def _tiles(self) -> str:
        numbers = {
            "images": self._images,
            "with boxes": self._images - self._empty,
            "without boxes": self._empty,
            "unreadable": self._unreadable,
            "boxes": int(self._kept.sum()),
        }
        return "".join(
            f'<div class="tile" id="count-{name.replace(" ", "-")}"><b data-count>{number:,}</b>'
            f"<span>{name}</span></div>"
            for name, number in numbers.items()
        )

    def _facts(self) -> str:
        run, settings = self._run, self._settings
        recorded = "candidates before suppression" if run.record == "candidates" else "detections"
        rows = {
            "model": f"{run.model} ({run.model_sha256[:12]})",
            "labelled": f"{run.created} on {run.device}, {run.precision}, glip {run.versions.get('glip', '?')}",
            "prompt": " | ".join(plan.caption for plan in run.captions),
            "recorded": f"{recorded}, score from {run.floor:g}, short side {run.imgsz} px",
            "shown here": f"score from {settings.conf:g}, suppression {settings.nms} at IoU {settings.iou:g}, "
            f"up to {settings.max_det} boxes per image",
        }
        return "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows.items())

    def _classes(self) -> str:
        seen = self._scores.sum(axis=1) > 0
        order = [label for label in np.argsort(-self._kept, kind="stable").tolist() if seen[label]]
        return "".join(self._class_row(label, rank < MAX_HISTOGRAMS) for rank, label in enumerate(order))

    def _not_found(self) -> str:
        """Returns one line for the classes without a recorded box, rather than a row of zeros each."""
        names = [
            escape(self._chooser.classes.names[label])
            for label in np.flatnonzero(self._scores.sum(axis=1) == 0).tolist()
        ]
        if not names:
            return ""
        count = "1 class was" if len(names) == 1 else f"{len(names):,} classes were"
        listed = ", ".join(f"<span>{name}</span>" for name in names)
        return f'<details id="not-found"><summary>{count} not found at any recorded score</summary>{listed}</details>'

    def _class_row(self, label: int, with_histogram: bool) -> str:
        threshold = self._chooser.conf[label]
        histogram = _histogram(_in_bins(self._scores[label]), threshold, class_color(label)) if with_histogram else ""
        return (
            f'<tr data-label="{label}"><td><i style="background:{class_color(label)}"></i>'
            f'<button type="button">{escape(self._chooser.classes.names[label])}</button></td>'
            f'<td data-count data-unit="boxes">{self._kept[label]:,}</td>'
            f'<td data-count data-unit="images">{self._with_class[label]:,}</td>'
            f'<td data-count data-unit="threshold">{threshold:g}</td>'
            f"<td>{histogram}</td></tr>"
        )

    def _gallery_caption(self, shown: int, cut_short: bool) -> str:
        if shown == self._images:
            return "All images, those first whose boxes lie closest to their threshold."
        why = " (more would make this file too large)" if cut_short else ""
        return f"{shown:,} of {self._images:,} images{why}, those first whose boxes lie closest to their threshold."

    def _error_table(self) -> str:
        if not self._unreadable:
            return "<p>None.</p>"
        rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(why)}</td></tr>" for name, why in self._errors)
        more = self._unreadable - len(self._errors)
        rest = f"<p>… and {more:,} more; errors.jsonl holds all of them.</p>" if more else ""
        return f"<table><thead><tr><th>image</th><th>reason</th></tr></thead><tbody>{rows}</tbody></table>{rest}"

    def _data(
        self,
        cards: Sequence[_Card],
        thumbnails: Sequence[bytes | None],
        sources: Mapping[str, str],
        command: str,
    ) -> str:
        """Returns the data of the script, as JSON in which no `<` can end its element."""
        conf = self._chooser.conf
        content = {
            "classes": [
                {
                    "name": name,
                    "colour": class_color(label),
                    "ink": text_color(class_color(label)),
                    "conf": conf[label],
                    "boxes": _sparse(self._scores[label]),
                    "images": _sparse(self._best[label]),
                }
                for label, name in enumerate(self._chooser.classes.names)
            ],
            "conf": min(conf, default=self._settings.conf),
            "floor": self._run.floor,
            "best": _sparse(self._best_of_all),
            "labelled": self._images,
            "command": command,
            "images": [
                {**_card_data(card, jpeg), "file": sources.get(card.file_name, "")}
                for card, jpeg in zip(cards, thumbnails, strict=True)
            ],
        }
        return msgspec.json.encode(content).decode().replace("<", "\\u003c")


def find_images(run: RunInfo, sources: Sequence[str] = (), *, use_network: bool = True) -> dict[str, Path | RemoteFile]:
    """Returns where the images of a run are, by name.

    Args:
        run: its configuration, with the sources it was given.
        sources: folders to look in instead, because the images were moved.
        use_network: list images on servers, too. False leaves them out.

    Raises:
        GlipError: there are no images in `sources`, or their server does not answer.
    """
    from glip.images import is_remote, list_images

    given = sources or [source for source in run.sources if use_network or not is_remote(source)]
    try:
        return {image.name: image.path for image in list_images(given)}
    except GlipError as error:
        if sources:
            raise
        logger.warning("The images of this run are not found: %s", error)
        return {}


def _in_bins(counts: NDArray[np.int64]) -> list[int]:
    """Returns (STEPS,) counts added up to the bars of a histogram."""
    bars: list[int] = counts.reshape(BINS, -1).sum(axis=1).tolist()
    return bars


def _sparse(counts: NDArray[np.int64]) -> list[int]:
    """Returns the counts that are not 0 as [step, count, step, count, …]."""
    steps = np.flatnonzero(counts)
    values: list[int] = np.stack([steps, counts[steps]], axis=1).ravel().tolist()
    return values


def _relative_url(path: Path | RemoteFile | None, folder: Path) -> str:
    """Returns the address of an image file as seen from the page; '' for none, and for images on servers."""
    if not isinstance(path, Path):
        return ""
    try:
        relative = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # on another drive
        return ""
    # A name such as `javascript:…` is quoted, so it is a path and no scheme.
    return quote(Path(relative).as_posix().encode(errors="surrogateescape"))


def _histogram(counts: Sequence[int], threshold: float, fill: str) -> str:
    """Returns bars of equal steps from score 0 to 1 as SVG, pale below the threshold, with a line at it."""
    top = max(counts, default=0) or 1
    bars = "".join(
        f'<rect x="{10 * step + 0.5}" y="{40 - _bar(count, top):.2f}" width="9" height="{_bar(count, top):.2f}"'
        f"{'' if (step + 1) / BINS > threshold else ' opacity=.35'}>"
        f"<title>{step / BINS:.2f} to {(step + 1) / BINS:.2f}: {count:,}</title></rect>"
        for step, count in enumerate(counts)
        if count
    )
    line = f'<line x1="{threshold * 200:.1f}" x2="{threshold * 200:.1f}" y1="0" y2="40"/>'
    return f'<svg class="histogram" viewBox="0 0 200 41" preserveAspectRatio="none" fill="{fill}">{bars}{line}</svg>'


def _bar(count: int, top: int) -> float:
    return max(1.5, 38 * count / top)  # a single box can be seen beside thousands


def _card_data(card: _Card, jpeg: bytes | None) -> dict[str, object]:
    rows: Iterable[list[object]] = (
        [label, round(score, 3), *(round(edge, 1) for edge in box), kept]
        for label, score, box, kept in zip(
            card.found.labels.tolist(),
            card.found.scores.tolist(),
            card.found.boxes.tolist(),
            card.kept.tolist(),
            strict=True,
        )
    )
    image = "" if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    return {"name": card.file_name, "width": card.width, "height": card.height, "boxes": list(rows), "image": image}


def _thumbnails(names: Sequence[str], images: Mapping[str, Path | RemoteFile], max_bytes: int) -> list[bytes | None]:
    """Returns a thumbnail for each name, None for an image that cannot be read; ends early when the bytes run out."""
    from glip.images import RemoteFile

    thumbnails: list[bytes | None] = []
    room, unreachable = max_bytes, 0
    for name in names:
        path = images.get(name)
        remote = isinstance(path, RemoteFile)
        # Each remote image that fails may take as long as its server is waited for.
        jpeg = None if path is None or (remote and unreachable >= MAX_UNREACHABLE) else _thumbnail(path)
        unreachable = unreachable + (jpeg is None) if remote else unreachable
        room -= len(jpeg or b"")
        if room < 0:
            break
        thumbnails.append(jpeg)
    return thumbnails


def _thumbnail(path: Path | RemoteFile) -> bytes | None:
    """Returns a small upright JPEG of an image; None if it cannot be read any more."""
    from glip.images import UnreadableImage, read_image

    try:
        image = read_image(path)
    except UnreadableImage as error:
        logger.warning("The report shows no pixels of %s: %s.", path, error.reason)
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    jpeg = BytesIO()
    image.save(jpeg, "JPEG", quality=72)
    return jpeg.getvalue()
