"""Labels go into a real FiftyOne with a real MongoDB, are corrected there by its API, and come back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, load_coco, save_coco
from glip.data.coco_folders import CORRECTED_FILE, find_file
from glip.errors import InputError
from glip.labeling.filtering import ExportSettings
from glip.review import database, difference
from glip.review import push as push_module
from glip.review.pull import CHART_FILE, IMAGES_LINK, pull
from glip.review.push import OLD_EMPTY_VIEW, PushSummary, push, save_views
from glip.review.source import open_source
from tests.review.conftest import RECORDS, make_folder


def pushed(path: Path, name: str, **options: Any) -> PushSummary:
    return push(open_source(path, **options), name)


def at(conf: float) -> ExportSettings:
    return ExportSettings(conf=conf)


def numbers(summary: PushSummary) -> tuple[int, int, int, int]:
    return summary.added, summary.updated, summary.unchanged, summary.removed


def boxes_in(path: Path) -> list[CocoAnnotation]:
    """Without scores, which a file of truths has not."""
    from msgspec import UNSET
    from msgspec.structs import replace as with_fields

    return [with_fields(annotation, score=UNSET) for annotation in load_coco(path).annotations]


def sample(fiftyone: ModuleType, name: str, file_name: str) -> Any:
    dataset = fiftyone.load_dataset(name)
    dataset.reload()
    return dataset.one(fiftyone.ViewField("file_name") == file_name)


def edit(fiftyone: ModuleType, name: str) -> None:
    """One of everything that people do."""
    b = sample(fiftyone, name, "b.png")
    first, second = b.labels.detections
    first.bounding_box = [first.bounding_box[0] + 8 / 160, *first.bounding_box[1:]]
    second.label = "traffic light"
    b.labels.detections.append(fiftyone.Detection(label="wheel.s", bounding_box=[0.5, 0.5, 0.25, 0.25]))
    b.predictions.detections[2].tags.append("approve")
    b.save()
    c = sample(fiftyone, name, "sub/c.png")
    c.labels.detections[0].tags.append("reject")
    c.labels.detections.pop(1)
    c.save()
    d = sample(fiftyone, name, "sub/d.png")
    d.tags.append("approve")
    d.save()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_untouched_labels_come_back_as_they_went_in(
    fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path
) -> None:
    advanced: list[int] = []
    summary = push(open_source(labels), name, advanced.append)
    assert numbers(summary) == (4, 0, 0, 0)
    assert (summary.predictions, summary.labels, summary.unreadable) == (6, 5, 1)
    assert sum(advanced) == 5
    pulled = pull(name, tmp_path / "out")
    corrected, exported = load_coco(tmp_path / "out" / CORRECTED_FILE), load_coco(labels / "annotations.coco.json")
    assert boxes_in(tmp_path / "out" / CORRECTED_FILE) == boxes_in(labels / "annotations.coco.json")
    assert (corrected.images, corrected.categories) == (exported.images, exported.categories)
    assert corrected.info["glip"] == exported.info["glip"]
    assert (pulled.reviewed, pulled.acceptance_rate, pulled.unreviewed) == (0, None, 5)


def test_what_was_pulled_is_a_data_set_with_its_images(
    fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pushed(labels, name)
    pull(name, tmp_path / "out")
    link = tmp_path / "out" / IMAGES_LINK
    assert link.is_symlink() and link.resolve() == (tmp_path / "images").resolve()
    dataset = load_coco(tmp_path / "out" / CORRECTED_FILE)
    source = find_file(tmp_path / "out" / CORRECTED_FILE)
    assert all((source.images[0] / image.file_name).is_file() for image in dataset.images)
    # Pulled again where somebody has put the images themselves: they stay.
    link.unlink()
    link.mkdir()
    (link / "own.txt").write_text("mine")
    pull(name, tmp_path / "out")
    assert (link / "own.txt").read_text() == "mine" and not caplog.records
    # Images that have gone: said, with the option that helps.
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    pull(name, tmp_path / "third")
    assert not (tmp_path / "third" / IMAGES_LINK).exists()
    assert "--images" in caplog.text


def test_what_the_dataset_holds(fiftyone: ModuleType, labels: Path, name: str) -> None:
    pushed(labels, name)
    dataset = fiftyone.load_dataset(name)
    assert dataset.persistent
    assert dataset.info["glip"]["model"] == "glip-t"
    assert dataset.active_label_schemas == ["labels"]
    assert dataset.label_schemas["labels"]["classes"] == ["person", "dog", "traffic light"]
    b = sample(fiftyone, name, "b.png")
    assert Path(b.filepath).is_file()
    assert (b.metadata.width, b.metadata.height, b.image_id) == (160, 120, 2)
    low = b.predictions.detections[2]
    assert (low.label, low.prompt, low.chunk, low.record, low.kept) == ("dog", "dog", 0, "b.png@1-1#2", False)
    assert low.confidence == pytest.approx(0.2)
    assert low.margin == pytest.approx(-0.1)
    assert low.bounding_box == pytest.approx([0.5, 0.25, 0.25, 1 / 3])
    assert [label.record for label in b.labels.detections] == ["b.png@1-1#0", "b.png@1-1#1"]
    assert b.margin == pytest.approx(0.1)


def test_views_show_what_to_check_first(fiftyone: ModuleType, labels: Path, name: str) -> None:
    pushed(labels, name)
    dataset = fiftyone.load_dataset(name)
    dataset.save_view("mine", dataset.limit(1))
    dataset.save_view(OLD_EMPTY_VIEW, dataset.limit(1))  # as 0.1.0 named it
    for _ in range(2):
        save_views(fiftyone, dataset)
    dataset.reload()
    found = {view: dataset.load_saved_view(view).values("file_name") for view in dataset.list_saved_views()}
    assert found == {
        "mine": ["a.png"],
        "most uncertain: margin": ["sub/c.png", "b.png", "sub/d.png"],
        "most uncertain: entropy": ["sub/d.png", "b.png", "sub/c.png"],
        "likely misses": ["b.png"],
        "likely duplicates": ["b.png"],
        "empty images": ["a.png"],
        "class: dog": ["b.png", "sub/c.png", "sub/d.png"],
        "class: person": ["b.png"],
        "class: traffic light": ["sub/c.png"],
    }


def test_corrections_come_back_and_nothing_doubles(
    fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path
) -> None:
    pushed(labels, name)
    edit(fiftyone, name)
    summary = pull(name, tmp_path / "one")
    total = summary.total
    assert (total.proposed, total.accepted, total.moved, total.relabelled) == (5, 1, 1, 1)
    assert (total.deleted, total.added) == (2, 2)
    assert summary.acceptance_rate == pytest.approx(1 / 5)
    assert summary.per_class["dog"].relabelled == 1
    diff = json.loads((tmp_path / "one" / "diff.json").read_bytes())
    per_class = diff.pop("per_class")
    assert per_class["dog"] == {"proposed": 3, "accepted": 1, "moved": 0, "relabelled": 1, "deleted": 1, "added": 1}
    assert per_class["wheel.s"]["added"] == 1
    assert {kind: [row["annotation_id"] for row in rows] for kind, rows in diff.items()} == {
        "accepted": [5],
        "moved": [1],
        "relabelled": [2],
        "added": [6, 7],
        "deleted": [3, 4],
    }
    assert diff["moved"][0]["iou"] == pytest.approx(summary.mean_iou, abs=1e-4)
    assert diff["relabelled"][0]["category_before"] == "dog"
    coco = load_coco(tmp_path / "one" / CORRECTED_FILE)
    assert [(box.id, box.image_id, coco.names[box.category_id - 1]) for box in coco.annotations] == [
        (1, 2, "person"),
        (2, 2, "traffic light"),
        (6, 2, "dog"),
        (7, 2, "wheel.s"),
        (5, 4, "dog"),
    ]
    assert coco.annotations[3].bbox == (80.0, 60.0, 40.0, 30.0)
    with Image.open(tmp_path / "one" / CHART_FILE) as chart:
        assert chart.width == 960

    pull(name, tmp_path / "two")
    assert numbers(pushed(labels, name)) == (0, 0, 4, 0)
    pull(name, tmp_path / "three")
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "three")


def test_thresholds_go_up_and_down_and_corrections_stay(
    fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path
) -> None:
    pushed(labels, name)
    edit(fiftyone, name)
    pull(name, tmp_path / "one")
    assert pushed(labels, name, settings=at(0.15)).updated == 3
    assert pushed(labels, name, settings=at(0.85)).updated == 3
    pull(name, tmp_path / "two")
    kept = {box.id for box in boxes_in(tmp_path / "two" / CORRECTED_FILE)}
    assert kept == {1, 2, 6, 7}  # the untouched one of sub/d.png scores 0.5
    pushed(labels, name)
    pull(name, tmp_path / "three")
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_only_reviewed_images_if_asked(fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path) -> None:
    pushed(labels, name)
    edit(fiftyone, name)
    pull(name, tmp_path, only_reviewed=True)
    assert [image.file_name for image in load_coco(tmp_path / CORRECTED_FILE).images] == [
        "b.png",
        "sub/c.png",
        "sub/d.png",
    ]


def test_a_run_that_goes_on_is_pushed_again_and_ids_stay(fiftyone: ModuleType, name: str, tmp_path: Path) -> None:
    records = tmp_path / "labels" / "records"
    make_folder(tmp_path)
    shard = records / "000001-000000.jsonl"
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(b"".join(lines[-2:]))
    pushed(tmp_path / "labels", name)
    pull(name, tmp_path / "one")
    shard.write_bytes(b"".join(lines))
    assert numbers(pushed(tmp_path / "labels", name)) == (2, 0, 2, 0)
    pull(name, tmp_path / "two")
    before, after = (boxes_in(tmp_path / folder / CORRECTED_FILE) for folder in ("one", "two"))
    assert after[: len(before)] == before
    assert len({box.id for box in after}) == len(after) == 5


def test_images_that_the_run_no_longer_has_go_unless_somebody_worked_on_them(
    fiftyone: ModuleType, labels: Path, name: str
) -> None:
    pushed(labels, name)
    edit(fiftyone, name)
    (labels / "records" / "listing.txt").write_text('"sub/d.png"\n')
    summary = pushed(labels, name)
    assert (summary.removed, summary.kept) == (1, 2)
    assert fiftyone.load_dataset(name).values("file_name") == ["b.png", "sub/c.png", "sub/d.png"]


def test_a_push_that_was_killed_goes_on(
    fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BATCH", 1)
    killed = open_source(labels)

    def stop(count: int) -> None:
        if fiftyone.load_dataset(name).count() == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(killed, name, stop)
    assert numbers(pushed(labels, name)) == (2, 0, 2, 0)
    pull(name, tmp_path)
    assert boxes_in(tmp_path / CORRECTED_FILE) == boxes_in(labels / "annotations.coco.json")


def test_an_edit_saved_during_a_push_is_not_lost(
    fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(labels, name)
    update, calls = difference.update, list[Any]()

    def update_late(*arguments: Any) -> Any:
        updated = update(*arguments)
        calls.append(updated)
        if len(calls) == 1:
            edit(fiftyone, name)
        return updated

    monkeypatch.setattr(push_module, "update", update_late)
    pushed(labels, name, settings=at(0.25))
    assert len(calls) == 4
    assert pull(name, tmp_path).total.moved == 1


def coco_file(folder: Path, **changes: Any) -> Path:
    """Two images, ids that do not count from one, a crowd, and an image without boxes."""
    for file_name in ("x.png", "y.png"):
        Image.new("RGB", (160, 120)).save(folder / file_name)
    dataset = CocoDataset(
        images=(CocoImage(40, "x.png", 160, 120), CocoImage(7, "y.png", 160, 120)),
        annotations=(
            CocoAnnotation(900, 40, 3, (1.123456789, 2.0, 30.0, 40.0), area=5.5, iscrowd=1),
            CocoAnnotation(5, 40, 8, (50.0, 60.0, 20.0, 20.0), area=400.0, score=0.75),
        ),
        categories=(CocoCategory(8, "dog"), CocoCategory(3, "person")),
        info={"a.b": {"$c": 1}},
    )
    save_coco(folder / "boxes.json", dataset)
    return folder / "boxes.json"


def test_a_coco_file_goes_in_and_out_and_what_came_out_goes_in_again(
    fiftyone: ModuleType, name: str, tmp_path: Path
) -> None:
    path = coco_file(tmp_path)
    assert open_source(path).name == f"{tmp_path.name}-boxes"
    pushed(path, name)
    pull(name, tmp_path / "out")
    corrected = load_coco(tmp_path / "out" / CORRECTED_FILE)
    assert corrected.info["a.b"] == {"$c": 1}
    assert sorted(box.id for box in corrected.annotations) == [5, 900]
    by_id = {box.id: box for box in boxes_in(path)}
    assert {box.id: box for box in boxes_in(tmp_path / "out" / CORRECTED_FILE)} == by_id
    again = f"{name} again"
    try:
        pushed(tmp_path / "out" / CORRECTED_FILE, again, images=[str(tmp_path)])
        pull(again, tmp_path / "out2")
    finally:
        fiftyone.delete_dataset(again)
    assert contents(tmp_path / "out")[CORRECTED_FILE] == contents(tmp_path / "out2")[CORRECTED_FILE]


def test_ids_given_to_drawn_boxes_are_never_those_of_the_file(fiftyone: ModuleType, name: str, tmp_path: Path) -> None:
    path = coco_file(tmp_path)
    pushed(path, name)
    x = sample(fiftyone, name, "x.png")
    copy = x.labels.detections[0].copy()
    copy.bounding_box = [0.5, 0.5, 0.1, 0.1]
    x.labels.detections.append(copy)
    x.save()
    pull(name, tmp_path / "out")
    assert sorted(box.id for box in boxes_in(tmp_path / "out" / CORRECTED_FILE)) == [5, 900, 901]
    grown = load_coco(path)
    more = CocoAnnotation(901, 7, 8, (1.0, 1.0, 9.0, 9.0))
    save_coco(path, CocoDataset(grown.images, (*grown.annotations, more), grown.categories, grown.info))
    pushed(path, name)
    pull(name, tmp_path / "out")
    assert sorted(box.id for box in boxes_in(tmp_path / "out" / CORRECTED_FILE)) == [5, 900, 901, 902]


def refuse_other_run(labels: Path, name: str) -> None:
    pushed(make_folder(labels.parent / "other", created="2021-01-01T00:00:00+00:00"), name)


def refuse_unknown(labels: Path, name: str) -> None:
    pull("nothing of the kind", labels)


@pytest.mark.parametrize(
    ("act", "message"),
    [(refuse_other_run, "other"), (refuse_unknown, "'nothing of the kind'")],
)
def test_another_run_and_an_unknown_dataset_are_refused(
    fiftyone: ModuleType, labels: Path, name: str, act: Callable[[Path, str], None], message: str
) -> None:
    pushed(labels, name)
    with pytest.raises(InputError, match=message):
        act(labels, name)


def test_datasets_of_others_are_left_alone(fiftyone: ModuleType, labels: Path, name: str) -> None:
    fiftyone.Dataset(name, persistent=True)
    with pytest.raises(InputError, match=re.escape(repr(name))):
        pushed(labels, name)


def test_images_that_moved_are_pointed_at(fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path) -> None:
    pushed(labels, name)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="`images`"):
        open_source(labels)
    assert pushed(labels, name, images=[str(tmp_path / "elsewhere")]).updated == 4
    assert sample(fiftyone, name, "b.png").filepath == str(tmp_path / "elsewhere" / "b.png")


def test_an_image_labelled_anew_keeps_what_was_drawn_in_it(
    fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path
) -> None:
    pushed(labels, name)
    edit(fiftyone, name)
    pull(name, tmp_path / "one")
    from glip.labeling.records import encode

    anew = replace_record("b.png", stamp="2-2")
    (labels / "records" / "000001-000000.jsonl").write_bytes(
        b"".join(encode(anew if record.file_name == "b.png" else record) for record in RECORDS)
    )
    assert pushed(labels, name).updated == 1
    pull(name, tmp_path / "two")
    boxes = {box.id: box for box in boxes_in(tmp_path / "two" / CORRECTED_FILE)}
    for box in boxes_in(tmp_path / "one" / CORRECTED_FILE):
        assert boxes[box.id].bbox == box.bbox
    assert len(boxes) == 5


def replace_record(file_name: str, stamp: str) -> Any:
    import msgspec

    return msgspec.structs.replace(next(r for r in RECORDS if r.file_name == file_name), stamp=stamp)
