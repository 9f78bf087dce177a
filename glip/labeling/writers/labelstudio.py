"""Label Studio: tasks with predictions to import, and the labelling interface they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from glip.files import whole_file
from glip.labeling.writers.base import AddImage, Facts, Image
from glip.labeling.writers.xml import attribute


@contextmanager
def write_labelstudio(path: Path, facts: Facts) -> Iterator[AddImage]:
    """tasks.json, one task an image, and config.xml for the project's labelling interface.

    Boxes are percentages of the image, cut at its edge. A task's score is that of its least certain box: Label
    Studio shows tasks with low scores first.
    """
    with whole_file(path / "tasks.json") as file:
        encode = msgspec.json.Encoder().encode
        separator = b"[\n"

        def add(image: Image) -> None:
            nonlocal separator
            file.write(separator + encode(_task(image, facts)))
            separator = b",\n"

        yield add
        file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")
    with whole_file(path / "config.xml") as config:
        config.write(_interface(facts.names).encode())


def _interface(names: tuple[str, ...]) -> str:
    labels = "".join(f"    <Label value={attribute(name)}/>\n" for name in names)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <RectangleLabels name="label" toName="image">\n{labels}  </RectangleLabels>\n</View>\n'
    )


def _task(image: Image, facts: Facts) -> dict[str, Any]:
    # With a prefix it is an address, where a space or a '#' in a name would mean something.
    name = quote(image.file_name) if facts.image_prefix else image.file_name
    result = list(_regions(image, facts.names))
    prediction: dict[str, Any] = {"model_version": facts.provenance["model"], "result": result}
    if result:
        prediction["score"] = min(region["score"] for region in result)
    return {"data": {"image": facts.image_prefix + name}, "predictions": [prediction]}


def _regions(image: Image, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    boxes, places = image.visible_boxes()
    for place, (x1, y1, x2, y2) in zip(places, boxes.tolist(), strict=True):
        yield {
            "id": f"{image.id}-{place + 1}",
            "from_name": "label",
            "to_name": "image",
            "type": "rectanglelabels",
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "score": image.found.scores[place].item(),
            "value": {
                "x": 100 * x1 / image.width,
                "y": 100 * y1 / image.height,
                "width": 100 * (x2 - x1) / image.width,
                "height": 100 * (y2 - y1) / image.height,
                "rotation": 0,
                "rectanglelabels": [names[image.found.labels[place]]],
            },
        }
