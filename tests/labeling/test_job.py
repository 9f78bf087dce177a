"""The labelling job from sources to annotation file, with a detector that needs no model."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glip.detectors.base import DetectionLimits
from glip.detectors.spec import InferenceOptions
from glip.errors import InputError, JobFailed
from glip.images import list_images
from glip.labeling.job import CANDIDATES, LabelJob, LabelSummary, label
from glip.labeling.records import Record, read_all, read_records, read_run
from glip.labeling.tiling import Tiling
from glip.labeling.worker import ImageDone
from tests.labeling.fake import NAMES, FakeDetector, final_bytes, make_images


@pytest.fixture
def job(tmp_path: Path) -> LabelJob:
    make_images(tmp_path / "in", 10)
    return LabelJob((str(tmp_path / "in"),), NAMES, out=tmp_path / "out", options=InferenceOptions(32), shard_size=4)


def run(job: LabelJob, detector: FakeDetector | None = None) -> LabelSummary:
    return label(job, detector=detector or FakeDetector())


def coco(out: Path) -> Any:
    return json.loads((out / "annotations.coco.json").read_text())


def test_a_folder_becomes_an_annotation_file_records_and_a_note_of_the_question(job: LabelJob) -> None:
    summary = run(job)
    written = coco(job.out)
    assert [image["file_name"] for image in written["images"]] == [f"p{i}.png" for i in range(10)]
    records = list(read_records(job.out))
    strong = [(r.file_name, np.float32(score)) for r in records for score in r.scores if score >= 0.3]
    names = {image["id"]: image["file_name"] for image in written["images"]}
    assert [(names[a["image_id"]], np.float32(a["score"])) for a in written["annotations"]] == strong
    assert 0 < len(strong) < sum(len(record.scores) for record in records)
    assert (job.out / "errors.jsonl").read_bytes() == b""
    assert sorted(path.name for path in job.out.iterdir()) == [
        ".lock",
        "annotations.coco.json",
        "errors.jsonl",
        "records",
        "report.html",
        "run.json",
    ]
    assert summary.images == summary.labelled == 10
    assert (summary.earlier, summary.failed, summary.interrupted) == (0, 0, False)
    assert sum(summary.boxes.values()) == len(strong)
    assert list(summary.boxes) == list(NAMES)
    assert summary.files == tuple(job.out / name for name in ("annotations.coco.json", "errors.jsonl", "report.html"))
    assert summary.images_per_second > 0


def test_run_json_says_what_was_asked_and_of_whom(job: LabelJob) -> None:
    run(replace(job, limits=DetectionLimits(0.1)))
    info = read_run(job.out)
    assert info.names == NAMES
    assert [(plan.caption, plan.phrases) for plan in info.captions] == [("person. dog. car", NAMES)]
    assert (info.model, info.model_sha256, info.device, info.precision) == ("glip-t", "f" * 64, "cpu", "fp32")
    assert (info.floor, info.imgsz, info.record, info.nms_iou, info.max_detections) == (0.1, 32, "detections", 0.6, 300)
    assert {"python", "glip", "torch"} <= set(info.versions)
    assert (info.job["conf"], info.job["limits"]["floor"], info.job["prompts"]) == (0.3, 0.1, list(NAMES))


@pytest.mark.parametrize(("floor", "conf", "least"), [(0.05, None, 0.6), (0.7, None, 0.7), (0.05, 0.2, 0.2)])
def test_the_model_says_from_which_score_boxes_are_shown_unless_somebody_does(
    job: LabelJob, floor: float, conf: float | None, least: float
) -> None:
    run(replace(job, limits=DetectionLimits(floor), conf=conf), FakeDetector(conf=0.6))
    recorded = [score for record in read_records(job.out) for score in record.scores]
    shown = [row["score"] for row in coco(job.out)["annotations"]]
    assert len(shown) == sum(score >= least for score in recorded) > 0
    assert min(shown) >= least
    assert read_run(job.out).job["conf"] == least


def test_run_json_leads_to_the_images_from_anywhere(
    job: LabelJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(replace(job, sources=("in", "in/p*.png")))
    monkeypatch.chdir("/")
    listed = list_images(read_run(job.out).job["sources"])
    assert [image.name for image in listed] == [record.file_name for record in read_records(job.out)]


def test_failed_images_are_listed_with_their_reason_and_the_others_are_labelled(job: LabelJob, tmp_path: Path) -> None:
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8 no")
    (tmp_path / "in" / "empty.jpg").write_bytes(b"")
    summary = run(job)
    errors = [json.loads(line) for line in (job.out / "errors.jsonl").read_text().splitlines()]
    assert [error["file_name"] for error in errors] == ["broken.jpg", "empty.jpg"]
    assert all(error["error"] for error in errors)
    assert (summary.images, summary.failed) == (12, 2)
    assert len(coco(job.out)["images"]) == 10
    assert run(job).failed == 2


def test_candidates_are_recorded_before_suppression(job: LabelJob) -> None:
    detector = FakeDetector()
    run(replace(job, limits=CANDIDATES), detector)
    assert set(detector.limits) == {DetectionLimits(0.05, suppress=False, max_detections=None)}
    assert read_run(job.out).record == "candidates"
    assert read_run(job.out).nms_iou is None


def test_a_gpu_gets_batches_of_eight_unless_told_otherwise(job: LabelJob, tmp_path: Path) -> None:
    import torch

    make_images(tmp_path / "in", 60)
    detector = FakeDetector(device=torch.device("cuda"))
    run(replace(job, shard_size=None), detector)
    assert max(detector.batches) == 8
    assert len(list((job.out / "records").glob("*.jsonl"))) == 1  # 60 images fit one shard of 64
    alone = FakeDetector()
    run(replace(job, shard_size=None, out=tmp_path / "alone"), alone)
    assert max(alone.batches) == 1
    assert len(list((tmp_path / "alone" / "records").glob("*.jsonl"))) == 4  # shards of 16


def test_images_are_labelled_and_written_in_natural_order(tmp_path: Path, job: LabelJob) -> None:
    make_images(tmp_path / "in", 3, first=9)
    run(replace(job, limit=11))
    assert [image["file_name"] for image in coco(job.out)["images"]] == [f"p{i}.png" for i in range(11)]


def test_names_are_relative_to_their_source_with_slashes(tmp_path: Path) -> None:
    make_images(tmp_path / "in" / "a" / "b", 2)
    make_images(tmp_path / "in" / "c", 1)
    run(LabelJob((str(tmp_path / "in"),), NAMES, out=tmp_path / "out", options=InferenceOptions(32)))
    names = [image["file_name"] for image in coco(tmp_path / "out")["images"]]
    assert names == ["a/b/p0.png", "a/b/p1.png", "c/p0.png"]


def test_images_in_the_output_folder_are_no_sources(tmp_path: Path, job: LabelJob) -> None:
    inside = replace(job, out=tmp_path / "in" / "labels", preview=3, conf=0.05)
    assert sum(path.suffix == ".jpg" for path in run(inside).files) == 3
    assert (inside.out / "preview").is_dir()
    make_images(inside.out / "other", 2)
    assert run(inside).images == 10


def test_who_labels_the_output_folder_itself_gets_its_images_but_not_the_previews(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 4)
    here = LabelJob(
        (str(tmp_path / "in"),), NAMES, out=tmp_path / "in", options=InferenceOptions(32), preview=2, conf=0.05
    )
    assert run(here).images == 4
    assert len(list((tmp_path / "in" / "preview").iterdir())) == 2
    assert run(here).images == 4
    assert run(replace(here, out=tmp_path / "elsewhere")).images == 4


def test_a_folder_called_preview_is_a_source_like_any_other(tmp_path: Path) -> None:
    make_images(tmp_path / "in" / "preview", 3)
    assert run(LabelJob((str(tmp_path / "in"),), NAMES, out=tmp_path / "out", options=InferenceOptions(32))).images == 3


def test_an_output_folder_reached_through_a_link_is_recognised(tmp_path: Path, job: LabelJob) -> None:
    (tmp_path / "in" / "labels").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in" / "labels")
    linked = replace(job, out=tmp_path / "link")
    make_images(linked.out, 2, first=50)
    assert run(linked).images == 10


def test_an_output_folder_is_recognised_in_a_source_reached_through_a_link(tmp_path: Path, job: LabelJob) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "in")
    linked = replace(job, sources=(str(tmp_path / "link"),), out=tmp_path / "in" / "labels")
    make_images(linked.out, 2, first=50)
    assert run(linked).images == 10


def test_no_images_is_said(tmp_path: Path, job: LabelJob) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="nothing"):
        run(replace(job, sources=(str(tmp_path / "nothing"),)))
    make_images(job.out / "preview", 2)
    with pytest.raises(InputError, match="out"):
        run(replace(job, sources=(str(job.out),)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conf": 1.5}, "conf.*1.5"),
        ({"conf": float("nan")}, "conf.*nan"),
        ({"conf": 0.04}, "conf.*0.04.*floor.*0.05"),
        ({"limit": 0}, "limit.*0"),
        ({"preview": -1}, "preview.*-1"),
        ({"shard_size": 0}, "shard_size.*0"),
        ({"tiling": Tiling(64), "fast_decode": True}, "tiling.*fast_decode"),
        ({"tiling": Tiling(64), "limits": CANDIDATES}, "tiling"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(job: LabelJob, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(job, **change)


def test_an_output_folder_that_cannot_be_is_said(tmp_path: Path, job: LabelJob) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JobFailed, match="file"):
        run(replace(job, out=tmp_path / "file" / "out"))


def test_a_watcher_follows_the_job(job: LabelJob) -> None:
    seen: list[object] = []

    class Watching:
        def labelling(self, todo: int, earlier: int) -> Watching:
            seen.append((todo, earlier))
            return self

        def __enter__(self) -> None:
            seen.append("begin")

        def __exit__(self, *_: object) -> None:
            seen.append("end")

        def labelled(self, image: ImageDone) -> None:
            seen.append(image.file_name)

        def stop(self) -> bool:
            return len(seen) >= 8

    summary = label(job, detector=FakeDetector(), watcher=Watching())
    assert seen == [(10, 0), "begin", *(f"p{i}.png" for i in range(6)), "end"]
    assert summary.interrupted
    assert (summary.labelled, summary.earlier, summary.images) == (6, 0, 10)
    assert not (job.out / "annotations.coco.json").exists()
    seen.clear()
    label(job, detector=FakeDetector(), watcher=Watching())
    assert seen == [(4, 6), "begin", "p8.png", "p9.png", "p6.png", "p7.png", "end"]  # whole shards first


def test_a_stop_with_the_last_image_is_no_interruption(job: LabelJob) -> None:
    class Late:
        count = 0

        def labelling(self, todo: int, earlier: int) -> Any:
            from contextlib import nullcontext

            return nullcontext()

        def labelled(self, image: ImageDone) -> None:
            self.count += 1

        def stop(self) -> bool:
            return self.count == 10

    assert not label(job, detector=FakeDetector(), watcher=Late()).interrupted
    assert (job.out / "annotations.coco.json").exists()


def test_a_summary_goes_to_json(job: LabelJob) -> None:
    summary = run(job)
    values = json.loads(json.dumps(summary.to_json()))
    assert values["out"] == str(job.out)
    assert values["images"] == 10
    assert values["boxes"] == summary.boxes
    assert values["images_per_second"] == summary.images_per_second


def test_without_a_watcher_a_job_is_told_in_the_log(job: LabelJob, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "glip"):
        run(job)
    messages = [record.getMessage() for record in caplog.records]
    assert "10 images to label, 0 labelled before" in messages
    assert any(message.startswith("p3.png: ") for message in messages)


def test_nothing_that_differs_between_two_runs_enters_the_final_files(job: LabelJob, tmp_path: Path) -> None:
    run(job)
    other = replace(job, out=tmp_path / "other", shard_size=3, options=InferenceOptions(32, 2))
    run(other)
    assert final_bytes(other.out) == final_bytes(job.out)


def test_the_records_hold_every_image_once(job: LabelJob) -> None:
    run(job)
    shards = sorted(path.name for path in (job.out / "records").glob("*.jsonl"))
    assert shards == ["000001-000000.jsonl", "000001-000001.jsonl", "000001-000002.jsonl"]
    lines = [line for name in shards for line in (job.out / "records" / name).read_text().splitlines()]
    assert [json.loads(line)["file_name"] for line in lines] == [f"p{i}.png" for i in range(10)]
    assert len(list(read_all(job.out, Record))) == 10
