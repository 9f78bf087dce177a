"""CVAT for images 1.1: one XML file to upload into a task."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glip.files import whole_file
from glip.labeling.writers.base import AddImage, ExportInfo, LabelledImage, xml_attribute, xml_text


@contextmanager
def write_cvat(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes boxes in pixels, clipped to the image, with `score` as a text attribute.

    CVAT finds an image by its name, which must be the same in the task, sub-folders included. Where the names differ it
    counts: frame 0 is the first image in the order of characters (10 before 2), so the images are numbered and written
    in that order. If a label of the task has no attribute called `score`, CVAT drops the score and keeps the box.
    """
    with whole_file(path) as file, tempfile.TemporaryFile(dir=path.parent) as images:
        file.write(_head(info.names).encode())
        starts: list[tuple[str, int]] = []

        def add(image: LabelledImage) -> None:
            starts.append((image.file_name, images.tell()))
            images.write("".join(_image(image, info.names)).encode())

        yield add
        ends = [start for _, start in starts[1:]] + [images.tell()]
        for frame, ((name, start), end) in enumerate(sorted(zip(starts, ends, strict=False))):
            images.seek(start)
            file.write(f'  <image id="{frame}" name={xml_attribute(name)} '.encode() + images.read(end - start))
        file.write(b"</annotations>\n")


def _head(names: tuple[str, ...]) -> str:
    labels = "".join(
        f"        <label><name>{xml_text(name)}</name><attributes><attribute><name>score</name><mutable>False</mutable>"
        "<input_type>text</input_type><default_value></default_value><values></values></attribute></attributes></label>\n"
        for name in names
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        "  <meta>\n    <task>\n      <name>glip</name>\n      <mode>annotation</mode>\n"
        f"      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
    )


def _image(image: LabelledImage, names: tuple[str, ...]) -> Iterator[str]:
    """Yields the element of an image after its id and name."""
    yield f'width="{image.width}" height="{image.height}">\n'
    boxes, indices = image.visible_boxes()
    for index, (x1, y1, x2, y2) in zip(indices, boxes.tolist(), strict=True):
        yield (
            f'    <box label={xml_attribute(names[image.found.labels[index]])} source="auto" occluded="0" '
            f'xtl="{x1:.3f}" ytl="{y1:.3f}" xbr="{x2:.3f}" ybr="{y2:.3f}" z_order="0">'
            f'<attribute name="score">{image.found.scores[index]!s}</attribute></box>\n'
        )
    yield "  </image>\n"
