"""The sets that the published models were pre-trained with: where their files lie, and how each is read.

A layout is a row of the table below; paths are those of the original's data folder and of common downloads. Their
images and annotations must be fetched from their makers. Knows files and folders. Knows nothing of mixing or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec
from tokenizers import Tokenizer

from glip.data.captions import Packing
from glip.data.coco import CocoDataset, CocoImage, load_coco
from glip.data.datasets import PSEUDO_LABEL_FLOOR, DetectionStream, GroundingStream, Sampling
from glip.data.grounding import load_grounding
from glip.errors import InputError


@dataclass(frozen=True)
class Layout:
    """Where a data set lies.

    Attributes:
        name: what it is called.
        kind: of the annotation file: boxes of classes as COCO has them, or captions as MDETR has them.
        annotations: the file, relative to the data folder; the first that exists of several.
        images: the folders that are all needed; of each the first that exists of several.
        sampling: for detection: which names stand in a caption, see `DetectionStream`.
        patches: for detection: files lie in folders `patch0`, …, whatever the rest of their `file_name` says.
        packing: for grounding: how often captions of other images join.
    """

    name: str
    kind: Literal["detection", "grounding"]
    annotations: tuple[str, ...]
    images: tuple[tuple[str, ...], ...]
    sampling: Sampling = "pretrain"
    patches: bool = False
    packing: Packing | None = None


_MIXED = ("mdetr_annotations/final_mixed_train", "mixed_grounding/annotations/final_mixed_train")
_GQA = ("gqa/images", "mixed_grounding/images")


def _labelled(name: str) -> tuple[str, ...]:
    return f"{name}/grounding.json", f"{name}/labels/grounding.json"


LAYOUTS = (
    Layout(
        "objects365",  # version 1
        "detection",
        ("objects365v1/objects365_train.json", "objects365v1/annotations/objects365_train.json"),
        (("objects365v1/train",),),
    ),
    Layout(
        "objects365v2",
        "detection",
        ("objects365v2/annotations/zhiyuan_objv2_train.json", "objects365v2/train/zhiyuan_objv2_train.json"),
        (("objects365v2/train",),),
        patches=True,
    ),
    Layout(
        "coco",
        "detection",
        ("coco/annotations/instances_train2017.json",),
        (("coco/train2017",),),
        sampling="all-names",
    ),
    Layout(
        "flickr30k",
        "grounding",
        tuple(f"{place}/final_flickr_separateGT_train.json" for place in ("mdetr_annotations", "flickr30k")),
        (("flickr30k/flickr30k_images/train", "flickr30k/flickr30k_images", "flickr30k/images"),),
    ),
    Layout("mixed", "grounding", tuple(f"{stem}.json" for stem in _MIXED), (("coco/train2014",), _GQA)),
    Layout("mixed-no-coco", "grounding", tuple(f"{stem}_no_coco.json" for stem in _MIXED), (_GQA,)),
    # Images of the web with their captions, as `glip label --captions` labelled them.
    *(
        Layout(name, "grounding", _labelled(name), ((f"{name}/images", name),), packing=Packing())
        for name in ("cc3m", "cc12m", "sbu")
    ),
    # Any folder with images and one annotation file, such as that of `glip data synthetic`.
    Layout(
        "coco-folder",
        "detection",
        ("annotations.json", "annotations.coco.json", "_annotations.coco.json"),
        (("images", "."),),
    ),
    Layout("grounding-folder", "grounding", ("captions.json", "grounding.json"), (("images", "."),)),
)


def open_layout(
    name: str,
    root: Path | str,
    tokenizer: Tokenizer,
    seed: int = 0,
    *,
    copies: int = 1,
    score_floor: float = PSEUDO_LABEL_FLOOR,
) -> DetectionStream | GroundingStream:
    """One of the known data sets as a stream, read as published.

    Args:
        name: of a row of `LAYOUTS`.
        root: the data folder, which holds the folders of all sets; for 'coco-folder' and 'grounding-folder' the one
            folder itself.
        tokenizer: the model's.
        seed: another one gives another order and other captions.
        copies: how often each image comes in an epoch.
        score_floor: boxes that a detector made must have a higher score.

    Raises:
        InputError: no such name, or a file or folder is missing; the message says which, and all that is expected.
    """
    layout = _row(name)
    root = Path(root)
    annotations = _found(layout, root, layout.annotations, file=True)
    folders = [_found(layout, root, places, file=False) for places in layout.images]
    if layout.kind == "grounding":
        captions = load_grounding(annotations)
        return GroundingStream(
            captions, folders, tokenizer, seed, score_floor=score_floor, packing=layout.packing, copies=copies
        )
    boxes = load_coco(annotations)
    if layout.patches:
        boxes = _in_patches(boxes)
    return DetectionStream(boxes, folders, tokenizer, seed, sampling=layout.sampling, copies=copies)


def expected(layout: Layout) -> str:
    """The files of a layout, one a line, relative to the data folder."""
    places = [layout.annotations, *(tuple(f"{place}/" for place in group) for group in layout.images)]
    return "\n".join("  " + "  or  ".join(group) for group in places)


def _row(name: str) -> Layout:
    rows = {layout.name: layout for layout in LAYOUTS}
    if name not in rows:
        close = get_close_matches(name, rows, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"No pre-training set is called {name!r}.{hint} Known are {', '.join(rows)}.")
    return rows[name]


def _found(layout: Layout, root: Path, places: Sequence[str], *, file: bool) -> Path:
    for place in places:
        path = root / place
        if path.is_file() if file else path.is_dir():
            return path
    what = "file" if file else "folder"
    raise InputError(
        f"The {what} {root / places[0]} is missing, which {layout.name!r} needs. "
        f"Expected in {root}:\n{expected(layout)}"
    )


def _in_patches(dataset: CocoDataset) -> CocoDataset:
    """'images/v2/patch8/a.jpg', as the file calls it, lies at 'patch8/a.jpg'."""

    def renamed(image: CocoImage) -> CocoImage:
        return msgspec.structs.replace(image, file_name="/".join(PurePosixPath(image.file_name).parts[-2:]))

    return msgspec.structs.replace(dataset, images=tuple(map(renamed, dataset.images)))
