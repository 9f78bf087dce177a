"""Files and folders of version 0.1.0 are still read, exported, resumed and reviewed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from glip.detectors.spec import DetectorSpec
from glip.errors import InputError
from glip.labeling.classes import load_class_file
from glip.labeling.export import export
from glip.labeling.filtering import ExportSettings
from glip.labeling.records import read_records, read_run
from glip.labeling.shards import stamp
from glip.review.annotations import APPROVE, Proposal, ProposedImage
from glip.review.database import STATE, DatasetState, as_image
from glip.review.push import _digest
from glip.review.source import open_source
from glip.run_folder import refuse_change
from glip.training.checkpointing import read_metrics
from glip.training.finetune_job import finished_result
from glip.training.presets import PretrainPreset, with_new_names
from glip.weights.adapter import load_adapter
from tests.conftest import ROOT, CommandResult
from tests.labeling.fake import FakeDetector

Glip = Callable[..., CommandResult]
FILES = Path(__file__).parent / "v0_1_0"
IMAGES = ROOT / "examples" / "images"
TUNED = FILES / "tuned/Aircraft/prompt/1-shot/seed-3"
FOLDERS = ("labels", "labels_captions", "labels_classes")


def content_of(path: Path) -> Any:
    return json.loads(path.read_bytes())


def records_of(folder: Path) -> list[bytes]:
    """Returns all lines of the records, sorted."""
    return sorted(line for file in (folder / "records").glob("*.jsonl") for line in file.read_bytes().splitlines())


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """Copies a folder of 0.1.0, with records that fit the images in `tmp_path/images`."""

    def copied(name: str) -> Path:
        folder = Path(shutil.copytree(FILES / name, tmp_path / name))
        shutil.copytree(IMAGES, tmp_path / "images", dirs_exist_ok=True)
        (tmp_path / "images" / "zz-broken.jpg").write_text("broken\n")
        for shard in (folder / "records").glob("*.jsonl"):
            lines = [json.loads(line) for line in shard.read_bytes().splitlines()]
            for line in lines:
                _, _, mark = re.fullmatch(r"(\d+)-(\d+)(-.*)?", line["stamp"]).groups("")  # type: ignore[union-attr]
                line["stamp"] = stamp(tmp_path / "images" / line["file_name"]) + mark
            shard.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        return folder

    return copied


@pytest.mark.parametrize("name", FOLDERS)
def test_a_label_folder_exports_the_same_boxes(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FILES / name, tmp_path / name))
    run = read_run(folder)
    classes = load_class_file(FILES / "labels_classes.yaml") if name == "labels_classes" else None
    export(folder, tmp_path / "out", ["coco"], ExportSettings(conf=run.job["conf"], classes=classes))
    before, now = (content_of(path / "annotations.coco.json") for path in (FILES / name, tmp_path / "out"))
    for annotation in before["annotations"]:
        annotation["segmentation"] = []  # 0.1.0 left the key out, which some importers need
    for key in ("images", "annotations", "categories"):
        assert now[key] == before[key], key


def test_records_hold_boxes_captions_and_errors() -> None:
    records = {record.file_name: record for record in read_records(FILES / "labels_captions")}
    hearts = records["hearts.jpg"]
    assert (hearts.names, hearts.caption) == (["a red star", "a pink heart"], "a red star beside a pink heart")
    assert [round(score, 3) for score in hearts.scores] == [0.721, 0.505, 0.401]
    assert records["taxis.jpg"].error


def configuration(name: str) -> tuple[object, ...]:
    """Returns the words that made a folder, but for the sources."""
    return {
        "labels": ("--prompt", "red star . pink heart .", "--floor", 0.4, "--shard-size", 2),
        "labels_captions": ("--captions", FILES / "captions.csv", "--floor", 0.3),
        "labels_classes": ("--classes", FILES / "labels_classes.yaml", "--tile", 200, "--floor", 0.4),
    }[name]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_same_command_resumes_a_label_folder(
    glip: Glip, copy: Callable[[str], Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(name)
    detector = FakeDetector(sha256=read_run(folder).model_sha256, imgsz=224, conf=0.6)
    opened: list[str] = []

    def open_detector(spec: DetectorSpec, on_download: object = None) -> FakeDetector:
        opened.append(spec.model)
        return detector

    monkeypatch.setattr(DetectorSpec, "open", open_detector)
    monkeypatch.chdir(tmp_path)
    if name == "labels_classes":
        (tmp_path / "images" / "zz-broken.jpg").unlink()
    before = records_of(folder)
    done = glip("label", "images", "-o", folder, "--model", "nano", "--no-report", "--json", *configuration(name))
    assert done.code == (0 if name == "labels_classes" else 1), done.stderr
    # An image with an error is tried again; all others are done.
    assert done.json["earlier"] + done.json["failed"] >= done.json["images"]
    assert (opened, detector.batches) == (["nano"], [])
    boxes = [line for line in before if b'"error"' not in line]
    assert [line for line in records_of(folder) if b'"error"' not in line] == boxes
    refused = glip("label", "images", "-o", folder, "--model", "nano", "--prompt", "dog", "--floor", 0.4)
    assert refused.code == 2
    assert str(folder) in refused.stderr


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("labels", "6aff6552d0dc5886f4a8c12443175a30cc216099f2d9994a94a5f8369926891c"),
        ("labels_captions", "ba9ae733f476cd63d4fb751b68bc3b21f3b4ce96b89f1f5b7e250b47f2a07cbe"),
        ("labels_classes", "d3b73427b4960cc33450a544851ddc607c6f309a852e45a92fc5e67d2fd1e2ae"),
    ],
)
def test_a_label_folder_is_the_same_source_of_a_review(name: str, identity: str) -> None:
    """A dataset that 0.1.0 pushed stores this identity; another one would be refused."""
    assert open_source(FILES / name, images=[str(IMAGES)]).identity == identity


def test_an_image_that_was_pushed_has_the_same_digest() -> None:
    """With another digest, every image would be written again by the next push."""
    proposal = Proposal(
        "a.jpg@1#0",
        "dog",
        (1.0, 0.5, 2.0, 1.5),
        score=0.75,
        prompt="dog",
        margin=0.25,
        entropy=0.5,
        hint="likely miss",
        annotation_id=3,
        area=3.0,
        tags=frozenset({APPROVE}),
    )
    image = ProposedImage("a.jpg", "/x/a.jpg", 4, 3, (proposal,), image_id=7, caption="a dog")
    assert _digest(image) == "7a1cca17a2b6e07f1b2444771f10eb0f"


def test_what_fiftyone_stores_is_read() -> None:
    stored = content_of(FILES / "review.json")
    state = msgspec.convert(stored["info"][STATE], DatasetState)
    assert (state.source, state.next_annotation_id, state.next_image_id) == ("labels", 7, 4)
    assert msgspec.to_builtins(state) == stored["info"][STATE]
    image = as_image(stored["document"])
    assert (image.file_name, image.width, image.height) == ("hearts.jpg", 400, 300)
    assert [label.label for label in image.labels] == ["pink heart", "red hexagon"]
    assert image.proposals[0].bbox == (178.04644775390625, 161.37974548339844, 79.15676879882812, 74.24822998046875)


def test_a_calibrated_class_file_is_read() -> None:
    classes = load_class_file(FILES / "classes.yaml")
    assert classes.names == ("red star", "pink heart", "blue circle", "red hexagon")


def test_the_metrics_of_a_training_run_are_read() -> None:
    rows = read_metrics(TUNED)
    assert [row["step"] for row in rows] == [1, 1]
    assert rows[0]["images_per_second"] == 2.68


def test_a_finished_tuning_run_is_read_and_another_configuration_is_refused() -> None:
    configuration = content_of(TUNED / "run.json")
    result = finished_result(TUNED, configuration)
    assert result is not None
    assert result.train_images == content_of(TUNED / "metrics.json")["train_pictures"]
    assert result.test["AP"] == content_of(TUNED / "metrics.json")["test"]["AP"]
    other = configuration | {"seed": 30, "recipe": configuration["recipe"] | {"epochs": 77}}
    with pytest.raises(InputError, match=r"seed.*\b3\b.*\b30\b.*recipe\.epochs.*77"):
        finished_result(TUNED, other)


def test_the_configuration_of_a_pretraining_run_is_compared_under_new_names() -> None:
    earlier = with_new_names(content_of(FILES / "pretrained/run.json"))
    preset = msgspec.convert(earlier["preset"], PretrainPreset)
    assert preset.fit.schedule.minimum == 0.02
    refuse_change(FILES / "pretrained", earlier, {"preset": msgspec.to_builtins(preset), "init": None})
    changed = msgspec.to_builtins(replace(preset, batch_size=7))
    with pytest.raises(InputError, match=r"preset\.batch_size.*16.*7"):
        refuse_change(FILES / "pretrained", earlier, {"preset": changed, "init": None})


def test_an_adapter_is_read(tmp_path: Path) -> None:
    header = content_of(FILES / "adapter_header.json")
    save_file({"prompt_offset": torch.ones(256, 128)}, tmp_path / "a.safetensors", header["__metadata__"])
    adapter = load_adapter(tmp_path / "a.safetensors")
    assert (adapter.names, adapter.category_ids, adapter.caption) == (
        ("helicopter", "rocket"),
        (1, 2),
        "helicopter. rocket",
    )
