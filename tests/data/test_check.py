"""Planted faults are found, each at its place, and nothing is found in a data set without faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.data_check import plant, score
from glip.data.check import Problem, check_data, count_images
from glip.data.near_duplicates import near_duplicates, thumbnail
from glip.errors import InputError
from tests.conftest import CommandResult

SIZE_WH = (160, 120)


def scene(number: int) -> Image.Image:
    """An image of large soft blobs, other ones for each number."""
    colours = np.random.default_rng(number).integers(60, 200, (6, 8, 3), np.uint8)
    return Image.fromarray(colours).resize(SIZE_WH, Image.Resampling.BICUBIC)


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        scene(number).save(folder / f"{number}.png")
    return folder


def clean_set(folder: Path) -> Path:
    """A data set of two splits and two classes without a fault."""
    for start, split in ((0, "train"), (20, "valid")):
        (folder / split).mkdir(parents=True)
        images, boxes = [], []
        for number in range(start, start + 10):
            scene(number).save(folder / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": SIZE_WH[0], "height": SIZE_WH[1]})
            for label in (1, 2):
                box = [10 * label, 10 * label, 40, 30]
                boxes.append({"id": 2 * number + label, "image_id": number, "category_id": label, "bbox": box})
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def change(folder: Path, split: str, **lists: Callable[[list[dict[str, object]]], None]) -> None:
    """Changes the lists of a split's file in place."""
    path = folder / split / "_annotations.coco.json"
    content = json.loads(path.read_text())
    for name, edit in lists.items():
        edit(content[name])
    path.write_text(json.dumps(content))


def problems(path: Path) -> dict[str, Problem]:
    return {problem.kind: problem for problem in check_data(path).problems}


def test_a_data_set_without_faults_has_none(tmp_path: Path) -> None:
    read: list[int] = []
    health = check_data(clean_set(tmp_path / "set"), read.append)
    assert health.problems == ()
    assert health.splits == {"train": {"images": 10, "boxes": 20}, "valid": {"images": 10, "boxes": 20}}
    assert health.classes == {"cat": 20, "dog": 20}
    assert sum(read) == count_images(tmp_path / "set") == 20


def test_planted_faults_are_found_and_nothing_beside_them(tmp_path: Path) -> None:
    made = plant(photos(tmp_path / "photos", 24), tmp_path / "set", 24, seed=0)
    rows = score(problems(made.root), made.faults)
    missed = {kind: row for kind, row in rows.items() if row[0] != row[1] and "brighter" not in kind}
    assert missed == {}
    assert {kind: others for kind, (_, _, others) in rows.items() if others} == {}
    assert len({kind.partition(":")[0] for kind in rows}) >= 12


def test_classes_are_compared_and_counted(tmp_path: Path) -> None:
    folder = clean_set(tmp_path / "set")
    for split in ("train", "valid"):
        change(
            folder,
            split,
            categories=lambda rows: rows.extend(
                [{"id": 3, "name": "Cat"}, {"id": 4, "name": "hard hat"}, {"id": 5, "name": "unused thing"}]
            ),
        )
    change(
        folder,
        "train",
        annotations=lambda rows: rows.append({"id": 900, "image_id": 3, "category_id": 4, "bbox": [70, 70, 20, 20]}),
    )
    change(folder, "valid", categories=lambda rows: rows[1].update(name="hound"))
    found = problems(folder)
    assert found["names_alike"].places == ("'cat' and 'Cat'",)
    assert found["rare_classes"].places == ("hard hat (1)",)
    assert set(found["classes_without_boxes"].places) == {"Cat", "unused thing"}
    assert found["other_classes"].places == ("valid/2 is 'hound', not 'dog'",)


def test_a_frequent_class_is_stated(tmp_path: Path) -> None:
    folder = clean_set(tmp_path / "set")
    places = [(index % 90, index // 90, 9, 9 + index % 13) for index in range(1100)]
    boxes = [
        {"id": 1000 + index, "image_id": index % 10, "category_id": 3, "bbox": list(box)}
        for index, box in enumerate(places)
    ]
    for split in ("train", "valid"):
        change(folder, split, categories=lambda rows: rows.append({"id": 3, "name": "leaf"}))
    change(folder, "train", annotations=lambda rows: rows.extend(boxes))
    assert problems(folder)["class_imbalance"].places == ("leaf (1100)",)


def test_ids_that_repeat_and_classes_without_a_name_are_stated(tmp_path: Path) -> None:
    folder = clean_set(tmp_path / "set")
    change(
        folder,
        "train",
        images=lambda rows: rows.append(dict(rows[0], file_name="1.png")),
        annotations=lambda rows: rows.append({"id": 1, "image_id": 1, "category_id": 77, "bbox": [1, 1, 9, 9]}),
    )
    found = problems(folder)
    assert set(found["repeated_ids"].places) == {"train/image id 0", "train/file name 1.png", "train/annotation id 1"}
    assert found["unknown_classes"].places == ("train/annotation 1, class 77",)


def test_a_file_and_a_folder_of_sets_can_be_checked(tmp_path: Path) -> None:
    clean_set(tmp_path / "sets/one")
    health = check_data(tmp_path / "sets")
    assert list(health.splits) == ["one/train", "one/valid"]
    file = tmp_path / "sets/one/train/_annotations.coco.json"
    assert check_data(file).splits == {"all": {"images": 10, "boxes": 20}}
    with pytest.raises(InputError, match="nowhere"):
        check_data(tmp_path / "nowhere")
    with pytest.raises(InputError, match="photos"):
        check_data(photos(tmp_path / "photos", 1))


def test_other_formats_are_checked_too(tmp_path: Path) -> None:
    folder = tmp_path / "yolo"
    for split, number in (("train", 1), ("val", 1)):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        scene(number).save(folder / f"images/{split}/{split}.png")
        (folder / f"labels/{split}/{split}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
    (place,) = problems(folder)["leaks"].places
    assert place.startswith("train/") and "val.png" in place


@pytest.mark.parametrize("shift", [0, 40])
def test_a_shift_of_brightness_is_the_same_image_and_another_scene_is_not(shift: int) -> None:
    values = np.asarray(scene(1), np.int16) // 2 + 40
    brighter = Image.fromarray((values + shift).clip(0, 255).astype(np.uint8))
    images = [scene(1), scene(2), brighter, scene(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    assert near_duplicates([thumbnail(image) for image in images]) == [(0, 2)]


def test_an_object_that_moved_is_another_image() -> None:
    moved = scene(1)
    moved.paste((255, 0, 0), (20, 20, 60, 60))
    assert near_duplicates([thumbnail(scene(1)), thumbnail(moved)]) == []


def test_images_that_show_nothing_are_no_duplicates() -> None:
    assert near_duplicates([thumbnail(Image.new("RGB", (9, 9), "white"))] * 2) == []
    assert near_duplicates([]) == []


def test_the_command_exits_with_1_if_it_is_strict(tmp_path: Path, glip: Callable[..., CommandResult]) -> None:
    folder = clean_set(tmp_path / "set")
    assert glip("data", "check", folder, "--strict").code == 0
    scene(3).resize((70, 50)).save(folder / "valid/20.png")
    done = glip("data", "check", folder)
    assert done.code == 0 and "train/3.png = valid/20.png" in done.stdout
    strict = glip("data", "check", folder, "--strict", "--json")
    assert strict.code == 1
    assert {row["kind"] for row in strict.json["problems"]} == {"leaks", "wrong_sizes"}
    assert glip("data", "check", tmp_path / "nowhere").code == 2
