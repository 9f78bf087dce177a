"""ODinW's 35 sets: files, class names and captions as published."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.coco import load_coco
from glip.data.fewshot import few_shot_list
from glip.data.lookup import find_suite
from glip.data.odinw import OdinwSet, odinw_group, odinw_sets
from glip.errors import InputError
from glip.names import clean_name
from glip.prompts import Prompt


def odinw_set(name: str) -> OdinwSet:
    return next(row for row in odinw_sets() if row.name == name)


@pytest.mark.parametrize(
    ("name", "split"), [("odinw/Raccoons", "train"), ("odinw/BCCD", "val"), ("odinw/BCCD", "test")]
)
def test_sets_are_where_the_table_says(real_data: Path, name: str, split: str) -> None:
    (found,) = find_suite(name, real_data, split).splits
    file = load_coco(found.annotations)
    assert found.image_path(file.images[0].file_name).is_file()
    assert found.classes
    assert {clean_name(known).casefold() for _, known in found.classes} <= {known.casefold() for known in file.names}


def test_groups_hold_thirteen_and_thirty_five_sets() -> None:
    assert [row.name for row in odinw_group("odinw13")] == [
        "AerialMaritimeDrone_large", "Aquarium", "CottontailRabbits", "EgoHands_generic", "NorthAmericaMushrooms",
        "Packages", "PascalVOC", "pistols", "pothole", "Raccoons", "ShellfishOpenImages", "thermalDogsAndPeople",
        "VehiclesOpenImages",
    ]  # fmt: skip
    assert len(odinw_group("odinw35")) == 35
    with pytest.raises(InputError, match=r"'odinw12'.*odinw13 and odinw35"):
        odinw_group("odinw12")


def test_every_published_prompt_spells_every_class() -> None:
    for row in odinw_sets():
        for protocol in row.published.values():
            assert len(protocol.names) == len(row.ids)
            assert protocol.split in row.splits
            if protocol.wordings:
                assert Prompt.from_names(protocol.names, protocol.wordings).phrases == protocol.names


def test_the_published_captions_come_out_to_the_space() -> None:
    def caption(name: str, protocol: str) -> str:
        published = odinw_set(name).published[protocol]
        return Prompt.from_names(published.names, published.wordings).caption

    assert caption("Aquarium", "glip-35") == (
        " fish. jellyfish. penguin , which is black and white. puffin with orange beaks . shark. starfish. "
        "stingray which is flat and round"
    )
    assert caption("Aquarium", "mmdet-35") == "fish. jellyfish. penguin. puffin. shark. starfish. stingray"
    assert caption("Aquarium", "paper-13").startswith("fish. jellyfish. penguin, which is black and white. ")
    assert caption("EgoHands_generic", "glip-35") == " hand of a person"
    assert caption("EgoHands_generic", "mmdet-35") == "hand of a person"
    assert caption("EgoHands_generic", "glip-13") == "hand"
    assert caption("Packages", "glip-35") == "there is a package on the porch"
    pothole = odinw_set("pothole").published["glip-35"]
    prompt = Prompt.from_names(pothole.names, pothole.wordings)
    assert prompt.phrases == ("pothole",)
    assert prompt.caption[slice(*prompt.spans[0][0])] == "holes"


def test_protocols_differ_where_they_are_published_differently() -> None:
    rabbits, mushrooms = odinw_set("CottontailRabbits"), odinw_set("NorthAmericaMushrooms")
    assert rabbits.published["glip-35"].names == ("rabbit",)
    assert rabbits.published["glip-13"].names == ("Cottontail-Rabbit",)
    assert rabbits.published["mmdet-35"].annotations == f"{rabbits.root}/valid/new_annotations_without_background.json"
    assert rabbits.published["mmdet-13"].annotations == ""
    assert mushrooms.published["mmdet-13"].names == ("CoW", "chanterelle")
    hands = odinw_set("EgoHands_generic").published
    assert [hands[name].split for name in ("glip-13", "mmdet-13", "paper-13")] == ["minival", "val", "test"]
    assert sum(row.published["glip-35"].split == "minival" for row in odinw_sets()) == 11
    assert "glip-13" not in odinw_set("BCCD").published


def test_files_are_where_they_are_published(tmp_path: Path) -> None:
    aquarium, pistols, hands, voc = map(odinw_set, ("Aquarium", "pistols", "EgoHands_generic", "PascalVOC"))
    assert aquarium.root == "odinw/Aquarium/Aquarium Combined.v2-raw-1024.coco"
    assert aquarium.splits["val"].annotations == (f"{aquarium.root}/valid/annotations_without_background.json",)
    assert pistols.splits["test"].annotations == (f"{pistols.root}/test_annotations_without_background.json",)
    assert pistols.splits["test"].images == ((pistols.root,),)
    assert hands.splits["minival"].images == ((f"{hands.root}/mini_val",),)
    assert voc.test_is_val and voc.splits["test"].images == voc.splits["val"].images
    assert not aquarium.test_is_val and "minival" not in aquarium.splits
    # The published few-shot lists are next to the annotations.
    for row, name in ((aquarium, "valid/fewshot_val_shot3_seed300.json"), (pistols, "fewshot_val_shot3_seed300.json")):
        path = tmp_path / row.root / name
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        assert few_shot_list(tmp_path / row.splits["val"].annotations[0], "val", 3, 300) == path
