"""Boxes and classes that cannot be scored or learned are counted and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, save_coco
from glip.data.lookup import find_training_splits
from glip.data.splits import Split, open_split
from glip.data.training_splits import open_training_splits
from glip.data.unusable import can_be_prompted
from glip.left_out import LeftOut

CATEGORIES = (CocoCategory(1, "cat"), CocoCategory(2, " ... "), CocoCategory(3, "dog"))


def write(folder: Path, boxes: list[tuple[int, tuple[float, float, float, float]]], seed: int = 0) -> Path:
    """Writes a COCO file with an image of 40 × 30 pixels and boxes given as (category id, xywh)."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"image{seed}.png")
    images = (CocoImage(1, f"image{seed}.png", 40, 30),)
    annotations = tuple(CocoAnnotation(10 + i, 1, id, bbox) for i, (id, bbox) in enumerate(boxes))
    save_coco(folder / "_annotations.coco.json", CocoDataset(images, annotations, CATEGORIES))
    return folder / "_annotations.coco.json"


def by_kind(entries: tuple[LeftOut, ...]) -> dict[str, int]:
    """Returns the count of each kind; each occurs once."""
    assert len({entry.kind for entry in entries}) == len(entries)
    return {entry.kind: entry.count for entry in entries}


def test_a_split_names_what_cannot_be_scored(tmp_path: Path) -> None:
    path = write(tmp_path, [(1, (1, 1, 5, 5)), (1, (3, 3, 0, 5)), (1, (50, 3, 4, 4)), (2, (1, 1, 9, 9))])
    opened = open_split(Split("set", "", "coco", path, (tmp_path,)))
    assert opened.names == ("cat", "dog")
    assert by_kind(opened.left_out) == {
        "boxes_without_area": 1,
        "boxes_outside_image": 1,
        "classes_without_name": 1,
        "classes_without_boxes": 1,
    }
    empty = next(entry for entry in opened.left_out if entry.kind == "boxes_without_area")
    assert empty.examples == ("annotation 11 of image0.png",)


def test_a_clean_split_leaves_nothing_out(tmp_path: Path) -> None:
    path = write(tmp_path, [(1, (1, 1, 5, 5)), (3, (1, 1, 40, 30))])
    opened = open_split(Split("set", "", "coco", path, (tmp_path,), classes=((1, "cat"), (2, "dots"), (3, "dog"))))
    assert by_kind(opened.left_out) == {"classes_without_boxes": 1}


def test_tuning_names_validation_images_that_are_training_images(tmp_path: Path) -> None:
    write(tmp_path / "train", [(1, (1, 1, 5, 5)), (2, (1, 1, 9, 9)), (3, (2, 2, 0, 3))])
    write(tmp_path / "valid", [(1, (1, 1, 5, 5)), (3, (2, 2, 7, 7))])
    found, _ = find_training_splits(str(tmp_path), tmp_path)
    kinds = {entry.kind for entry in open_training_splits(found[0]).left_out}
    assert {"validation_images_in_training", "classes_without_name", "boxes_without_area"} <= kinds


def test_tuning_takes_other_validation_images(tmp_path: Path) -> None:
    write(tmp_path / "train", [(1, (1, 1, 5, 5))])
    write(tmp_path / "valid", [(1, (1, 1, 5, 5))], seed=1)
    found, _ = find_training_splits(str(tmp_path), tmp_path)
    assert "validation_images_in_training" not in {entry.kind for entry in open_training_splits(found[0]).left_out}


@pytest.mark.parametrize("name", ["cat", "猫", "7", "+", "犬 (big)"])
def test_names_with_letters_can_be_prompted(name: str) -> None:
    assert can_be_prompted(name)


@pytest.mark.parametrize("name", ["", " ", "...", "_", "(cat)", "—", "\u200b"])
def test_names_without_letters_cannot_be_prompted(name: str) -> None:
    assert not can_be_prompted(name)
