"""Shards: what is left to do, divided; and files that are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glip.files import natural_order
from glip.images import ImageFile
from glip.labeling.records import Record, read_all, read_listing
from glip.labeling.shards import (
    Shard,
    find_labelled,
    plan_shards,
    remove_leftovers,
    stamp,
    write_listing,
    write_shard,
)


def listing(*numbers: int, folder: Path = Path("/nowhere")) -> list[ImageFile]:
    return [ImageFile(folder / f"p{number}.jpg", f"p{number}.jpg") for number in numbers]


def names(shard: Shard) -> list[str]:
    return [image.name for image in shard.images]


def test_nothing_done_is_cut_into_shards_of_equal_size(tmp_path: Path) -> None:
    shards = plan_shards(tmp_path, listing(*range(10)), [False] * 10, 4)
    assert [names(shard) for shard in shards] == [
        ["p0.jpg", "p1.jpg", "p2.jpg", "p3.jpg"],
        ["p4.jpg", "p5.jpg", "p6.jpg", "p7.jpg"],
        ["p8.jpg", "p9.jpg"],
    ]
    assert [shard.file_name for shard in shards] == [
        "000001-000000.jsonl",
        "000001-000001.jsonl",
        "000001-000002.jsonl",
    ]


def test_everything_done_leaves_no_shards(tmp_path: Path) -> None:
    assert plan_shards(tmp_path, listing(1, 2), [True, True], 4) == []


def test_untouched_shards_meet_again_as_they_were_and_single_images_are_gathered(tmp_path: Path) -> None:
    done = [True] * 4 + [True, False, True, True] + [False] * 4 + [True, False, True, True] + [False]
    shards = plan_shards(tmp_path, listing(*range(17)), done, 4)
    assert [(shard.series, names(shard)) for shard in shards] == [
        (1, ["p8.jpg", "p9.jpg", "p10.jpg", "p11.jpg"]),
        (1, ["p16.jpg"]),
        (2, ["p5.jpg", "p13.jpg"]),
    ]


def test_new_shards_never_take_the_name_of_an_old_one(tmp_path: Path) -> None:
    write_shard(tmp_path, Shard(7, 0, ()), [Record("p0.jpg", "")])
    shards = plan_shards(tmp_path, listing(1, 2, 3), [False, True, False], 2)
    assert [shard.series for shard in shards] == [8, 9]


@given(done=st.lists(st.booleans(), max_size=60), size=st.integers(1, 9))
def test_every_missing_image_is_planned_once_and_each_series_is_in_order(done: list[bool], size: int) -> None:
    images = listing(*range(len(done)))
    shards = plan_shards(Path("/nowhere"), images, done, size)
    planned = [image for shard in shards for image in shard.images]
    missing = [image for image, labelled in zip(images, done, strict=True) if not labelled]
    assert sorted(planned, key=lambda image: natural_order(image.name)) == missing
    assert len({shard.file_name for shard in shards}) == len(shards)
    assert all(1 <= len(shard.images) <= size for shard in shards)
    for series in {shard.series for shard in shards}:
        in_series = [name for shard in shards if shard.series == series for name in names(shard)]
        assert in_series == sorted(in_series, key=natural_order)


def test_a_shard_is_written_in_natural_order_whatever_order_its_records_came_in(tmp_path: Path) -> None:
    write_shard(tmp_path, Shard(1, 0, ()), [Record("p10.jpg", ""), Record("p9.jpg", ""), Record("p1.jpg", "")])
    assert [record.file_name for record in read_all(tmp_path, Record)] == ["p1.jpg", "p9.jpg", "p10.jpg"]


def test_a_shard_of_which_nothing_was_finished_leaves_no_file(tmp_path: Path) -> None:
    write_shard(tmp_path, Shard(1, 0, ()), [])
    assert not (tmp_path / "records").exists()


def test_the_listing_reads_back(tmp_path: Path) -> None:
    images = [ImageFile(Path("/x"), 'a\n"b".jpg'), ImageFile(Path("/y"), "犬.jpg")]
    write_listing(tmp_path, images)
    assert list(read_listing(tmp_path)) == ['a\n"b".jpg', "犬.jpg"]


def put_images(folder: Path, count: int) -> list[ImageFile]:
    images = listing(*range(count), folder=folder)
    for image in images:
        (folder / image.name).write_bytes(b"x" * 10)
    return images


def test_an_image_is_labelled_if_its_newest_record_fits_its_file(tmp_path: Path) -> None:
    images = put_images(tmp_path, 6)
    marks = [stamp(image.path) for image in images]
    records = [Record(image.name, mark) for image, mark in zip(images, marks, strict=True)]
    write_shard(tmp_path, Shard(1, 0, ()), records[:4])
    write_shard(tmp_path, Shard(2, 0, ()), [Record("p3.jpg", "")])  # failed for a reason that may pass
    (tmp_path / images[1].name).write_bytes(b"x" * 11)  # another size
    os.utime(tmp_path / images[2].name, ns=(1, 1))  # another time
    assert find_labelled(tmp_path, images) == ([True, False, False, False, False, False], 0)


def test_images_that_are_recorded_but_no_longer_listed_are_counted(tmp_path: Path) -> None:
    images = put_images(tmp_path, 5)
    write_shard(tmp_path, Shard(1, 0, ()), [Record(image.name, stamp(image.path)) for image in images])
    assert find_labelled(tmp_path, [images[1], images[3]]) == ([True, True], 3)
    (tmp_path / images[3].name).unlink()
    assert find_labelled(tmp_path, [images[1], images[3]]) == ([True, False], 3)


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    own = ["run.json.part", "report.html.part", "records/000001-000000.jsonl.part", "records/listing.txt.part"]
    others = ["mine.txt", "movie.mkv.part", "records/000001-000001.jsonl", "records/notes.jsonl.part"]
    (tmp_path / "records").mkdir()
    for name in own + others:
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path, ["report.html"])
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == others


def test_a_stamp_tells_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    os.utime(path, ns=(5, 123456789012345678))
    assert stamp(path) == "3-123456789012345678"
    with pytest.raises(FileNotFoundError):
        stamp(tmp_path / "b")
