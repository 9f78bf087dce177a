"""Printed values: nothing from outside is obeyed by a terminal, and nothing is read as markup."""

from __future__ import annotations

import json
import logging
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glip.detectors.spec import DetectorSpec
from glip.errors import InputError
from glip_cli import main, output
from glip_cli.output import print_json, print_line, print_table, printable, progress, say, show_logs_and_warnings
from tests.conftest import CommandResult
from tests.evaluation.few import RECORDS, truth
from tests.glip_cli.test_options import commands
from tests.labeling.fake import FakeDetector, make_images
from tests.labeling.runs import a_record, broken, write_run

Glip = Callable[..., CommandResult]

HOSTILE = "x [/foo] [red]y[/red] :cat: \x1b]0;PWN\x07 \x1b[2J\u202eab\u200b\x9b31m\x7f"
OBEYED = {"Cc", "Cs", "Zl", "Zp"}


def assert_harmless(text: str) -> None:
    """A printed text has no character that a terminal obeys or hides."""
    for line in text.split("\n"):
        bad = [c for c in line if unicodedata.category(c) in OBEYED or c in "\u202e\u200b"]
        assert not bad, (bad, line)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("glip")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x9b\x7f\x00", r"\u009b\x7f\x00"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("a\u200bb\ufeffc\u2028d\u00ade", r"a\u200bb\ufeffc\u2028d\u00ade"),
        ("name-\udcff.jpg \ud800", r"name-\xff.jpg \ud800"),
        ("\U000e0041\u3164", r"\U000e0041\u3164"),
        ("a\u200db", r"a\u200db"),
        ("[/foo] [red]x[/red] {x} :cat:", "[/foo] [red]x[/red] {x} :cat:"),
    ],
)
def test_what_a_terminal_obeys_or_hides_becomes_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Zürich, naïve, Ελλάδα, Привет, 犬, ひらがな, 한국어, ไทย, नमस्ते, עברית, العربية",
        "می\u200cخواهم",  # Persian: the joiner is part of the spelling
        "क्\u200dष क्\u200cष",  # Devanagari, likewise
        "👍🏽 👩\u200d👩\u200d👧 ❤️\u200d🔥 🇩🇪 ♥",
        "e\u0301 x² ½ “quoted” — … \u3000",
    ],
)
def test_letters_of_all_scripts_and_emoji_stay(text: str) -> None:
    assert printable(text) == text


def test_lines_tables_bars_logs_and_warnings_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    show_logs_and_warnings(logging.INFO)
    say(HOSTILE)
    print_line(HOSTILE)
    print_table((HOSTILE, "boxes"), [(HOSTILE, 1), (Path("a\udcff"), 2)])
    with progress(HOSTILE, 2) as bar:
        bar.advance()
        bar.fail()
    logging.getLogger("glip.somewhere").warning("The folder %s is missing.", HOSTILE)
    logging.getLogger("another.package").warning("%s", "a\x1b\nb")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("glip").exception("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(HOSTILE, UserWarning, stacklevel=1)
    shown = capsys.readouterr()
    assert_harmless(shown.out + shown.err)
    assert shown.out.count("[/foo] [red]y[/red] :cat: \\x1b]0;PWN\\x07") == 3
    for expected in ("The folder x [/foo]", "UserWarning: x [/foo]", "ValueError: x [/foo]", r"a\x1b\nb"):
        assert expected in shown.err
    assert r"a\xff" in shown.out


def test_json_stays_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    print_json({HOSTILE: ["犬", "\U000e0041", None, 0.5]})
    out = capsys.readouterr().out
    assert_harmless(out)
    assert "犬" in out
    assert json.loads(out) == {HOSTILE: ["犬", "\U000e0041", None, 0.5]}
    print_json({"file": "a\udcff", "others": ("\ud800", 1)})
    assert json.loads(capsys.readouterr().out) == {"file": r"a\xff", "others": [r"\ud800", 1]}


def scenarios(folder: Path) -> dict[str, list[list[object]]]:
    """Returns command lines with hostile names by command; the commands do their work on them."""
    names = folder / "names.txt"
    names.write_text(f"{HOSTILE}\nstar\n")
    images = folder / f"in {HOSTILE.replace('/', '-')}"
    make_images(images, 2)
    (images / f"broken {HOSTILE.replace('/', '-')}.jpg").write_bytes(b"no")
    labels, data = folder / "labels", truth(folder / "few.json", (HOSTILE, "dog"))
    write_run(labels, [a_record(f"{HOSTILE}/a.jpg"), broken(f"{HOSTILE}.jpg"), *RECORDS], names=(HOSTILE, "dog", "car"))
    results = folder / "results.json"
    results.write_text(json.dumps([{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]))
    file = folder / f"file {HOSTILE.replace('/', '-')}"
    file.write_bytes(b"\x80\x04nothing")
    return {
        "label": [
            ["label", images, "-p", f"@{names}", "-o", folder / "out", "--imgsz", 32],
            ["label", images, "-p", f"@{names}", "-o", folder / "out2", "--imgsz", 32, "--json"],
            ["label", images, "-p", f"@{names}", "-o", folder / "out3", "--imgsz", 32, "--dry-run"],
        ],
        "export": [
            ["export", labels, "-f", "csv,coco", "-o", folder / "export", "--conf", 0.1],
            ["export", labels, "-o", folder / "export", "--class-conf", f"{HOSTILE}z=0.5"],
        ],
        "eval": [
            ["eval", "-d", data, "--predictions", results, "--images", images, "-o", folder / "eval"],
            ["eval", "-d", data, "--predictions", results, "--images", images, "-o", folder / "e2", "--json"],
            ["eval", "-d", data, "--predictions", file],
        ],
        "calibrate": [["calibrate", data, "-r", labels, "-o", folder / "classes.yaml", "--resamples", 5]],
        "finetune": [["finetune", file], ["finetune", data, "--images", images, "--mode", HOSTILE]],
        "pretrain": [["pretrain", "-o", folder / "p", "--set", HOSTILE], ["pretrain", "-o", file, "--settings", file]],
        "bench": [["bench", "--architecture", HOSTILE], ["bench", "--size", HOSTILE]],
        "models list": [["models", "list", "--json"]],
        "models verify": [["models", "verify", file]],
        "models pull": [["models", "pull", HOSTILE]],
        "models inspect": [["models", "inspect", file]],
        "models convert": [["models", "convert", file, "-o", folder / "c"]],
        "models random": [["models", "random", folder / "r", "--tokenizer", file]],
        "data synthetic": [["data", "synthetic", folder / "s", "--sprites", file, "-n", 1]],
    }


def test_no_command_prints_names_raw(glip: Glip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DetectorSpec, "open", lambda spec, on_download=None: FakeDetector())
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    own = scenarios(tmp_path)
    assert set(own) <= set(commands())
    for words, command in commands().items():
        if words.startswith("review"):  # in tests/review, where there is a database
            continue
        # A command without lines of its own is refused what it requires; others would start hours of work.
        required = [
            word
            for parameter in command.params
            if parameter.required
            for word in (*(parameter.opts[:1] if parameter.opts[0].startswith("-") else ()), HOSTILE)
        ]
        lines = [[*words.split(), f"--{HOSTILE}"], *own.get(words, [[*words.split(), *required]])]
        for line in lines:
            done = glip(*line)
            assert done.code in (0, 1, 2), (line, done)
            assert "Traceback" not in done.stderr, (line, done.stderr)
            assert_harmless(done.stdout + done.stderr)
            if "--json" in line and done.code == 0:
                assert done.json
    assert glip(f"no such {HOSTILE}").code == 2


def test_only_one_module_prints() -> None:
    folder = Path(output.__file__).parent
    for file in folder.glob("*.py"):
        if file.name not in ("output.py", "streams.py"):
            text = file.read_text()
            for way in ("typer.echo", "typer.secho", " print(", "Console(", "sys.stdout.write", "sys.stderr.write"):
                uses = [line for line in text.splitlines() if way in line and not line.lstrip().startswith("def ")]
                assert not uses, (file.name, uses)


def test_a_mistake_of_the_program_is_shown_harmlessly(
    glip: Glip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr("glip.labeling.records.read_run", fails)
    done = glip("export", tmp_path)
    assert done.code == 1 and r"RuntimeError: x [/foo]" in done.stderr
    assert_harmless(done.stderr)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["label", "--promt", "x"], "--promt"),
        (["label"], "SOURCE"),
        (["eval", "--limit", "many"], "many"),
        (["nothing"], "nothing"),
        (["review", "pushh"], "pushh"),
        (["export", "a", "b\x1b"], r"b\x1b"),
    ],
)
def test_words_that_are_no_command_line_get_one_line_and_exit_code_2(glip: Glip, words: list[str], value: str) -> None:
    done = glip(*words)
    assert (done.code, done.stdout) == (2, "")
    assert value in done.stderr and "--help`" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_messages_of_the_library_are_one_line(glip: Glip, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise InputError(f"conf is {HOSTILE}\n; it must be less.")

    monkeypatch.setattr("glip.labeling.records.read_run", fails)
    done = glip("export", "folder")
    assert done.code == 2
    assert done.stderr.startswith("error: --conf is x [/foo]") and done.stderr.count("\n") == 1
    assert_harmless(done.stderr)
    assert main.app is not None and sys.stdout is not None
