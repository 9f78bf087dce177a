"""A split is opened once: its columns, its class names and what a reader should know."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glip.data.benchmarks import Format
from glip.data.splits import Split, open_split
from glip.errors import InputError
from tests.data.sets import count_reads
from tests.data.test_lookup import touch
from tests.evaluation.perfect import write_set


def split_of(folder: Path, format: Format = "coco", **changes: Any) -> Split:
    return Split("mine", "val", format, folder / "annotations.json", (folder / "other", folder / "images"), **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(tmp_path / "annotations.json", tmp_path / "images")
    return tmp_path


def change(folder: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / "annotations.json").read_text())
    how(content)
    (folder / "annotations.json").write_text(json.dumps(content))


def test_a_split_gives_columns_names_and_images(folder: Path) -> None:
    opened = open_split(split_of(folder))
    assert opened.class_of_id == {1: "person", 2: "dog"}
    assert opened.truth.image_ids.tolist() == [1, 2, 3]
    assert opened.images == tuple(folder / f"images/p{number}.png" for number in (1, 2, 3))
    assert opened.ids_of_image[folder / "images/p2.png"] == [2]
    assert opened.dataset is not None and opened.dataset.names == opened.names
    assert opened.notes == ()


def test_the_annotation_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = count_reads(monkeypatch)
    open_split(split_of(folder))
    assert reads == [folder / "annotations.json"]


def test_a_limit_keeps_the_first_images_and_all_of_the_whole_truth(folder: Path) -> None:
    opened = open_split(split_of(folder), limit=2)
    assert opened.truth.image_ids.tolist() == [1, 2]
    assert opened.whole_truth.image_ids.tolist() == [1, 2, 3]
    assert open_split(split_of(folder, size=5), limit=2).notes == ()


def test_the_folder_with_the_first_image_is_searched_first(folder: Path) -> None:
    touch(folder, "other/unrelated.png")
    assert open_split(split_of(folder)).split.images == (folder / "images", folder / "other")


def test_classes_of_a_benchmark_are_prompted_by_its_names(folder: Path) -> None:
    opened = open_split(split_of(folder, classes=((2, "hound"),)))
    assert (opened.names, opened.category_ids) == (("hound",), (2,))
    assert opened.dataset is not None and opened.dataset.names == ("hound",)
    assert {box.category_id for box in opened.dataset.annotations} == {2}
    assert "'dog' as 'hound'" in opened.notes[0]
    with pytest.raises(InputError, match="category 7"):
        open_split(split_of(folder, classes=((7, "cat"),)))


def test_names_that_a_model_reads_alike_are_noted(folder: Path) -> None:
    change(folder, lambda content: content["categories"].append({"id": 3, "name": "Dog (big)"}))
    (note,) = open_split(split_of(folder)).notes
    assert "'dog' and 'Dog (big)'" in note


def test_a_number_of_images_that_is_not_the_published_one_is_noted(folder: Path) -> None:
    (note,) = open_split(split_of(folder, size=5)).notes
    assert "3 images" in note and "5" in note


def test_a_split_without_images_or_usable_names_is_refused(folder: Path) -> None:
    change(folder, lambda content: [category.update(name=" ") for category in content["categories"]])
    with pytest.raises(InputError, match=r"annotations.json"):
        open_split(split_of(folder))
    change(folder, lambda content: content.update(images=[], annotations=[]))
    change(folder, lambda content: content["categories"][0].update(name="cat"))
    with pytest.raises(InputError, match=r"annotations\.json"):
        open_split(split_of(folder))


def test_images_without_public_annotations_have_no_boxes(tmp_path: Path) -> None:
    write_set(tmp_path / "annotations.json", tmp_path / "images", truth=False)
    opened = open_split(split_of(tmp_path, "coco-images"))
    assert (len(opened.truth.bbox), opened.names, opened.dataset) == (0, ("person", "dog"), None)
    with pytest.raises(InputError, match="'annotations'"):
        open_split(split_of(tmp_path))


def test_lvis_and_voc_have_columns_only(tmp_path: Path) -> None:
    write_set(tmp_path / "annotations.json", tmp_path / "images", lvis=True)
    opened = open_split(split_of(tmp_path, "lvis"))
    assert opened.dataset is None and opened.truth.federated is not None
    assert np.array_equal(opened.truth.category_id, [1, 2, 2, 1, 1])
