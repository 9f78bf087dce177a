"""`glip label` at the terminal: words in, a summary out, exit codes."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from glip.detectors.spec import DetectorSpec, InferenceOptions
from glip.errors import InputError
from glip.labeling import job as job_module
from glip.labeling.image_prompts import CaptionSource
from glip.labeling.job import CANDIDATES, LabelJob
from glip.labeling.records import read_run
from glip.labeling.tiling import Tiling
from glip.weights.zoo import DEFAULT
from glip_cli import label as label_module
from tests.conftest import CommandResult
from tests.labeling.fake import FakeDetector, make_images

Command = Callable[..., CommandResult]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of ten images; models are not loaded."""
    monkeypatch.setattr(DetectorSpec, "open", lambda spec, on_download=None: FakeDetector())
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "in", 10)
    return tmp_path / "in"


def test_a_summary_goes_to_stdout_and_talk_to_stderr(images: Path, glip: Command) -> None:
    done = glip("label", images, "--prompt", "person . dog .", "--out", "out", "--imgsz", 32, "--conf", 0.05)
    assert done.code == 0
    boxes = json.loads(Path("out/annotations.coco.json").read_text())["annotations"]
    names = {1: "person", 2: "dog"}
    counts = {name: sum(names[box["category_id"]] == name for box in boxes) for name in names.values()}
    assert done.stdout.startswith("10 images: 10 labelled, 0 failed (")
    assert "boxes from score 0.05" in done.stdout and "glip export out --conf" in done.stdout
    for name, count in counts.items():
        assert [name, str(count)] in [line.split() for line in done.stdout.splitlines()]
    assert done.stdout.endswith("out/annotations.coco.json\nout/report.html\n"), "empty files are not listed"
    assert "Labelling" in done.stderr
    assert "10/10" in done.stderr


def test_results_go_to_labels_unless_told_otherwise(images: Path, glip: Command) -> None:
    assert glip("label", images, "-p", "dog", "--imgsz", 32).code == 0
    assert Path("labels/annotations.coco.json").is_file()


def test_json_is_all_there_is_on_stdout(images: Path, glip: Command) -> None:
    done = glip("label", images, "-p", "person . dog .", "-o", "out", "--imgsz", 32, "--json")
    assert done.code == 0
    assert done.json["images"] == 10
    assert list(done.json["boxes"]) == ["person", "dog"]
    assert done.json["files"] == ["out/annotations.coco.json", "out/errors.jsonl", "out/report.html"]
    assert done.json["images_per_second"] > 0


def test_the_same_command_again_says_that_all_is_done(images: Path, glip: Command) -> None:
    words = ("label", images, "-p", "dog", "-o", "out", "--imgsz", 32)
    glip(*words)
    done = glip(*words)
    assert done.code == 0
    assert done.stdout.startswith("10 images: 10 labelled, 10 of them by earlier runs, 0 failed\n")
    assert "10 of 10 images" in done.stderr


def test_failed_images_make_exit_code_1_and_are_pointed_at(images: Path, glip: Command) -> None:
    (images / "broken.jpg").write_bytes(b"no")
    done = glip("label", images, "-p", "dog", "-o", "out", "--imgsz", 32)
    assert done.code == 1
    assert "1 of 11 images" in done.stderr and "out/errors.jsonl" in done.stderr
    assert "1 failed" in done.stdout
    assert Path("out/annotations.coco.json").is_file()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("in", "-p", " . "), "prompt"),
        (("nowhere", "-p", "dog"), "'nowhere'"),
        (("in", "-p", "dog", "--floor", "2"), "--floor is 2.0"),
        (("in", "-p", "dog", "--record", "boxes"), "--record is 'boxes'"),
        (("in", "-p", "dog", "--imgsz", "7"), "7"),
        (("in", "-p", "dog", "--shards", "7"), "--shards"),
        (("in",), "--prompt"),
        (("in", "-p", "dog", "--classes", "c.yaml"), "--classes"),
        (("in", "--classes", "nowhere.yaml"), "nowhere.yaml"),
        (("in", "-p", "@cocco"), "'@coco'"),
        (("in", "-p", "dog", "--captions", "c.csv"), "--prompt"),
        (("in", "--captions", "c.xls"), "c.xls"),
        (("in", "-p", "a dog", "--tokens-positive", "[[[2,9]]]"), "(2, 9)"),
        (("in", "-p", "a dog", "--tokens-positive", "dog"), "dog"),
        (("in", "--tokens-positive", "[[[2,5]]]"), "--prompt"),
        (("in", "-p", "dog", "--tile", "7"), "--tile is 7"),
        (("in", "-p", "dog", "--tile", "640", "--overlap", "1"), "--overlap is 1.0"),
        (("in", "-p", "dog", "--tile", "640", "--tile-merge", "all"), "--tile-merge is 'all'"),
        (("in", "-p", "dog", "--tile", "640", "--record", "candidates"), "candidates"),
    ],
)
def test_an_error_names_the_option_or_its_value_and_ends_with_2(
    images: Path, glip: Command, words: tuple[str, ...], named: str
) -> None:
    done = glip("label", *words)
    assert done.code == 2
    assert named in done.stderr
    assert done.stdout == ""
    assert not Path("labels/run.json").exists()


def test_another_configuration_is_refused_unless_overwrite_is_given(images: Path, glip: Command) -> None:
    glip("label", images, "-p", "dog", "-o", "out", "--imgsz", 32)
    other = ("label", images, "-p", "cat", "-o", "out", "--imgsz", 32)
    done = glip(*other)
    assert done.code == 2
    assert "out" in done.stderr and '["dog"]' in done.stderr and '["cat"]' in done.stderr
    assert glip(*other, "--overwrite").code == 0
    assert read_run(Path("out")).names == ("cat",)


def test_every_option_reaches_the_job(images: Path, glip: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[LabelJob] = []

    def stop(job: LabelJob, **rest: object) -> None:
        asked.append(job)
        raise InputError("that is all")

    monkeypatch.setattr(job_module, "label", stop)
    options = "--model m --floor 0.1 --conf 0.4 --device cuda:1 --precision bf16 --batch 3 --imgsz 64 --limit 5"
    more = "--record candidates --overwrite --preview 2 --shard-size 9 --offline --no-report"
    glip("label", images, "-p", "a, b, a", "-o", "x/y", *options.split(), *more.split())
    assert asked == [
        LabelJob(
            sources=(str(images),),
            prompts=("a", "b"),
            out=Path("x/y"),
            detector=DetectorSpec("m", device="cuda:1", precision="bf16", offline=True),
            limits=replace(CANDIDATES, floor=0.1),
            options=InferenceOptions(64, 3),
            conf=0.4,
            limit=5,
            overwrite=True,
            preview=2,
            shard_size=9,
            report=False,
        )
    ]


# What the command takes in words, and hands to the job as something else.
RESHAPED = ("sources", "prompts", "detector", "limits", "options", "classes", "tiling")


def test_the_command_and_the_job_have_the_same_defaults() -> None:
    of_command = {name: p.default for name, p in inspect.signature(label_module.label).parameters.items()}
    parts = (LabelJob, DetectorSpec, InferenceOptions)
    of_job = {field.name: field.default for part in parts for field in fields(part) if field.name not in RESHAPED}
    of_command["model"] = of_command["model"] or DEFAULT  # else that of an adapter
    assert {name: of_command[name] for name in of_job} == of_job


def test_a_long_class_list_shows_its_most_frequent_classes(
    images: Path, glip: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_module, "MAX_CLASSES_SHOWN", 5)
    names = [f"thing{number}" for number in range(60)]
    done = glip("label", images, "-p", ", ".join(names), "-o", "out", "--imgsz", 32, "--conf", 0.05)
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("thing")]
    counts = [int(count) for _, count in rows]
    assert len(rows) == 5
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 0
    assert "more classes" in done.stdout and "no boxes: thing" in done.stdout


def test_previews_are_drawn_on_request(images: Path, glip: Command) -> None:
    done = glip("label", images, "-p", "dog", "-o", "out", "--imgsz", 32, "--conf", 0.05, "--preview", 2)
    assert done.code == 0
    assert len(list(Path("out/preview").glob("*.jpg"))) == 2
    assert "out/preview/001-" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no file names that are not text")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_folders_whose_names_are_no_text_are_labelled_all_the_same(
    images: Path, glip: Command, more: tuple[str, ...]
) -> None:
    odd = Path(os.fsdecode(b"caf\xe9"))
    images.rename(odd)
    done = glip("label", odd, "-p", "dog", "-o", odd / "out", "--imgsz", 32, "--preview", 1, *more)
    assert done.code == 0
    assert ("caf\\\\xe9" if more else "caf\\xe9") in done.stdout
    assert len(json.loads((odd / "out" / "annotations.coco.json").read_text())["images"]) == 10


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_interrupts_are_taken_over_while_labelling_only_and_not_if_they_are_ignored(
    images: Path, glip: Command, monkeypatch: pytest.MonkeyPatch, before: Any
) -> None:
    during = []
    detector = FakeDetector(fail=lambda batch: during.append(signal.getsignal(signal.SIGINT)))
    monkeypatch.setattr(DetectorSpec, "open", lambda spec, on_download=None: detector)
    usual = signal.signal(signal.SIGINT, before)
    try:
        assert glip("label", images, "-p", "dog", "--imgsz", 32).code == 0
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, usual)
    assert len(during) == 10
    assert (during[0] is before) == (before is signal.SIG_IGN)


def test_a_model_that_has_to_be_fetched_shows_its_progress(
    images: Path, glip: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(spec: DetectorSpec, on_download: Callable[[str, int, int | None], None]) -> FakeDetector:
        for done in range(0, 101, 50):
            on_download("http://somewhere/weights.pth", done * 10**6, None)
        return FakeDetector()

    monkeypatch.setattr(DetectorSpec, "open", load)
    done = glip("label", images, "-p", "dog", "-o", "out", "--imgsz", 32)
    assert done.code == 0
    assert "weights.pth" in done.stderr
    assert "10/10" in done.stderr


def test_a_class_file_decides_classes_ids_and_thresholds(images: Path, glip: Command) -> None:
    Path("c.yaml").write_text("animal:\n  prompts: [dog, person]\n  id: 7\n  conf: 0.05\ncar:\n")
    done = glip("label", images, "--classes", "c.yaml", "-o", "out", "--imgsz", 32, "--json")
    assert done.code == 0
    assert list(done.json["boxes"]) == ["animal", "car"]
    coco = json.loads(Path("out/annotations.coco.json").read_text())
    assert [(row["id"], row["name"]) for row in coco["categories"]] == [(7, "animal"), (1, "car")]
    assert read_run(Path("out")).names == ("dog", "person", "car")


def test_the_names_of_a_benchmark_keep_their_category_ids(images: Path, glip: Command) -> None:
    done = glip("label", images, "--prompt", "@coco", "-o", "out", "--imgsz", 32)
    assert done.code == 0
    categories = json.loads(Path("out/annotations.coco.json").read_text())["categories"]
    assert len(categories) == 80
    assert {row["name"]: row["id"] for row in categories}["toothbrush"] == 90


def test_phrases_of_a_caption_are_looked_for_where_their_characters_stand(images: Path, glip: Command) -> None:
    words = ("label", images, "-p", "a dog and a person", "--tokens-positive", "[[[2,5]],[[10,18]]]", "-o", "out")
    done = glip(*words, "--imgsz", 32, "--json")
    assert done.code == 0
    assert list(done.json["boxes"]) == ["dog", "a person"]
    assert [plan.caption for plan in read_run(Path("out")).captions] == ["a dog and a person"]
    moved = glip(*words[:5], "[[[0,5]],[[10,18]]]", *words[6:], "--imgsz", 32)
    assert moved.code == 2
    assert "out" in moved.stderr


def test_tiles_and_captions_reach_the_job(images: Path, glip: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[LabelJob] = []

    def stop(job: LabelJob, **rest: object) -> None:
        asked.append(job)
        raise InputError("that is all")

    monkeypatch.setattr(job_module, "label", stop)
    glip("label", images, "-p", "dog", "--tile", 640, "--overlap", 0.3, "--tile-merge", "wbf")
    glip("label", images, "--captions", "c.csv", "--phrase", "a dog", "--phrase", "a car", "--chunker", "textblob")
    assert asked[0].tiling == Tiling(640, 0.3, "wbf")
    assert asked[1].prompts == CaptionSource("c.csv", "textblob", ("a dog", "a car"))


def test_a_dry_run_shows_the_plan_and_writes_nothing(images: Path, glip: Command) -> None:
    words = ("label", images, "--prompt", "person . dog .", "--imgsz", 32, "--dry-run")
    done = glip(*words)
    assert done.code == 0
    assert done.stdout.startswith("caption 1: 3 tokens, 2 names: person | dog\n  person. dog\n10 images\ntime: about ")
    plan = glip(*words, "--json").json
    assert plan["prompts"] == [{"caption": "person. dog", "names": ["person", "dog"], "tokens": 3}]
    assert plan["images"] == 10
    assert 0 < plan["seconds"] == pytest.approx(10 * plan["seconds_per_image"])
    assert not Path("labels").exists()


def test_classes_and_prompt_show_the_same_plan(images: Path, glip: Command) -> None:
    Path("c.yaml").write_text("[person, dog]")
    plans = [
        glip("label", images, *words, "--imgsz", 32, "--dry-run", "--json").json["prompts"]
        for words in (("-p", "person, dog"), ("-c", "c.yaml"))
    ]
    assert plans[0] == plans[1]
