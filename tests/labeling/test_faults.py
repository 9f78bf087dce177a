"""Processes that are killed or interrupted, full disks, two runs at once: real ones, from outside."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from glip.detectors.spec import InferenceOptions
from glip.errors import InputError, JobFailed
from glip.labeling.job import LabelJob, label
from glip.labeling.records import Head, read_all
from glip.run_folder import lock_folder
from tests.labeling.fake import (
    NAMES,
    FakeDetector,
    final_bytes,
    make_images,
    start_command,
    wait_for,
)

processes = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals")
IMAGES = 24
SHARD_SIZE = 4


@dataclass
class Scene:
    """A folder of images, and a way to label it in another process."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def words(self, *more: object) -> list[object]:
        words = ["label", self.folder / "in", "--prompt", ". ".join(NAMES), "--out", self.out]
        return [*words, "--imgsz", 32, "--shard-size", SHARD_SIZE, "--device", "cpu", *more]

    def start(self, *more: object, delay: float = 0.02) -> ForkServerProcess:
        log = self.folder / "log.txt"
        return start_command(self.words(*more), log, delay=delay, journal=self.folder / "journal")

    def batches(self) -> int:
        journal = self.folder / "journal"
        return len(journal.read_text().splitlines()) if journal.exists() else 0

    def finish(self) -> str:
        """Runs the same command to its end; returns what it said."""
        before = len(self.log)
        process = self.start(delay=0)
        process.join(180)
        assert process.exitcode == 0, self.log
        return self.log[before:]

    def expected(self) -> dict[str, bytes]:
        job = LabelJob(
            (str(self.folder / "in"),),
            NAMES,
            out=self.folder / "whole",
            options=InferenceOptions(32),
            shard_size=SHARD_SIZE,
        )
        label(job, detector=FakeDetector())
        return final_bytes(job.out)

    def recorded(self) -> int:
        return sum(1 for _ in read_all(self.out, Head))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    make_images(tmp_path / "in", IMAGES)
    return Scene(tmp_path)


@processes
@pytest.mark.parametrize("batches", [0, 1, 5, 14, 23])
def test_killed_at_any_moment_nothing_is_lost_but_the_shard_in_work(scene: Scene, batches: int) -> None:
    process = scene.start()
    wait_for(lambda: scene.batches() > batches or (batches == 0 and (scene.out / "run.json").exists()))
    process.kill()
    process.join(180)
    assert process.exitcode == -signal.SIGKILL
    assert scene.recorded() >= max(0, batches // SHARD_SIZE * SHARD_SIZE)
    assert not (scene.out / "annotations.coco.json").exists()
    scene.finish()
    assert final_bytes(scene.out) == scene.expected()


@processes
def test_ctrl_c_finishes_what_is_in_work_and_says_how_to_go_on(scene: Scene) -> None:
    process = scene.start(delay=0.1)
    wait_for(lambda: scene.batches() > 5)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(180)
    assert process.exitcode == 130
    assert "Ctrl-C" in scene.log
    done = scene.recorded()
    assert 6 <= done < IMAGES
    assert f"Stopped: {done} of {IMAGES}" in scene.log
    assert "Traceback" not in scene.log
    said = scene.finish()
    assert f"{done} of {IMAGES}" in said
    assert final_bytes(scene.out) == scene.expected()


@processes
def test_ctrl_c_twice_stops_at_once(scene: Scene) -> None:
    process = scene.start(delay=2)
    wait_for(lambda: scene.batches() > 0)
    os.kill(process.pid or 0, signal.SIGINT)
    wait_for(lambda: "Ctrl-C" in scene.log)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(1.5)  # sooner than the image in work would end
    assert process.exitcode == 130
    assert "Traceback" not in scene.log
    assert scene.recorded() == 0
    scene.finish()
    assert final_bytes(scene.out) == scene.expected()


@processes
def test_ctrl_c_with_larger_batches_ends_with_a_whole_shard(scene: Scene) -> None:
    process = scene.start("--batch", 2, delay=0.1)
    wait_for(lambda: scene.batches() > 2)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(180)
    assert process.exitcode == 130
    assert scene.recorded() in {SHARD_SIZE, 2 * SHARD_SIZE, 3 * SHARD_SIZE}


@processes
def test_a_second_run_on_the_same_folder_says_so_and_leaves_the_first_alone(scene: Scene) -> None:
    process = scene.start(delay=0.1)
    wait_for(lambda: scene.batches() > 0)
    job = LabelJob((str(scene.folder / "in"),), NAMES, out=scene.out, options=InferenceOptions(32), overwrite=True)
    with pytest.raises(InputError, match=rf"process {process.pid} on"):
        label(job, detector=FakeDetector())
    process.join(180)
    assert process.exitcode == 0
    assert final_bytes(scene.out) == scene.expected()


@processes
def test_a_killed_run_leaves_no_lock_behind(scene: Scene) -> None:
    process = scene.start(delay=0.1)
    wait_for(lambda: scene.batches() > 0)
    process.kill()
    process.join(180)
    with lock_folder(scene.out):
        pass


def test_the_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
        raise ZeroDivisionError
    with lock_folder(tmp_path), pytest.raises(InputError, match=str(tmp_path)), lock_folder(tmp_path):
        pass


@processes
def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(file: object, how: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with lock_folder(tmp_path):
        pass
    assert "cannot be locked (Operation not supported)" in caplog.text


def fail_write_number(number: int, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Makes the disk refuse to keep what is written, from the given flush on."""
    really_sync = os.fsync
    left = [number]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(error, os.strerror(error))
        really_sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("flushes", range(0, 22, 2))
def test_a_disk_that_fills_anywhere_ends_in_one_sentence_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushes: int, error: int
) -> None:
    make_images(tmp_path / "in", 20)
    job = LabelJob(
        (str(tmp_path / "in"),),
        NAMES,
        out=tmp_path / "out",
        options=InferenceOptions(32),
        shard_size=4,
        conf=0.05,
        preview=3,
    )
    with monkeypatch.context() as patch:
        fail_write_number(flushes, patch, error)
        with pytest.raises(JobFailed, match=rf"^Cannot write .*: {os.strerror(error)}\. ") as failure:
            label(job, detector=FakeDetector())
    assert failure.value.exit_code == 1
    assert "\n" not in str(failure.value)
    assert list(job.out.rglob("*.part")) == []
    label(job, detector=FakeDetector())
    whole = LabelJob(
        (str(tmp_path / "in"),), NAMES, out=tmp_path / "whole", options=InferenceOptions(32), shard_size=4, conf=0.05
    )
    label(whole, detector=FakeDetector())
    assert final_bytes(job.out) == final_bytes(whole.out)


def test_a_disk_that_is_full_before_the_flush_is_told_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "in", 4)
    job = LabelJob((str(tmp_path / "in"),), NAMES, out=tmp_path / "out", options=InferenceOptions(32))
    really_open: Callable[..., object] = Path.open

    class Full:
        def __init__(self, file: object) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()  # type: ignore[attr-defined]

        def writelines(self, lines: object) -> None:
            self.file.write(b"half of a li")  # type: ignore[attr-defined]
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_shard(path: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        file = really_open(path, mode, *args, **kwargs)
        return Full(file) if path.name == "000001-000000.jsonl.part" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_shard)
        with pytest.raises(JobFailed, match="No space left on device"):
            label(job, detector=FakeDetector())
    assert sorted(path.name for path in (job.out / "records").iterdir()) == ["listing.txt"]
    assert label(job, detector=FakeDetector()).labelled == 4


def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open: Callable[..., object] = Path.open

    def forbidden(path: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        if path.name == ".lock":
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(path, mode, *args, **kwargs)

    make_images(tmp_path / "in", 1)
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(JobFailed, match="out"):
        label(
            LabelJob((str(tmp_path / "in"),), NAMES, out=tmp_path / "out", options=InferenceOptions(32)),
            detector=FakeDetector(),
        )
