"""Images with their boxes drawn, for a first look. supervision draws."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from glip.detections import Detections
from glip.errors import GlipError
from glip.files import whole_file
from glip.images import RemoteFile, read_image

PREVIEW_FOLDER = "preview"
LONG_SIDE = 1600  # pixels; boxes and words stay readable on larger images too

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
            file.write(draw(image, detections))
        drawn.append(path)
    return drawn


def _spread(found: Iterable[tuple[str, Detections]], total: int, count: int) -> Iterator[tuple[str, Detections]]:
    """`count` of the `total` entries that have boxes: the first, the last, and those evenly between."""
    wanted = {round(step * (total - 1) / max(1, count - 1)) for step in range(count)}
    with_boxes = (entry for entry in found if len(entry[1]))
    return (entry for index, entry in enumerate(with_boxes) if index in wanted)


def draw(image: Image.Image, detections: Detections) -> bytes:
    """A JPEG of an image with boxes, names and scores.

    Args:
        image: RGB.
        detections: in pixels of `image`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that OpenCV would draw faster
        import supervision as sv

    scale = min(1.0, LONG_SIDE / max(image.size))
    if scale < 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    boxes = sv.Detections(xyxy=detections.boxes * np.float32(scale), class_id=detections.labels)
    labels = [
        f"{detections.names[label]} {score:.2f}"
        for label, score in zip(detections.labels, detections.scores, strict=True)
    ]
    # The other annotator of labels draws ASCII only.
    name_tags = sv.RichLabelAnnotator(font_path=font_for("".join(labels)), font_size=14, text_padding=3)
    scene = name_tags.annotate(sv.BoxAnnotator().annotate(image.copy(), boxes), boxes, labels)
    jpeg = BytesIO()
    scene.save(jpeg, "JPEG", quality=90)
    return jpeg.getvalue()


def font_for(text: str) -> str:
    """The path of a font that has the most letters of `text`, of those installed and the one matplotlib brings."""
    from matplotlib import font_manager, get_data_path
    from matplotlib.ft2font import FT2Font

    own = str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    letters = {ord(letter) for letter in text}
    best, most = own, -1
    for path in (own, *sorted(font_manager.findSystemFonts())):
        try:
            known = len(letters & FT2Font(path).get_charmap().keys())
        except (RuntimeError, OSError):  # a bitmap font or a broken one
            continue
        if known > most:
            best, most = path, known
        if most == len(letters):
            break
    return best
