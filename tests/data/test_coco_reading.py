"""COCO files and results as other tools write them: read without loss, or refused with their place."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.data.coco import CocoDataset
from glip.data.coco_reading import CocoFile, decode_results, read_coco
from glip.data.image_files import match_names
from glip.errors import InputError

Change = Callable[[dict[str, Any]], object]


def content() -> dict[str, Any]:
    """Returns two images, three boxes and two classes, as a strict file has them."""
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 2, "file_name": "b.png", "width": 20, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "area": 12.0, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [5.0, 6.0, 30.0, 20.0], "area": 600.0, "iscrowd": 0},
            {"id": 3, "image_id": 2, "category_id": 2, "bbox": [0.0, 0.0, 20.0, 30.0], "area": 600.0, "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def each(key: str, **changes: Callable[[dict[str, Any]], Any]) -> Change:
    """Returns a change that sets fields of all entries of a list."""

    def change(data: dict[str, Any]) -> None:
        for entry in data[key]:
            entry.update({field: value(entry) for field, value in changes.items()})

    return change


def read(folder: Path, data: object, raw: bytes | None = None) -> CocoFile:
    """Reads a data set whose images lie in `folder`."""
    for name, size in (("a.png", (40, 30)), ("b.png", (20, 30))):
        Image.new("RGB", size).save(folder / name)
    (folder / "x.json").write_bytes(json.dumps(data).encode() if raw is None else raw)
    return read_coco(folder / "x.json", (folder,))


@pytest.fixture
def expected(tmp_path: Path) -> CocoDataset:
    (tmp_path / "strict").mkdir()
    return read(tmp_path / "strict", content()).dataset


@pytest.mark.parametrize(
    "change",
    [
        lambda d: None,
        each("images", id=lambda e: float(e["id"])),
        each("images", id=lambda e: str(e["id"])),
        each("annotations", image_id=lambda e: str(e["image_id"])),
        each("annotations", category_id=lambda e: float(e["category_id"]), id=lambda e: f"{e['id']:04}"),
        each("categories", id=lambda e: str(e["id"])),
        each("annotations", iscrowd=lambda e: False),
        each("annotations", iscrowd=lambda e: 0.0),
        each("annotations", iscrowd=lambda e: None),
        each("annotations", iscrowd=lambda e: "0"),
        each("annotations", score=lambda e: None),
        each("annotations", bbox=lambda e: [str(number) for number in e["bbox"]]),
        each("annotations", segmentation=lambda e: {"counts": "x"}),
        each("annotations", id=lambda e: None),
        each("images", width=lambda e: float(e["width"]), height=lambda e: str(e["height"])),
        each("images", width=lambda e: None),
        each("images", width=lambda e: 0, height=lambda e: -1),
        each("images", width=lambda e: e["height"], height=lambda e: e["width"]),
        each("images", file_name=lambda e: "C:\\data\\set\\" + e["file_name"]),
        each("images", file_name=lambda e: "/home/me/set/" + e["file_name"]),
        each("images", file_name=lambda e: "../x/./" + e["file_name"]),
        each("images", file_name=lambda e: "../images/" + e["file_name"]),
        each("images", file_name=lambda e: "images\\" + e["file_name"]),
        each("images", file_name=lambda e: e["file_name"].replace(".", "%2E")),
        each("images", file_name=lambda e: e["file_name"].upper()),
        each("images", file_name=lambda e: "file:///set/" + e["file_name"]),
        lambda d: d.update(info=None, licenses=None),
        lambda d: d.update(info=[], licenses="MIT"),
    ],
)
def test_what_loses_no_information_is_read(tmp_path: Path, expected: CocoDataset, change: Change) -> None:
    data = content()
    change(data)
    file = read(tmp_path, data)
    assert file.dataset == expected
    assert file.left_out == ()


def test_a_byte_order_mark_is_skipped(tmp_path: Path, expected: CocoDataset) -> None:
    assert read(tmp_path, None, b"\xef\xbb\xbf" + json.dumps(content()).encode()).dataset == expected


def test_null_area_is_that_of_the_box(tmp_path: Path) -> None:
    data = content()
    each("annotations", area=lambda e: None)(data)
    assert [box.area for box in read(tmp_path, data).dataset.annotations] != [12.0, 600.0, 600.0]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_other_unicode_forms_mean_the_same_file(tmp_path: Path, form: Any) -> None:
    other: Any = "NFD" if form == "NFC" else "NFC"
    Image.new("RGB", (40, 30)).save(tmp_path / unicodedata.normalize(other, "ä.png"))
    data = content()
    data["images"][0]["file_name"] = unicodedata.normalize(form, "ä.png")
    file = read(tmp_path, data)
    assert (tmp_path / file.dataset.images[0].file_name).is_file()
    assert len(file.notes) == 1


def test_a_name_with_several_answers_is_not_guessed(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 30)).save(tmp_path / folder / "c.png")
    data = content()
    data["images"][0]["file_name"] = "x\\c.png"
    (tmp_path / "x.json").write_text(json.dumps(data))
    file = read_coco(tmp_path / "x.json", (tmp_path / "one", tmp_path / "two"))
    assert file.dataset.images[0].file_name == "x\\c.png"


def test_two_names_never_become_one_file(tmp_path: Path) -> None:
    data = content()
    data["images"][0]["file_name"], data["images"][1]["file_name"] = "train/a.png", "val/a.png"
    names = [image.file_name for image in read(tmp_path, data).dataset.images]
    assert names == ["train/a.png", "val/a.png"]


def test_names_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "secret.png")
    data = content()
    data["images"][0]["file_name"] = "../secret.png"
    with pytest.raises(InputError, match=re.escape("../secret.png")):
        read(tmp_path / "set", data)


def test_swapped_sizes_stay_where_boxes_do_not_fit_the_upright_image(tmp_path: Path) -> None:
    data = content()
    each("images", width=lambda e: e["height"], height=lambda e: e["width"])(data)
    data["annotations"][0]["bbox"] = [1, 2, 3, 36]
    images = read(tmp_path, data).dataset.images
    assert [(image.width, image.height) for image in images] == [(30, 40), (20, 30)]


def test_annotations_without_a_box_are_counted(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["bbox"] = []
    del data["annotations"][2]["bbox"]
    file = read(tmp_path, data)
    assert [(entry.kind, entry.count) for entry in file.left_out] == [("annotations_without_box", 2)]
    assert [box.id for box in file.dataset.annotations] == [2]


def test_a_category_without_a_name_stays(tmp_path: Path) -> None:
    data = content()
    data["categories"][0]["name"] = None
    data["categories"][1]["name"] = 7
    assert read(tmp_path, data).dataset.names == ("", "7")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (each("annotations", image_id=lambda e: "a7"), "a7"),
        (each("annotations", id=lambda e: 2**64 + e["id"]), "18446744073709551617"),
        (each("images", id=lambda e: 2**64 + e["id"]), "18446744073709551617"),
        (each("categories", id=lambda e: e["id"] + 0.5), "1.5"),
        (each("annotations", area=lambda e: "large"), "large"),
        (each("annotations", iscrowd=lambda e: "no"), "no"),
        (each("images", file_name=lambda e: None), "None"),
        (each("images", width=lambda e: 40.5), "40.5"),
        (each("annotations", image_id=lambda e: 1e300), "1e+300"),
    ],
)
def test_what_is_refused_names_file_line_and_value(tmp_path: Path, change: Change, value: str) -> None:
    data = content()
    change(data)
    text = json.dumps(data, indent=1)
    key = next(key for key in data if data[key] != content()[key])
    line = text[: text.index("{", text.index(f'"{key}"'))].count("\n") + 1
    with pytest.raises(InputError, match=re.escape(value)) as caught:
        read(tmp_path, None, text.encode())
    assert f"{tmp_path / 'x.json'}, line {line}, {key}[0]" in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_are_none_are_named_with_their_line(tmp_path: Path, number: str) -> None:
    text = json.dumps(content(), indent=1).replace("12.0", number)
    line = text[: text.index(number)].count("\n") + 1
    named = "annotations[0]" if number == "1e400" else f"line {line}"
    with pytest.raises(InputError, match=re.escape(named)) as caught:
        read(tmp_path, None, text.encode())
    assert number in str(caught.value) or "range" in str(caught.value)


@pytest.mark.parametrize("key", ["zzz", "images"])
def test_deep_nesting_is_refused(tmp_path: Path, key: str) -> None:
    text = json.dumps(content())[:-1] + f', "{key}": {"[" * 100_000}{"]" * 100_000}}}'
    with pytest.raises(InputError, match=re.escape("x.json")):
        read(tmp_path, None, text.encode())


def test_results_are_read_with_other_spellings_of_ids() -> None:
    text = b'[{"image_id": "9", "category_id": 1.0, "bbox": [1, 2, "3", 4], "score": "0.5"}]'
    (found,) = decode_results(Path("r.json"), text, "results")
    assert (found.image_id, found.category_id, found.bbox, found.score) == (9, 1, (1.0, 2.0, 3.0, 4.0), 0.5)


@pytest.mark.parametrize(
    ("field", "value"), [("image_id", "a"), ("image_id", 2**64), ("score", None), ("score", True), ("bbox", [1, 2])]
)
def test_results_without_an_id_or_score_are_refused(field: str, value: object) -> None:
    entry = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, field: value}
    with pytest.raises(InputError, match=re.escape("entry 0")) as caught:
        decode_results(Path("r.json"), json.dumps([entry]).encode(), "results")
    assert field in str(caught.value)
    assert str(value).strip("'") in str(caught.value)


def test_names_of_two_programs_are_matched_where_one_answers() -> None:
    known = ["train/a.jpg", "train/b.jpg", "c d.jpg", "x/e.jpg", "y/e.jpg"]
    names = ["a.jpg", "TRAIN\\b.jpg", "/data/c%20d.jpg", "e.jpg", "none.jpg"]
    assert match_names(names, known) == {
        "a.jpg": "train/a.jpg",
        "TRAIN\\b.jpg": "train/b.jpg",
        "/data/c%20d.jpg": "c d.jpg",
    }
