"""Odd sources and datasets: nothing fails in the middle of a push, and nothing is lost in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from glip.data.coco import load_coco
from glip.data.coco_folders import CORRECTED_FILE
from glip.errors import GlipError, InputError
from glip.review import push as push_module
from glip.review.pull import pull
from glip.review.push import push
from glip.review.source import open_source
from tests.conftest import CommandResult
from tests.glip_cli.test_output import HOSTILE, assert_harmless

Glip = Callable[..., CommandResult]


def coco(folder: Path, **changes: Any) -> Path:
    """A COCO file of two images with two boxes each; `changes` replace its lists."""
    content: dict[str, Any] = {
        "info": {},
        "images": [{"id": id, "file_name": f"{id}.png", "width": 40, "height": 30} for id in (1, 2)],
        "annotations": [
            {"id": 2 * image + index, "image_id": image, "category_id": 1 + index, "bbox": [1, 2, 10, 10 + index]}
            for image in (1, 2)
            for index in (0, 1)
        ],
        "categories": [{"id": 1, "name": "heart"}, {"id": 2, "name": "circle"}],
    }
    folder.mkdir(exist_ok=True)
    for image in content["images"]:
        Image.new("RGB", (40, 30)).save(folder / image["file_name"])
    path = folder / "labels.json"
    path.write_text(json.dumps(content | changes))
    return path


def test_a_group_with_the_name_of_a_class_is_left_out_and_ids_are_kept(
    fiftyone: ModuleType, tmp_path: Path, name: str
) -> None:
    categories = [{"id": 0, "name": "heart"}, {"id": 1, "name": "heart"}, {"id": 2, "name": "circle"}]
    source = open_source(coco(tmp_path / "in", categories=categories))
    summary = push(source, name)
    assert [(entry.kind, entry.count) for entry in summary.left_out] == [("categories_of_one_name", 1)]
    pull(name, tmp_path / "out")
    boxes = load_coco(tmp_path / "out" / CORRECTED_FILE).annotations
    assert [(box.id, box.category_id) for box in boxes] == [(2, 1), (3, 2), (4, 1), (5, 2)]


BAD: dict[str, dict[str, Any]] = {
    "two used": {"categories": [{"id": 1, "name": "heart"}, {"id": 2, "name": "heart"}]},
    "image id": {"images": [{"id": 2**63 - 1, "file_name": "1.png", "width": 40, "height": 30}], "annotations": []},
    "category id": {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 2**63 + 1, "name": "c"}]},
    "annotation id": {"annotations": [{"id": 2**64, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]},
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_what_cannot_be_stored_is_refused_and_leaves_no_dataset(
    fiftyone: ModuleType, tmp_path: Path, name: str, what: str
) -> None:
    with pytest.raises(InputError, match=r"heart|9223372036854775807|9223372036854775809|18446744073709551616"):
        push(open_source(coco(tmp_path / "in", **BAD[what])), name)
    assert not fiftyone.dataset_exists(name)


def test_a_failure_in_the_middle_leaves_no_new_dataset_and_an_old_one(
    glip: Glip, fiftyone: ModuleType, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = coco(tmp_path / "in")
    other = coco(tmp_path / "other", images=[{"id": 9, "file_name": "9.png", "width": 4, "height": 3}], annotations=[])
    done = glip("review", "push", path, "--name", name, "--no-launch", "--truth", other)
    assert done.code == 2 and "1.png" not in done.stdout
    assert not fiftyone.dataset_exists(name)

    def fails(*args: object) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(push_module._Pusher, "_add", fails)
        with pytest.raises(RuntimeError):
            push(open_source(path), name)
    assert not fiftyone.dataset_exists(name)
    push(open_source(path), name)
    with monkeypatch.context() as patch:
        patch.setattr(push_module._Pusher, "push", fails)
        with pytest.raises(RuntimeError):
            push(open_source(path), name)
    assert len(fiftyone.load_dataset(name)) == 2


def test_hostile_names_and_values_come_back(glip: Glip, fiftyone: ModuleType, tmp_path: Path, name: str) -> None:
    categories = [{"id": 1, "name": HOSTILE}, {"id": 2, "name": HOSTILE.upper()}]
    info = {"$a.b": 2**70, "glip": {"conf": "x", "class_conf": [1]}, "review": 1, "": None}
    path = coco(tmp_path / "in", categories=categories, info=info)
    done = glip("review", "push", path, "--name", name, "--no-launch")
    assert done.code == 0, done.stderr
    shown = done.stdout + done.stderr
    for words in (("status", name), ("list",), ("pull", name, "--out", tmp_path / f"out {HOSTILE.replace('/', '')}")):
        done = glip("review", *words)
        assert done.code == 0, done.stderr
        shown += done.stdout + done.stderr
    assert_harmless(shown)
    corrected = load_coco(tmp_path / f"out {HOSTILE.replace('/', '')}" / CORRECTED_FILE)
    assert corrected.names == (HOSTILE, HOSTILE.upper())
    bad: list[tuple[object, ...]] = [("status", HOSTILE), ("delete", HOSTILE), ("pull", HOSTILE, "--out", "x")]
    for arguments in (*bad, ("push", HOSTILE)):
        done = glip("review", *arguments)
        assert done.code == 2 and "Traceback" not in done.stderr
        assert_harmless(done.stdout + done.stderr)


def test_what_people_add_in_the_app_is_counted(glip: Glip, fiftyone: ModuleType, tmp_path: Path, name: str) -> None:
    push(open_source(coco(tmp_path / "in")), name)
    dataset = fiftyone.load_dataset(name)
    first = dataset.first()
    first.labels.detections += [
        fiftyone.Detection(label="no box"),
        fiftyone.Detection(label="not a number", bounding_box=[float("nan"), 0.1, 0.1, 0.1]),
        fiftyone.Detection(bounding_box=[0.1, 0.1, 0.1, 0.1]),
        fiftyone.Detection(label="new", bounding_box=[0.1, 0.1, 0.5, 0.5], colour="red", mask=None),
    ]
    first.predictions.detections.append(fiftyone.Detection(label="stray", bounding_box=[0.1, 0.1, 0.2, 0.2]))
    first["lines"] = fiftyone.Polylines(polylines=[fiftyone.Polyline(label="line", points=[[(0.1, 0.1), (0.3, 0.3)]])])
    first.save()
    dataset.add_sample(fiftyone.Sample(filepath=str(tmp_path / "in" / "1.png"), tags=["mine"]))
    dataset.save()

    done = glip("review", "pull", name, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.stderr
    kinds = {entry["kind"]: entry["count"] for entry in done.json["left_out"]}
    assert kinds == {
        "nameless_boxes": 1,
        "labels_without_box": 2,
        "boxes_among_predictions": 1,
        "added_images": 1,
        "other_fields": 1,
    }
    assert done.json["images"] == 2 and done.json["total"]["added"] == 1
    status = glip("review", "status", name)
    assert status.code == 0 and status.stdout.count("left out") >= 5
    assert push(open_source(coco(tmp_path / "in")), name).unchanged == 2
    dataset.delete_samples([first.id])
    assert pull(name, tmp_path / "out").images == 1


def test_damaged_labels_survive_another_push(fiftyone: ModuleType, tmp_path: Path, name: str) -> None:
    push(open_source(coco(tmp_path / "in")), name)
    first = fiftyone.load_dataset(name).first()
    first.labels.detections.append(fiftyone.Detection(label="no box"))
    first.save()
    boxes = [{"id": 7, "image_id": 1, "category_id": 2, "bbox": [3, 3, 20, 20]}]
    push(open_source(coco(tmp_path / "in", annotations=boxes)), name)
    dataset = fiftyone.load_dataset(name)
    dataset.reload()
    assert "no box" in [box.label for box in dataset.first().labels.detections]


@pytest.mark.parametrize("content", ["[]", "{", '{"images": 1}', "\udcff", "[" * 100_000])
def test_a_file_that_is_none_is_refused(fiftyone: ModuleType, tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(GlipError, match=r"labels\.json"):
        push(open_source(path), name)
