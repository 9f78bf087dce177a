"""Pascal VOC: one XML file per image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from glip.labeling.writers.base import AddImage, ExportInfo, LabelledImage, own_folder, write_beside, xml_text


@contextmanager
def write_voc(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes Annotations/ with the sub-folders of the images; an image without boxes has a file, too.

    VOC counts pixels from 1 and includes the last one. Edges are rounded to whole pixels, halves up: a box from 0 to 10
    covers pixels 1 to 10, and one narrower than a pixel still covers one. `score` is an element of its own, as
    detectors write it; readers that do not know it skip it.
    """
    with own_folder(path / "Annotations", info) as folder:

        def add(image: LabelledImage) -> None:
            name = f"{image.file_name.rpartition('.')[0]}.xml"
            write_beside(folder, name, _document(image, info.names), image)

        yield add


def _document(image: LabelledImage, names: tuple[str, ...]) -> str:
    parent, _, name = image.file_name.rpartition("/")
    return (
        "<annotation>\n"
        f"  <folder>{xml_text(parent)}</folder>\n"
        f"  <filename>{xml_text(name)}</filename>\n"
        "  <source><database>glip</database></source>\n"
        f"  <size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>\n"
        "  <segmented>0</segmented>\n" + "".join(_objects(image, names)) + "</annotation>\n"
    )


def _objects(image: LabelledImage, names: tuple[str, ...]) -> Iterator[str]:
    boxes, indices = image.visible_boxes()
    edges = np.floor(boxes + 0.5).astype(int)
    size = np.array([image.width, image.height])
    first = np.minimum(edges[:, :2] + 1, size)
    last = np.maximum(edges[:, 2:], first)
    for index, (xmin, ymin), (xmax, ymax) in zip(indices, first.tolist(), last.tolist(), strict=True):
        yield (
            "  <object>\n"
            f"    <name>{xml_text(names[image.found.labels[index]])}</name>\n"
            "    <pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>\n"
            f"    <bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>\n"
            f"    <score>{image.found.scores[index]!s}</score>\n"
            "  </object>\n"
        )
