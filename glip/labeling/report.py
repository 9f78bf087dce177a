"""report.html: what was found, at a glance and image by image, in one file that opens from the disk.

The page needs no network: style and script stand in it, thumbnails are embedded, boxes are drawn over them as SVG.
`report.html` beside this file is its frame; `gallery.py` chooses the images.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from glip.errors import GlipError
from glip.files import whole_file
from glip.labeling.export import open_run
from glip.labeling.filtering import Chooser, ExportSettings
from glip.labeling.records import RunInfo, read_run
from glip.labeling.report_gallery import BINS, Gallery, Shown, Tally, look_through, most_uncertain

if TYPE_CHECKING:
    from glip.images import RemoteFile

REPORT_FILE = "report.html"
# Histograms beyond these many classes would make the page longer than anybody reads.
MOST_HISTOGRAMS = 60

logger = logging.getLogger(__name__)
_MARK = re.compile(r"\{\{(\w+)\}\}")


def write_report(
    folder: Path,
    images: Mapping[str, Path | RemoteFile],
    settings: ExportSettings,
    *,
    out: Path | None = None,
    limit: int = 200,
    most_bytes: int = 12_000_000,
) -> Path:
    """Writes the report about a run.

    Args:
        folder: of the run, as given to `glip label --out`.
        images: where the images are, by the names in the records; what is not found is shown without its image.
        settings: which boxes count; those below their threshold can be shown, dashed.
        out: folder of the report; that of the run if None.
        limit: so many images are shown, those first whose boxes lie nearest to their threshold.
        most_bytes: of all thumbnails together; the gallery ends earlier where they would need more.

    Raises:
        InputError: the records do not hold what the settings ask for.
        JobFailed: the file cannot be written.
    """
    run = read_run(folder)
    chooser = open_run(folder, run, settings)
    tally, candidates = look_through(folder, run, settings, chooser, limit)
    gallery = most_uncertain(candidates, images, most_bytes)
    path = (out or folder) / REPORT_FILE
    with whole_file(path) as file:
        file.write(_page(run, settings, chooser, tally, gallery).encode())
    return path


def find_images(run: RunInfo, sources: Sequence[str] = ()) -> dict[str, Path | RemoteFile]:
    """Where the images of a run are, by name.

    Args:
        run: which sources it was given.
        sources: these instead, because the images were moved.

    Raises:
        GlipError: there are no images in `sources`, or their server does not answer.
    """
    from glip.images import list_images

    try:
        return {image.name: image.path for image in list_images(sources or run.job.get("sources", ()))}
    except GlipError as error:
        if sources:
            raise
        logger.warning("The report shows boxes without images: %s", error)
        return {}


def colour(label: int) -> str:
    """A class's colour: neighbours differ by the golden angle, so that a handful of classes are easy to tell apart."""
    return f"hsl({label * 137.508 % 360:.0f} 70% 38%)"


def _page(run: RunInfo, settings: ExportSettings, chooser: Chooser, tally: Tally, gallery: Gallery) -> str:
    frame = files("glip.labeling").joinpath(REPORT_FILE).read_text(encoding="utf-8")
    script = frame.partition("<script>")[2].partition("</script>")[0]
    parts = {
        "policy": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "tiles": _tiles(tally),
        "facts": _facts(run, settings),
        "classes": _classes(chooser, tally),
        "gallery_says": escape(_gallery_says(gallery, tally)),
        "errors": _errors(tally),
        "data": _data(settings, run, chooser, gallery),
    }
    return _MARK.sub(lambda mark: parts[mark[1]], frame)


def _tiles(tally: Tally) -> str:
    numbers = {
        "images": tally.images,
        "with boxes": tally.images - tally.empty,
        "without boxes": tally.empty,
        "unreadable": tally.unreadable,
        "boxes": int(tally.kept.sum()),
    }
    return "".join(
        f'<div class="tile" id="count-{name.replace(" ", "-")}"><b>{number:,}</b><span>{name}</span></div>'
        for name, number in numbers.items()
    )


def _facts(run: RunInfo, settings: ExportSettings) -> str:
    recorded = "candidates before suppression" if run.record == "candidates" else "detections"
    rows = {
        "model": f"{run.model} ({run.model_sha256[:12]})",
        "labelled": f"{run.created} on {run.device}, {run.precision}, glip {run.versions.get('glip', '?')}",
        "prompt": " | ".join(plan.caption for plan in run.captions),
        "recorded": f"{recorded}, score from {run.floor:g}, short side {run.imgsz} px",
        "shown here": f"score from {settings.conf:g}, suppression {settings.nms} at IoU {settings.iou:g}, "
        f"up to {settings.max_det} boxes an image",
    }
    return "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows.items())


def _classes(chooser: Chooser, tally: Tally) -> str:
    order = np.argsort(-tally.kept, kind="stable").tolist()
    return "".join(_class_row(label, chooser, tally, place < MOST_HISTOGRAMS) for place, label in enumerate(order))


def _class_row(label: int, chooser: Chooser, tally: Tally, with_histogram: bool) -> str:
    threshold = chooser.conf[label]
    histogram = _histogram(tally.scores[label].tolist(), threshold, colour(label)) if with_histogram else ""
    return (
        f'<tr data-label="{label}"><td><i style="background:{colour(label)}"></i>'
        f'<button type="button">{escape(chooser.classes.names[label])}</button></td>'
        f"<td>{tally.kept[label]:,}</td><td>{tally.with_class[label]:,}</td><td>{threshold:g}</td>"
        f"<td>{histogram}</td></tr>"
    )


def _histogram(counts: Sequence[int], threshold: float, fill: str) -> str:
    """Bars of equal steps from score 0 to 1, pale below the threshold, and a line at it."""
    top = max(counts, default=0) or 1
    bars = "".join(
        f'<rect x="{10 * place + 0.5}" y="{40 - 38 * count / top:.2f}" width="9" height="{38 * count / top:.2f}"'
        f"{'' if (place + 1) / BINS > threshold else ' opacity=.35'}>"
        f"<title>{place / BINS:.2f} to {(place + 1) / BINS:.2f}: {count:,}</title></rect>"
        for place, count in enumerate(counts)
        if count
    )
    line = f'<line x1="{threshold * 200:.1f}" x2="{threshold * 200:.1f}" y1="0" y2="40"/>'
    return f'<svg class="histogram" viewBox="0 0 200 41" fill="{fill}">{bars}{line}</svg>'


def _gallery_says(gallery: Gallery, tally: Tally) -> str:
    if len(gallery.shown) == tally.images:
        return "All images, those first whose boxes lie nearest to their threshold."
    why = " (more would make this file too large)" if gallery.cut_short else ""
    return (
        f"{len(gallery.shown):,} of {tally.images:,} images{why}, "
        f"those first whose boxes lie nearest to their threshold."
    )


def _errors(tally: Tally) -> str:
    if not tally.unreadable:
        return "<p>None.</p>"
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(why)}</td></tr>" for name, why in tally.errors)
    more = tally.unreadable - len(tally.errors)
    rest = f"<p>… and {more:,} more; errors.jsonl holds all of them.</p>" if more else ""
    return f"<table><thead><tr><th>image</th><th>reason</th></tr></thead><tbody>{rows}</tbody></table>{rest}"


def _data(settings: ExportSettings, run: RunInfo, chooser: Chooser, gallery: Gallery) -> str:
    """What the script draws from: JSON in which no `<` can end the element that it stands in."""
    names = chooser.classes.names
    content = {
        "classes": [
            {"name": name, "colour": colour(label), "conf": chooser.conf[label]} for label, name in enumerate(names)
        ],
        "conf": min(chooser.conf, default=settings.conf),
        "floor": run.floor,
        "images": [_card(shown) for shown in gallery.shown],
    }
    return msgspec.json.encode(content).decode().replace("<", "\\u003c")


def _card(shown: Shown) -> dict[str, object]:
    rows: Iterable[list[object]] = (
        [label, round(score, 3), *(round(edge, 1) for edge in box), kept]
        for label, score, box, kept in zip(
            shown.found.labels.tolist(),
            shown.found.scores.tolist(),
            shown.found.boxes.tolist(),
            shown.kept.tolist(),
            strict=True,
        )
    )
    image = "" if shown.jpeg is None else "data:image/jpeg;base64," + base64.b64encode(shown.jpeg).decode()
    return {
        "name": shown.file_name,
        "width": shown.width,
        "height": shown.height,
        "boxes": list(rows),
        "image": image,
    }
