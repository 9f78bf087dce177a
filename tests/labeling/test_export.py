"""Exporting as a whole: what is counted, what is whole, what stays the same."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from glip.data.coco import load_coco
from glip.errors import InputError, JobFailed
from glip.images import ImageFile
from glip.labeling import records as records_module
from glip.labeling.classes import ClassFile
from glip.labeling.export import ExportSummary, export, write_outputs
from glip.labeling.filtering import ExportSettings
from glip.labeling.records import Record, read_records
from tests.labeling.runs import BOX_FORMATS, LOW, NAMES, RECORDS, a_record, broken, contents, write, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "labels", RECORDS)


def test_the_summary_counts_what_the_files_hold(run: Path) -> None:
    summary = export(run, run, ["coco", "yolo"], ExportSettings(conf=0.5))
    assert summary == ExportSummary(
        images=5,
        empty=2,
        unreadable=1,
        unlabelled=0,
        boxes=5,
        per_class={"person": 2, "dog": 2, "traffic light": 1},
        files=(run / "annotations.coco.json", run / "yolo"),
        left_out=summary.left_out,
    )
    assert [(entry.kind, entry.count, entry.examples) for entry in summary.left_out] == [
        ("unreadable_images", 1, ("zz/broken.jpg",))
    ]


@pytest.mark.parametrize("records", [(), (broken("a.jpg"),), (a_record("a.jpg"),)], ids=["none", "broken", "empty"])
def test_every_format_can_hold_nothing(tmp_path: Path, records: tuple[Record, ...]) -> None:
    summary = export(write_run(tmp_path, records), tmp_path / "out", BOX_FORMATS, LOW)
    assert summary.boxes == 0
    assert all(path.exists() for path in summary.files)
    json.loads((tmp_path / "out" / "labelstudio" / "tasks.json").read_text())
    json.loads((tmp_path / "out" / "results.coco.json").read_text())
    load_coco(tmp_path / "out" / "annotations.coco.json")
    ET.parse(tmp_path / "out" / "annotations.cvat.xml")


def test_the_same_question_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_run(tmp_path / "1", RECORDS)
    later = write_run(tmp_path / "2", RECORDS, created="2031-05-06T07:08:09+00:00", device="cuda:3")
    assert contents(write(first, *BOX_FORMATS)) == contents(write(later, *BOX_FORMATS))


def test_a_second_export_replaces_the_first(run: Path) -> None:
    write(run, *BOX_FORMATS)
    few = contents(write(run, *BOX_FORMATS, settings=ExportSettings(conf=0.85)))
    fresh = write_run(run.parent / "fresh", RECORDS)
    assert few == contents(write(fresh, *BOX_FORMATS, settings=ExportSettings(conf=0.85)))


@pytest.mark.parametrize("kind", ["yolo/labels", "voc/Annotations"])
def test_a_folder_of_somebody_else_is_not_replaced(run: Path, kind: str) -> None:
    (run / "out" / kind).mkdir(parents=True)
    (run / "out" / kind / "mine.txt").write_text("weeks of work")
    with pytest.raises(InputError, match=kind.partition("/")[0]):
        write(run, kind.partition("/")[0])
    assert (run / "out" / kind / "mine.txt").read_text() == "weeks of work"


@pytest.mark.parametrize("image", ["yolo/images/a.jpg", "voc/JPEGImages/a.jpg", "labelstudio/a.jpg"])
def test_images_put_beside_the_labels_survive_the_next_export(run: Path, image: str) -> None:
    kind = image.partition("/")[0]
    path = write(run, kind) / image
    path.parent.mkdir(exist_ok=True)
    path.write_text("the only copy")
    write(run, kind)
    assert path.read_text() == "the only copy"


@pytest.mark.parametrize("kind", BOX_FORMATS)
def test_a_full_disk_leaves_the_earlier_files_whole(run: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(write(run, kind))

    def full(folder: Path, doubled: object = None) -> Any:
        yield from list(RECORDS)[:3]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("glip.labeling.export.read_records", full)
    with pytest.raises(JobFailed, match="No space left on device"):
        write(run, kind, settings=ExportSettings(conf=0.9))
    assert contents(run / "out") == before


def test_a_file_appears_only_when_it_is_whole(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Path]] = []
    records = list(read_records(run))

    def watched(folder: Path, doubled: object = None) -> Any:
        for record in records:
            yield record
            files = [path for path in (run / "out").rglob("*") if path.is_file()]
            seen.append([path for path in files if ".unfinished/" not in str(path) and path.suffix != ".part"])

    monkeypatch.setattr("glip.labeling.export.read_records", watched)
    write(run, *BOX_FORMATS)
    assert seen == [[]] * len(records)


def test_class_files_choose_names_ids_and_order(tmp_path: Path) -> None:
    classes = ClassFile(
        names=("signal", "animal"),
        phrases=("traffic light", "dog"),
        class_of=(0, 1),
        negative_of=((), ()),
        conf=(None, 0.6),
        ids=(10, 3),
    )
    run = write_run(tmp_path, RECORDS)
    out = write(run, "coco", "yolo", settings=ExportSettings(conf=0.05, classes=classes))
    content = json.loads((out / "annotations.coco.json").read_text())
    assert content["categories"] == [{"id": 10, "name": "signal"}, {"id": 3, "name": "animal"}]
    assert [(row["category_id"], round(row["score"], 2)) for row in content["annotations"]] == [(3, 0.7), (10, 0.8)]
    assert yaml.safe_load((out / "yolo" / "data.yaml").read_text())["names"] == {0: "signal", 1: "animal"}


def test_the_class_file_of_the_run_holds_unless_another_is_given(tmp_path: Path) -> None:
    asked = ClassFile(("thing",), NAMES, (0, 0, 0), ((),) * 3, (None,), (5,))
    run = write_run(tmp_path, RECORDS, job={"classes": msgspec.to_builtins(asked)})
    assert load_coco(write(run, "coco") / "annotations.coco.json").names == ("thing",)
    own = ExportSettings(conf=0.05, classes=ClassFile.from_phrases(NAMES))
    assert load_coco(write(run, "coco", settings=own) / "annotations.coco.json").names == NAMES


def test_images_with_captions_of_their_own_share_one_list_of_classes(tmp_path: Path) -> None:
    records = [
        msgspec.structs.replace(a_record("a.jpg", [[0, 0, 9, 9]], [0.9], [1]), names=("a cat", "red kite")),
        msgspec.structs.replace(a_record("b.jpg", [[0, 0, 9, 9]], [0.8], [0]), names=("a dog",)),
    ]
    dataset = load_coco(write(write_run(tmp_path, records, names=()), "coco") / "annotations.coco.json")
    assert dataset.names == ("a cat", "a dog", "red kite")
    assert [dataset.names[box.category_id - 1] for box in dataset.annotations] == ["red kite", "a dog"]


def test_an_unknown_format_is_answered_with_the_nearest_one(run: Path) -> None:
    with pytest.raises(InputError, match=r"'yol'.*'yolo'"):
        write(run, "yol")


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json"):
        write(tmp_path, "coco")


def test_the_caller_hears_of_every_record(run: Path) -> None:
    heard: list[int] = []
    export(run, run / "out", ["csv"], LOW, advance=heard.append)
    assert sum(heard) == len(RECORDS)


def test_all_outputs_come_from_one_pass_over_the_records(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    lines = records_module._lines

    def counted(path: Path) -> Iterator[bytes]:
        opened.append(path.name)
        return lines(path)

    monkeypatch.setattr(records_module, "_lines", counted)
    images = [ImageFile(run / record.file_name, record.file_name) for record in RECORDS]
    outputs = write_outputs(run, images, 0.05, preview=2, report=True)
    assert {path.name for path in outputs.files} == {"annotations.coco.json", "errors.jsonl", "report.html"}
    assert outputs.failed == 1
    assert opened == ["listing.txt", "000001-000000.jsonl"] or opened == ["000001-000000.jsonl", "listing.txt"]


def test_exporting_needs_no_torch(run: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from glip.labeling.export import *;"
        f"export(Path({str(run)!r}), Path({str(run / 'out')!r}), {BOX_FORMATS!r}, ExportSettings(nms='agnostic'));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory with Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from glip.labeling.export import ExportSettings, export
from glip.labeling.writers import FORMATS
run = Path(sys.argv[1])
skipped = ("yolo", "voc", "labelme", "grounding")
export(run, run / "out", [name for name in FORMATS if name not in skipped], ExportSettings())
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

    def peak(count: int) -> int:
        record = a_record("", [[i * 20.5, 0.25, i * 20.5 + 10, 100.75] for i in range(20)], [0.5] * 20, [0] * 20)
        records = (msgspec.structs.replace(record, file_name=f"{number:06d}.jpg") for number in range(count))
        run = write_run(tmp_path / str(count), records)
        output = subprocess.run([sys.executable, "-c", script, str(run)], capture_output=True, text=True, check=True)
        return int(output.stdout)

    assert peak(5000) - peak(500) < 4000  # kilobytes; each file grows by more
