"""Images with their boxes drawn, for a first look. supervision draws."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from glip.detections import Detections
from glip.errors import GlipError
from glip.files import whole_file
from glip.images import RemoteFile, read_image

PREVIEW_FOLDER = "preview"

logger = logging.getLogger(__name__)


def write_previews(
    folder: Path,
    found: Callable[[], Iterable[tuple[str, Detections]]],
    paths: Mapping[str, Path | RemoteFile],
    count: int,
) -> list[Path]:
    """Draws images that have boxes, evenly spread over all that do.

    Args:
        folder: the output folder; earlier previews in it are removed.
        found: gives every image's name and boxes, each time it is called.
        paths: where images are, by name.
        count: so many are drawn, fewer if fewer have boxes.
    """
    place = folder / PREVIEW_FOLDER
    for old in place.glob("*.jpg"):
        old.unlink()
    total = sum(len(detections) > 0 for _, detections in found())
    drawn = []
    for number, (name, detections) in enumerate(_spread(found(), total, min(count, total)), start=1):
        path = place / f"{number:03d}-{Path(name).stem[:80]}.jpg"
        try:
            image = read_image(paths[name])
        except GlipError as error:  # it was readable when it was labelled
            logger.warning("No preview of %s: %s", name, error)
            continue
        with whole_file(path) as file:
            detections.draw(image).save(file, "JPEG", quality=90)
        drawn.append(path)
    return drawn


def _spread(found: Iterable[tuple[str, Detections]], total: int, count: int) -> Iterator[tuple[str, Detections]]:
    """`count` of the `total` entries that have boxes: the first, the last, and those evenly between."""
    wanted = {round(step * (total - 1) / max(1, count - 1)) for step in range(count)}
    with_boxes = (entry for entry in found if len(entry[1]))
    return (entry for index, entry in enumerate(with_boxes) if index in wanted)
