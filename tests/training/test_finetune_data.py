"""Finding what to tune on, and saying what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from glip.data.coco import CocoAnnotation, CocoDataset, load_coco, save_coco
from glip.data.fewshot import draw_few_shot
from glip.data.lookup import TrainingSplits, find_training_splits
from glip.data.training_splits import OpenTrainingSplits
from glip.errors import InputError
from glip.images import read_image
from glip.prompts import Wording
from glip.training import finetune_data as module
from glip.training.finetune_data import check_images, open_examples
from tests.training.sets import FILE, squares, write_set


def only(data: Path | str, root: Path = Path(), **more: Any) -> TrainingSplits:
    sources, missing = find_training_splits(str(data), root, **more)
    assert (len(sources), missing) == (1, [])
    return sources[0]


def change(path: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def raccoons(root: Path) -> Path:
    """The set of ODinW with one class, as far as names go."""
    folder = root / "odinw" / "Raccoon" / "Raccoon.v2-raw.coco"
    for split in ("train", "valid", "test"):
        dataset = squares(folder / split, 4, names=("raccoon",))
        save_coco(folder / split / FILE, only_class(dataset, 1))
    return folder


def only_class(dataset: CocoDataset, id: int) -> CocoDataset:
    boxes = tuple(msgspec.structs.replace(box, category_id=id) for box in dataset.annotations)
    return msgspec.structs.replace(dataset, annotations=boxes)


def test_a_folder_gives_its_three_splits(tmp_path: Path) -> None:
    source = only(write_set(tmp_path / "Squares"))
    assert source.name == "Squares"
    data = open_examples(source, "all", 3)
    assert len(data.train.images) == 6
    assert len(data.val.truth.image_ids) == len(data.test.truth.image_ids) == 3
    assert data.names == ("red", "green", "blue")
    assert data.wordings is None
    assert data.folders[0] == tmp_path / "Squares" / "train"


def test_a_folder_of_sets_gives_them_all(tmp_path: Path) -> None:
    for name in ("B", "A"):
        write_set(tmp_path / name)
    sources, _ = find_training_splits(str(tmp_path), Path())
    assert [source.name for source in sources] == ["A", "B"]
    assert all(source.val and source.test for source in sources)


def test_a_group_lists_what_is_missing(tmp_path: Path) -> None:
    raccoons(tmp_path)
    sources, missing = find_training_splits("odinw13", tmp_path)
    assert [source.name for source in sources] == ["Raccoons"]
    assert len(missing) == 12
    assert missing[0] == f"AerialMaritimeDrone_large is not at {tmp_path / 'odinw/AerialMaritimeDrone/large'}."
    with pytest.raises(InputError, match="None of the 13 sets of odinw13 is below"):
        find_training_splits("odinw13", tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["odinw/Raccoons", "@odinw/Raccoons", "raccoons"])
def test_a_single_set_of_odinw_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    raccoons(tmp_path)
    source = only(name, tmp_path)
    assert source.train.split == "train"
    assert source.val is not None and source.val.split == "val"
    assert source.test is not None and source.test.split == "test"


def test_caption_prompts_are_the_catalogs_unless_told_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "odinw" / "pothole"
    for split in ("train", "valid", "test"):
        save_coco(folder / split / FILE, only_class(squares(folder / split, 3, names=("pothole",)), 1))
    data = open_examples(only("odinw/pothole", tmp_path), "all", 3)
    assert data.wordings == (Wording("holes", "there are some ", " on the road"),)
    plain = open_examples(only("odinw/pothole", tmp_path, prompts="plain"), "all", 3)
    assert plain.wordings is None


def test_one_file_holds_out_images_for_validation(tmp_path: Path) -> None:
    save_coco(tmp_path / "mine.json", squares(tmp_path, 10))
    data = open_examples(only(tmp_path / "mine.json"), "all", 3)
    train = {image.id for image in data.train.images}
    val = set(data.val.truth.image_ids.tolist())
    assert len(val) == 2
    assert train | val == set(range(10))
    assert not train & val
    assert data.test is data.val
    assert "mine has no validation split: 2 of its images are held out for it." in data.notes
    again = open_examples(only(tmp_path / "mine.json"), "all", 30)
    assert {image.id for image in again.train.images} == train


def test_what_review_pull_wrote_is_taken_with_its_images(tmp_path: Path) -> None:
    dataset = squares(tmp_path / "images", 5)
    save_coco(tmp_path / "reviewed" / "corrected.coco.json", dataset)
    source = only(tmp_path / "reviewed", images=tmp_path / "images")
    assert source.train.annotations.name == "corrected.coco.json"
    assert source.train.images == (tmp_path / "images",)


def test_published_lists_are_taken_where_they_are(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "Squares")
    for split, short in (("train", "train"), ("valid", "val")):
        whole = load_coco(folder / split / FILE)
        last = whole.images[-1:]
        boxes = tuple(box for box in whole.annotations if box.image_id == last[0].id)
        few = msgspec.structs.replace(whole, images=last, annotations=boxes)
        save_coco(folder / split / f"fewshot_{short}_shot1_seed3.json", few)
    data = open_examples(only(folder), 1, 3)
    assert [image.id for image in data.train.images] == [5]
    assert data.val.truth.image_ids.tolist() == [2]
    assert len(data.test.truth.image_ids) == 3  # never fewer
    other = open_examples(only(folder), 1, 30)
    drawn = draw_few_shot(load_coco(folder / "train" / FILE), 1, 30).dataset
    assert [image.id for image in other.train.images] == [image.id for image in drawn.images]


def test_classes_of_the_files_are_asked_by_the_catalogs_names(tmp_path: Path) -> None:
    folder = raccoons(tmp_path)
    change(folder / "train" / FILE, lambda content: content["categories"][0].update(name="Raccoon (v2)"))
    data = open_examples(only("odinw/Raccoons", tmp_path), "all", 3)
    assert data.train.names == ("raccoon",)


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
    outside, crossing = opened(folder).notes
    assert "2 boxes" in outside and "1 boxes" in crossing


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
    (note,) = opened(folder).notes
    assert "test split" in note and "1 boxes" in note


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


# --- more that is wrong ---


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda content: content["categories"][1].update(name="cyan"), "2 is 'green' in .* and 'cyan' in"),
        (
            lambda content: content["categories"].append({"id": 7, "name": "x"}),
            "7 is missing in .* and 'x' in",
        ),
    ],
)
@pytest.mark.parametrize("split", ["valid", "test"])
def test_splits_with_other_categories_are_refused(
    tmp_path: Path, split: str, how: Callable[[dict[str, Any]], None], words: str
) -> None:
    folder = write_set(tmp_path / "S")
    change(folder / split / FILE, how)
    with pytest.raises(InputError, match=words):
        opened(folder)


def test_ids_that_stand_twice_are_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    change(folder / "train" / FILE, lambda content: content["annotations"][1].update(id=1))
    with pytest.raises(InputError, match="annotation id 1"):
        opened(folder)


def test_a_list_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "S")
    whole = load_coco(folder / "train" / FILE)
    path = folder / "train" / "fewshot_train_shot1_seed3.json"
    save_coco(path, whole)
    change(path, lambda content: content["annotations"][0].update(category_id=8))
    change(path, lambda content: content["categories"].append({"id": 8, "name": "violet"}))
    with pytest.raises(InputError, match="8 'violet'"):
        opened(folder, 1)


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


def test_one_image_alone_cannot_be_both_learned_and_looked_at(tmp_path: Path) -> None:
    save_coco(tmp_path / "mine.json", squares(tmp_path, 1))
    with pytest.raises(InputError, match="has 1 images"):
        opened(tmp_path / "mine.json")
