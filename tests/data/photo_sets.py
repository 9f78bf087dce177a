"""Small sets of photographs and cut-outs on disk: grey images with boxes of one colour a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, save_coco

COLOURS = ("red", "lime", "blue", "yellow")
GREY = (90, 90, 90)


def write_photos(
    folder: Path,
    names: Sequence[str],
    labels: Sequence[Sequence[int]],
    size_wh: tuple[int, int] = (120, 90),
) -> Path:
    """Image number n has a box of 30 x 20 pixels for each of its labels, side by side, in the colour of the label."""
    folder.mkdir(parents=True)
    annotations: list[CocoAnnotation] = []
    for number, own in enumerate(labels):
        image = Image.new("RGB", size_wh, GREY)
        for index, label in enumerate(own):
            left, top = 5 + 40 * index, 30
            ImageDraw.Draw(image).rectangle((left, top, left + 29, top + 19), COLOURS[label])
            annotations.append(CocoAnnotation(len(annotations) + 1, number, label + 1, (left, top, 30, 20)))
        image.save(folder / f"{number}.png")
    images = tuple(CocoImage(number, f"{number}.png", *size_wh) for number in range(len(labels)))
    categories = tuple(CocoCategory(label + 1, name) for label, name in enumerate(names))
    save_coco(folder / "annotations.json", CocoDataset(images, tuple(annotations), categories))
    return folder


def write_cutouts(folder: Path, rows: Sequence[tuple[str, str]] = (("animals/birds", "A little crow."),)) -> Path:
    """A magenta square in a transparent frame for each (group, name)."""
    folder.mkdir(parents=True)
    lines = ["file\tgroup\tname"]
    for number, (group, name) in enumerate(rows):
        image = Image.new("RGBA", (60, 60))
        ImageDraw.Draw(image).rectangle((10, 10, 49, 49), (255, 0, 255, 255))
        image.save(folder / f"{number}.png")
        lines.append(f"{number}.png\t{group}\t{name}")
    (folder / "names.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
