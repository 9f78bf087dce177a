"""Exports with their images: linked or copied, split into parts, never deleting what is not glip's."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from glip.errors import InputError
from glip.labeling.export import ExportSummary, export
from glip.labeling.splitting import Split
from glip.labeling.writers.images import PlacedNames, split_suffix
from tests.labeling.runs import LOW, NAMES, LabelledFolder, a_box, a_record, contents, write_run

HALVES = Split((0.5, 0.5))
THIRDS = Split((0.6, 0.2, 0.2))


@pytest.fixture
def folder(tmp_path: Path) -> LabelledFolder:
    return LabelledFolder(tmp_path, [f"{number}.jpg" for number in range(9)] + ["day 1/a.png"], labels=(0, 1))


def kinds(summary: ExportSummary) -> dict[str, int]:
    return {entry.kind: entry.count for entry in summary.left_out}


# ---- places


@pytest.mark.parametrize("copied", [False, True])
def test_yolo_has_its_images_where_the_label_path_leads(folder: LabelledFolder, copied: bool) -> None:
    assert kinds(folder.export("yolo", copy_images=copied)) == {}
    for name, source in folder.images.items():
        placed = folder.out / "yolo" / "images" / name
        assert placed.samefile(source) != copied
        assert not placed.is_symlink()  # which careful importers refuse
        assert placed.read_bytes() == source.read_bytes()
        assert (folder.out / "yolo" / "labels" / f"{split_suffix(name)[0]}.txt").is_file()


def test_without_images_labels_alone_are_written(folder: LabelledFolder) -> None:
    folder.export("yolo", "voc", images=False)
    assert not (folder.out / "yolo" / "images").exists()
    assert not (folder.out / "voc" / "JPEGImages").exists()


def test_where_links_are_refused_images_are_copied(folder: LabelledFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert kinds(folder.export("yolo")) == {"images_copied": 10}
    placed = folder.out / "yolo" / "images" / "0.jpg"
    assert placed.read_bytes() == folder.images["0.jpg"].read_bytes()


def test_images_that_are_not_found_are_counted_and_named_once(folder: LabelledFolder) -> None:
    folder.images["3.jpg"].unlink()
    del folder.images["4.jpg"]
    summary = folder.export("yolo", "voc", "labelme")
    (entry,) = summary.left_out
    assert (entry.kind, entry.count, set(entry.examples)) == ("images_not_found", 2, {"3.jpg", "4.jpg"})
    assert (folder.out / "yolo" / "labels" / "3.txt").read_text() != ""


def test_originals_are_never_opened_for_writing(folder: LabelledFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    plain = Path.open

    def watched(path: Path, mode: str = "r", *words: Any, **more: Any) -> Any:
        written.extend([path.name] if set(mode) & set("wa+x") else [])
        return plain(path, mode, *words, **more)

    monkeypatch.setattr(Path, "open", watched)
    folder.export("yolo", "voc", split=HALVES)
    assert "0.txt" in written
    assert not [name for name in written if name.endswith(("jpg", "png"))]


# ---- what is there already


def test_an_export_replaces_its_own_links_and_copies(folder: LabelledFolder) -> None:
    for copied in (False, True, True, False):
        folder.export("yolo", "coco", "voc", "labelme", copy_images=copied, split=HALVES)
    assert len(list((folder.out / "yolo" / "images").rglob("*.*g"))) == 10


def test_the_only_copy_of_an_image_is_never_deleted(folder: LabelledFolder) -> None:
    folder.export("yolo", copy_images=True)
    before = contents(folder.out)
    folder.images["5.jpg"].unlink()
    with pytest.raises(InputError, match=r"5\.jpg"):
        folder.export("yolo", copy_images=True)
    assert contents(folder.out) == before


def test_a_link_that_became_the_only_one_is_never_deleted(folder: LabelledFolder) -> None:
    folder.export("voc", "yolo")
    folder.images["5.jpg"].unlink()
    folder.export("voc")  # the link in yolo/ remains
    with pytest.raises(InputError, match=r"5\.jpg"):
        folder.export("yolo")


@pytest.mark.parametrize(("kind", "place"), [("yolo", "images"), ("voc", "JPEGImages"), ("labelme", ".")])
def test_an_image_that_somebody_added_is_never_deleted(folder: LabelledFolder, kind: str, place: str) -> None:
    folder.export(kind)
    added = folder.out / kind / place / "mine.jpg"
    added.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"mine\.jpg"):
        folder.export(kind)
    assert added.read_bytes() == b"mine"


def test_a_folder_of_images_that_glip_did_not_make_is_left_and_said(folder: LabelledFolder) -> None:
    folder.export("yolo", images=False)
    (folder.out / "yolo" / "images").mkdir()
    (folder.out / "yolo" / "images" / "0.jpg").write_bytes(b"mine")
    assert kinds(folder.export("yolo")) == {"image_folder_kept": 1}
    assert contents(folder.out / "yolo" / "images") == {"0.jpg": b"mine"}
    with pytest.raises(InputError, match="images"):
        folder.export("yolo", split=HALVES)


def test_labels_alone_keep_the_images_of_an_earlier_export(folder: LabelledFolder) -> None:
    folder.export("yolo")
    folder.export("yolo", images=False)
    assert (folder.out / "yolo" / "images" / "0.jpg").samefile(folder.images["0.jpg"])


def test_the_parts_of_an_earlier_split_do_not_remain(folder: LabelledFolder) -> None:
    folder.export("coco", "yolo", split=THIRDS)
    folder.export("coco", "yolo", split=HALVES)
    assert not (folder.out / "coco" / "test").exists()
    assert {path.name for path in (folder.out / "yolo" / "images").iterdir()} == {"train", "val"}
    folder.export("yolo", images=False)
    assert not (folder.out / "yolo" / "images").exists()


def test_folders_of_0_1_0_are_replaced(folder: LabelledFolder) -> None:
    (folder.out / "yolo" / "labels").mkdir(parents=True)
    (folder.out / "yolo" / "labels" / "glip.json").write_text("{}")
    (folder.out / "yolo" / "labels" / "old.txt").write_text("")
    folder.export("yolo")
    assert not (folder.out / "yolo" / "labels" / "old.txt").exists()
    assert not list((folder.out / "yolo" / "labels").rglob("*.json"))


# ---- names


def test_images_that_would_share_a_label_file_get_names_of_their_own(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "A.jpg", "train/images/b.jpg", "train/b.jpg", "e\u0301.jpg", "\u00e9.jpg", "x\ny.jpg"]
    folder = LabelledFolder(tmp_path, names)
    summary = folder.export("yolo", "voc", "labelme", split=None)
    assert kinds(summary)["images_renamed"] >= 5
    for kind, images, labels in (("yolo", "images", "labels"), ("voc", "JPEGImages", "Annotations")):
        placed = [path.relative_to(folder.out / kind / images) for path in (folder.out / kind / images).rglob("*.*g")]
        stems = [path.with_suffix("").as_posix() for path in placed]
        assert len(stems) == len(names)
        assert len({stem.casefold() for stem in stems}) == len(names)
        suffix = {"yolo": ".txt", "voc": ".xml"}[kind]
        assert all((folder.out / kind / labels / f"{stem}{suffix}").is_file() for stem in stems)
    # Each label still belongs to its image.
    for index, name in enumerate(names):
        source = folder.images[name]
        (label,) = (
            folder.out / "yolo" / "labels" / path.relative_to(folder.out / "yolo" / "images").with_suffix(".txt")
            for path in (folder.out / "yolo" / "images").rglob("*.*g")
            if path.samefile(source)
        )
        assert float(label.read_text().split()[3]) * 90 == pytest.approx(19 + index, abs=1e-4)


@pytest.mark.parametrize(
    ("names", "placed"),
    [
        (["a.jpg", "a.png"], ["a.jpg", "a_png.png"]),
        (["a.jpg", "a.png", "a_png.png"], ["a.jpg", "a_png.png", "a_png_png.png"]),
        (["d.v1/image", "d.v1/other"], ["d.v1/image", "d.v1/other"]),
        (["#1.jpg", " 2.jpg"], ["_#1.jpg", "_2.jpg"]),
        (["A.jpg", "a.JPG"], ["A.jpg", "a_JPG.JPG"]),
    ],
)
def test_a_name_is_changed_only_where_it_must_be(names: list[str], placed: list[str]) -> None:
    place = PlacedNames(one_stem=True)
    assert [place.name(name) for name in names] == placed


def test_a_long_name_stays_within_what_file_systems_take() -> None:
    place = PlacedNames(one_stem=True)
    names = [place.name("ü" * 120 + suffix) for suffix in (".jpg", ".png", ".bmp")]
    assert len(set(names)) == 3
    assert max(len(name.encode()) for name in names) <= 255


# ---- parts


@pytest.mark.parametrize(("split", "sizes"), [(HALVES, [5, 5]), (THIRDS, [6, 2, 2]), (Split((0.75, 0.25)), [8, 2])])
def test_parts_have_the_sizes_of_their_shares_and_hold_each_image_once(
    folder: LabelledFolder, split: Split, sizes: list[int]
) -> None:
    summary = folder.export("coco", "yolo", "voc", split=split)
    assert list(summary.parts.values()) == sizes
    for kind in ("yolo", "voc", "coco"):
        parts = parts_of(folder.out, kind)
        assert [len(names) for names in parts.values()] == sizes
        assert len(set().union(*parts.values())) == 10
    assert parts_of(folder.out, "yolo") == parts_of(folder.out, "voc") == parts_of(folder.out, "coco")


def parts_of(out: Path, kind: str) -> dict[str, set[str]]:
    """The images of each part, without suffix."""
    if kind == "voc":
        lists = out / "voc" / "ImageSets" / "Main"
        return {part: set((lists / f"{part}.txt").read_text().splitlines()) for part in order(lists.glob("*.txt"))}
    if kind == "yolo":
        images = out / "yolo" / "images"
        return {
            part: {path.relative_to(images / part).with_suffix("").as_posix() for path in (images / part).rglob("*.*g")}
            for part in order(images.iterdir())
        }
    return {
        {"valid": "val"}.get(part, part): {
            split_suffix(image["file_name"])[0]
            for image in json.loads((out / "coco" / part / "_annotations.coco.json").read_text())["images"]
        }
        for part in order(path for path in (out / "coco").iterdir() if path.is_dir())
    }


def order(paths: Any) -> list[str]:
    return sorted((path.stem for path in paths), key=["train", "val", "valid", "test"].index)


def test_a_split_follows_its_seed(folder: LabelledFolder) -> None:
    found = []
    for seed in (1, 1, 2, 3):
        folder.export("voc", split=Split((0.5, 0.5), seed))
        found.append(parts_of(folder.out, "voc")["val"])
    assert found[0] == found[1]
    assert len({frozenset(names) for names in found}) > 1


def test_classes_are_divided_alike(tmp_path: Path) -> None:
    folder = LabelledFolder(tmp_path, [f"{number}.jpg" for number in range(50)], labels=(0, 0, 0, 1, 1, 2, 0, 0, 0, 0))
    folder.export("coco", split=Split((0.8, 0.2)))
    for part, counts in (("train", {1: 28, 2: 8, 3: 4}), ("valid", {1: 7, 2: 2, 3: 1})):
        content = json.loads((folder.out / "coco" / part / "_annotations.coco.json").read_text())
        assert Counter(row["category_id"] for row in content["annotations"]) == counts


def test_copies_of_an_image_stay_in_one_part(tmp_path: Path) -> None:
    folder = LabelledFolder(tmp_path, [f"{number}.jpg" for number in range(12)])
    for number in range(0, 12, 2):  # each second image has the bytes of the one before it
        folder.images[f"{number + 1}.jpg"].write_bytes(folder.images[f"{number}.jpg"].read_bytes())
    for seed in range(5):
        folder.export("voc", split=Split((0.5, 0.5), seed))
        for names in parts_of(folder.out, "voc").values():
            assert all(str(int(name) ^ 1) in names for name in names)
            assert len(names) == 6


def test_images_with_the_same_boxes_are_copies_too(tmp_path: Path) -> None:
    records = [a_record(f"{number}.jpg", a_box(number // 3), [0.9], [0]) for number in range(12)]
    run = write_run(tmp_path, records)
    export(run, run / "out", ["voc"], LOW, split=HALVES)
    for names in parts_of(run / "out", "voc").values():
        assert sorted(Counter(int(name) // 3 for name in names).values()) == [3, 3]


def test_more_parts_than_different_images_are_refused(tmp_path: Path) -> None:
    folder = LabelledFolder(tmp_path, ["a.jpg", "b.jpg"])
    with pytest.raises(InputError, match="3 parts"):
        folder.export("yolo", split=THIRDS)
    assert not folder.out.exists()


@pytest.mark.parametrize("ratios", [(1.0,), (0.5, 0.6), (0.5, 0.5, 0.0), (0.4, 0.3, 0.2, 0.1), (float("nan"), 0.5)])
def test_shares_that_are_no_shares_are_refused(ratios: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=f"{ratios[0]:g}"):
        Split(ratios)


def test_formats_without_parts_are_named(folder: LabelledFolder) -> None:
    assert kinds(folder.export("yolo", "csv", "cvat", split=HALVES)) == {"formats_not_split": 2}
    with pytest.raises(InputError, match="csv"):
        folder.export("csv", split=HALVES)


# ---- readers


def test_torchvision_reads_the_parts_of_coco_and_voc(folder: LabelledFolder) -> None:
    from torchvision.datasets import CocoDetection, VOCDetection

    folder.export("coco", "voc", split=THIRDS)
    for part, count in (("train", 6), ("valid", 2), ("test", 2)):
        root = folder.out / "coco" / part
        with redirect_stdout(StringIO()):
            coco = CocoDetection(root, str(root / "_annotations.coco.json"))
        assert len(coco) == count
        assert all(image.size == (90, 80) and len(boxes) == 1 for image, boxes in coco)
    home = folder.out / "VOCdevkit"
    home.mkdir()
    (home / "VOC2012").symlink_to(folder.out / "voc")
    for part, count in (("train", 6), ("val", 2)):
        voc = VOCDetection(folder.out, year="2012", image_set=part)
        assert len(voc) == count
        for image, tree in voc:
            assert image.size == (90, 80)
            assert tree["annotation"]["object"][0]["name"] in NAMES


def test_supervision_reads_the_parts_of_yolo(folder: LabelledFolder) -> None:
    import supervision as sv

    folder.export("yolo", split=HALVES)
    yolo = folder.out / "yolo"
    data = yaml.safe_load((yolo / "data.yaml").read_text())
    assert data == {"train": "images/train", "val": "images/val", "names": dict(enumerate(NAMES))}
    seen = 0
    for part in ("train", "val"):
        for images in {path.parent for path in (yolo / "images" / part).rglob("*.*g")}:
            labels = yolo / "labels" / images.relative_to(yolo / "images")
            dataset = sv.DetectionDataset.from_yolo(str(images), str(labels), str(yolo / "data.yaml"))
            for _, _, found in dataset:
                assert len(found) == 1
                seen += 1
    assert seen == 10


def test_labelme_files_stand_beside_their_images(folder: LabelledFolder) -> None:
    folder.export("labelme")
    files = list((folder.out / "labelme").rglob("*.json"))
    assert len(files) == 10
    for path in files:
        content = json.loads(path.read_text())
        assert Image.open(path.parent / content["imagePath"]).size == (content["imageWidth"], content["imageHeight"])
        (shape,) = content["shapes"]
        assert shape["shape_type"] == "rectangle"
        assert shape["points"][0] == [1.0, 2.0]
        assert shape["label"] in NAMES
