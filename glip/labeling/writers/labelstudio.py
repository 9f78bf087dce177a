"""Label Studio: tasks with predictions to import, and the labelling interface for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from glip.files import whole_file
from glip.labeling.writers.base import AddImage, ExportInfo, LabelledImage, xml_attribute


@contextmanager
def write_labelstudio(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes tasks.json, one task per image, and config.xml for the labelling interface of the project.

    Boxes are percentages of the image, clipped to it. The score of a task is that of its least certain box: Label
    Studio shows tasks with low scores first.
    """
    with whole_file(path / "tasks.json") as file:
        encode = msgspec.json.Encoder().encode
        separator = b"[\n"

        def add(image: LabelledImage) -> None:
            nonlocal separator
            file.write(separator + encode(_task(image, info)))
            separator = b",\n"

        yield add
        file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")
    with whole_file(path / "config.xml") as config:
        config.write(_interface(info.names).encode())


def image_address(prefix: str, file_name: str) -> str:
    """Returns the address under which Label Studio finds an image.

    In an address of the web or of Label Studio itself, spaces and '#' have a meaning, so the name is percent-encoded.
    After s3://, gs://, azure-blob:// and other storages it takes the rest as the key, as it stands.

    Args:
        prefix: as the user gave it; '' for the bare name.
        file_name: relative, '/' between folders.
    """
    scheme, is_address, _ = prefix.partition("://")
    is_key = is_address and scheme.lower() not in ("http", "https")
    return prefix + (file_name if is_key or not prefix else quote(file_name))


def _interface(names: tuple[str, ...]) -> str:
    labels = "".join(f"    <Label value={xml_attribute(name)}/>\n" for name in names)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <RectangleLabels name="label" toName="image">\n{labels}  </RectangleLabels>\n</View>\n'
    )


def _task(image: LabelledImage, info: ExportInfo) -> dict[str, Any]:
    result = list(_regions(image, info.names))
    prediction: dict[str, Any] = {"model_version": info.provenance["model"], "result": result}
    if result:
        prediction["score"] = min(region["score"] for region in result)
    return {"data": {"image": image_address(info.image_prefix, image.file_name)}, "predictions": [prediction]}


def _regions(image: LabelledImage, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    boxes, indices = image.visible_boxes()
    for index, (x1, y1, x2, y2) in zip(indices, boxes.tolist(), strict=True):
        yield {
            "id": f"{image.id}-{index + 1}",
            "from_name": "label",
            "to_name": "image",
            "type": "rectanglelabels",
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "score": image.found.scores[index].item(),
            "value": {
                "x": 100 * x1 / image.width,
                "y": 100 * y1 / image.height,
                "width": 100 * (x2 - x1) / image.width,
                "height": 100 * (y2 - y1) / image.height,
                "rotation": 0,
                "rectanglelabels": [names[image.found.labels[index]]],
            },
        }
