"""A model folder and small sets of coloured squares on disk, laid out as ODinW is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, save_coco
from glip.weights.folder import save_model_folder
from tests.tiny import PIECES, TINY, tiny_model
from tests.training.images import NAMES, SquareStream

FILE = "annotations_without_background.json"


def write_base(folder: Path) -> Path:
    """The tiny model as a folder; meant for images of 64 pixels."""
    config = replace(TINY, imgsz=64)
    save_model_folder(folder, config, dict(tiny_model().state_dict()), PIECES, origin={"test": True})
    return folder


def squares(folder: Path, count: int, seed: int = 0, names: Sequence[str] = NAMES) -> CocoDataset:
    """Draws `count` images and gives their annotations; ids of boxes count from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    images: list[CocoImage] = []
    boxes: list[CocoAnnotation] = []
    stream = SquareStream(seed)
    for number in range(count):
        example = stream.example(number)
        example.image.save(folder / f"{number}.png")
        images.append(CocoImage(number, f"{number}.png", 64, 64))
        for (left, top, right, bottom), spans in zip(example.boxes.tolist(), example.spans, strict=True):
            start, end = spans[0]
            category = NAMES.index(example.caption[start:end]) + 1
            boxes.append(CocoAnnotation(len(boxes) + 1, number, category, (left, top, right - left, bottom - top)))
    categories = tuple(CocoCategory(id, name) for id, name in enumerate(names, start=1))
    return CocoDataset(tuple(images), tuple(boxes), categories)


def write_set(folder: Path, train: int = 6, val: int = 3, test: int = 3) -> Path:
    """FOLDER/train, valid and test, each with images and annotations; a split of 0 images is left out."""
    for seed, (split, count) in enumerate((("train", train), ("valid", val), ("test", test))):
        if count:
            save_coco(folder / split / FILE, squares(folder / split, count, seed))
    return folder
