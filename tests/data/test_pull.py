"""Data sets are fetched from a server on this machine that has them as they are published."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from glip import fetch
from glip.data import pull as pulling
from glip.data.lookup import find_suite, find_training_splits
from glip.data.odinw import odinw_group, odinw_set
from glip.data.pull import holdings, pull
from glip.data.sources import Source, sources_of
from glip.errors import InputError, JobFailed
from tests.conftest import CommandResult
from tests.evaluation.perfect import write_set
from tests.website import Site, site

__all__ = ["site"]

HUB = "/GLIPModel/GLIP/resolve/main/odinw_35"


@pytest.fixture(autouse=True)
def mirrors(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends all requests to the server on this machine, and does not wait between two tries."""
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("GLIP_DATA_MIRROR", site.url)
    monkeypatch.setattr(fetch, "DELAY_S", 0.0)


def archive_of(folder: Path, below: Path) -> bytes:
    """Zips a folder with paths relative to another."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(below))
    return buffer.getvalue()


def publish(site: Site, tmp_path: Path, *names: str) -> None:
    """Serves sets of ODinW in the layout of the published archives."""
    published = tmp_path / "published"
    for name in names:
        one = odinw_set(name)
        classes = dict(zip(one.ids, one.names, strict=True))
        for files in one.splits.values():
            write_set(
                published / files.annotations[0],
                published / files.images[0][0],
                classes,
                called={"dog": one.ids[0], "person": one.ids[-1]},
            )
    for source in (source for name in names for source in sources_of(f"odinw/{name}")):
        site.put(f"{HUB}/{source.top}.zip", archive_of(published / "odinw" / source.top, published / "odinw"))


def test_a_set_of_odinw_is_fetched_and_found(site: Site, tmp_path: Path) -> None:
    publish(site, tmp_path, "Raccoons")
    seen: list[tuple[str, int, int | None]] = []
    done = pull("odinw/Raccoons", tmp_path / "data", None, lambda *progress: seen.append(progress))
    assert (done.fetched, done.here, done.failed, done.is_complete) == (("Raccoon.zip",), (), {}, True)
    assert [split.name for split in find_suite("Raccoons", tmp_path / "data").splits] == ["Raccoons"]
    (found,), _ = find_training_splits("raccoons", tmp_path / "data")
    assert found.val is not None and found.test is not None
    assert not [path for path in (tmp_path / "data/.downloads").iterdir() if path.suffix != ".lock"]
    assert {url.rpartition("/")[2] for url, _, _ in seen} == {"Raccoon.zip", "Raccoon.zip (unpacking)"}
    assert seen[-1][1] == seen[-1][2]
    requests = len(site.requests)
    assert pull("odinw/raccoons", tmp_path / "data").here == ("Raccoon.zip",)
    assert len(site.requests) == requests


def test_what_the_server_lacks_is_named_and_the_rest_is_fetched(site: Site, tmp_path: Path) -> None:
    publish(site, tmp_path, "Raccoons", "pistols")
    done = pull("odinw13", tmp_path / "data")
    assert sorted(done.fetched) == ["Raccoon.zip", "pistols.zip"]
    assert done.failed is not None and len(done.failed) == 11 and "404" in done.failed["EgoHands.zip"]
    assert not done.is_complete
    assert len(find_suite("odinw13", tmp_path / "data").splits) == 2


def test_an_interrupted_download_is_shown_and_resumed(site: Site, tmp_path: Path) -> None:
    publish(site, tmp_path, "Raccoons")
    page = site.pages[f"{HUB}/Raccoon.zip"]
    page.breaks = [100] + [0] * fetch.ATTEMPTS
    done = pull("Raccoons", tmp_path / "data")
    assert done.failed is not None and "100 bytes are kept" in done.failed["Raccoon.zip"]
    assert next(row for row in holdings(tmp_path / "data") if row.name == "odinw13").unfinished == 100
    page.breaks = []
    assert pull("Raccoons", tmp_path / "data").is_complete
    assert site.requests[-1][1] == "bytes=100-"


def test_an_archive_without_its_own_folder_is_put_into_one(site: Site, tmp_path: Path) -> None:
    publish(site, tmp_path, "Raccoons")
    folder = tmp_path / "published/odinw/Raccoon"
    site.put(f"{HUB}/Raccoon.zip", archive_of(folder, folder))
    assert pull("Raccoons", tmp_path / "data").is_complete


def test_a_hostile_or_damaged_archive_leaves_nothing(site: Site, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("Raccoon/ok.txt", "1")
        file.writestr("../../evil.txt", "1")
    for body, said in ((buffer.getvalue(), "evil.txt"), (b"no archive", "Raccoon.zip")):
        site.put(f"{HUB}/Raccoon.zip", body)
        done = pull("Raccoons", tmp_path / "data")
        assert done.failed is not None and said in done.failed["Raccoon.zip"]
        assert not (tmp_path / "evil.txt").exists() and not (tmp_path / "data/odinw").exists()
        assert not list((tmp_path / "data/.downloads").glob("*.zip"))


def test_an_archive_that_lacks_what_is_read_is_named(site: Site, tmp_path: Path) -> None:
    site.put(f"{HUB}/Raccoon.zip", archive_of(tmp_path, tmp_path) + b"")
    (tmp_path / "readme.txt").write_text("1")
    site.put(f"{HUB}/Raccoon.zip", archive_of(tmp_path, tmp_path))
    done = pull("Raccoons", tmp_path / "data")
    assert done.failed is not None and "annotations_without_background.json" in done.failed["Raccoon.zip"]


def test_coco_and_minival_are_laid_out_as_they_are_read(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = tmp_path / "published"
    for split in ("val", "train"):
        write_set(published / f"annotations/instances_{split}2017.json", published / f"{split}2017")
    write_set(published / "lvis.json", published / "unused", lvis=True)
    site.put("/annotations/annotations_trainval2017.zip", archive_of(published / "annotations", published))
    site.put("/zips/val2017.zip", archive_of(published / "val2017", published))
    path = "/GLIPModel/GLIP/resolve/main/lvis_v1_minival_inserted_image_name.json"
    site.put(path, (published / "lvis.json").read_bytes())
    with_published_hashes = pull("coco", tmp_path / "data")
    assert with_published_hashes.failed is not None and len(with_published_hashes.failed) == 2
    assert "4f7e2ccb2866ec50" in with_published_hashes.failed["val2017.zip"]
    monkeypatch.setattr(pulling, "sources_of", lambda *words: [_without_hash(source) for source in sources_of(*words)])
    assert pull("lvis-minival", tmp_path / "data").is_complete
    assert pull("coco", tmp_path / "data").is_complete
    for name in ("coco", "lvis-minival"):
        (found,) = find_suite(name, tmp_path / "data").splits
        assert found.image_path("p1.png").is_file()
    state = {row.name: row for row in holdings(tmp_path / "data")}
    assert (state["coco"].state, state["lvis-minival"].state, state["rf100"].state) == ("val", "yes", "no")
    assert (state["coco"].download, state["coco"].command) == (
        0,
        f"glip data pull coco --data-root {tmp_path / 'data'}",
    )
    assert state["rf100"].command == "" and state["mini-odinw"].command.startswith("glip data synthetic --mini-odinw")


def _without_hash(source: Source) -> Source:
    from dataclasses import replace

    return replace(source, sha256=None, size=None)


def test_two_archives_of_voc_share_a_folder(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, list_name in (("VOCtest_06-Nov-2007", "test"), ("VOCtrainval_06-Nov-2007", "trainval")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in (
                f"ImageSets/Main/{list_name}.txt",
                f"JPEGImages/{list_name}.jpg",
                f"Annotations/{list_name}.xml",
            ):
                info = tarfile.TarInfo(f"VOCdevkit/VOC2007/{name}")
                info.size = 1
                archive.addfile(info, io.BytesIO(b"1"))
        site.put(f"/voc2007/{file}.tar", buffer.getvalue())
    monkeypatch.setattr(pulling, "sources_of", lambda *words: [_without_hash(source) for source in sources_of(*words)])
    for split in ("test", "trainval"):
        assert pull("voc2007", tmp_path, split).is_complete
        assert find_suite("voc2007", tmp_path, split).splits
    with pytest.raises(InputError, match=r"'train'.* test, val, trainval"):
        pull("voc2007", tmp_path, "train")


def test_what_has_no_address_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="roboflow-100-benchmark"):
        pull("rf100", tmp_path)
    with pytest.raises(InputError, match="'raccon'"):
        pull("raccon", tmp_path)
    with pytest.raises(InputError, match="'test'"):
        pull("odinw13", tmp_path, "test")


def test_images_that_are_given_on_request_are_stated(site: Site, tmp_path: Path) -> None:
    site.put("/val.txt", b"1\n")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("Annotations/1.xml", "1")
        file.writestr("Sentences/1.txt", "1")
    site.put("/raw/master/annotations.zip", buffer.getvalue())
    done = pull("flickr30k", tmp_path)
    assert sorted(done.fetched) == ["annotations.zip", "val.txt"]
    assert not done.is_complete and str(tmp_path / "flickr30k/flickr30k_images") in done.left_out[0].sentence


def test_what_does_not_fit_is_refused_before_it_is_fetched(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "free_space", lambda folder: 10**9)
    with pytest.raises(JobFailed, match=r"2\.0 GB.* 1\.0 GB"):
        pull("coco", tmp_path)
    assert site.requests == []


def test_a_host_that_cannot_be_reached_ends_the_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(JobFailed, match=re.escape("127.0.0.1")):
        pull("odinw13", tmp_path)


def test_the_commands_list_and_fetch(
    site: Site, tmp_path: Path, glip: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    publish(site, tmp_path, *(one.name for one in odinw_group("odinw13")))
    done = glip("data", "pull", "odinw13", "--json")
    assert done.code == 0, done.stderr
    assert len(done.json["fetched"]) == 13
    again = glip("data", "pull", "odinw13")
    assert again.code == 0 and "glip eval --dataset odinw13" in again.stderr
    rows = {row["name"]: row for row in glip("data", "list", "--json").json}
    assert (rows["odinw13"]["state"], rows["odinw35"]["sets"]) == ("yes", [13, 35])
    table = glip("data", "list")
    assert "glip data pull lvis-minival" in table.stdout and "13 of 35 sets" in table.stdout
    assert "thermalDogsAndPeople" not in glip("data", "list", "odinw13").stdout
    assert "BCCD" in glip("data", "list", "odinw35").stdout
    # What the project's card runs: nothing is done by hand.
    tuned = glip("finetune", "odinw13", "--shots", 1, "--model", "nano", "--dry-run", "--json", "--out", "tuned")
    assert tuned.code == 0, tuned.stderr
    assert len({run["set"] for run in tuned.json["runs"]}) == 13
    names = [split.name for split in find_suite("odinw13", Path("data")).splits]
    assert names == [one.name for one in odinw_group("odinw13")]
    scored = glip("eval", "--dataset", "raccoons", "--model", "nano", "--limit", 1, "--gallery", 0, "--json")
    assert scored.code == 0, scored.stderr
    assert glip("data", "pull", "odinw35").code == 1
