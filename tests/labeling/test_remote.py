"""Labelling images that lie elsewhere: the same job, resumable, with every fault recorded and no secret written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from glip.detectors.spec import DetectorSpec
from glip.errors import GlipError, InputError
from glip.images import remote
from glip.labeling.image_prompts import CaptionSource
from glip.labeling.job import LabelJob, LabelSummary, label
from glip.labeling.records import Record, read_records, read_run
from glip.labeling.report import find_images
from glip_cli.main import run as command
from tests.images.stores import Page, Web, forget_clients, s3_server, use_s3
from tests.labeling.fake import NAMES, FakeDetector, final_bytes, make_images

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def images(tmp_path: Path) -> dict[str, bytes]:
    """Six images by name; p5 has boxes."""
    return {name: (tmp_path / "in" / name).read_bytes() for name in make_images(tmp_path / "in", 6)}


def serve(web: Web, images: dict[str, bytes], **headers: str) -> None:
    web.pages |= {f"/{name}": Page(content, headers=dict(headers)) for name, content in images.items()}


def a_list(folder: Path, *lines: str) -> str:
    path = folder / "list.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def run(out: Path, *sources: str, **options: Any) -> LabelSummary:
    job = LabelJob(sources, NAMES, out=out, **{"report": False, "shard_size": 2} | options)
    return label(job, detector=FakeDetector())


def records(out: Path) -> dict[str, Record]:
    return {record.file_name: record for record in read_records(out)}


def written(out: Path) -> str:
    return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in out.rglob("*") if path.is_file())


def test_a_bucket_gives_the_same_labels_as_the_folder_it_was_made_of(
    tmp_path: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server() as (url, client):
        client.create_bucket(Bucket="pics")
        for name, content in images.items():
            client.put_object(Bucket="pics", Key=f"in/{name}", Body=content)
        use_s3(monkeypatch, url)
        near, far = tmp_path / "near", tmp_path / "far"
        run(near, str(tmp_path / "in"))
        assert run(far, "s3://pics/in", preview=2, report=True).labelled == 6
        assert final_bytes(near) == final_bytes(far)
        assert read_run(far).job["sources"] == ["s3://pics/in"]
        assert len(list((far / "preview").glob("*.jpg"))) == 2
        assert (far / "report.html").read_text().count("data:image/jpeg") == 6
        assert sorted(find_images(read_run(far))) == sorted(images)

        client.put_object(Bucket="pics", Key="in/p1.png", Body=images["p2.png"])
        client.put_object(Bucket="pics", Key="in/new.png", Body=images["p3.png"])
        client.delete_object(Bucket="pics", Key="in/p0.png")
        again = run(far, "s3://pics/in")
        assert (again.images, again.labelled, again.earlier) == (6, 2, 4)
        found = records(far)
        assert found["p1.png"].scores == found["p2.png"].scores
        assert found["new.png"].scores == found["p3.png"].scores
    forget_clients()


def test_faults_are_recorded_and_tried_again_and_the_rest_goes_on(
    web: Web, tmp_path: Path, images: dict[str, bytes]
) -> None:
    serve(web, images)
    web.pages["/p0.png"].status = 403
    web.pages["/p1.png"].cut = 50
    web.pages["/p3.png"].status = 500
    names = [*images, "gone.png"]
    source = a_list(tmp_path, *(f"{web.url}/{name}" for name in names), "http://127.0.0.1:1/far.png", "in/p2.png")
    summary = run(tmp_path / "out", source)
    errors = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert {entry["file_name"]: entry["error"] for entry in errors} == {
        "far.png": "its server cannot be reached",
        "gone.png": "its server says: 404 Not Found",
        "p0.png": "its server says: 403 Forbidden",
        "p1.png": "the connection was cut before all of it had come",
        "p3.png": "its server says: 500 Internal Server Error",
    }
    assert (summary.failed, summary.labelled) == (5, 9)
    serve(web, images)
    again = run(tmp_path / "out", source)
    assert (again.failed, again.labelled, again.earlier) == (2, 5, 4)


def test_a_hanging_server_costs_its_images_only(
    web: Web, tmp_path: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TIME_LIMIT", 0.5)
    serve(web, images)
    web.pages["/p1.png"].delay = 2
    run(tmp_path / "out", a_list(tmp_path, *(f"{web.url}/{name}" for name in images)))
    errors = {name: record.error for name, record in records(tmp_path / "out").items() if record.error}
    assert errors == {"p1.png": "its server took too long to answer"}


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}])
def test_a_changed_image_is_labelled_again_and_no_other(
    web: Web, tmp_path: Path, images: dict[str, bytes], headers: dict[str, str]
) -> None:
    serve(web, images, **headers)
    source = a_list(tmp_path, *(f"{web.url}/{name}" for name in images))
    run(tmp_path / "out", source)
    web.asked.clear()
    assert run(tmp_path / "out", source).labelled == 0
    assert sorted(web.asked) == sorted(f"HEAD /{name}" for name in images)
    other = {name: value.replace("1", "2") for name, value in headers.items()}
    web.pages["/p1.png"] = Page(images["p4.png"], headers=other)
    again = run(tmp_path / "out", source)
    assert (again.labelled, again.earlier) == (1, 5)
    assert records(tmp_path / "out")["p1.png"].scores == records(tmp_path / "out")["p4.png"].scores


def test_images_stay_labelled_where_the_server_tells_no_stamp_or_cannot_be_asked(
    web: Web, tmp_path: Path, images: dict[str, bytes]
) -> None:
    serve(web, images, **{"Content-Length": ""})
    source = a_list(tmp_path, *(f"{web.url}/{name}" for name in images))
    run(tmp_path / "out", source)
    before = final_bytes(tmp_path / "out")
    assert {record.stamp for record in records(tmp_path / "out").values()} == {"-"}
    for status in (200, 403, 500):  # 403: what a signed address gives when its time is over
        for page in web.pages.values():
            page.status = status
        assert run(tmp_path / "out", source).labelled == 0
    assert final_bytes(tmp_path / "out") == before
    web.pages.pop("/p0.png")
    assert run(tmp_path / "out", source).failed == 1  # as with a file that is gone


def test_no_secret_of_an_address_is_written_or_logged(
    web: Web, tmp_path: Path, images: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    serve(web, images)
    web.pages["/p0.png"].status = 403
    signed = [f"{web.url.replace('//', '//me:hunter2@')}/{name}?X-Signature=SECRET" for name in images]
    run(tmp_path / "listed", a_list(tmp_path, *signed), report=True, preview=3)
    run(tmp_path / "given", *signed[1:], report=True, preview=3)
    with pytest.raises(InputError) as refused:
        run(tmp_path / "none", signed[0])
    assert len(records(tmp_path / "listed")) == 6
    assert any("SECRET" in asked for asked in web.asked)
    assert read_run(tmp_path / "given").job["sources"][0] == f"{web.url}/p1.png"
    for text in (written(tmp_path / "listed"), written(tmp_path / "given"), caplog.text, str(refused.value)):
        assert not re.search("SECRET|hunter2|X-Signature", text)


def test_images_that_do_not_come_for_the_report_are_not_waited_for_one_by_one(
    web: Web, tmp_path: Path, images: dict[str, bytes]
) -> None:
    serve(web, images)
    source = a_list(tmp_path, *(f"{web.url}/{name}" for name in images))
    run(tmp_path / "out", source)
    for page in web.pages.values():
        page.head, page.status = 200, 500
    web.asked.clear()
    run(tmp_path / "out", source, report=True)
    tries = len(remote.WAITS) + 1
    assert sum(asked.startswith("GET") for asked in web.asked) == 3 * tries
    assert "data:image/jpeg" not in (tmp_path / "out" / "report.html").read_text()


def test_what_a_job_cannot_do_from_afar_is_refused_in_a_sentence(web: Web, tmp_path: Path) -> None:
    line = f"{web.url}/a.png"
    for source in (line, a_list(tmp_path, line)):
        with pytest.raises(InputError, match="offline"):
            run(tmp_path / "out", source, detector=DetectorSpec(offline=True))
    assert not web.asked
    job = LabelJob((a_list(tmp_path, line),), prompts=CaptionSource("sidecar"), out=tmp_path / "out")
    with pytest.raises(GlipError, match="sidecar"):
        label(job, detector=FakeDetector())


@pytest.mark.parametrize(("source", "code"), [("memory://x/a.png", 2), ("http://127.0.0.1:1/a.png?k=SECRET", 1)])
def test_the_command_shows_one_sentence(
    source: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(["label", source, "--prompt", "dog", "--out", str(tmp_path / "out")])
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said and "SECRET" not in said
    assert not (tmp_path / "out").exists()
