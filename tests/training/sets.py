"""A model folder, small sets of coloured squares on disk, laid out as ODinW is, and jobs on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, save_coco
from glip.data.lookup import find_training_splits
from glip.training.finetune_job import FinetuneJob
from glip.training.recipes import recipe_for
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


def job_of(folders: Path, out: Path, **changes: Any) -> FinetuneJob:
    """A job on `folders`: one shot, three epochs, no augmentation; any field can be changed."""
    mode, shots = changes.pop("mode", "prompt"), changes.pop("shots", 1)
    recipe = recipe_for(mode, "all" if shots == 0 else shots)
    fields: dict[str, Any] = {
        field: changes.pop(field) for field in ("epochs", "stop_patience", "copies") if field in changes
    }
    fields = {"epochs": 3, "copies": 2, "stop_patience": 100} | fields
    recipe = replace(recipe.without_augmentation(), **fields)
    sources, _ = find_training_splits(str(folders / "Squares"), Path())
    job = FinetuneJob(sources[0], out, str(folders / "base"), shots, 3, recipe, device="cpu", comparisons=0)
    return replace(job, **changes)
