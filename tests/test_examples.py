"""The examples run."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, CommandResult


def test_things_are_found_in_a_few_lines(
    glip: Callable[..., CommandResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model"
    assert glip("models", "random", model, "--architecture", "tiny").code == 0
    image = ROOT / "examples" / "images" / "taxis.jpg"
    monkeypatch.setattr(sys, "argv", ["find_things.py", str(model), "taxi . star .", str(image)])
    monkeypatch.setattr("glip.detectors.glip.Detector.predict", _low_threshold())
    runpy.run_path(str(ROOT / "examples" / "find_things.py"), run_name="__main__")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(str(image))]
    assert lines
    assert all(line[1] in ("taxi", "star") and len(line) == 7 for line in lines)


def _low_threshold() -> Callable[..., object]:
    """The random model is never as sure as the example asks for."""
    from glip.detectors.glip import Detector

    predict = Detector.predict
    return lambda self, images, prompt, score_threshold: predict(self, images, prompt, 0.05, imgsz=320)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def lines_of(name: str, *words: object, capsys: pytest.CaptureFixture[str]) -> list[str]:
    example = runpy.run_path(str(ROOT / "examples" / name))
    capsys.readouterr()
    example["main"](*map(str, words))
    return capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("one_thread")
def test_a_folder_is_labelled_and_its_thresholds_are_chosen(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = ROOT / "examples" / "images", work / "labels"
    lines = lines_of("label_folder.py", images, out, "pink heart . taxi", capsys=capsys)
    counts = {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in lines}
    assert counts["pink heart"] >= 1
    assert counts["at 0.7:"] <= counts["pink heart"] + counts["taxi"]
    assert list((out / "sure").rglob("*.txt"))
    lines = lines_of("choose_thresholds.py", ROOT / "examples" / "annotations.json", out, capsys=capsys)
    thresholds = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in lines}
    assert 0.05 <= float(thresholds["pink heart"]) <= 1


@pytest.mark.usefixtures("one_thread")
def test_boxes_are_drawn(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = ROOT / "examples" / "images" / "hearts.jpg"
    (line,) = lines_of("draw_boxes.py", image, work / "drawn.png", "pink heart", capsys=capsys)
    assert int(line.split()[0]) >= 1
    assert (work / "drawn.png").stat().st_size > 1000


@pytest.mark.usefixtures("one_thread")
def test_the_notebook_runs_from_top_to_bottom(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    monkeypatch.chdir(work)
    monkeypatch.setattr("tempfile.tempdir", str(work))
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "a notebook is stored without its outputs"
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert sum(names["summary"].boxes.values()) >= 2  # type: ignore[attr-defined]


def test_the_true_boxes_fit_the_images() -> None:
    from PIL import Image

    truth = json.loads((ROOT / "examples" / "annotations.json").read_text(encoding="utf-8"))
    images = {image["id"]: image for image in truth["images"]}
    assert {image["file_name"] for image in images.values()} == {
        path.name for path in (ROOT / "examples" / "images").iterdir()
    }
    for image in images.values():
        with Image.open(ROOT / "examples" / "images" / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"])
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        image = images[annotation["image_id"]]
        assert 0 <= x < x + width <= image["width"]
        assert 0 <= y < y + height <= image["height"]
