"""Examples to tune on are checked: boxes that show nothing, images that cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from glip.data.coco import CocoAnnotation, load_coco, save_coco
from glip.data.lookup import TrainingSplits, find_training_splits
from glip.data.training_splits import OpenTrainingSplits
from glip.errors import InputError
from glip.images import read_image
from glip.training import finetune_data as module
from glip.training.finetune_data import check_images, open_examples
from tests.training.sets import FILE, squares, write_set


def only(data: Path) -> TrainingSplits:
    (found,), missing = find_training_splits(str(data), Path())
    assert missing == []
    return found


def change(path: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def test_a_folder_gives_its_three_splits(tmp_path: Path) -> None:
    source = only(write_set(tmp_path / "Squares"))
    assert source.name == "Squares"
    data = open_examples(source, "all", 3)
    assert len(data.train.images) == 6
    assert len(data.val.truth.image_ids) == len(data.test.truth.image_ids) == 3
    assert data.names == ("red", "green", "blue")
    assert data.wordings is None
    assert data.folders[0] == tmp_path / "Squares" / "train"


# --- what is wrong with a set, one sentence each ---


def opened(folder: Path, shots: Any = "all") -> OpenTrainingSplits:
    return open_examples(only(folder), shots, 3)


def test_a_class_without_examples_is_noted(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    for split in ("train", "valid", "test"):
        change(folder / split / FILE, lambda content: content["categories"].append({"id": 9, "name": "violet"}))
    (note,) = opened(folder).notes
    assert "'violet'" in note


def test_more_shots_than_there_are_is_noted(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    notes = opened(folder, 10).notes
    assert len(notes) == 1
    assert "10 images" in notes[0] and "'red' (4), 'green' (3), 'blue' (4)" in notes[0]


def test_boxes_outside_are_counted(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    dataset = load_coco(folder / "train" / FILE)
    odd = (
        CocoAnnotation(100, 0, 1, (-5, 3, 20, 20)),
        CocoAnnotation(101, 0, 1, (70, 3, 20, 20)),
        CocoAnnotation(102, 0, 1, (-30, 3, 20, 20)),
    )
    save_coco(folder / "train" / FILE, msgspec.structs.replace(dataset, annotations=dataset.annotations + odd))
    found = opened(folder)
    (crossing,) = found.notes
    (outside,) = found.left_out
    assert "1 boxes" in crossing
    assert (outside.kind, outside.count) == ("boxes_outside_image", 2)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_an_empty_split_is_refused(tmp_path: Path, split: str) -> None:
    folder = write_set(tmp_path / "S")
    change(folder / split / FILE, lambda content: content.update(images=[], annotations=[]))
    with pytest.raises(InputError, match=split):
        opened(folder)


def test_a_validation_split_without_boxes_is_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    change(folder / "valid" / FILE, lambda content: content.update(annotations=[]))
    with pytest.raises(InputError, match=r"\bS\b.*valid.*no box"):
        opened(folder)
    assert len(opened(folder, 0).val.truth.image_ids) == 3  # nothing is learned, nothing is chosen


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (lambda box: box.update(bbox=[900, 900, 9, 9]), "7 outside"),
        (lambda box: box.update(bbox=[3, 3, 0.5, 9]), "7 at most a pixel"),
        (lambda box: box.update(iscrowd=1), r"7 .*crowds"),
    ],
)
def test_boxes_that_show_nothing_are_refused_with_their_reason(
    tmp_path: Path, boxes: Callable[[dict[str, Any]], Any], words: str
) -> None:
    folder = write_set(tmp_path / "S", train=4)
    for split in ("train", "valid"):
        change(folder / split / FILE, lambda content: [boxes(box) for box in content["annotations"]])
        change(folder / split / FILE, lambda content: content["annotations"].__delitem__(slice(7, None)))
    path = folder / "train" / FILE
    with pytest.raises(InputError, match=rf"{path}.*\({words}"):
        opened(folder)
    save_coco(path, squares(folder / "train", 4))
    with pytest.raises(InputError, match=r"valid.*\d boxes"):
        opened(folder)


def test_examples_without_any_box_are_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    change(folder / "train" / FILE, lambda content: content.update(annotations=[]))
    with pytest.raises(InputError, match=r"train.*no box"):
        opened(folder)


def test_boxes_outside_of_scored_images_are_noted(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    change(folder / "test" / FILE, lambda content: content["annotations"][0].update(bbox=[-20, 3, 9, 9]))
    found = opened(folder)
    (entry,) = found.left_out
    assert (entry.kind, entry.count) == ("boxes_outside_image", 1)
    assert "test split" in entry.sentence and not found.notes


# --- images ---


def look(folder: Path, shots: Any = "all") -> list[str]:
    return check_images(opened(folder, shots), shots, {})


def test_images_that_can_be_read_need_no_word(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    assert look(folder) == look(folder, 1) == look(folder, 0) == []


@pytest.mark.parametrize(("split", "name"), [("valid", "validation split"), ("test", "test split")])
@pytest.mark.parametrize("shots", [1, "all"])
def test_every_image_that_is_scored_is_needed(tmp_path: Path, split: str, name: str, shots: Any) -> None:
    folder = write_set(tmp_path / "S", val=1, test=2)
    path = sorted((folder / split).glob("*.png"))[0]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=rf"1 of \d images of the {name} of S.*{path.name}: the file"):
        look(folder, shots)


def test_lost_examples_are_left_out_of_whole_sets_and_refused_of_few(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    paths = sorted((folder / "train").glob("*.png"))
    paths[0].unlink()
    (note,) = look(folder)
    assert note.startswith("1 of 6 images") and str(paths[0]) in note
    with pytest.raises(InputError, match=re.escape(str(paths[0]))):
        look(folder, 6)
    for path in paths[1:]:
        path.unlink()
    with pytest.raises(InputError, match=r"^6 of 6 images"):
        look(folder)
    assert look(folder, 0) == []


def test_images_of_another_size_are_noted_and_all_of_them_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    change(folder / "train" / FILE, lambda content: content["images"][1].update(width=1000))
    (note,) = look(folder)
    assert "1 of 6 images" in note and "1000 × 64" in note
    change(folder / "train" / FILE, lambda content: [image.update(width=1000) for image in content["images"]])
    with pytest.raises(InputError, match=r"^6 of 6 images.*1000 × 64"):
        look(folder)


def test_of_many_images_some_are_opened_and_all_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(tmp_path / "S", test=5)
    monkeypatch.setattr(module, "SAMPLED", 2)
    read: list[str] = []

    def count(path: Path) -> Image.Image:
        read.append(path.parent.name)
        return read_image(path)

    monkeypatch.setattr(module, "read_image", count)
    assert look(folder) == []
    assert [read.count(split) for split in ("train", "valid", "test")] == [2, 2, 2]
    sorted((folder / "test").glob("*.png"))[1].unlink()
    with pytest.raises(InputError, match=r"1 of 5 images.*test"):
        look(folder)
