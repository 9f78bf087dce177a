"""Training splits are read once, held out where missing, and cut to a few shots."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from glip.data.coco import load_coco, save_coco
from glip.data.fewshot import draw_few_shot
from glip.data.lookup import TrainingSplits, find_training_splits
from glip.data.training_splits import few_shot, open_training_splits
from glip.errors import InputError
from tests.data.sets import count_reads
from tests.training.sets import FILE, squares, write_set


def only(path: Path) -> TrainingSplits:
    (found,), missing = find_training_splits(str(path), Path())
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
