"""A MongoDB of the tests' own, and a label folder with images."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from glip.labeling.export import export
from glip.labeling.filtering import ExportSettings
from glip.labeling.records import Record
from tests.labeling.runs import a_record, broken, write_run

SIZE_HW = (120, 160)


def find_mongod() -> str | None:
    """The program that came with FiftyOne, else the system's."""
    spec = importlib.util.find_spec("fiftyone")
    folders = [Path(place) / "db" / "bin" for place in (spec.submodule_search_locations or ())] if spec else []
    return shutil.which("mongod", path=os.pathsep.join(map(str, folders))) or shutil.which("mongod")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def database_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty MongoDB on loopback; its process ends with the session."""
    mongod = find_mongod()
    if mongod is None:
        pytest.skip("no mongod: pip install 'glip[test]'")
    from pymongo import MongoClient

    folder = tmp_path_factory.mktemp("mongo")
    port = free_port()
    words = [mongod, "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    with (folder / "log").open("wb") as log, subprocess.Popen(list(map(str, words)), stdout=log, stderr=log) as process:
        try:
            # Whoever is left when the database has gone waits two seconds for it, not thirty.
            uri = f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=2000"
            with MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{port}/") as client:
                client.admin.command("ping")
            yield uri
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def fiftyone(database_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """FiftyOne on that database, with all that it writes in a folder of the tests."""
    home = tmp_path_factory.mktemp("fiftyone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIFTYONE_DATABASE_URI", database_uri)
        patch.setenv("FIFTYONE_DATABASE_VALIDATION", "false")  # of a MongoDB that is old, but not too old
        patch.setenv("FIFTYONE_DATABASE_DIR", str(home / "db"))
        patch.setenv("FIFTYONE_DEFAULT_DATASET_DIR", str(home))
        patch.setenv("FIFTYONE_LOGGING_DESTINATION", "none")
        patch.setenv("FIFTYONE_SHOW_PROGRESS_BARS", "false")
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "1")
        from glip.review.database import connect

        yield connect()


RECORDS = (
    a_record("a.png", size_hw=SIZE_HW),
    a_record(
        "b.png",
        [[10.25, 20.5, 50.125, 60], [12, 22, 49, 58], [80, 30, 120, 70]],
        [0.9, 0.6, 0.2],
        [0, 1, 1],
        SIZE_HW,
    ),
    a_record("sub/c.png", [[5, 5, 45, 65], [60, 60, 100, 100]], [0.8, 0.31], [2, 1], SIZE_HW),
    a_record("sub/d.png", [[100, 10, 150, 40]], [0.5], [1], SIZE_HW),
    broken("broken.png"),
)


def make_folder(folder: Path, records: tuple[Record, ...] = RECORDS, **changes: Any) -> Path:
    """A finished run with its images and its COCO file; gives the label folder back."""
    images = folder / "images"
    for record in records:
        path = images / record.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (record.width or 1, record.height or 1), "white").save(path)
    run = write_run(folder / "labels", records, job={"sources": [str(images)], "conf": 0.3}, **changes)
    export(run, run, ["coco"], ExportSettings(conf=0.3))
    return run


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """The label folder of `RECORDS`."""
    return make_folder(tmp_path)


@pytest.fixture
def name(fiftyone: ModuleType, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a dataset that is gone after the test."""
    name = f"test {request.node.name}"
    yield name
    if fiftyone.dataset_exists(name):
        fiftyone.delete_dataset(name)
