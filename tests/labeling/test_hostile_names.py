"""Names that trip readers: each format, read back by a parser that is not ours, gives the same names and boxes."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glip.files import natural_order
from glip.labeling.export import export
from glip.labeling.filtering import ExportSettings
from glip.labeling.writers import FORMATS
from glip.labeling.writers.labelstudio import image_address
from tests.labeling.runs import LOW, a_box, a_record, contents, write_run

# What YAML 1.1 takes for a truth value, a number, nothing, a comment, a list or a mapping.
WORDS = ["no", "on", "Off", "y", "1", "1e3", "0x1F", "1_000", "12:30:45", "null", "~", "", ".nan", "2020-01-01", "<<"]
SIGNS = ["a: b", "a #b", "# a", "- a", "[a]", "{a: b}", '"a"', "'a'", "&a", "*a", "!a", "%a", "@a", "`a`", "a\\b", "?a"]
LETTERS = ["ünï", "собака", "犬", "🐶", "e\u0301", "\u200fא", "a\u00a0b", "=1+1", "+1", "-1", "@x", "a,b", "a;b", "a:b"]
STEMS = ["100%", "a%20b", "a#b", "a?b=c&d", "a+b", "con", "NUL", "aux.v2", ".hidden", "-rf", "a'b", 'a"b', "a\\b", "~a"]
LONG = "x" * 251  # with .jpg as long as a name may be

names = st.one_of(
    st.sampled_from(WORDS + SIGNS + LETTERS).filter(bool),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn")), min_size=1, max_size=20),
)
stems = st.one_of(st.sampled_from(STEMS + LETTERS), names).map(lambda name: name.replace("/", "_").strip() or "x")
files = st.lists(
    st.tuples(
        st.sampled_from(["", "sub/", "sub dir/x.y/", "images/"]), stems, st.sampled_from([".jpg", ".PNG", ".tiff"])
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda parts: (parts[0].replace("images/", ""), parts[1].casefold()),
).map(lambda listed: ["".join(parts) for parts in listed])
classes = st.lists(names, min_size=1, max_size=5, unique=True)
READ_BACK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_all(home: Path, listed: list[str], known: list[str]) -> Path:
    """A run in which image N has one box of class N, in every format."""
    records = [a_record(name, a_box(index), [0.5], [index % len(known)]) for index, name in enumerate(listed)]
    records = [record for record in records if len(record.file_name.encode()) < 250]
    run = write_run(home, records, names=tuple(known))
    export(run, run / "out", [name for name in FORMATS if name != "grounding"], LOW)
    return run / "out"


@pytest.mark.filterwarnings("ignore")
@READ_BACK
@given(listed=files, known=classes)
def test_every_format_gives_names_and_boxes_back(
    listed: list[str], known: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = write_all(tmp_path_factory.mktemp("run"), listed, known)
    truth = {name: (known[index % len(known)], [1, 2, 20 + index, 30 + index]) for index, name in enumerate(listed)}

    coco = json.loads((out / "annotations.coco.json").read_text(encoding="utf-8"))
    image = {row["id"]: row["file_name"] for row in coco["images"]}
    label = {row["id"]: row["name"] for row in coco["categories"]}
    found = {
        image[row["image_id"]]: (label[row["category_id"]], [*row["bbox"][:2], 1 + row["bbox"][2], 2 + row["bbox"][3]])
        for row in coco["annotations"]
    }
    assert found == truth

    data = yaml.safe_load((out / "yolo" / "data.yaml").read_text(encoding="utf-8"))
    assert list(data["names"].values()) == known
    for name, (wanted, (x1, _, x2, _)) in truth.items():
        path = out / "yolo" / "labels" / name.replace("images/", "").rpartition(".")[0]
        number, cx, _, width, _ = Path(f"{path}.txt").read_text().split()
        assert data["names"][int(number)] == wanted
        np.testing.assert_allclose([float(cx) * 640, float(width) * 640], [(x1 + x2) / 2, x2 - x1], atol=1e-4)

    frames = ET.parse(out / "annotations.cvat.xml").findall("image")
    assert [frame.attrib["name"] for frame in frames] == sorted(listed)
    assert [int(frame.attrib["id"]) for frame in frames] == list(range(len(listed)))
    for frame in frames:
        (box,) = frame
        wanted, edges = truth[frame.attrib["name"]]
        assert (box.attrib["label"], float(box.attrib["xbr"])) == (wanted, edges[2])

    for name, (wanted, _) in truth.items():
        stem = name.rpartition(".")[0]
        document = ET.parse(out / "voc" / "Annotations" / f"{stem}.xml")
        assert document.findtext("filename") == name
        assert document.findtext("object/name") == wanted
        shape = json.loads((out / "labelme" / f"{stem}.json").read_text(encoding="utf-8"))
        assert (shape["imagePath"], shape["shapes"][0]["label"]) == (name.rpartition("/")[2], wanted)

    with (out / "annotations.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file_name"].removeprefix("./") for row in rows} == set(listed)
    assert {row["label"].removeprefix("'") for row in rows} == {
        wanted.removeprefix("'") for wanted, _ in truth.values()
    }
    assert not any(cell.startswith(tuple("=+@\t\r")) for row in rows for cell in (row["file_name"], row["label"]))

    tasks = json.loads((out / "labelstudio" / "tasks.json").read_text(encoding="utf-8"))
    assert [task["data"]["image"] for task in tasks] == sorted(listed, key=natural_order)
    interface = ET.parse(out / "labelstudio" / "config.xml").getroot()
    assert [entry.attrib["value"] for entry in interface.iter("Label")] == known


@pytest.mark.parametrize("prefix", ["s3://bucket/", "gs://b/dir/", "azure-blob://box/", "az://box/", "S3://bucket/"])
@pytest.mark.parametrize("stem", STEMS + LETTERS)
def test_a_key_of_a_storage_is_the_name_as_it_stands(prefix: str, stem: str) -> None:
    assert image_address(prefix, f"sub/{stem}.jpg") == f"{prefix}sub/{stem}.jpg"


@pytest.mark.parametrize("prefix", ["https://h.example/x/", "http://h.example/", "/data/local-files/?d=photos/"])
@pytest.mark.parametrize("stem", STEMS + LETTERS)
def test_an_address_of_the_web_leads_to_the_name(prefix: str, stem: str) -> None:
    address = image_address(prefix, f"sub/{stem}.jpg")
    parts = urlsplit(address)
    assert address.isascii() and not parts.fragment
    assert unquote(parts.query or parts.path).endswith(f"sub/{stem}.jpg")


def test_a_name_that_no_label_file_can_have_is_refused_with_its_length(tmp_path: Path) -> None:
    from glip.errors import InputError

    run = write_run(tmp_path, [a_record(f"{LONG}.jpg")])
    with pytest.raises(InputError, match="xxx"):
        export(run, run / "out", ["labelme"], LOW)
    assert contents(run / "out") == {}


@pytest.mark.parametrize("name", ["image", "d.v1/image", ".jpg", "d/.hidden"])
def test_a_name_without_suffix_keeps_its_label_file(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path, [a_record(name, a_box(1), [0.5], [0])])
    export(run, run / "out", ["yolo", "voc", "labelme"], LOW)
    for kind, folder, suffix in (("yolo", "labels", ".txt"), ("voc", "Annotations", ".xml"), ("labelme", "", ".json")):
        assert (run / "out" / kind / folder / f"{name}{suffix}").is_file()


def test_names_that_a_list_cannot_hold_are_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path, [a_record("#a.jpg"), a_record(" b.jpg"), a_record("c.jpg")], names=("a:b", "dog", "# x"))
    summary = export(run, run / "out", ["voc"], ExportSettings())
    assert {entry.kind: entry.count for entry in summary.left_out} == {"voc_list_names": 2, "voc_labelmap_names": 2}
    assert (run / "out" / "voc" / "ImageSets" / "Main" / "default.txt").read_text() == "c\n"
    assert (run / "out" / "voc" / "labelmap.txt").read_text().splitlines()[1:] == ["dog:::"]


def test_boxes_outside_their_image_are_counted_where_a_format_clips(tmp_path: Path) -> None:
    run = write_run(tmp_path, [a_record("a.jpg", [[0, 0, 9, 9], [650, 3, 700, 9]], [0.9, 0.8], [0, 1])])
    kinds = [
        {entry.kind: (entry.count, entry.examples) for entry in export(run, run / "out", [kind], LOW).left_out}
        for kind in ("coco", "csv", "yolo", "cvat", "labelstudio")
    ]
    assert kinds == [{}, {}, *[{"boxes_outside": (1, ("a.jpg",))}] * 3]
