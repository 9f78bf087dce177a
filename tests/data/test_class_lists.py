"""The catalog of benchmarks: names, ids, files and wordings as published."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.class_lists import find_in_prompt, group, known_names, resolve
from glip.data.coco import load_coco
from glip.errors import InputError
from glip.prompts import Prompt, clean_name


def test_coco_keeps_its_ids_with_their_gaps() -> None:
    coco = resolve("@coco")
    ids = dict(zip(coco.names, coco.ids, strict=True))
    assert len(coco.names) == len(set(coco.names)) == 80
    assert (ids["person"], ids["stop sign"], ids["toothbrush"]) == (1, 13, 90)
    assert list(coco.ids) == sorted(coco.ids)
    assert set(range(1, 91)) - set(coco.ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def test_coco_is_what_its_own_files_say(real_data: Path) -> None:
    coco = resolve("coco")
    file = load_coco(real_data / coco.root / coco.split("val").annotations)
    assert coco.names == file.names
    assert list(coco.ids) == sorted(file.label_of_category)
    assert (real_data / coco.root / coco.split("val").images / file.images[0].file_name).is_file()


@pytest.mark.parametrize(
    ("name", "split"), [("odinw/Raccoons", "train"), ("odinw/BCCD", "val"), ("odinw/BCCD", "test")]
)
def test_sets_of_odinw_lie_where_the_catalog_says(real_data: Path, name: str, split: str) -> None:
    row = resolve(name)
    file = load_coco(real_data / row.root / row.split(split).annotations)
    assert (real_data / row.root / row.split(split).images / file.images[0].file_name).is_file()
    assert {clean_name(known).casefold() for known in row.names} <= {found.casefold() for found in file.names}


def test_lvis_has_its_1203_names_in_the_order_of_ids() -> None:
    lvis = resolve("@lvis")
    ids = dict(zip(lvis.names, lvis.ids, strict=True))
    assert len(lvis.names) == len(set(lvis.names)) == 1203
    assert lvis.ids == tuple(range(1, 1204))
    # From the published file; its order is that of synsets, so trash_can (ashcan) stands between apron and ashtray.
    published = {
        "aerosol_can": 1, "arctic_(type_of_shoe)": 17, "trash_can": 23, "Band_Aid": 46, "cow": 80,
        "bow_(weapon)": 136, "bow_(decorative_ribbons)": 137, "bull": 162, "doughnut": 387,
        "monitor_(computer_equipment) computer_monitor": 698, "person": 793, "zucchini": 1203,
    }  # fmt: skip
    assert {name: ids[name] for name in published} == published


def test_objects365_is_the_version_that_the_models_were_trained_on() -> None:
    one, two = resolve("@objects365"), resolve("@objects365v2")
    assert len(set(one.names)) == len(set(two.names)) == 365
    assert one.names[:3] == ("person", "sneakers", "chair")
    assert one.names[-1] == "flashlight"
    assert two.names[:4] == ("Person", "Sneakers", "Chair", "Other Shoes")


def test_voc_has_twenty_names() -> None:
    voc = resolve("@voc")
    assert (voc.names[0], voc.names[-1], len(voc.names), voc.ids[-1]) == ("aeroplane", "tvmonitor", 20, 20)
    assert resolve("odinw/PascalVOC").names == voc.names


def test_names_are_found_in_any_case_with_or_without_the_sign() -> None:
    assert resolve("@ODinW/aquarium") == resolve("odinw/Aquarium")
    assert resolve(" @COCO ").name == "coco"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("@cocco", "@coco"),
        ("@bccd", "@odinw/BCCD"),
        ("@aquarium", "@odinw/Aquarium"),
        ("@odinw/Racoon", "@odinw/Raccoons"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"Did you mean '{meant}'"):
        resolve(typed)


def test_a_name_like_no_other_is_answered_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"'zzz'.*Known are @coco, @voc, @lvis") as caught:
        resolve("@zzz")
    assert "Did you mean" not in str(caught.value)


def test_a_file_wins_over_a_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_in_prompt("@coco")
    assert found is not None
    assert found.name == "coco"
    (tmp_path / "coco").mkdir()
    assert find_in_prompt("@coco") is not None
    (tmp_path / "coco").rmdir()
    (tmp_path / "coco").write_text("cat\n")
    assert find_in_prompt("@coco") is None


@pytest.mark.parametrize("prompt", ["person . dog .", "coco", "@", "@names.txt", "@~nobody/names.txt"])
def test_names_and_files_are_no_benchmark(prompt: str) -> None:
    assert find_in_prompt(prompt) is None


@pytest.mark.parametrize("prompt", ["@cocco", "@" + "x" * 5000])
def test_what_is_neither_file_nor_benchmark_is_refused(prompt: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        find_in_prompt(prompt)


def test_every_benchmark_can_be_asked_for() -> None:
    for name in known_names():
        row = resolve(name)
        assert len(row.names) == len(row.ids)
        assert Prompt.from_names(list(row.wanted)).phrases
        for protocol in row.protocols:
            assert len(protocol.names) == len(row.ids)
            if protocol.wordings:
                assert Prompt.from_names(protocol.names, protocol.wordings).phrases == protocol.names


def test_a_class_without_a_name_is_not_looked_for() -> None:
    chess = resolve("@odinw/ChessPieces")
    assert chess.names[0] == "  "
    assert len(chess.names) == 13
    assert len(chess.wanted) == 12
    assert chess.wanted["black bishop"] == 2


def test_groups_hold_thirteen_and_thirty_five_sets() -> None:
    thirteen, thirty_five = group("odinw13"), group("odinw35")
    assert (len(thirteen), len(thirty_five)) == (13, 35)
    assert set(thirteen) < set(thirty_five)
    assert [row.name for row in thirteen] == [
        f"odinw/{name}"
        for name in (
            "AerialMaritimeDrone_large", "Aquarium", "CottontailRabbits", "EgoHands_generic", "NorthAmericaMushrooms",
            "Packages", "PascalVOC", "pistols", "pothole", "Raccoons", "ShellfishOpenImages", "thermalDogsAndPeople",
            "VehiclesOpenImages",
        )
    ]  # fmt: skip
    with pytest.raises(InputError, match="odinw13 and odinw35"):
        group("odinw12")


def test_the_published_captions_come_out_to_the_space() -> None:
    def caption(name: str, protocol: str) -> str:
        asked = resolve(name).protocol(protocol)
        return Prompt.from_names(asked.names, asked.wordings).caption

    assert caption("odinw/Aquarium", "glip-35") == (
        " fish. jellyfish. penguin , which is black and white. puffin with orange beaks . shark. starfish. "
        "stingray which is flat and round"
    )
    assert caption("odinw/Aquarium", "mmdet-35") == "fish. jellyfish. penguin. puffin. shark. starfish. stingray"
    assert caption("odinw/Aquarium", "paper-13").startswith("fish. jellyfish. penguin, which is black and white. ")
    assert caption("odinw/EgoHands_generic", "glip-35") == " hand of a person"
    assert caption("odinw/EgoHands_generic", "mmdet-35") == "hand of a person"
    assert caption("odinw/EgoHands_generic", "glip-13") == "hand"
    assert caption("odinw/Packages", "glip-35") == "there is a package on the porch"
    pothole = resolve("odinw/pothole").protocol("glip-35")
    prompt = Prompt.from_names(pothole.names, pothole.wordings)
    assert prompt.phrases == ("pothole",)
    assert prompt.caption[slice(*prompt.spans[0][0])] == "holes"


def test_protocols_differ_where_they_are_published_differently() -> None:
    rabbits, mushrooms = resolve("odinw/CottontailRabbits"), resolve("odinw/NorthAmericaMushrooms")
    assert rabbits.protocol("glip-35").names == ("rabbit",)
    assert rabbits.protocol("glip-13").names == ("Cottontail-Rabbit",)
    assert rabbits.protocol("mmdet-35").split.annotations == "valid/new_annotations_without_background.json"
    assert rabbits.protocol("mmdet-13").split.annotations == "valid/annotations_without_background.json"
    assert mushrooms.protocol("mmdet-13").names == ("CoW", "chanterelle")
    hands = resolve("odinw/EgoHands_generic")
    assert hands.protocol("glip-13").split.images == "mini_val"
    assert hands.protocol("mmdet-13").split.images == "valid"
    assert hands.protocol("paper-13").split.images == "test"
    assert sum(row.protocol("glip-35").split.name == "minival" for row in group("odinw35")) == 11
    assert resolve("odinw/PascalVOC").protocol("paper-13").split.images == "valid"
    with pytest.raises(InputError, match=r"no protocol 'glip-13'\. It has glip-35, mmdet-35"):
        resolve("odinw/BCCD").protocol("glip-13")


def test_few_shot_files_stand_where_they_are_published() -> None:
    aquarium, pistols, hands = (resolve(f"odinw/{name}") for name in ("Aquarium", "pistols", "EgoHands_generic"))
    assert aquarium.root == "odinw/Aquarium/Aquarium Combined.v2-raw-1024.coco"
    assert aquarium.split("val").few_shot(3, 300) == "valid/fewshot_val_shot3_seed300.json"
    assert pistols.split("train").few_shot(1, 3) == "fewshot_train_shot1_seed3.json"
    assert pistols.split("test").annotations == "test_annotations_without_background.json"
    assert hands.split("minival").few_shot(10, 30) == "mini_val/fewshot_minival_shot10_seed30.json"
    with pytest.raises(InputError, match=r"no split 'minival'\. It has train, val, test"):
        aquarium.split("minival")
    with pytest.raises(InputError, match="none that the catalog knows"):
        resolve("lvis").split("val")
