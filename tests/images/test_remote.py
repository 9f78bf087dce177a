"""Images in stores and on web servers: found, named, read, and refused with a reason. Against servers on loopback."""

from __future__ import annotations

import pickle
import re
import socket
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip import errors
from glip.errors import InputError, JobFailed, MissingExtra
from glip.images import NotFetched, RemoteFile, UnreadableImage, list_images, read_image, remote, shown
from glip.images import web as web_module
from glip.images.remote import RemoteMetadata
from glip.images.remote_listing import _hashed, list_remote
from tests.images.stores import Page, Web, forget_clients, google_storage, s3_server, use_s3


def png(colour: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    content = BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[str, Any]]:
    with s3_server() as (url, client):
        yield url, client


@pytest.fixture
def bucket(store: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Puts objects into a new bucket, and gives its address."""
    url, client = store
    use_s3(monkeypatch, url)
    name = f"bucket-{abs(hash(request.node.name))}"
    client.create_bucket(Bucket=name)

    def fill(**objects: bytes) -> str:
        for key, body in objects.items():
            client.put_object(Bucket=name, Key=key, Body=body)
        return f"s3://{name}"

    yield fill
    forget_clients()


pytestmark = pytest.mark.usefixtures("no_waiting")


def names_of(*sources: str | Path) -> list[str]:
    return [image.name for image in list_images(sources)]


def a_list(folder: Path, *lines: str) -> Path:
    path = folder / "list.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def reason_of(url: str) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(RemoteFile(url))
    return caught.value.reason


# Stores


def test_a_folder_of_a_bucket_is_listed_with_all_below_and_read(bucket: Any) -> None:
    objects = {
        "in/img10.png": png(),
        "in/img2.png": png("blue"),
        "in/x/犬 1.png": png(),
        "in/notes.txt": b"no image",
        "in/.cache/a.png": png(),
        "in2/other.png": png(),
        "in/": b"",
    }
    top = bucket(**objects)
    listing = list_images([f"{top}/in"])
    assert [image.name for image in listing] == ["img2.png", "img10.png", "x/犬 1.png"]
    assert names_of(f"{top}/in/") == [image.name for image in listing]
    assert read_image(listing[0].path).getpixel((0, 0)) == (0, 0, 255)
    assert str(listing[2].path) == f"{top}/in/x/犬 1.png"
    assert read_image(listing[2].path).size == (8, 6)


def test_one_object_is_read_whatever_its_suffix(bucket: Any) -> None:
    top = bucket(**{"in/a": png(), "in/b/c.png": png()})
    (image,) = list_images([f"{top}/in/a"])
    assert (image.name, read_image(image.path).size) == ("a", (8, 6))
    assert names_of(f"{top}/in/b") == ["c.png"]


def test_images_of_equal_names_are_named_by_their_places(bucket: Any, tmp_path: Path) -> None:
    top = bucket(**{"x/a.png": png(), "y/a.png": png(), "y/b.png": png()})
    place = top.removeprefix("s3://")
    assert sorted(names_of(f"{top}/x", f"{top}/y")) == ["b.png", f"{place}/x/a.png", f"{place}/y/a.png"]
    assert names_of(f"{top}/x", f"{top}/x/a.png") == ["a.png"]  # the same twice
    (tmp_path / "a.png").touch()
    assert sorted(names_of(tmp_path, f"{top}/x")) == ["a.png", f"{place}/x/a.png"]


def test_keys_cannot_lead_out_of_the_folder_of_the_results(bucket: Any) -> None:
    top = bucket(
        **{"in/../../up.png": png(), "in//double.png": png(), "in/back\\slash.png": png(), "in/_/_/up.png": png()}
    )
    names = names_of(f"{top}/in")
    assert len(set(names)) == 4
    assert all(part not in ("", ".", "..") and "\\" not in part for name in names for part in name.split("/"))


def test_a_changed_object_has_another_stamp(bucket: Any) -> None:
    top = bucket(**{"a.png": png()})
    listed = list_images([top])[0].path
    assert isinstance(listed, RemoteFile)
    alone = RemoteFile(f"{top}/a.png")
    assert listed.ask().stamp == alone.ask().stamp
    before = alone.ask()
    bucket(**{"a.png": png("blue")})
    assert alone.ask().stamp != before.stamp


def test_a_bucket_that_does_not_exist_and_an_empty_folder_are_refused(bucket: Any) -> None:
    top = bucket(**{"in/a.png": png()})
    with pytest.raises(InputError, match="s3://no-such-bucket/x"):
        list_images(["s3://no-such-bucket/x"])
    with pytest.raises(InputError, match=f"{top}/none"):
        list_images([f"{top}/none"])
    assert "does not exist" in reason_of(f"{top}/in/none.png")


def test_without_credentials_requests_are_not_signed(
    bucket: Any, store: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    top = bucket(**{"a.png": png()})
    assert not remote.client_for(top).anon
    use_s3(monkeypatch, store[0], signed=False)
    assert remote.client_for(top).anon
    assert names_of(top) == ["a.png"]


def test_a_store_that_forbids_and_one_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, web: Web) -> None:
    denied = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    web.pages["/private"] = Page(denied, status=403)
    use_s3(monkeypatch, web.url)
    with pytest.raises(InputError, match="s3://private/x"):
        list_images(["s3://private/x"])
    use_s3(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(JobFailed, match="s3://private/x"):
        list_images(["s3://private/x"])
    forget_clients()


def test_google_storage_is_read_with_its_own_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with google_storage({"pics/in/a.png": png(), "pics/in/x/犬 1.png": png(), "pics/in2/b.png": png()}) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        forget_clients()
        listing = list_images(["gs://pics/in"])
        assert [image.name for image in listing] == ["a.png", "x/犬 1.png"]
        assert read_image(listing[1].path).size == (8, 6)
        assert listing[0].path == RemoteFile("gs://pics/in/a.png", RemoteFile("gs://pics/in/a.png").ask())
        assert names_of("gs://pics/in2/b.png") == ["b.png"]
        assert "does not exist" in reason_of("gs://pics/in/none.png")
        with pytest.raises(InputError, match="gs://none/x"):
            list_images(["gs://none/x"])
        assert not caplog.messages
    forget_clients()


# The web


def test_a_list_holds_addresses_and_paths(web: Web, tmp_path: Path) -> None:
    web.pages["/d/a b.png"] = web.pages["/犬.png"] = Page(png())
    (tmp_path / "near.png").write_bytes(png())
    lines = (
        "# https://nobody.invalid/x.png",
        "near.png",
        f"{web.url}/d/a%20b.png",
        f"{web.url}/犬.png",
        "",
        f"{web.url}/犬.png",
    )
    listing = list_images([a_list(tmp_path, *lines)])
    assert [image.name for image in listing] == ["a b.png", "near.png", "犬.png"]
    assert not web.asked  # the images of a list are not requested before the work
    assert [read_image(image.path).size for image in listing] == [(8, 6)] * 3


def test_a_web_address_of_its_own_is_looked_up_at_once(web: Web) -> None:
    web.pages["/a.png"] = Page(png(), headers={"ETag": '"v1"'})
    (image,) = list_images([f"{web.url}/a.png"])
    assert image.path == RemoteFile(f"{web.url}/a.png", RemoteMetadata(len(png()), "v1"))
    with pytest.raises(InputError, match="404"):
        list_images([f"{web.url}/none.png"])
    with pytest.raises(JobFailed, match=r"127\.0\.0\.1:1/a\.png"):
        list_images(["http://127.0.0.1:1/a.png"])


def test_names_do_not_depend_on_the_order_of_addresses(tmp_path: Path) -> None:
    lines = ("https://h/x/a.png", "https://h/y/a.png", "https://h/get?id=1", "https://h/get?id=2", "https://h/b.png")
    first = {str(image.path) + image.name for image in list_images([a_list(tmp_path, *lines)])}
    assert first == {str(image.path) + image.name for image in list_images([a_list(tmp_path, *lines[::-1])])}
    names = names_of(a_list(tmp_path, *lines))
    assert {"b.png", "h/x/a.png", "h/y/a.png"} < set(names)
    assert len(set(names)) == 5
    assert names_of(a_list(tmp_path, "http://h:80/a.png", "https://h/a.png")) == ["h/a.png", "h_80/a.png"]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(status=404), "its server says: 404 Not Found"),
        (Page(status=403), "its server says: 403 Forbidden"),
        (Page(status=503), "its server says: 503 Service Unavailable"),
        (Page(png(), cut=20), "the connection was cut before all of it had come"),
        (Page(b""), "the file is empty"),
        (Page(b"<html>"), "it is no image in a known format, or its beginning is damaged"),
        (Page(b"x", headers={"Content-Length": str(2**40)}), "it has more than the 512 MB that are read"),
        (Page(status=302, headers={"Location": "/page"}), "its server sends the request in circles"),
    ],
)
def test_what_goes_wrong_with_an_image_is_its_reason(web: Web, page: Page, reason: str) -> None:
    web.pages["/page"] = page
    assert reason_of(f"{web.url}/page") == reason


def test_a_faulty_answer_is_asked_for_again_and_a_refusal_is_not(web: Web) -> None:
    web.pages["/a.png"] = Page(png(), faults=2)
    assert read_image(RemoteFile(f"{web.url}/a.png")).size == (8, 6)
    assert len(web.asked) == 3
    reason_of(f"{web.url}/none.png")
    assert len(web.asked) == 4


def test_no_more_bytes_are_read_than_allowed(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_BYTES", 2**20)
    web.pages["/a.png"] = Page(b"x" * (2**20 + 1), headers={"Content-Length": ""})
    assert "more than the 1 MB" in reason_of(f"{web.url}/a.png")


def test_a_slow_server_is_given_up(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TIME_LIMIT", 0.3)
    web.pages["/a.png"] = Page(png(), delay=1.5)
    assert reason_of(f"{web.url}/a.png") == "its server took too long to answer"
    assert len(web.asked) == 1


def test_hosts_and_addresses_that_do_not_exist_are_told(web: Web) -> None:
    assert reason_of("http://127.0.0.1:1/a.png") == "its server cannot be reached"
    assert reason_of("http://nobody.invalid/a.png") == "its server is not known; check the name"
    assert reason_of("http://[bad/a.png") == "the address is not valid"


def test_redirects_are_followed(web: Web) -> None:
    web.pages |= {"/old.png": Page(status=301, headers={"Location": "/new.png"}), "/new.png": Page(png())}
    assert read_image(RemoteFile(f"{web.url}/old.png")).size == (8, 6)


def test_stamps_come_from_etag_or_size_and_time_or_never_change(web: Web) -> None:
    url, time = f"{web.url}/a.png", {"Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}
    web.pages["/a.png"] = Page(b"1234", headers={"ETag": 'W/"abc"', **time})
    assert RemoteFile(url).ask() == RemoteMetadata(4, 'W/"abc')
    web.pages["/a.png"].headers = time
    assert RemoteFile(url).ask().stamp == "4-Wed, 01 Jan 2020 00:00:00 GMT"
    web.pages["/a.png"].head = 403  # as for an address that is signed for GET
    assert RemoteFile(url).ask().stamp == "4-Wed, 01 Jan 2020 00:00:00 GMT"
    assert remote._metadata({}) == RemoteMetadata(None, "-")


def test_a_signed_address_is_sent_whole_and_never_shown(web: Web, tmp_path: Path) -> None:
    web.pages["/a.png"] = Page(status=403)
    signed = f"{web.url.replace('://', '://user:hunter2@')}/a.png?X-Sig=s%2Fecret%3D&b=1#part"
    image = list_images([a_list(tmp_path, signed)])[0]
    with pytest.raises(UnreadableImage) as caught:
        read_image(image.path)
    assert web.asked == ["GET /a.png?X-Sig=s%2Fecret%3D&b=1"]
    with pytest.raises(InputError) as refused:
        list_images([signed])
    for text in (
        image.name,
        str(image),
        str(image.path),
        str(caught.value),
        repr(caught.value),
        str(refused.value),
    ):
        assert "ecret" not in text and "hunter2" not in text
    assert str(image.path) == shown(signed) == f"{web.url}/a.png"


# What is refused before any request


@pytest.mark.parametrize("source", ["memory://x/a.png", "file:///etc/a.png", "ftp://h/a.png", "s3://", "http:///a.png"])
def test_other_places_are_refused(source: str, tmp_path: Path) -> None:
    for given in (source, a_list(tmp_path, source)):
        with pytest.raises(InputError, match=r"s3://"):
            list_images([given])


def test_web_folders_and_keys_in_addresses_are_refused() -> None:
    for source in ("https://host", "https://host/", "https://host/photos/", "https://host/list.txt"):
        with pytest.raises(InputError, match=re.escape(source)):
            list_images([source])
    with pytest.raises(InputError, match="credentials") as caught:
        list_images(["s3://key:hunter2@bucket/x"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "package"),
    [("s3://b/x", "fsspec"), ("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs"), ("https://h/a.png", "aiohttp")],
)
def test_a_missing_client_gives_its_install_line(
    source: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    really = import_module

    def without(name: str) -> Any:
        if name == package:
            raise ModuleNotFoundError(name)
        return really(name)

    monkeypatch.setattr(errors, "import_module", without)
    for given in (source, a_list(tmp_path, source)):
        with pytest.raises(MissingExtra, match=rf"{package}.*glip\[remote\]"):
            list_images([given])


def test_remote_files_and_their_faults_travel_between_processes() -> None:
    file = RemoteFile("https://h/a.png?x=1", RemoteMetadata(1, "s"))
    assert pickle.loads(pickle.dumps(file)) == file
    fault = pickle.loads(pickle.dumps(NotFetched(5, "why")))
    assert (fault.errno, fault.reason) == (5, "why")


def test_images_on_the_disk_ask_for_no_client(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    program = (
        "import sys; from glip.images.listing import list_images; from glip.images.reading import read_image; "
        f"before = set(sys.modules); print(read_image(list_images([{str(tmp_path)!r}])[0].path).size); "
        "new = set(sys.modules) - before; "
        "assert not [name for name in new if name.partition('.')[0] in ('fsspec', 'aiohttp', 'asyncio', 's3fs')], new; "
        "assert 'glip.images.remote_listing' not in sys.modules"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "(8, 6)\n"
    )


def test_every_address_keeps_a_name_of_its_own(web: Web) -> None:
    one, two = "https://h/a.png?1", "https://h/a.png?2"
    crafted = ["https://" + _hashed(one), "https://g/" + _hashed(one).rpartition("/")[2]]
    cases = ["https://x/B.png", "https://y/b.png", "https://z/\u00fc.png", "https://w/u\u0308.png"]
    urls = [one, two, *crafted, *cases]
    named = list_remote([], urls, {"b.PNG"}, lambda name: True)
    assert {file.url for file in named.values()} == set(urls)
    assert len({unicodedata.normalize("NFC", name).casefold() for name in named} | {"b.png"}) == len(urls) + 1
    assert list_remote([], urls[::-1], {"b.PNG"}, lambda name: True).keys() == named.keys()


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:{port}/a.png", "http://localhost:{port}/a.png", "http://2130706433:{port}/a.png",
     "http://[::ffff:127.0.0.1]:{port}/a.png", "http://169.254.169.254/a.png", "http://10.0.0.1/a.png",
     "http://[::1]/a.png", "file:///etc/hostname", "//127.1:{port}/a.png", "http://inside.test:{port}/a.png"],
)  # fmt: skip
def test_a_server_outside_may_not_send_the_request_inside(
    web: Web, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    port = web.url.rpartition(":")[2]
    web.pages |= {
        "/go.png": Page(status=302, headers={"Location": target.format(port=port)}),
        "/a.png": Page(png()),
    }
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if str(host).endswith(".test") else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    public = web_module.is_public
    # The first server counts as one outside.
    monkeypatch.setattr(web_module, "_is_own", lambda host: False)
    assert not public("127.0.0.1")
    reason = reason_of(f"{web.url}/go.png")
    assert "its server sends the request to an address" in reason
    assert "GET /a.png" not in web.asked and "HEAD /a.png" not in web.asked


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("192.168.1.1", False), ("100.64.0.1", False), ("::1", False), ("fe80::1%eth0", False),
     ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("2606:4700::1", True), ("224.0.0.1", False),
     ("0.0.0.0", False)],
)  # fmt: skip
def test_which_addresses_are_outside(address: str, public: bool) -> None:
    assert web_module.is_public(address) is public


def test_large_files_wait_for_each_other() -> None:
    room = remote._Room(3 * remote.SMALL_BYTES)
    order: list[str] = []

    def second() -> None:
        with room.room_for(2 * remote.SMALL_BYTES):
            order.append("second")

    with room.room_for(2 * remote.SMALL_BYTES), room.room_for(remote.SMALL_BYTES):  # a small one needs no room
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("length", ["abc", "-5", "9" * 5000])
def test_a_size_that_is_no_number_is_none(length: str) -> None:
    assert remote._metadata({"Content-Length": length, "ETag": "x"}) == RemoteMetadata(None, "x")
