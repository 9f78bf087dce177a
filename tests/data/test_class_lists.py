"""Class names and ids of known data sets, as published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glip.data.class_lists import _class_lists, find_class_list, find_in_prompt
from glip.data.coco import load_coco
from glip.data.lookup import find_suite
from glip.errors import InputError
from glip.prompts import Prompt


def test_coco_keeps_its_ids_with_their_gaps() -> None:
    coco = find_class_list("@coco")
    ids = dict(zip(coco.names, coco.ids, strict=True))
    assert len(coco.names) == len(set(coco.names)) == 80
    assert (ids["person"], ids["stop sign"], ids["toothbrush"]) == (1, 13, 90)
    assert list(coco.ids) == sorted(coco.ids)
    assert set(range(1, 91)) - set(coco.ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def test_coco_is_what_its_own_files_say(real_data: Path) -> None:
    coco = find_class_list("coco")
    (val,) = find_suite("coco", real_data).splits
    file = load_coco(val.annotations)
    assert coco.names == file.names
    assert list(coco.ids) == sorted(file.label_of_category)
    assert val.image_path(file.images[0].file_name).is_file()


def test_lvis_has_its_1203_names_in_the_order_of_ids() -> None:
    lvis = find_class_list("@lvis")
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
    one, two = find_class_list("@objects365"), find_class_list("@objects365v2")
    assert len(set(one.names)) == len(set(two.names)) == 365
    assert one.names[:3] == ("person", "sneakers", "chair")
    assert one.names[-1] == "flashlight"
    assert two.names[:4] == ("Person", "Sneakers", "Chair", "Other Shoes")


def test_voc_has_twenty_names() -> None:
    voc = find_class_list("@voc")
    assert (voc.names[0], voc.names[-1], len(voc.names), voc.ids[-1]) == ("aeroplane", "tvmonitor", 20, 20)
    assert find_class_list("odinw/PascalVOC").names == voc.names


def test_names_are_found_in_any_case_with_or_without_the_sign() -> None:
    assert find_class_list("@ODinW/aquarium") == find_class_list("odinw/Aquarium")
    assert find_class_list(" @COCO ").name == "coco"


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
    with pytest.raises(InputError, match=f"'{meant}'"):
        find_class_list(typed)


def test_a_name_like_no_other_is_answered_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"'zzz'.*@coco, @voc, @lvis") as caught:
        find_class_list("@zzz")
    assert "?" not in str(caught.value)


def test_a_file_wins_over_a_class_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_names_and_files_are_not_class_lists(prompt: str) -> None:
    assert find_in_prompt(prompt) is None


@pytest.mark.parametrize("prompt", ["@cocco", "@" + "x" * 5000])
def test_neither_a_file_nor_a_class_list_is_refused(prompt: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(prompt[1:]))):
        find_in_prompt(prompt)


def test_every_class_list_can_be_prompted() -> None:
    for row in _class_lists().values():
        assert len(row.names) == len(row.ids)
        assert Prompt.from_names(list(row.id_of_name)).phrases


def test_a_class_without_a_name_is_not_prompted() -> None:
    chess = find_class_list("@odinw/ChessPieces")
    assert chess.names[0] == "  "
    assert len(chess.names) == 13
    assert len(chess.id_of_name) == 12
    assert chess.id_of_name["black bishop"] == 2
