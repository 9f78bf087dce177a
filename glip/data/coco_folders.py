"""Finds annotations and images in a folder, in the layouts that common tools write.

FOLDER/{train,valid,test}/_annotations.coco.json      Roboflow's exports, RF100; images in the same folders
FOLDER/{train,valid,test}/annotations_without_background.json      ODinW
FOLDER/annotations/instances_{train,val}2017.json     COCO; images in FOLDER/{train,val}2017
FOLDER/annotations.json                               others; images in FOLDER/images or FOLDER

Where there is none of these, a folder of another format is looked for (`glip.data.formats`). Reads no annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from glip.data.coco_reading import CocoFile
from glip.data.formats import ACCEPTED, is_labelme_folder, is_voc, read_annotated
from glip.data.splits import Split
from glip.data.yolo import are_one_split, read_yolo_file
from glip.errors import InputError

CORRECTED_FILE = "corrected.coco.json"  # written by `glip review pull`; preferred over the file it corrects
_SPLITS = ("train", "valid", "val", "test")
_NAMES = (
    CORRECTED_FILE,
    "annotations_without_background.json",
    "_annotations.coco.json",
    "annotations.coco.json",
    "annotations.json",
    "instances.json",
)
# For messages; the rarer of `_NAMES` would only make them longer.
ACCEPTED_NAMES = (
    "Accepted are annotations.json, _annotations.coco.json, annotations_without_background.json and "
    f"{CORRECTED_FILE}, also in folders train, valid and test, and annotations/instances_*.json."
)
_SAME_SPLIT = {"val": ("val", "valid"), "valid": ("valid", "val")}


def find_in_folder(folder: Path, split: str | None) -> Split | None:
    """Returns a split of a folder; None if the folder has no such split, or no annotations.

    Args:
        folder: the data set's folder; its name becomes the split's name.
        split: train, val, test, …; None if the folder has one only.

    Raises:
        InputError: the folder has several splits and `split` is None.
    """
    found = all_splits(folder)
    if split is not None:
        wanted = _SAME_SPLIT.get(split, (split,))
        return next((one for name in wanted for one in found if one.split == name), None)
    if len(found) > 1 and not (found[0].annotations.suffix == ".yaml" and are_one_split(found[0].annotations)):
        names = ", ".join(one.split or "without a name" for one in found)
        raise InputError(f"{folder} has several splits: {names}. Choose one with split.")
    return found[0] if found else None


def find_file(path: Path) -> Split:
    """Returns an annotation file as a split, with the folders where its images are likely to be."""
    if path.suffix.lower() in (".yaml", ".yml") or is_voc(path):
        return Split(path.resolve().parent.name, "", "coco", path, ())
    return Split(path.stem, "", "coco", path, _likely_folders(path, path.stem.removeprefix("instances_")))


def read_own(path: Path) -> CocoFile:
    """Reads annotations of one's own: a file, or a folder that has one split.

    Raises:
        InputError: there are none, there are several splits, or they cannot be used.
    """
    one = find_in_folder(path, None) if path.is_dir() else find_file(path)
    if one is None:
        raise InputError(f"{path} holds no annotations. {ACCEPTED}.")
    return read_annotated(one.annotations, one.images, one.split)


def sets_below(folder: Path, split: str) -> list[Split]:
    """Returns the split of every folder directly below one that has it, in the order of their names."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [(path.name, find_in_folder(path, split)) for path in folders]
    return [replace(one, name=name) for name, one in found if one is not None]


def all_splits(folder: Path) -> list[Split]:
    """Returns every split of a folder; none if it has no annotations."""
    return list(_coco_splits(folder)) or list(_other_splits(folder))


def _coco_splits(folder: Path) -> Iterator[Split]:
    name = folder.resolve().name
    for split in _SPLITS:
        path = next((folder / split / file for file in _NAMES if (folder / split / file).is_file()), None)
        if path is not None:
            yield Split(name, split, "coco", path, (path.parent, path.parent / "images"))
    for path in sorted((folder / "annotations").glob("instances_*.json")):
        stem = path.stem.removeprefix("instances_")
        yield Split(name, stem.removesuffix("2017"), "coco", path, _likely_folders(path, stem))
    whole = next((folder / file for file in _NAMES if (folder / file).is_file()), None)
    if whole is not None:
        yield Split(name, "", "coco", whole, _likely_folders(whole, ""))


def _other_splits(folder: Path) -> Iterator[Split]:
    """Yields the splits of a folder in another format than COCO's; see `glip.data.formats`."""
    name = folder.resolve().name
    for path in (folder / file for file in ("data.yaml", "dataset.yaml", "data.yml", "classes.txt")):
        if path.is_file() and (path.suffix != ".txt" or (folder / "labels").is_dir()):
            yield from (Split(name, split, "coco", path, ()) for split in read_yolo_file(path).splits)
            return
    lists = {split: folder / "ImageSets" / "Main" / f"{split}.txt" for split in ("train", "val", "test")}
    if is_voc(folder / "Annotations"):
        found = [Split(name, split, "coco", path, ()) for split, path in lists.items() if path.is_file()]
        yield from found or [Split(name, "", "coco", folder / "Annotations", ())]
        return
    parts = [split for split in _SPLITS if is_voc(folder / split) or is_labelme_folder(folder / split)]
    for split in parts:
        yield Split(name, split, "coco", folder / split, ())
    if not parts and (next(folder.glob("*.xml"), None) is not None or is_labelme_folder(folder)):
        yield Split(name, "", "coco", folder, ())
        return
    files = [] if parts else sorted(folder.glob("*.json"))
    if len(files) == 1:
        yield replace(find_file(files[0]), name=name)


def _likely_folders(path: Path, name: str) -> tuple[Path, ...]:
    folder = path.parent
    folders = [folder / "images", folder]
    if folder.name == "annotations":
        folders = [folder.parent / name, folder.parent / "images", folder.parent, folder]
    return tuple(folder for folder in folders if folder.is_dir())
