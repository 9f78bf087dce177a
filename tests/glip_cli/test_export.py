"""`glip export`: what its words mean, what it prints, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from glip.errors import InputError
from glip_cli.export import parse_class_conf
from tests.conftest import CommandResult
from tests.labeling.runs import RECORDS, LabelledFolder, write_run

Glip = Callable[..., CommandResult]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "labels", RECORDS)


def scores(path: Path) -> list[float]:
    return [round(row["score"], 2) for row in json.loads(path.read_text())["annotations"]]


def test_without_options_the_coco_file_of_the_folder_is_written_anew(glip: Glip, run: Path) -> None:
    result = glip("export", run)
    assert result.code == 0
    assert scores(run / "annotations.coco.json") == [0.45, 0.9, 0.7, 0.5, 0.31, 0.8, 0.61]
    assert "5 images (1 without boxes; 1 unreadable images left out), 7 boxes" in result.stdout
    assert str(run / "annotations.coco.json") in result.stdout


def test_the_threshold_of_the_run_is_the_default(glip: Glip, tmp_path: Path) -> None:
    run = write_run(tmp_path / "labels", RECORDS, job={"conf": 0.65})
    assert glip("export", run).code == 0
    assert scores(run / "annotations.coco.json") == [0.9, 0.7, 0.8]


def test_every_option_reaches_the_files(glip: Glip, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = "--conf .4 --class-conf person=.95,dog=.46 --nms agnostic --iou .5 --max-det 1 -f coco,yolo"
    assert glip("export", run, "--out", out, *words.split()).code == 0
    assert scores(out / "annotations.coco.json") == [0.7, 0.8]
    info = json.loads((out / "annotations.coco.json").read_text())["info"]["glip"]
    assert {key: info[key] for key in ("conf", "class_conf", "nms", "iou", "max_det")} == {
        "conf": 0.4,
        "class_conf": {"person": 0.95, "dog": 0.46},
        "nms": "agnostic",
        "iou": 0.5,
        "max_det": 1,
    }
    assert (out / "yolo" / "data.yaml").is_file()
    assert not (run / "annotations.coco.json").exists()


def test_a_class_file_is_applied(glip: Glip, run: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("animal: {prompts: [dog, person], id: 9}\n")
    assert glip("export", run, "--classes", tmp_path / "classes.yaml").code == 0
    content = json.loads((run / "annotations.coco.json").read_text())
    assert content["categories"] == [{"id": 9, "name": "animal"}]


def test_json_goes_to_stdout_alone(glip: Glip, run: Path) -> None:
    result = glip("export", run, "--json", "-f", "csv,coco")
    content = result.json
    assert [(entry["kind"], entry["count"]) for entry in content.pop("left_out")] == [("unreadable_images", 1)]
    assert content == {
        "images": 5,
        "empty": 1,
        "unreadable": 1,
        "unlabelled": 0,
        "boxes": 7,
        "per_class": {"person": 3, "dog": 3, "traffic light": 1},
        "files": [str(run / "annotations.csv"), str(run / "annotations.coco.json")],
        "parts": {},
    }


def test_a_report_shows_the_images_where_they_are_now(glip: Glip, run: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    Image.new("RGB", (640, 480)).save(tmp_path / "moved" / "a.jpg")
    result = glip("export", run, "--report", "--images", tmp_path / "moved", "--json")
    assert result.code == 0
    assert result.json["files"][-1] == str(run / "report.html")
    assert (run / "report.html").read_text().count("data:image/jpeg;base64,") == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--class-conf", "persn=.5"), "'persn'"),
        (("--class-conf", "person"), "'person'"),
        (("--class-conf", "person=high"), "'high'"),
        (("--conf", "0.01"), "0.01"),
        (("--iou", "0.7"), "0.7"),
        (("--max-det", "500"), "500"),
        (("--nms", "soft"), "'soft'"),
        (("-f", "coco,yol"), "'yol'"),
        (("--classes", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_an_error_names_the_value_and_ends_with_2(glip: Glip, run: Path, words: tuple[str, str], named: str) -> None:
    result = glip("export", run, *words)
    assert result.code == 2
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert not (run / "annotations.coco.json").exists()


def test_an_unfinished_run_is_exported_as_far_as_it_went_and_said_so(glip: Glip, run: Path) -> None:
    listing = run / "records" / "listing.txt"
    listing.write_text(listing.read_text() + '"ÿ.jpg"\n"ÿÿ.jpg"\n')
    assert "2 images" in glip("export", run).stderr


def test_a_folder_without_labels_is_refused(glip: Glip, tmp_path: Path) -> None:
    result = glip("export", tmp_path)
    assert result.code == 2
    assert "run.json" in result.stderr and str(tmp_path) in result.stderr


def test_an_output_folder_that_cannot_be_made_ends_with_1(glip: Glip, run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = glip("export", run, "--out", tmp_path / "file" / "sub")
    assert result.code == 1
    assert "--out" in result.stderr and str(tmp_path / "file" / "sub") in result.stderr


def test_two_exports_into_one_folder_at_once_are_refused(glip: Glip, run: Path) -> None:
    from glip.run_folder import lock_folder

    with lock_folder(run):
        result = glip("export", run)
    assert result.code == 2
    assert str(run) in result.stderr


@pytest.mark.parametrize(
    ("options", "thresholds"),
    [
        ([], {}),
        (["person=.5,dog=.3"], {"person": 0.5, "dog": 0.3}),
        (["person=.5", " dog = .3 "], {"person": 0.5, "dog": 0.3}),
        (["hard hat, red=.4,dog=1"], {"hard hat, red": 0.4, "dog": 1.0}),
        (["a=b=.2"], {"a=b": 0.2}),
    ],
)
def test_thresholds_of_classes_are_read_from_words(options: list[str], thresholds: dict[str, float]) -> None:
    assert parse_class_conf(options) == thresholds


@pytest.mark.parametrize("option", ["person", "person=.5,dog", "person=", "person=.5,=.3x"])
def test_words_that_are_no_thresholds_are_refused(option: str) -> None:
    with pytest.raises(InputError, match="--class-conf"):
        parse_class_conf([option])


def test_exporting_from_the_command_line_loads_no_torch(run: Path) -> None:
    script = (
        "import sys; from glip_cli.main import app;"
        f"app(['export', {str(run)!r}], standalone_mode=False); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


# ---- images and parts


@pytest.fixture
def folder(tmp_path: Path) -> LabelledFolder:
    return LabelledFolder(tmp_path, [f"{number}.jpg" for number in range(5)])


def test_images_are_linked_unless_said_otherwise(glip: Glip, folder: LabelledFolder, tmp_path: Path) -> None:
    photos = folder.images["0.jpg"].parent
    linked, copied, bare = (tmp_path / name for name in ("linked", "copied", "bare"))
    for out, words in ((linked, ()), (copied, ("--copy-images",)), (bare, ("--no-images",))):
        assert glip("export", folder.run, "-f", "yolo", "--out", out, "--images", photos, *words).code == 0
    assert (linked / "yolo" / "images" / "0.jpg").samefile(photos / "0.jpg")
    assert not (copied / "yolo" / "images" / "0.jpg").samefile(photos / "0.jpg")
    assert not (bare / "yolo" / "images").exists()


def test_parts_are_counted_in_the_summary(glip: Glip, folder: LabelledFolder) -> None:
    words = ("export", folder.run, "-f", "coco,csv", "--split-ratio", "60/20/20", "--no-images")
    result = glip(*words, "--json")
    assert result.json["parts"] == {"train": 3, "val": 1, "test": 1}
    assert result.json["files"] == [str(folder.run / "coco"), str(folder.run / "annotations.csv")]
    assert [entry["kind"] for entry in result.json["left_out"]] == ["formats_not_split"]
    assert "train: 3 images, val: 1 images, test: 1 images" in glip(*words).stdout


def test_images_that_are_gone_are_named_and_labels_written(glip: Glip, run: Path) -> None:
    result = glip("export", run, "-f", "yolo")
    assert result.code == 0
    assert "5 images" in result.stderr and "a.jpg" in result.stderr
    assert (run / "yolo" / "labels" / "a.txt").is_file()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--split-ratio", "0.8"), "0.8"),
        (("--split-ratio", "0.8/x"), "'0.8/x'"),
        (("--split-ratio", "0.8/0.3"), "1.1"),
        (("--split-ratio", "0.8/nan"), "nan"),
        (("--copy-images", "--no-images"), "--no-images"),
        (("--copy-images",), "coco"),
        (("--split-ratio", "0.8/0.2", "-f", "csv"), "csv"),
    ],
)
def test_options_of_images_that_make_no_sense_are_refused(
    glip: Glip, run: Path, words: tuple[str, ...], named: str
) -> None:
    result = glip("export", run, *words)
    assert (result.code, "Traceback" in result.stderr) == (2, False)
    assert named in result.stderr
