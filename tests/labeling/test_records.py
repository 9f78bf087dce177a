"""Records: what is kept of an image, and how it is read back."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from glip.detections import Detections
from glip.errors import InputError
from glip.files import natural_order
from glip.images import list_images
from glip.labeling import records as records_module
from glip.labeling.records import (
    DoubledLines,
    Head,
    Record,
    RunInfo,
    encode,
    foreign_files,
    read_all,
    read_listing,
    read_records,
    read_run,
)
from tests.labeling.runs import a_run


def put(folder: Path, shard: str, *records: Record) -> Path:
    path = folder / "records" / f"{shard}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(encode, records)))
    return path


def list_names(folder: Path, *names: str) -> None:
    (folder / "records").mkdir(parents=True, exist_ok=True)
    (folder / "records" / "listing.txt").write_bytes(b"".join(msgspec.json.encode(name) + b"\n" for name in names))


def names_of(folder: Path) -> list[str]:
    return [record.file_name for record in read_records(folder)]


@given(
    numbers=arrays(
        np.float32, (3, 5), elements=st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
    )
)
def test_boxes_and_scores_come_back_bit_by_bit(numbers: np.ndarray) -> None:
    found = Detections(numbers[:, :4].copy(), numbers[:, 4].copy(), np.array([2, 0, 1]), ("a", "b", "c"))
    record = Record.of(found, file_name="x/é 犬.jpg", stamp="1-2", size_hw=(30, 40))
    back = msgspec.json.decode(encode(record), type=Record)
    again = back.detections(("a", "b", "c"))
    assert (back.file_name, back.width, back.height, back.error) == ("x/é 犬.jpg", 40, 30, None)
    assert again.boxes.tobytes() == found.boxes.tobytes()
    assert again.scores.tobytes() == found.scores.tobytes()
    assert again.labels.tolist() == [2, 0, 1]


def test_numbers_are_written_as_short_as_their_precision_allows() -> None:
    found = Detections(
        np.array([[0.1, 2.0, 30.25, 1 / 3]], np.float32), np.array([0.7], np.float32), np.array([0]), ("a",)
    )
    line = encode(Record.of(found, file_name="a.jpg", stamp="1-2", size_hw=(5, 6)))
    assert line == (
        b'{"file_name":"a.jpg","stamp":"1-2","width":6,"height":5,'
        b'"boxes":[[0.1,2.0,30.25,0.33333334]],"scores":[0.7],"labels":[0]}\n'
    )


def test_a_record_with_names_of_its_own_does_not_use_those_of_the_run() -> None:
    record = Record("a.jpg", "", 4, 4, [(0, 0, 1, 1)], [0.5], [1], names=["a man", "a hat"])
    assert record.detections(("person",)).names == ("a man", "a hat")


def test_records_come_in_natural_order_whatever_the_shards() -> None:
    names = ["b10.jpg", "b2.jpg", "B3.jpg", "a/10/1.jpg", "a/9/1.jpg", "a.jpg", "é.jpg", "10.jpg", "9.jpg", "09.jpg"]
    ordered = sorted(names, key=natural_order)
    assert ordered.index("b2.jpg") < ordered.index("B3.jpg") < ordered.index("b10.jpg")
    assert ordered.index("9.jpg") < ordered.index("10.jpg")


def test_the_order_is_that_of_the_listing_of_images(tmp_path: Path) -> None:
    names = ["b10.jpg", "b2.jpg", "B3.jpg", "a/10/x1.jpg", "a/9/x1.jpg", "a.jpg", "é.jpg", "10.jpg", "9.jpg", "09.jpg"]
    for name in [*names, "٣.jpg", "A.jpg", "ß.jpg", "_.jpg", "2²b.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listed = [image.name for image in list_images([tmp_path])]
    assert listed == sorted(listed, key=natural_order)


def test_series_are_merged_and_the_later_one_wins(tmp_path: Path) -> None:
    put(tmp_path, "000001-000000", Record("p1", "old"), Record("p3", "old"))
    put(tmp_path, "000001-000001", Record("p5", "old"), Record("p10", "old"))
    put(tmp_path, "000002-000000", Record("p2", "new"), Record("p3", "new"), Record("p9", "new"))
    put(tmp_path, "000010-000000", Record("p5", "newest"))
    list_names(tmp_path, "p1", "p2", "p3", "p5", "p9", "p10")
    assert [(record.file_name, record.stamp) for record in read_records(tmp_path)] == [
        ("p1", "old"),
        ("p2", "new"),
        ("p3", "new"),
        ("p5", "newest"),
        ("p9", "new"),
        ("p10", "old"),
    ]


def test_series_outrank_each_other_by_number_not_by_spelling(tmp_path: Path) -> None:
    put(tmp_path, "999999-000000", Record("p1", "old"))
    put(tmp_path, "1000000-000000", Record("p1", "new"))
    list_names(tmp_path, "p1")
    assert [record.stamp for record in read_records(tmp_path)] == ["new"]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (["p1", "p2", "p3"], ["p1", "p2", "p3"]),
        (["p2"], ["p2"]),
        (["p0", "p2", "p4"], ["p2"]),
        (["p1", "p3", "p9"], ["p1", "p3"]),
        ([], []),
    ],
)
def test_only_listed_images_are_read(tmp_path: Path, listed: list[str], expected: list[str]) -> None:
    put(tmp_path, "000001-000000", Record("p1", ""), Record("p2", ""), Record("p3", ""))
    list_names(tmp_path, *listed)
    assert names_of(tmp_path) == expected
    assert list(read_listing(tmp_path)) == listed


def test_a_folder_without_records_reads_as_empty(tmp_path: Path) -> None:
    assert names_of(tmp_path) == []
    assert list(read_all(tmp_path, Head)) == []


@pytest.mark.parametrize("kind", [Record, Head])
@pytest.mark.parametrize(
    "damage", [b'{"file_name":"p2","sta', b"\x00\x00\x00\n", b'{"stamp":"1"}\n', b'["p2"]\n', b'{"file_name":"\xff"}\n']
)
def test_a_damaged_shard_is_named_with_what_to_do(tmp_path: Path, damage: bytes, kind: type[Record | Head]) -> None:
    path = put(tmp_path, "000001-000000", Record("p1", ""))
    path.write_bytes(path.read_bytes() + damage)
    list_names(tmp_path, "p1", "p2")
    with pytest.raises(InputError) as error:
        list(read_all(tmp_path, kind))
    assert str(path) in str(error.value)
    assert "line 2" in str(error.value)
    assert "000001-000000.jsonl, line 2" in str(error.value)


def test_records_longer_than_a_page_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "PAGE_BYTES", 100)
    records = [Record(f"p{i}", "s" * (1 + 37 * i % 500)) for i in range(200)]
    put(tmp_path, "000001-000000", *records)
    list_names(tmp_path, *(record.file_name for record in records))
    assert list(read_records(tmp_path)) == records


def test_reading_a_thousand_series_holds_no_file_open_and_little_memory(tmp_path: Path) -> None:
    boxes = [(1.5, 2.5, 3.5, 4.5)] * 50
    series = 1200  # more than the files a process may usually have open
    for number in range(series):
        records = (Record(f"p{i * series + number}", "", 9, 9, boxes, [0.5] * 50, [0] * 50) for i in range(3))
        put(tmp_path, f"{number + 1:06d}-000000", *records)
    list_names(tmp_path, *(f"p{i}" for i in range(3 * series)))
    assert names_of(tmp_path) == [f"p{i}" for i in range(3 * series)]


@pytest.mark.parametrize(("shards", "images"), [(40, 64), (2, 1280)])
def test_reading_holds_a_few_pages_not_the_records(tmp_path: Path, shards: int, images: int) -> None:
    boxes = [(1.5, 2.5, 3.5, 4.5)] * 100
    for shard in range(shards):
        records = (Record(f"p{shard}-{i}", "", 9, 9, boxes, [0.5] * 100, [0] * 100) for i in range(images))
        put(tmp_path, f"000001-{shard:06d}", *records)
    list_names(tmp_path, *(f"p{shard}-{i}" for shard in range(shards) for i in range(images)))
    size = sum(path.stat().st_size for path in (tmp_path / "records").glob("*.jsonl"))
    tracemalloc.start()
    assert sum(1 for _ in read_records(tmp_path)) == shards * images
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 4_000_000
    assert peak < size / 4


def test_a_missing_or_damaged_run_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text('{"names": ["a"]}')
    with pytest.raises(InputError, match=r"run\.json"):
        read_run(tmp_path)


def test_a_run_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    run = RunInfo(
        model_sha256="0" * 64,
        names=("a", "b"),
        captions=(records_module.CaptionPlan("a. b", ("a", "b")),),
        floor=0.05,
        imgsz=800,
        nms_iou=None,
        max_detections=None,
        record="candidates",
        precision="fp32",
        model="glip-t",
        device="cpu",
        created="2026-01-01T00:00:00+00:00",
        versions={"glip": "1"},
        job={"limit": None},
    )
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(run))
    assert read_run(tmp_path) == run


def test_copies_and_files_of_others_are_not_read_but_named(tmp_path: Path) -> None:
    shard = put(tmp_path, "000001-000000", Record("a.jpg", "1"), Record("b.jpg", "1"))
    names = ["000001-000000 (copy).jsonl", "shard-0001 2.jsonl", "000001-000000.sync-conflict-1.jsonl", "notes.md"]
    for name in names:
        shard.with_name(name).write_bytes(shard.read_bytes())
    for quiet in (".DS_Store", "listing.txt", "000001-000001.jsonl.part"):
        shard.with_name(quiet).touch()
    shard.with_name("000001-000009.jsonl").mkdir()
    assert [head.file_name for head in read_all(tmp_path, Head)] == ["a.jpg", "b.jpg"]
    (entry,) = foreign_files(tmp_path)
    assert (entry.kind, entry.count) == ("foreign_records", 5)
    for name in names:
        shard.with_name(name).unlink()
    shard.with_name("000001-000009.jsonl").rmdir()
    assert foreign_files(tmp_path) == () == foreign_files(tmp_path / "nowhere")


def test_doubled_lines_count_once(tmp_path: Path) -> None:
    records = [Record("1.jpg", "1"), Record("2.jpg", "1"), Record("10.jpg", "1")]
    put(tmp_path, "000001-000000", records[0], records[0], records[1], records[0], records[2], records[1])
    put(tmp_path, "000002-000000", Record("2.jpg", "new"))
    doubled = DoubledLines()
    found = [(head.file_name, head.stamp) for head in read_all(tmp_path, Head, doubled)]
    assert found == [("1.jpg", "1"), ("2.jpg", "new"), ("10.jpg", "1")]
    (entry,) = doubled.entries()
    assert (entry.count, entry.examples) == (3, ("1.jpg", "1.jpg", "2.jpg"))
    list_names(tmp_path, "1.jpg", "2.jpg", "10.jpg")
    assert [record.file_name for record in read_records(tmp_path)] == ["1.jpg", "2.jpg", "10.jpg"]


@pytest.mark.parametrize(
    "fields",
    [
        {"boxes": [[0, 0, 1, 1]], "scores": [0.5]},
        {"boxes": [[0, 0, 1, 1]], "scores": [0.5], "labels": [-1]},
        {"boxes": [[0, 0, 1, 1]], "scores": [0.5], "labels": [2], "names": ["a", "b"]},
        {"width": -1},
        {"boxes": 5},
        {"notes": 5},
    ],
)
def test_a_record_that_contradicts_itself_is_named(tmp_path: Path, fields: dict[str, object]) -> None:
    path = put(tmp_path, "000001-000000", Record("a.jpg", "1"))
    path.write_bytes(path.read_bytes() + msgspec.json.encode({"file_name": "b.jpg", "stamp": "1"} | fields))
    with pytest.raises(InputError, match=re.escape("000001-000000.jsonl, line 2")):
        list(read_all(tmp_path, Record))


def test_a_label_beyond_the_classes_of_the_run_is_named() -> None:
    record = Record("a.jpg", "1", boxes=[(0, 0, 1, 1)], scores=[0.5], labels=[3])
    with pytest.raises(InputError, match=r"a\.jpg.* 3, .* 2 names"):
        record.detections(("a", "b"))


def test_a_listing_out_of_order_is_named(tmp_path: Path) -> None:
    list_names(tmp_path, "1.jpg", "2.jpg")
    path = tmp_path / "records" / "listing.txt"
    path.write_text('"1.jpg"\n"1.jpg"\n"2.jpg"\n')
    assert list(read_listing(tmp_path)) == ["1.jpg", "2.jpg"]
    path.write_text('"2.jpg"\n"1.jpg"\n')
    with pytest.raises(InputError, match=re.escape("listing.txt, line 2")):
        list(read_listing(tmp_path))


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "MAX_LINE_BYTES", 1000)
    path = put(tmp_path, "000001-000000", Record("a.jpg", "1"))
    path.write_bytes(bytes(5000))
    with pytest.raises(InputError, match=re.escape(str(path))):
        list(read_all(tmp_path, Head))


def test_names_with_numbers_of_any_length_are_sorted() -> None:
    names = ["7" * 5000, "0" * 5000 + "1", "12", "\u0663"]
    assert sorted(names, key=natural_order)[0] != "7" * 5000


def test_sources_of_a_damaged_run_are_none() -> None:
    for sources in (5, None, {"a": 1}, "folder"):
        assert a_run(job={"sources": sources}).sources == ()
    assert a_run(job={"sources": ["a", 5, "b"]}).sources == ("a", "b")
