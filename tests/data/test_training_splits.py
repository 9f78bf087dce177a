"""Training splits are found by name or path, read once, held out where missing, and cut to a few shots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glip.data.coco import CocoDataset, load_coco, save_coco
from glip.data.fewshot import draw_few_shot
from glip.data.lookup import TrainingSplits, find_training_splits
from glip.data.training_splits import few_shot, open_training_splits
from glip.errors import InputError
from glip.prompts import Wording
from tests.data.sets import count_reads
from tests.training.sets import FILE, squares, write_set


def only(data: Path | str, root: Path = Path(), **more: Any) -> TrainingSplits:
    (found,), missing = find_training_splits(str(data), root, **more)
    assert missing == []
    return found


def test_each_file_is_read_once_however_often_examples_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = only(write_set(tmp_path / "S"))
    reads = count_reads(monkeypatch)
    for seed in (3, 30, 300):
        few_shot(open_training_splits(splits), 1, seed)
    assert sorted(path.parent.name for path in reads) == ["test", "train", "valid"]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    splits = only(write_set(tmp_path / "S"))
    assert len(open_training_splits(splits).train.images) == 6
    save_coco(tmp_path / "S/train" / FILE, squares(tmp_path / "S/train", 4))
    assert len(open_training_splits(splits).train.images) == 4


def test_without_a_validation_split_every_fifth_image_is_held_out(tmp_path: Path) -> None:
    save_coco(tmp_path / "mine.json", squares(tmp_path, 10))
    opened = open_training_splits(only(tmp_path / "mine.json"))
    train = {image.id for image in opened.train.images}
    val = set(opened.val.truth.image_ids.tolist())
    assert (len(val), train | val, train & val) == (2, set(range(10)), set())
    assert opened.test is opened.val


def test_one_image_cannot_be_both_learned_and_validated(tmp_path: Path) -> None:
    save_coco(tmp_path / "mine.json", squares(tmp_path, 1))
    with pytest.raises(InputError, match="has 1 images"):
        open_training_splits(only(tmp_path / "mine.json"))


def test_published_lists_are_used_where_they_exist(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    for split, short in (("train", "train"), ("valid", "val")):
        whole = load_coco(folder / split / FILE)
        save_coco(folder / split / f"fewshot_{short}_shot1_seed3.json", whole.with_images({whole.images[-1].id}))
    opened = open_training_splits(only(folder))
    listed = few_shot(opened, 1, 3)
    assert [image.id for image in listed.train.images] == [5]
    assert listed.val.truth.image_ids.tolist() == [2]
    assert listed.test is opened.test
    drawn = few_shot(opened, 1, 30)
    assert [image.id for image in drawn.train.images] == [
        image.id for image in draw_few_shot(load_coco(folder / "train" / FILE), 1, 30).dataset.images
    ]


def test_classes_with_fewer_images_than_shots_are_noted(tmp_path: Path) -> None:
    (note,) = few_shot(open_training_splits(only(write_set(tmp_path / "S"))), 10, 3).notes
    assert "10 images" in note and "'red' (4), 'green' (3), 'blue' (4)" in note


def test_a_list_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    whole = load_coco(folder / "train" / FILE)
    content = json.loads(msgspec.json.encode(whole))
    content["annotations"][0]["category_id"] = 8
    content["categories"].append({"id": 8, "name": "violet"})
    (folder / "train/fewshot_train_shot1_seed3.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="8 'violet'"):
        few_shot(open_training_splits(only(folder)), 1, 3)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_splits_with_different_categories_are_refused(tmp_path: Path, split: str) -> None:
    folder = write_set(tmp_path / "S")
    other = squares(folder / split, 3, names=("red", "cyan", "blue"))
    save_coco(folder / split / FILE, other)
    with pytest.raises(InputError, match=r"2 is 'green' in .* 'cyan' in"):
        open_training_splits(only(folder))


def raccoons(root: Path) -> Path:
    """Writes a set of ODinW with one class."""
    folder = root / "odinw" / "Raccoon" / "Raccoon.v2-raw.coco"
    for split in ("train", "valid", "test"):
        save_coco(folder / split / FILE, only_class(squares(folder / split, 4, names=("raccoon",)), 1))
    return folder


def only_class(dataset: CocoDataset, id: int) -> CocoDataset:
    boxes = tuple(msgspec.structs.replace(box, category_id=id) for box in dataset.annotations)
    return msgspec.structs.replace(dataset, annotations=boxes)


def test_a_folder_of_sets_gives_them_all(tmp_path: Path) -> None:
    for name in ("B", "A"):
        write_set(tmp_path / name)
    sources, _ = find_training_splits(str(tmp_path), Path())
    assert [source.name for source in sources] == ["A", "B"]
    assert all(source.val and source.test for source in sources)


def test_a_group_lists_what_is_missing(tmp_path: Path) -> None:
    raccoons(tmp_path)
    sources, (missing,) = find_training_splits("odinw13", tmp_path)
    assert [source.name for source in sources] == ["Raccoons"]
    assert (missing.kind, missing.count, missing.examples[0]) == ("missing_sets", 12, "AerialMaritimeDrone_large")
    assert f"glip data pull odinw13 --data-root {tmp_path}" in missing.sentence
    with pytest.raises(InputError, match=r"13 sets.*elsewhere.*glip data pull odinw13"):
        find_training_splits("odinw13", tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["odinw/Raccoons", "@odinw/Raccoons", "raccoons"])
def test_a_single_set_of_odinw_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    raccoons(tmp_path)
    source = only(name, tmp_path)
    assert source.train.split == "train"
    assert source.val is not None and source.val.split == "val"
    assert source.test is not None and source.test.split == "test"


def test_odinws_own_prompts_are_the_default(tmp_path: Path) -> None:
    folder = tmp_path / "odinw" / "pothole"
    for split in ("train", "valid", "test"):
        save_coco(folder / split / FILE, only_class(squares(folder / split, 3, names=("pothole",)), 1))
    data = open_training_splits(only("odinw/pothole", tmp_path))
    assert data.wordings == (Wording("holes", "there are some ", " on the road"),)
    plain = open_training_splits(only("odinw/pothole", tmp_path, prompts="plain"))
    assert plain.wordings is None


def test_corrected_annotations_are_used_with_their_images(tmp_path: Path) -> None:
    dataset = squares(tmp_path / "images", 5)
    save_coco(tmp_path / "reviewed" / "corrected.coco.json", dataset)
    source = only(tmp_path / "reviewed", images=tmp_path / "images")
    assert source.train.annotations.name == "corrected.coco.json"
    assert source.train.images == (tmp_path / "images",)


@pytest.mark.parametrize(
    ("data", "more", "words"),
    [
        ("nothing", {}, "'nothing'"),
        ("odinw/Raccoons", {"images": Path("S")}, "images .*odinw/Raccoons"),
        ("S", {"images": Path("S")}, "images .*S is a folder"),
        ("S", {"prompts": "paper"}, "'paper'"),
        ("coco", {}, "coco/annotations/instances_train2017.json"),
        ("Empty", {}, "Empty"),
        ("lvis-val", {}, "lvis-val has val.* coco, odinw13, .* mini-odinw, "),
        (
            "S/test/annotations_without_background.json",
            {"images": Path("x")},
            "images is x",
        ),
        ("odinw/Raccoons", {}, "odinw/Raccoon/"),
    ],
)
def test_a_data_set_that_cannot_be_found_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, more: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(Path("S"))
    Path("Empty").mkdir()
    with pytest.raises(InputError, match=words):
        find_training_splits(data, Path(), **more)
