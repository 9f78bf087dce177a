"""Pascal VOC: one XML file an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from glip.labeling.writers.base import AddImage, Facts, Image, own_folder, write_beside
from glip.labeling.writers.xml import text


@contextmanager
def write_voc(path: Path, facts: Facts) -> Iterator[AddImage]:
    """Annotations/ in the images' sub-folders, a file for an empty image too.

    VOC counts pixels from 1 and includes the last one. Edges are rounded to whole pixels, halves up: a box from 0
    to 10 covers pixels 1 to 10, and one narrower than a pixel still covers one. `score` is an element of its own,
    as detectors write it; readers that do not know it pass over it.
    """
    with own_folder(path / "Annotations", facts) as folder:

        def add(image: Image) -> None:
            name = f"{image.file_name.rpartition('.')[0]}.xml"
            write_beside(folder, name, _document(image, facts.names), image)

        yield add


def _document(image: Image, names: tuple[str, ...]) -> str:
    parent, _, name = image.file_name.rpartition("/")
    return (
        "<annotation>\n"
        f"  <folder>{text(parent)}</folder>\n"
        f"  <filename>{text(name)}</filename>\n"
        "  <source><database>glip</database></source>\n"
        f"  <size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>\n"
        "  <segmented>0</segmented>\n" + "".join(_objects(image, names)) + "</annotation>\n"
    )


def _objects(image: Image, names: tuple[str, ...]) -> Iterator[str]:
    boxes, places = image.visible_boxes()
    edges = np.floor(boxes + 0.5).astype(int)
    size = np.array([image.width, image.height])
    first = np.minimum(edges[:, :2] + 1, size)
    last = np.maximum(edges[:, 2:], first)
    for place, (xmin, ymin), (xmax, ymax) in zip(places, first.tolist(), last.tolist(), strict=True):
        yield (
            "  <object>\n"
            f"    <name>{text(names[image.found.labels[place]])}</name>\n"
            "    <pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>\n"
            f"    <bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>\n"
            f"    <score>{image.found.scores[place]!s}</score>\n"
            "  </object>\n"
        )
