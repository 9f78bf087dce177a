"""Finds the annotations and the images in a folder of COCO's form, as the usual tools leave one.

FOLDER/{train,valid,test}/_annotations.coco.json      Roboflow's exports, RF100; the images beside it
FOLDER/{train,valid,test}/annotations_without_background.json      ODinW
FOLDER/annotations/instances_{train,val}2017.json     COCO; the images in FOLDER/{train,val}2017
FOLDER/annotations.json                               others; the images in FOLDER/images or beside it

Knows paths; reads no annotations but the name of their first image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from glip.errors import InputError

SPLITS = ("train", "valid", "val", "test")
CORRECTED_FILE = "corrected.coco.json"  # of `glip review pull`: outranks what it corrects
_NAMES = (
    CORRECTED_FILE,
    "annotations_without_background.json",
    "_annotations.coco.json",
    "annotations.coco.json",
    "annotations.json",
    "instances.json",
)
# For a message; the rarer names of `_NAMES` would only make it longer.
LOOKED_FOR = (
    "Looked for were annotations.json, _annotations.coco.json, annotations_without_background.json and "
    f"{CORRECTED_FILE}, also in train, valid and test, and annotations/instances_*.json."
)
_ALIKE = {"val": ("val", "valid"), "valid": ("valid", "val")}


@dataclass(frozen=True)
class Found:
    """Where a split lies.

    Attributes:
        split: its name; '' where the folder has one only.
        annotations: the COCO file.
        images: folders that its file names may be relative to, likeliest first.
    """

    split: str
    annotations: Path
    images: tuple[Path, ...]


def find_folder(folder: Path, split: str | None) -> Found | None:
    """The split of a folder; None if there is none of that name, or none at all.

    Raises:
        InputError: the folder has several splits and none was asked for.
    """
    found = list(_all_of(folder))
    if split is not None:
        wanted = _ALIKE.get(split, (split,))
        return next((one for name in wanted for one in found if one.split == name), None)
    if len(found) > 1:
        raise InputError(
            f"{folder} has the splits {', '.join(one.split or 'without a name' for one in found)}. "
            f"Say which with --split."
        )
    return found[0] if found else None


def find_json(path: Path) -> Found:
    """A COCO file with the folders where its images are likely to be."""
    return Found("", path, _likely(path, path.stem.removeprefix("instances_")))


def _all_of(folder: Path) -> Iterator[Found]:
    for split in SPLITS:
        path = next((folder / split / name for name in _NAMES if (folder / split / name).is_file()), None)
        if path is not None:
            yield Found(split, path, (path.parent, path.parent / "images"))
    for path in sorted((folder / "annotations").glob("instances_*.json")):
        name = path.stem.removeprefix("instances_")
        yield Found(name.removesuffix("2017"), path, _likely(path, name))
    whole = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if whole is not None:
        yield Found("", whole, _likely(whole, ""))


def _likely(path: Path, name: str) -> tuple[Path, ...]:
    folder = path.parent
    places = [folder / "images", folder]
    if folder.name == "annotations":
        places = [folder.parent / name, folder.parent / "images", folder.parent, folder]
    places = [place for place in places if place.is_dir()]
    first = _first_image(path)
    # Whoever holds the first image is looked into first.
    return tuple(sorted(places, key=lambda place: not (place / first).is_file()))


class _Image(msgspec.Struct):
    file_name: str


class _Images(msgspec.Struct):
    images: list[_Image] = []


def _first_image(path: Path) -> str:
    try:
        images = msgspec.json.decode(path.read_bytes(), type=_Images).images
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return ""  # said better by whoever reads it to the end
    return images[0].file_name if images else ""
