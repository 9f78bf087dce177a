"""The same command again: it goes on, it picks up what changed, and it refuses another question."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glip.detectors.base import DetectionLimits
from glip.detectors.spec import DetectorSpec, InferenceOptions
from glip.errors import GlipError, InputError
from glip.images import ImageBatch
from glip.labeling.job import CANDIDATES, LabelJob, LabelSummary, label
from glip.labeling.records import read_listing, read_run
from glip.labeling.worker import ImageDone
from tests.labeling.fake import NAMES, FakeDetector, final_bytes, make_images


class Killed(BaseException):
    """What ends a run where it stands; nothing in the library may catch it."""


@dataclass
class StopAfter:
    """Asks for the end of the job after so many images."""

    count: int

    def labelling(self, todo: int, earlier: int) -> AbstractContextManager[object]:
        return nullcontext()

    def labelled(self, image: ImageDone) -> None:
        self.count -= 1

    def stop(self) -> bool:
        return self.count <= 0


@pytest.fixture
def job(tmp_path: Path) -> LabelJob:
    make_images(tmp_path / "in", 14)
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG")
    return LabelJob((str(tmp_path / "in"),), NAMES, out=tmp_path / "out", options=InferenceOptions(32), shard_size=4)


def run(job: LabelJob, detector: FakeDetector | None = None, **more: Any) -> LabelSummary:
    return label(job, detector=detector or FakeDetector(), **more)


def kill_at_batch(number: int) -> Callable[[ImageBatch], None]:
    left = [number]

    def fail(batch: ImageBatch) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    return fail


def uninterrupted(job: LabelJob) -> dict[str, bytes]:
    whole = replace(job, out=job.out.with_name("whole"), overwrite=True)
    run(whole)
    return final_bytes(whole.out)


@pytest.mark.parametrize("batches", range(14))
def test_a_run_that_dies_anywhere_is_finished_by_the_same_command(job: LabelJob, batches: int) -> None:
    with pytest.raises(Killed):
        run(job, FakeDetector(fail=kill_at_batch(batches)))
    summary = run(job)
    # The broken image comes first and never reaches the detector; the shard that was in work is lost, no more.
    assert summary.earlier == (batches + 1) // 4 * 4
    assert summary.earlier + summary.labelled == 15
    assert final_bytes(job.out) == uninterrupted(job)


def test_work_that_is_done_is_not_done_again(job: LabelJob) -> None:
    run(job)
    detector = FakeDetector()
    summary = run(job, detector)
    assert detector.batches == []
    assert (summary.labelled, summary.earlier, summary.failed) == (0, 15, 1)
    assert final_bytes(job.out) == uninterrupted(job)


@pytest.mark.parametrize("stops", [(1,), (3, 1, 1), (5, 5), (14,), (4, 4, 4)])
def test_a_run_stopped_in_good_order_goes_on_from_the_very_image(job: LabelJob, stops: tuple[int, ...]) -> None:
    for stop in stops:
        summary = run(job, watcher=StopAfter(stop))
        assert summary.interrupted
        assert summary.labelled == stop
        assert not (job.out / "annotations.coco.json").exists()
    summary = run(job)
    assert summary.earlier == sum(stops)
    assert summary.labelled == 15 - sum(stops)
    assert final_bytes(job.out) == uninterrupted(job)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(st.tuples(st.sampled_from(["kill", "stop", "limit"]), st.integers(0, 15)), max_size=6),
    batch=st.integers(1, 5),
)
def test_no_history_of_interruptions_shows_in_the_final_files(
    job: LabelJob, events: list[tuple[str, int]], batch: int
) -> None:
    # The scores' last digits depend on the company in a batch: interrupted or not, the same images must meet.
    job = replace(job, options=InferenceOptions(32, batch), overwrite=True)
    crowded = replace(job, out=job.out.with_name("whole"))
    run(crowded, FakeDetector(crowd_matters=True))
    again = replace(job, overwrite=False)
    shutil.rmtree(job.out, ignore_errors=True)
    for kind, number in events:
        detector = FakeDetector(crowd_matters=True)
        if kind == "kill":
            detector.fail = kill_at_batch(number)
            try:
                run(again, detector)
            except Killed:
                continue
        elif kind == "stop":
            run(again, detector, watcher=StopAfter(number))
        elif batch == 1 and number:
            run(replace(again, limit=number), detector)
    summary = run(again, FakeDetector(crowd_matters=True))
    assert summary.images == 15
    assert final_bytes(again.out) == final_bytes(crowded.out)


def test_a_limit_labels_the_first_images_and_the_next_run_goes_on(job: LabelJob) -> None:
    first = run(replace(job, limit=6))
    assert (first.images, first.labelled, first.interrupted) == (6, 6, False)
    assert list(read_listing(job.out)) == ["broken.png", *(f"p{i}.png" for i in range(5))]
    rest = run(job)
    assert (rest.images, rest.labelled, rest.earlier) == (15, 9, 6)
    assert final_bytes(job.out) == uninterrupted(job)


def test_a_limit_after_a_whole_run_shows_the_first_images_and_forgets_none(job: LabelJob) -> None:
    run(job)
    run(replace(job, limit=3))
    assert final_bytes(job.out) == uninterrupted(replace(job, limit=3))
    assert run(job).labelled == 0
    assert final_bytes(job.out) == uninterrupted(job)


def test_images_added_since_are_picked_up_and_the_others_left_alone(job: LabelJob, tmp_path: Path) -> None:
    run(job)
    make_images(tmp_path / "in", 6, first=100)
    make_images(tmp_path / "in", 2, first=200, suffix="jpg")
    (tmp_path / "in" / "p200.jpg").rename(tmp_path / "in" / "p3b.jpg")  # in the middle of the others
    detector = FakeDetector()
    summary = run(job, detector)
    assert (summary.labelled, summary.earlier) == (8, 15)
    assert sum(detector.batches) == 8
    assert final_bytes(job.out) == uninterrupted(job)


def test_images_removed_since_leave_the_outputs_and_that_is_said(job: LabelJob, tmp_path: Path) -> None:
    run(job)
    for name in ("p0.png", "p5.png", "broken.png"):
        (tmp_path / "in" / name).unlink()
    summary = run(job)
    assert (summary.images, summary.labelled, summary.failed) == (12, 0, 0)
    assert [(entry.kind, entry.count) for entry in summary.left_out] == [("no_longer_listed", 3)]
    assert final_bytes(job.out) == uninterrupted(job)


def test_a_limit_is_not_taken_for_removed_images(job: LabelJob, caplog: pytest.LogCaptureFixture) -> None:
    run(job)
    run(replace(job, limit=2))
    assert not caplog.records


def test_a_removed_image_that_comes_back_unchanged_is_not_labelled_again(job: LabelJob, tmp_path: Path) -> None:
    run(job)
    (tmp_path / "in" / "p7.png").rename(tmp_path / "aside.png")
    run(job)
    (tmp_path / "aside.png").rename(tmp_path / "in" / "p7.png")
    assert run(job).labelled == 0
    assert final_bytes(job.out) == uninterrupted(job)


def test_a_changed_image_is_labelled_again(job: LabelJob, tmp_path: Path) -> None:
    run(job)
    (tmp_path / "in" / "p12.png").replace(tmp_path / "in" / "p2.png")
    make_images(tmp_path / "in", 1)
    os.utime(tmp_path / "in" / "p0.png", ns=(1, 1))
    (tmp_path / "in" / "broken.png").write_bytes((tmp_path / "in" / "p3.png").read_bytes())
    summary = run(job)
    assert (summary.images, summary.labelled, summary.failed) == (14, 3, 0)
    assert final_bytes(job.out) == uninterrupted(job)


def test_what_failed_for_want_of_memory_is_tried_again(job: LabelJob) -> None:
    assert run(job, FakeDetector(fits=0)).failed == 15
    summary = run(job)
    assert (summary.labelled, summary.earlier, summary.failed) == (14, 1, 1)
    assert final_bytes(job.out) == uninterrupted(job)


@pytest.mark.parametrize(
    ("change", "detector", "named"),
    [
        ({"prompts": ("cat",)}, {}, ("names", '["person","dog","car"]', '["cat"]')),
        ({"prompts": ("dog", "person", "car")}, {}, ("names", '["dog","person","car"]')),
        ({"limits": DetectionLimits(0.1)}, {}, ("floor", "0.05", "0.1")),
        ({"options": InferenceOptions(64)}, {}, ("imgsz", "32", "64")),
        ({"fast_decode": True}, {}, ("fast_decode", "false", "true")),
        ({"limits": CANDIDATES}, {}, ("record", "detections", "candidates")),
        ({}, {"sha256": "e" * 64}, ("model", "ffff", "eeee")),
        ({}, {"precision": "bf16"}, ("precision", "fp32", "bf16")),
        # Every field that differs is named.
        ({"limits": DetectionLimits(0.1), "options": InferenceOptions(64)}, {}, ("floor", "0.1", "imgsz", "64")),
    ],
)
def test_another_question_is_refused_with_the_field_and_both_values(
    job: LabelJob, change: dict[str, Any], detector: dict[str, Any], named: tuple[str, ...]
) -> None:
    run(job)
    before = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as error:
        run(replace(job, **change), FakeDetector(**detector))
    assert all(word in str(error.value) for word in named)
    after = {path: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    assert after == before


def test_another_threshold_batch_device_or_preview_is_the_same_question(job: LabelJob) -> None:
    import torch

    run(job)
    annotations = final_bytes(job.out)["annotations.coco.json"]
    summary = run(
        replace(job, conf=0.9, options=InferenceOptions(32, 3), preview=1), FakeDetector(device=torch.device("meta"))
    )
    assert summary.labelled == 0
    assert final_bytes(job.out)["annotations.coco.json"] != annotations
    run(job)
    assert final_bytes(job.out)["annotations.coco.json"] == annotations


def test_overwrite_asks_anew(job: LabelJob) -> None:
    run(job)
    other = replace(job, prompts=("dog",), overwrite=True)
    detector = FakeDetector()
    summary = run(other, detector)
    assert (summary.labelled, summary.earlier) == (15, 0)
    assert read_run(job.out).names == ("dog",)
    assert len(list((job.out / "records").glob("*.jsonl"))) == 4


def test_overwrite_keeps_everything_until_the_new_run_can_start(job: LabelJob) -> None:
    run(job)
    before = final_bytes(job.out)

    with pytest.raises(InputError, match="no-such-model"):
        label(replace(job, detector=DetectorSpec("no-such-model", offline=True), overwrite=True))
    with pytest.raises(GlipError, match=r"\[UNK\]|name|word"):
        run(replace(job, prompts=("(nothing)",), overwrite=True))
    assert final_bytes(job.out) == before
    assert run(job).labelled == 0


def test_overwrite_takes_the_outputs_of_the_old_question_away_at_once(job: LabelJob) -> None:
    run(job)
    with pytest.raises(Killed):
        run(replace(job, overwrite=True), FakeDetector(fail=kill_at_batch(0)))
    assert not (job.out / "annotations.coco.json").exists()
    assert not (job.out / "errors.jsonl").exists()


@pytest.mark.parametrize("step", range(7))
def test_a_death_while_overwriting_leaves_a_folder_that_either_question_can_use(
    job: LabelJob, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run(job)
    removals = [step]
    really_unlink = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        removals[0] -= 1
        if removals[0] < 0:
            raise Killed
        really_unlink(path, missing_ok=missing_ok)

    other = replace(job, prompts=("dog",), overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(Killed):
            run(other)
    if step < 6:  # run.json of the old question stands until its last record is gone
        assert read_run(job.out).names == NAMES
        run(job)
        assert final_bytes(job.out) == uninterrupted(job)
    assert run(other).labelled == 15


def test_records_without_a_question_are_refused(job: LabelJob) -> None:
    run(job)
    (job.out / "run.json").unlink()
    with pytest.raises(InputError, match=r"000001-000000\.jsonl.*run\.json"):
        run(job)
    assert run(replace(job, overwrite=True)).labelled == 15


@pytest.mark.parametrize("name", ["annotations.coco.json", "errors.jsonl"])
def test_files_of_somebody_else_are_not_written_over(job: LabelJob, name: str) -> None:
    job.out.mkdir()
    (job.out / name).write_text("made by hand")
    with pytest.raises(InputError, match=rf"{name}.*run\.json"):
        run(job)
    assert (job.out / name).read_text() == "made by hand"
    assert run(replace(job, overwrite=True)).labelled == 15


def test_a_damaged_shard_is_named_and_the_advice_works(job: LabelJob) -> None:
    run(job)
    shard = job.out / "records" / "000001-000001.jsonl"
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"000001-000001\.jsonl, line 4"):
        run(job)
    shard.unlink()
    assert run(job).labelled == 4
    assert final_bytes(job.out) == uninterrupted(job)


def test_the_note_of_the_question_keeps_its_birthday(job: LabelJob) -> None:
    run(job)
    info = read_run(job.out)
    aged = msgspec.structs.replace(info, created="2020-01-01T00:00:00+00:00")
    (job.out / "run.json").write_bytes(msgspec.json.encode(aged))
    run(replace(job, conf=0.5))
    assert read_run(job.out).created == "2020-01-01T00:00:00+00:00"
    assert read_run(job.out).job["conf"] == 0.5


def test_leftovers_of_a_killed_write_do_no_harm_and_are_removed(job: LabelJob) -> None:
    run(replace(job, limit=4))
    leftover = job.out / "records" / "000002-000000.jsonl.part"
    leftover.write_bytes(b'{"file_name": "p9')
    run(job)
    assert not leftover.exists()
    assert final_bytes(job.out) == uninterrupted(job)
