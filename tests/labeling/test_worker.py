"""LabelWorker: images in batches, and what is recorded of those that cannot be labelled."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glip.detections import Detections
from glip.detectors.base import DetectionLimits
from glip.errors import JobFailed
from glip.images import DecodedImage, ImageBatch, ImageFile, decode_image, list_images
from glip.images.reading import FIRST_FRAME_ONLY
from glip.labeling import worker as worker_module
from glip.labeling.image_prompts import resolve_prompts
from glip.labeling.records import Record, encode, read_all
from glip.labeling.shards import Shard, stamp
from glip.labeling.tiling import Tiling
from glip.labeling.worker import ImageDone, LabelSettings, LabelWorker
from tests.labeling.fake import NAMES, FakeDetector, make_images


@pytest.fixture
def settings(tmp_path: Path) -> LabelSettings:
    prompts = resolve_prompts(NAMES, FakeDetector(), [])
    return LabelSettings(tmp_path / "out", prompts, DetectionLimits(0.05), imgsz=32, batch=1)


def work(
    settings: LabelSettings,
    detector: FakeDetector,
    images: Sequence[ImageFile],
    *,
    stop_after: int | None = None,
) -> tuple[list[ImageDone], list[Record]]:
    """Labels a shard; returns the results of its images, and the records of its file."""
    results = LabelWorker(detector, settings)(Shard(1, 0, tuple(images)))
    done: list[ImageDone] = []
    for one in results:
        done.append(one)
        if len(done) == stop_after:
            results.close()
    return done, list(read_all(settings.out, Record))


def failures(done: Sequence[ImageDone]) -> tuple[int, int]:
    """Returns the number of images, and of those that failed."""
    return len(done), sum(image.error is not None for image in done)


def test_every_image_gets_a_record_with_its_size_stamp_and_boxes(tmp_path: Path, settings: LabelSettings) -> None:
    make_images(tmp_path / "in", 7)
    images = list_images([tmp_path / "in"])
    done, records = work(settings, FakeDetector(), images)
    assert [record.file_name for record in records] == [image.name for image in images]
    assert done == [
        ImageDone(record.file_name, len(record.boxes), None, remaining)
        for record, remaining in zip(records, range(6, -1, -1), strict=True)
    ]
    for record, image in zip(records, images, strict=True):
        assert record.stamp == stamp(image.path)
        assert (record.width, record.height) == Image.open(str(image.path)).size
        assert len(record.boxes) == len(record.scores) == len(record.labels)
    assert sum(len(record.boxes) for record in records) > 3


def test_size_is_that_of_the_image_as_it_is_looked_at(tmp_path: Path, settings: LabelSettings) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    _, records = work(settings, FakeDetector(), [ImageFile(path, "turned.jpg")])
    assert (records[0].width, records[0].height) == (30, 40)


def test_fast_decoding_finds_boxes_in_the_whole_image(tmp_path: Path, settings: LabelSettings) -> None:
    path = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (800, 600)).save(path, exif=exif)
    looked: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]] = []

    def look(batch: ImageBatch) -> None:
        looked.append((batch.sizes_hw, batch.original_sizes_hw))

    _, (record,) = work(replace(settings, fast_decode=True), FakeDetector(fail=look), [ImageFile(path, "large.jpg")])
    assert (record.width, record.height) == (600, 800)
    assert looked == [([(42, 32)], [(800, 600)])]


@pytest.mark.parametrize("batch", [2, 3, 4, 100])
def test_batching_changes_no_record(tmp_path: Path, settings: LabelSettings, batch: int) -> None:
    make_images(tmp_path / "in", 11)
    images = list_images([tmp_path / "in"])
    _, alone = work(settings, FakeDetector(), images)
    other = replace(settings, out=tmp_path / "other", batch=batch)
    detector = FakeDetector()
    _, together = work(other, detector, images)
    assert together == alone
    assert max(detector.batches) == min(batch, 7)  # two of the three sizes are padded alike
    assert sum(detector.batches) == 11


def test_only_images_of_equal_padded_size_share_a_batch(tmp_path: Path, settings: LabelSettings) -> None:
    shapes = []

    def look(batch: ImageBatch) -> None:
        shapes.append({tuple(-(-side // 32) * 32 for side in size) for size in batch.sizes_hw})
        assert next(iter(shapes[-1])) == tuple(batch.pixels.shape[2:])

    make_images(tmp_path / "in", 9)
    work(replace(settings, batch=4), FakeDetector(fail=look), list_images([tmp_path / "in"]))
    assert [len(shape) for shape in shapes] == [1] * len(shapes)
    assert len({next(iter(shape)) for shape in shapes}) == 2


def test_a_floor_above_the_published_threshold_applies_to_the_score(tmp_path: Path, settings: LabelSettings) -> None:
    make_images(tmp_path / "in", 10)
    images = list_images([tmp_path / "in"])
    _, everything = work(settings, FakeDetector(), images)
    _, strong = work(replace(settings, out=tmp_path / "strong", limits=DetectionLimits(0.6)), FakeDetector(), images)
    expected = [[score for score in record.scores if score >= 0.6] for record in everything]
    assert [list(record.scores) for record in strong] == expected
    assert 0 < sum(map(len, expected)) < sum(len(record.scores) for record in everything)


def test_a_score_equal_to_the_floor_stays(tmp_path: Path, settings: LabelSettings) -> None:
    class Exact(FakeDetector):
        def detect_batch(self, batch: ImageBatch, prompts: object) -> list[Detections]:
            scores = np.array([0.7, np.nextafter(np.float32(0.7), np.float32(0))], np.float32)
            return [Detections(np.ones((2, 4), np.float32), scores, np.array([0, 1]), NAMES) for _ in batch.sizes_hw]

    make_images(tmp_path / "in", 1)
    _, records = work(replace(settings, limits=DetectionLimits(0.7)), Exact(), list_images([tmp_path / "in"]))
    assert records[0].scores == [0.7]


def test_unreadable_images_are_recorded_with_the_reason_and_not_tried_again(
    tmp_path: Path, settings: LabelSettings
) -> None:
    make_images(tmp_path / "in", 3)
    (tmp_path / "in" / "empty.jpg").write_bytes(b"")
    (tmp_path / "in" / "p1.png").write_bytes((tmp_path / "in" / "p1.png").read_bytes()[:300])
    (tmp_path / "in" / "text.jpg").write_text("not an image")
    images = list_images([tmp_path / "in"])
    done, records = work(replace(settings, batch=2), FakeDetector(), images)
    assert failures(done) == (5, 3)
    failed = {record.file_name: record for record in records if record.error is not None}
    assert sorted(failed) == ["empty.jpg", "p1.png", "text.jpg"]
    assert failed["empty.jpg"].error == "the file is empty"
    for record in failed.values():
        assert list(record.boxes) == []
        assert record.stamp == stamp(tmp_path / "in" / record.file_name)
        assert str(tmp_path) not in str(record.error)


def test_an_image_that_vanishes_is_recorded_and_tried_again(tmp_path: Path, settings: LabelSettings) -> None:
    make_images(tmp_path / "in", 3)
    images = list_images([tmp_path / "in"])
    (tmp_path / "in" / images[1].name).unlink()
    done, records = work(settings, FakeDetector(), images)
    assert failures(done) == (3, 1)
    assert records[1].stamp == ""
    assert "vanished" in str(records[1].error)


def test_an_image_that_vanishes_between_two_looks_is_recorded_and_tried_again(
    tmp_path: Path, settings: LabelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_after_removal(path: Path, minimum_hw: None) -> DecodedImage:
        path.unlink()
        return decode_image(path)

    monkeypatch.setattr(worker_module, "decode_image", read_after_removal)
    make_images(tmp_path / "in", 1)
    _, records = work(settings, FakeDetector(), list_images([tmp_path / "in"]))
    assert records[0].stamp == ""
    assert records[0].error is not None


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_forbidden_image_is_recorded_and_tried_again(tmp_path: Path, settings: LabelSettings) -> None:
    make_images(tmp_path / "in", 1)
    images = list_images([tmp_path / "in"])
    (tmp_path / "in" / images[0].name).chmod(0)
    _, records = work(settings, FakeDetector(), images)
    assert records[0].stamp == ""


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_fault_of_the_system_is_recorded_and_tried_again(
    tmp_path: Path, settings: LabelSettings, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    make_images(tmp_path / "in", 2)
    images = list_images([tmp_path / "in"])
    broken = images[0].path
    really_open = Path.open

    def failing_open(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path == broken:
            raise error
        return really_open(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing_open)
    done, records = work(settings, FakeDetector(), images)
    assert failures(done) == (2, 1)
    assert records[0].stamp == ""
    assert records[1].stamp != ""


def test_a_decoder_that_hangs_costs_its_image_only(
    tmp_path: Path, settings: LabelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hang(path: Path, minimum_hw: None) -> DecodedImage:
        if path.name == "p2.png":
            release.wait(60)
        return decode_image(path)

    monkeypatch.setattr(worker_module, "decode_image", hang)
    monkeypatch.setattr(worker_module, "READ_TIME_LIMIT", 1.0)
    make_images(tmp_path / "in", 5)
    done, records = work(settings, FakeDetector(), list_images([tmp_path / "in"]))
    release.set()
    assert failures(done) == (5, 1)
    assert "1 seconds" in str(records[2].error)
    assert records[2].stamp == ""


def test_out_of_memory_halves_the_batch_and_says_so_once(
    tmp_path: Path, settings: LabelSettings, caplog: pytest.LogCaptureFixture
) -> None:
    make_images(tmp_path / "in", 24)
    images = list_images([tmp_path / "in"])
    _, expected = work(settings, FakeDetector(), images)
    detector = FakeDetector(fits=2)
    with caplog.at_level(logging.WARNING):
        done, records = work(replace(settings, out=tmp_path / "small", batch=8), detector, images)
    assert failures(done) == (24, 0)
    assert records == expected
    assert max(detector.batches) == 2
    assert [record.args for record in caplog.records] == [(8, 4), (4, 2)]


def test_an_image_too_large_for_the_memory_by_itself_is_recorded_and_tried_again(
    tmp_path: Path, settings: LabelSettings
) -> None:
    make_images(tmp_path / "in", 3)
    done, records = work(replace(settings, batch=4), FakeDetector(fits=0), list_images([tmp_path / "in"]))
    assert failures(done) == (3, 3)
    assert all("memory of cpu" in str(record.error) for record in records)
    assert {record.stamp for record in records} == {""}


def test_a_mistake_in_the_program_is_raised_and_leaves_no_shard(tmp_path: Path, settings: LabelSettings) -> None:
    def fail(batch: ImageBatch) -> None:
        raise ZeroDivisionError("a bug")

    make_images(tmp_path / "in", 3)
    with pytest.raises(ZeroDivisionError):
        work(settings, FakeDetector(fail=fail), list_images([tmp_path / "in"]))
    assert not (settings.out / "records").exists()


def test_a_mistake_while_reading_is_raised_too(
    tmp_path: Path, settings: LabelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, image: object, imgsz: int, size_hw: object = None) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(FakeDetector, "prepare", fail)
    make_images(tmp_path / "in", 1)
    with pytest.raises(ZeroDivisionError):
        work(settings, FakeDetector(), list_images([tmp_path / "in"]))


def test_asked_to_stop_single_images_end_at_once_and_what_is_done_is_written(
    tmp_path: Path, settings: LabelSettings
) -> None:
    make_images(tmp_path / "in", 20)
    done, records = work(settings, FakeDetector(), list_images([tmp_path / "in"]), stop_after=3)
    assert failures(done) == (3, 0)
    assert [record.file_name for record in records] == ["p0.png", "p1.png", "p2.png"]


def test_a_shard_of_larger_batches_is_written_whole_or_not_at_all(tmp_path: Path, settings: LabelSettings) -> None:
    # Their last digits depend on the other images of a batch, which the next run could not rebuild.
    make_images(tmp_path / "in", 10)
    images = list_images([tmp_path / "in"])
    _, records = work(replace(settings, batch=2), FakeDetector(), images, stop_after=9)
    assert records == []
    _, records = work(replace(settings, batch=2), FakeDetector(), images, stop_after=10)
    assert len(records) == 10


def test_a_full_disk_ends_the_work_with_one_sentence(
    tmp_path: Path, settings: LabelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    make_images(tmp_path / "in", 2)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JobFailed, match=r"000001-000000\.jsonl: No space left on device\."):
        work(settings, FakeDetector(), list_images([tmp_path / "in"]))
    assert list((settings.out / "records").iterdir()) == []


@pytest.mark.parametrize("tiled", [False, True])
def test_an_image_with_numbers_that_are_not_finite_fails_alone(
    tmp_path: Path, settings: LabelSettings, monkeypatch: pytest.MonkeyPatch, tiled: bool
) -> None:
    really_detect = FakeDetector.detect

    def detect(self: FakeDetector, images: Any, prompts: Any, limits: DetectionLimits) -> list[Detections]:
        found = really_detect(self, images, prompts, limits)
        nan = Detections(np.full((1, 4), np.nan, np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), NAMES)
        return [nan if image.size_hw == (80, 120) else part for image, part in zip(images, found, strict=True)]

    monkeypatch.setattr(FakeDetector, "detect", detect)
    make_images(tmp_path / "in", 2)
    Image.new("RGB", (120, 80), "red").save(tmp_path / "in" / "wide.png")
    tiling = Tiling(64) if tiled else None
    _, records = work(replace(settings, tiling=tiling), FakeDetector(), list_images([tmp_path / "in"]))
    errors = {record.file_name: record.error for record in records}
    assert "NaN" in str(errors.pop("wide.png")) and set(errors.values()) == {None}


def test_notes_about_a_file_are_recorded(tmp_path: Path, settings: LabelSettings) -> None:
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    (tmp_path / "in").mkdir()
    frames[0].save(tmp_path / "in" / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "in" / "b.png")
    _, records = work(settings, FakeDetector(), list_images([tmp_path / "in"]))
    assert [list(record.notes) for record in records] == [[FIRST_FRAME_ONLY], []]
    assert b"notes" not in encode(records[1])  # as 0.1.0 writes it
