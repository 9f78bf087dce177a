"""Pascal VOC: one XML file per image, lists of the images, and the images beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from glip.files import whole_file
from glip.labeling.writers.base import (
    AddImage,
    ExportInfo,
    LabelledImage,
    checked_name,
    own_folders,
    write_beside,
    xml_text,
)
from glip.labeling.writers.images import PlacedNames, split_suffix
from glip.left_out import LeftOut, first_examples

# The list of an export that is not split: CVAT and datumaro name the subset by it.
WHOLE = "default"


@contextmanager
def write_voc(path: Path, info: ExportInfo) -> Iterator[AddImage]:
    """Writes Annotations/ with the sub-folders of the images; an image without boxes has a file, too.

    ImageSets/Main/ lists the images without their suffix, in default.txt or in a file for each part. Images in
    JPEGImages/ end with .jpg whatever they hold, because readers of VOC append that; decoders look at the content.
    labelmap.txt names the classes, which CVAT and datumaro need for others than VOC's own.

    VOC counts pixels from 1 and includes the last one. Edges are rounded to whole pixels, halves up: a box from 0 to 10
    covers pixels 1 to 10, and one narrower than a pixel still covers one. `score` is an element of its own, as
    detectors write it; readers that do not know it skip it.
    """
    names, unlisted = PlacedNames(one_stem=True), list[str]()
    with own_folders(path, ("Annotations", "ImageSets"), info, images="JPEGImages", index="labelmap.txt") as folders:
        with _open_lists(folders[1] / "Main", info.parts or (WHOLE,)) as lists:

            def add(image: LabelledImage) -> None:
                name = checked_name(image)
                if info.placer is not None:
                    name = names.name(name)
                    info.placer.note_name(image.file_name, name)
                stem = split_suffix(name)[0]
                name = f"{stem}.jpg" if len(folders) > 2 else name
                if _fits_a_line(stem):
                    lists[image.part or WHOLE].write(f"{stem}\n")
                else:
                    unlisted.append(image.file_name)
                write_beside(folders[0], f"{stem}.xml", _document(image, name, info.names), image)
                if info.placer is not None and len(folders) > 2:
                    info.placer.place(image.file_name, folders[2] / name)

            yield add
        if unlisted:
            info.left_out.append(
                LeftOut(
                    kind="voc_list_names",
                    count=len(unlisted),
                    sentence=f"{len(unlisted)} images are not in voc/ImageSets, because their names cannot stand in "
                    f"a list, one per line. An export with images gives them other names.",
                    examples=first_examples(unlisted),
                )
            )
    with whole_file(path / "labelmap.txt") as file:
        file.write(_label_map(info).encode())


@contextmanager
def _open_lists(folder: Path, parts: tuple[str, ...]) -> Iterator[Mapping[str, TextIO]]:
    folder.mkdir()
    with ExitStack() as stack:
        yield {
            part: stack.enter_context((folder / f"{part}.txt").open("w", encoding="utf-8", newline="\n"))
            for part in parts
        }


def _fits_a_line(text: str) -> bool:
    """Returns whether readers get a text back from its line: they strip lines, and skip those that begin with #."""
    return text == text.strip() and not text.startswith("#") and len(text.splitlines()) == 1


def _label_map(info: ExportInfo) -> str:
    unfit = [name for name in info.names if ":" in name or not _fits_a_line(name)]
    if unfit:
        info.left_out.append(
            LeftOut(
                kind="voc_labelmap_names",
                count=len(unfit),
                sentence=f"{len(unfit)} class names cannot stand in voc/labelmap.txt (a colon, a line break, # or a "
                f"space at the edge), so CVAT and datumaro refuse their boxes. A class file gives them other names.",
                examples=first_examples(unfit),
            )
        )
    rows = "".join(f"{name}:::\n" for name in info.names if name not in unfit)
    return f"# label:color_rgb:parts:actions\n{rows}"


def _document(image: LabelledImage, placed: str, names: tuple[str, ...]) -> str:
    # The name is relative to JPEGImages, sub-folders included: datumaro and FiftyOne look there.
    return (
        "<annotation>\n"
        "  <folder></folder>\n"
        f"  <filename>{xml_text(placed)}</filename>\n"
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
