"""A word of the command line becomes files, class names and wordings."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from glip.data.benchmarks import COCO_O_DOMAINS, TABLE
from glip.data.lookup import find_suite
from glip.data.odinw import odinw_group
from glip.data.splits import Split
from glip.errors import InputError
from tests.evaluation.perfect import write_coco, write_set

FILES = {
    "coco": ("val", "coco/annotations/instances_val2017.json", "coco/val2017"),
    "lvis-minival": ("val", "coco/annotations/lvis_v1_minival_inserted_image_name.json", "coco"),
    "lvis-val": ("val", "coco/annotations/lvis_v1_val.json", "coco"),
    "flickr30k": ("val", "mdetr_annotations/final_flickr_separateGT_val.json", "flickr30k/flickr30k_images"),
    "d3": ("test", "d3/d3_json/d3_full_annotations.json", "d3/d3_images"),
    "voc2007": ("test", "VOCdevkit/VOC2007/ImageSets/Main/test.txt", "VOCdevkit/VOC2007/JPEGImages"),
    "voc2012": ("val", "VOCdevkit/VOC2012/ImageSets/Main/val.txt", "VOCdevkit/VOC2012/JPEGImages"),
}
BESIDE = ("d3/d3_pkl/groups.pkl", "VOCdevkit/VOC2007/Annotations/x", "VOCdevkit/VOC2012/Annotations/x")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")


def odinw_files(root: Path, name: str) -> None:
    """Makes all files that the splits of ODinW's sets could have."""
    for one in odinw_group(name):
        touch(root, *(path for files in one.splits.values() for path in files.annotations))


def of(root: Path, name: str, *words: str | None) -> dict[str, Split]:
    return {split.name: split for split in find_suite(name, root, *words).splits}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FILES)
def test_a_benchmark_of_one_set_is_found_where_it_publishes_its_files(name: str, tmp_path: Path) -> None:
    split, annotations, images = FILES[name]
    touch(tmp_path, annotations, *BESIDE)
    (tmp_path / images).mkdir(parents=True, exist_ok=True)
    (item,) = find_suite(name, tmp_path).splits
    assert (item.split, item.annotations, item.images[0]) == (split, tmp_path / annotations, tmp_path / images)


def test_a_missing_file_is_named_with_the_layout_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        find_suite("coco", tmp_path)
    assert str(error.value).startswith(str(tmp_path / "coco/annotations/instances_val2017.json"))
    assert "coco/val2017/" in str(error.value) and "glip data pull coco " in str(error.value)


def test_missing_images_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "coco/annotations/instances_val2017.json")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "coco/val2017"))):
        find_suite("coco", tmp_path)


def test_another_file_that_a_benchmark_needs_is_named(tmp_path: Path) -> None:
    touch(tmp_path, FILES["d3"][1], f"{FILES['d3'][2]}/1.jpg")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "d3/d3_pkl/groups.pkl"))):
        find_suite("d3", tmp_path)


def test_flickr30k_is_found_by_its_own_files(tmp_path: Path) -> None:
    touch(tmp_path, "flickr30k_entities/test.txt", "flickr30k/flickr30k_images/test/1.jpg")
    (split,) = find_suite("flickr30k", tmp_path, "test").splits
    assert split.annotations == tmp_path / "flickr30k_entities/test.txt"
    assert split.image_path("1.jpg") == tmp_path / "flickr30k/flickr30k_images/test/1.jpg"


def test_of_two_names_of_one_file_both_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lvis_od_val\.json.*lvis_v1_val\.json"):
        find_suite("lvis-val", tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"), [("coca", "coco"), ("aquarum", "odinw/Aquarium"), ("ODINW14", "odinw13"), ("xyz", None)]
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name: str, hint: str | None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=repr(name)) as error:
        find_suite(name, tmp_path)
    assert (f"{hint!r}?" in str(error.value)) if hint else "?" not in str(error.value)
    assert "lvis-minival, lvis-val, odinw13" in str(error.value)


def test_a_split_or_prompts_that_a_benchmark_has_not_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path)
    with pytest.raises(InputError, match=r"'minival'.* val, test-dev"):
        find_suite("coco", tmp_path, "minival")
    with pytest.raises(InputError, match="'paper'"):
        find_suite("coco", tmp_path, None, "paper")
    with pytest.raises(InputError, match=r"'best'.* plain, original, paper"):
        find_suite("odinw13", tmp_path, None, "best")  # type: ignore[arg-type]


def test_every_row_says_where_it_was_read_and_where_its_files_are_to_be_had() -> None:
    assert all(row.source and row.fetch and row.layout for row in TABLE.values())
    published = {
        "coco": "val",
        "lvis-minival": "val",
        "lvis-val": "val",
        "odinw13": "val",
        "odinw35": "val",
        "flickr30k": "val",
        "coco-o": "val",
        "d3": "test",
        "rf100": "test",
        "rf100-vl": "test",
        "voc2007": "test",
        "voc2012": "val",
        "mini-odinw": "test",
    }
    assert published.items() <= {name: next(iter(row.splits)) for name, row in TABLE.items()}.items()


def test_a_layout_names_every_file() -> None:
    assert "instances_val2017.json" in TABLE["coco"].layout and "image_info_test-dev2017.json" in TABLE["coco"].layout
    assert "{test,val,trainval}.txt" in TABLE["voc2007"].layout
    assert "{sketch,weather,cartoon,painting,tattoo,handmake}" in TABLE["coco-o"].layout
    assert "d3/d3_pkl/groups.pkl" in TABLE["d3"].layout


def test_plain_odinw_is_scored_on_val_with_the_names_of_its_own_configuration(tmp_path: Path) -> None:
    odinw_files(tmp_path, "odinw35")
    thirteen, all_of_them = of(tmp_path, "odinw13"), of(tmp_path, "odinw35")
    assert (len(thirteen), len(all_of_them)) == (13, 35)
    assert {item.split for item in (*thirteen.values(), *all_of_them.values())} == {"val"}
    assert thirteen["CottontailRabbits"].classes == ((1, "Cottontail-Rabbit"),)
    assert all_of_them["CottontailRabbits"].classes == ((1, "rabbit"),)
    assert (thirteen["CottontailRabbits"].size, all_of_them["BCCD"].size) == (19, None)
    assert thirteen["NorthAmericaMushrooms"].classes == ((1, "CoW"), (2, "chanterelle"))
    assert all(item.wordings is None for item in all_of_them.values())


def test_the_originals_prompts_come_with_the_split_that_the_originals_scored(tmp_path: Path) -> None:
    odinw_files(tmp_path, "odinw35")
    sets = of(tmp_path, "odinw35", None, "original")
    assert sets["EgoHands_generic"].split == "minival"
    assert sets["Packages"].split == "val"
    worded = sets["Packages"].wordings
    assert worded and (worded[0].prefix, worded[0].text) == ("there is a ", "package")
    # One leading space, as in the original's file.
    assert sets["Aquarium"].wordings and sets["Aquarium"].wordings[0].prefix == " "
    assert sum(item.split == "minival" for item in sets.values()) == 11
    assert sets["EgoHands_generic"].size is None and sets["Packages"].size == 4


def test_the_papers_prompts_come_with_its_test_images(tmp_path: Path) -> None:
    odinw_files(tmp_path, "odinw35")
    sets = of(tmp_path, "odinw13", None, "paper")
    assert {item.split for item in sets.values()} == {"test"}
    worded = sets["NorthAmericaMushrooms"].wordings
    assert worded and [one.text for one in worded] == ["flat mushroom", "yellow mushroom"]
    assert sets["PascalVOC"].annotations.parent.name == "valid"
    assert "its test split is val" in sets["PascalVOC"].notes[0]


def test_a_class_of_spaces_is_not_asked_for_and_keeps_its_number(tmp_path: Path) -> None:
    odinw_files(tmp_path, "odinw35")
    classes = of(tmp_path, "odinw35")["ChessPieces"].classes
    assert classes and classes[0] == (2, "black bishop") and len(classes) == 12


def test_a_single_set_is_called_with_or_without_odinw(tmp_path: Path) -> None:
    odinw_files(tmp_path, "odinw35")
    for name in ("odinw/pothole", "pothole", "Pothole", "@odinw/pothole"):
        assert find_suite(name, tmp_path).name == "odinw/pothole"
    assert of(tmp_path, "BCCD", "test")["BCCD"].annotations.parent.name == "test"
    with pytest.raises(InputError, match="'minival'"):
        find_suite("BCCD", tmp_path, "minival")


def test_of_a_benchmark_of_several_sets_those_that_are_here_are_found_and_the_others_are_stated(tmp_path: Path) -> None:
    odinw_files(tmp_path, "odinw13")
    for one in odinw_group("odinw13")[5:]:
        shutil.rmtree(tmp_path / one.root)
    suite = find_suite("odinw13", tmp_path)
    assert [split.name for split in suite.splits] == [one.name for one in odinw_group("odinw13")[:5]]
    assert suite.missing == tuple(one.name for one in odinw_group("odinw13")[5:])
    (entry,) = suite.left_out
    assert (entry.kind, entry.count, entry.examples) == ("missing_sets", 8, suite.missing[:3])
    assert f"glip data pull odinw13 --data-root {tmp_path}" in entry.sentence
    with pytest.raises(InputError, match=re.escape(f"glip data pull odinw13 --data-root {tmp_path / 'none'}")):
        find_suite("odinw13", tmp_path / "none")
    with pytest.raises(InputError, match=r"glip data pull odinw/pothole "):
        find_suite("pothole", tmp_path)


def test_coco_o_has_six_domains_and_names_the_one_that_is_missing(tmp_path: Path) -> None:
    for domain in COCO_O_DOMAINS:
        write_set(
            tmp_path / "ood_coco" / domain / "annotations/instances_val2017.json",
            tmp_path / "ood_coco" / domain / "val2017",
        )
    assert list(of(tmp_path, "coco-o")) == ["sketch", "weather", "cartoon", "painting", "tattoo", "handmake"]
    (tmp_path / "ood_coco/tattoo/annotations/instances_val2017.json").unlink()
    assert find_suite("coco-o", tmp_path).missing == ("tattoo",)
    with pytest.raises(InputError, match=r"sketch/annotations/instances_val2017\.json"):
        find_suite("coco-o", tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("rf100", {"bccd-ouzjz": "microscopic", "aquarium-qlnqy": "underwater"}),
        ("rf100-vl", {"bees": "flora/fauna", "train": "lab imaging"}),
    ],
)
def test_sets_of_a_folder_know_the_part_of_the_benchmark_they_are_averaged_in(
    name: str, sets: dict[str, str], tmp_path: Path
) -> None:
    for own in sets:
        touch(tmp_path, f"{name}/{own}/test/_annotations.coco.json", f"{name}/{own}/valid/_annotations.coco.json")
    assert {item.name: item.group for item in find_suite(name, tmp_path).splits} == sets
    assert {item.split for item in find_suite(name, tmp_path, "val").splits} == {"valid"}
    with pytest.raises(InputError, match="'train'"):
        find_suite(name, tmp_path, "train")


def test_a_folder_of_ones_own_is_found_by_what_it_holds(tmp_path: Path) -> None:
    write_set(tmp_path / "mine/annotations.json", tmp_path / "mine/images")
    (item,) = find_suite(str(tmp_path / "mine"), tmp_path).splits
    assert item.annotations == tmp_path / "mine/annotations.json"
    assert item.image_path("p1.png") == tmp_path / "mine/images/p1.png"
    write_coco(tmp_path)
    (item,) = find_suite(str(tmp_path / "coco"), tmp_path).splits
    assert (item.split, item.image_path("p2.png")) == ("val", tmp_path / "coco/val2017/p2.png")


def test_of_several_splits_one_must_be_said(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write_set(tmp_path / "set" / split / "_annotations.coco.json", tmp_path / "set" / split)
    with pytest.raises(InputError, match="train, valid, test"):
        find_suite(str(tmp_path / "set"), tmp_path)
    (item,) = find_suite(str(tmp_path / "set"), tmp_path, "val").splits
    assert item.annotations.parent.name == "valid"
    suite = find_suite(str(tmp_path), tmp_path)
    assert [(split.name, split.split) for split in suite.splits] == [("set", "test")]
    assert not suite.known


def test_a_file_of_ones_own_finds_its_images_near_by(tmp_path: Path) -> None:
    write_set(tmp_path / "annotations/instances_some.json", tmp_path / "some")
    (item,) = find_suite(str(tmp_path / "annotations/instances_some.json"), tmp_path).splits
    assert item.image_path("p1.png") == tmp_path / "some/p1.png"
    with pytest.raises(InputError, match="'val'"):
        find_suite(str(tmp_path / "annotations/instances_some.json"), tmp_path, "val")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "some"))):
        find_suite(str(tmp_path / "some"), tmp_path)


def test_a_folder_that_was_corrected_is_taken_as_corrected(tmp_path: Path) -> None:
    for name in ("annotations.coco.json", "corrected.coco.json"):
        write_set(tmp_path / "set" / name, tmp_path / "set/images")
    (item,) = find_suite(str(tmp_path / "set"), tmp_path).splits
    assert item.annotations == tmp_path / "set/corrected.coco.json"
    assert item.image_path("p1.png") == tmp_path / "set/images/p1.png"


def test_a_name_of_the_table_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", "data"):
        write_coco(Path(folder))
    assert find_suite("coco", Path("data")).splits[0].annotations.parts[0] == "data"
    assert find_suite("./coco", Path("data"), "val").splits[0].annotations.parts[0] == "coco"
