"""Label Studio: tasks with predictions to import, and the labelling interface they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from glip.files import whole_file
from glip.labeling.writers.picture import AddPicture, Facts, Picture
from glip.labeling.writers.xml import attribute


@contextmanager
def write_labelstudio(path: Path, facts: Facts) -> Iterator[AddPicture]:
    """tasks.json, one task a picture, and config.xml for the project's labelling interface.

    Boxes are percentages of the picture, cut at its edge. A task's score is that of its least certain box: Label
    Studio shows tasks with low scores first.
    """
    with whole_file(path / "tasks.json") as file:
        encode = msgspec.json.Encoder().encode
        separator = b"[\n"

        def add(picture: Picture) -> None:
            nonlocal separator
            file.write(separator + encode(_task(picture, facts)))
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


def _task(picture: Picture, facts: Facts) -> dict[str, Any]:
    # With a prefix it is an address, where a space or a '#' in a name would mean something.
    name = quote(picture.file_name) if facts.image_prefix else picture.file_name
    result = list(_regions(picture, facts.names))
    prediction: dict[str, Any] = {"model_version": facts.provenance["model"], "result": result}
    if result:
        prediction["score"] = min(region["score"] for region in result)
    return {"data": {"image": facts.image_prefix + name}, "predictions": [prediction]}


def _regions(picture: Picture, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    boxes, places = picture.visible_boxes()
    for place, (x1, y1, x2, y2) in zip(places, boxes.tolist(), strict=True):
        yield {
            "id": f"{picture.id}-{place + 1}",
            "from_name": "label",
            "to_name": "image",
            "type": "rectanglelabels",
            "original_width": picture.width,
            "original_height": picture.height,
            "image_rotation": 0,
            "score": picture.found.scores[place].item(),
            "value": {
                "x": 100 * x1 / picture.width,
                "y": 100 * y1 / picture.height,
                "width": 100 * (x2 - x1) / picture.width,
                "height": 100 * (y2 - y1) / picture.height,
                "rotation": 0,
                "rectanglelabels": [names[picture.found.labels[place]]],
            },
        }
