"""`glip data synthetic`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from glip.data.coco import load_coco
from glip.data.synthetic import MINI_ODINW, emoji
from glip.data.synthetic.words import HELD_OUT
from glip.errors import InputError
from glip_cli.data import parse_size
from tests.conftest import CommandResult

Glip = Callable[..., CommandResult]


@pytest.fixture(autouse=True)
def no_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes only, so that every machine shows the same."""
    monkeypatch.setattr(emoji, "FONT_FOLDERS", ())


def test_a_folder_is_written_and_summed_up(glip: Glip, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = glip("data", "synthetic", out, "--count", 4, "--seed", 2, "--size", "96x64", "--json")
    assert result.code == 0
    boxes = load_coco(out / "annotations.json")
    assert result.json == {
        "folder": str(out),
        "images": 4,
        "boxes": len(boxes.annotations),
        "classes": len(boxes.categories),
    }
    assert {(image.width, image.height) for image in boxes.images} == {(96, 64)}
    assert sorted(path.name for path in out.iterdir()) == ["annotations.json", "captions.json", "images"]
    assert "4/4" in result.stderr


def test_the_table_goes_to_stdout_and_the_advice_on_fonts_to_stderr(glip: Glip, tmp_path: Path) -> None:
    result = glip("data", "synthetic", tmp_path / "out", "--count", 1, "--size", 64)
    assert "images" in result.stdout
    assert "apt-get" not in result.stdout
    assert "apt-get install fonts-noto-color-emoji" in result.stderr


def test_the_options_reach_the_scenes(glip: Glip, tmp_path: Path) -> None:
    folder = tmp_path / "sprites"
    folder.mkdir()
    for name in ("owl.png", "old_shoe.png", "broken_umbrella.png"):
        Image.new("RGB", (30, 30), (200, 10, 10)).save(folder / name)
    common = ("--count", 12, "--size", "128-140", "--sprites", folder)

    def classes(*words: object) -> set[str]:
        out = tmp_path / "-".join(map(str, words)).replace(" ", "_")
        assert glip("data", "synthetic", out, *common, *words).code == 0
        return set(load_coco(out / "annotations.json").names)

    assert classes("--split", "held out") == {"owl"}
    assert classes("--shapes", 0) == {"old shoe", "broken umbrella"}
    assert classes("--shapes", 0, "--names", 1) == {"old shoe"}
    assert classes("--shapes", 0, "--names", 1, "--workers", 2) == {"old shoe"}
    assert not classes("--shapes", 1) & {"old shoe", "broken umbrella"}


def test_mini_odinw_is_written(glip: Glip, tmp_path: Path) -> None:
    (tmp_path / "sprites").mkdir()
    for name in (*HELD_OUT, "old shoe"):
        Image.new("RGB", (30, 30), (200, 10, 10)).save(tmp_path / f"sprites/{name}.png")
    out = tmp_path / "out"
    words = ("data", "synthetic", out, "--mini-odinw", "--count", 10, "--sprites", tmp_path / "sprites")
    result = glip(*words, "--json")
    assert result.code == 0, result.stderr
    assert result.json["folder"] == str(out)
    assert [item["folder"] for item in result.json["sets"]] == [str(out / item.name) for item in MINI_ODINW]
    assert {item["images"] for item in result.json["sets"]} == {10}
    assert len(list(out.glob("*/train/annotations_without_background.json"))) == 13
    assert "130/130" in result.stderr
    assert glip(*words).code == 2


def test_a_theme_is_written_without_a_font_too(glip: Glip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glip.data.synthetic.sprite_pool.find_font", lambda: None)
    result = glip("data", "synthetic", tmp_path / "out", "--theme", "fruit", "--count", 10, "--json")
    assert result.code == 0, result.stderr
    assert [Path(row["folder"]).name for row in result.json["sets"]] == ["Shapes"]
    assert result.json["left_out"][0]["count"] == 4
    assert (tmp_path / "out/Shapes/train/annotations_without_background.json").is_file()
    unknown = glip("data", "synthetic", tmp_path / "x", "--theme", "cars")
    assert unknown.code == 2 and "--theme is 'cars'" in unknown.stderr
    both = glip("data", "synthetic", tmp_path / "x", "--theme", "fruit", "--mini-odinw")
    assert both.code == 2 and "--theme cannot be used with --mini-odinw" in both.stderr


def test_mini_odinw_without_a_font_says_what_to_do(glip: Glip, tmp_path: Path) -> None:
    result = glip("data", "synthetic", tmp_path / "out", "--mini-odinw")
    assert result.code == 2
    assert "elephant" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--count", 0), "0"),
        (("--size", "big"), "--size is 'big'"),
        (("--size", "30"), "30"),
        (("--split", "test"), "'test'"),
        (("--split", "held out"), "'held out'"),
        (("--shapes", 2), "2"),
        (("--sprites", "absent"), "absent"),
        (("--mini-odinw", "--split", "seen", "--size", "99"), "--size and --split"),
    ],
)
def test_an_error_names_the_option_or_its_value(
    glip: Glip, tmp_path: Path, words: tuple[object, ...], named: str
) -> None:
    result = glip("data", "synthetic", tmp_path / "out", *words)
    assert result.code == 2
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "minimum", "maximum"),
    [
        ("320", (320, 320), (320, 320)),
        ("640x480", (640, 480), (640, 480)),
        ("160-480", (160, 160), (480, 480)),
        ("160x120-640x480", (160, 120), (640, 480)),
        (" 640X480 ", (640, 480), (640, 480)),
    ],
)
def test_sizes_are_read(text: str, minimum: tuple[int, int], maximum: tuple[int, int]) -> None:
    assert parse_size(text) == (minimum, maximum)


@pytest.mark.parametrize("text", ["", "x", "-5", "10x", "1.5", "10-20-30"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(text))):
        parse_size(text)


def test_neither_the_command_nor_the_scenes_load_torch() -> None:
    check = "import sys, glip_cli.data, glip.data.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
