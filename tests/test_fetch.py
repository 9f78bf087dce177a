"""Downloads, against a real server on this machine."""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path

import pytest

from glip import fetch as module
from glip.errors import JobFailed
from glip.fetch import Unreachable, fetch
from tests.website import Site, site

__all__ = ["site"]

BODY = bytes(range(256)) * 20
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once, with an empty cache of its own and no proxy or mirror of the user's."""
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "cache"))
    for variable in ("HF_HUB_OFFLINE", "GLIP_MIRROR", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(module, "DELAY_S", 0.0)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file.pth"


def left_over(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path.suffix != ".lock")


def test_a_file_arrives_whole_and_its_hash_is_returned(site: Site, target: Path) -> None:
    assert fetch(site.put("/f", BODY), target, published_hash=DIGEST[:8]) == DIGEST
    assert target.read_bytes() == BODY
    assert left_over(target) == ["file.pth"]


def test_a_file_that_is_here_is_not_fetched_again(site: Site, target: Path) -> None:
    url = site.put("/f", BODY)
    fetch(url, target)
    assert fetch(url, target) == DIGEST
    assert len(site.requests) == 1


def test_a_damaged_file_that_is_here_is_fetched_anew(site: Site, target: Path) -> None:
    url = site.put("/f", BODY)
    fetch(url, target)
    target.write_bytes(BODY[:-1])
    assert fetch(url, target, first_hash=DIGEST) == DIGEST
    assert target.read_bytes() == BODY


def test_a_broken_transfer_resumes_where_it_stopped(site: Site, target: Path) -> None:
    url = site.put("/f", BODY, breaks=[1000, 2000])
    assert fetch(url, target) == DIGEST
    assert [wanted for _, wanted in site.requests] == [None, "bytes=1000-", "bytes=3000-"]


def test_a_later_process_resumes_where_an_earlier_one_stopped(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    url = site.put("/f", BODY, breaks=[1000])
    with pytest.raises(JobFailed, match=r"\b1000\b"):
        fetch(url, target)
    assert not target.exists()
    assert fetch(url, target) == DIGEST
    assert site.requests[-1][1] == "bytes=1000-"


def test_bytes_of_a_file_that_has_changed_meanwhile_are_not_mixed(site: Site, target: Path) -> None:
    url = site.put("/f", bytes(len(BODY)), breaks=[1000])
    page = site.pages["/f"]
    seen = []

    def change(_: str, done: int, __: int | None) -> None:
        seen.append(done)
        if done == 1000:
            page.body, page.etag = BODY, '"two"'

    assert fetch(url, target, on_download=change) == DIGEST
    assert site.requests[1][1] == "bytes=1000-"
    assert seen == [0, 1000, 0, len(BODY)]


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(site: Site, target: Path) -> None:
    url = site.put("/f", BODY, breaks=[1000], knows_ranges=False)
    assert fetch(url, target) == DIGEST
    assert target.read_bytes() == BODY


def test_without_a_validator_no_part_is_trusted(site: Site, target: Path) -> None:
    url = site.put("/f", BODY, breaks=[1000], etag=None)
    assert fetch(url, target) == DIGEST
    assert [wanted for _, wanted in site.requests] == [None, None]


def test_another_part_than_the_one_asked_for_is_thrown_away(site: Site, target: Path) -> None:
    url = site.put("/f", BODY, breaks=[1000], headers={"Content-Range": f"bytes 7-{len(BODY) - 1}/{len(BODY)}"})
    page = site.pages["/f"]
    page.statuses = []

    def partial_once(_: str, done: int, __: int | None) -> None:
        if done == 1000:
            page.statuses.append(206)

    assert fetch(url, target, on_download=partial_once) == DIGEST
    assert target.read_bytes() == BODY


def test_a_length_that_is_too_long_is_noticed(site: Site, target: Path) -> None:
    url = site.put("/f", BODY, claimed_length=len(BODY) + 5, knows_ranges=False)
    with pytest.raises(JobFailed, match=rf"{len(BODY)}\b.*\b{len(BODY) + 5}\b"):
        fetch(url, target)
    assert not target.exists()
    assert len(site.requests) == module.ATTEMPTS


def test_a_length_that_is_too_short_is_noticed_by_the_hash(site: Site, target: Path) -> None:
    url = site.put("/f", BODY, claimed_length=len(BODY) - 5)
    with pytest.raises(JobFailed, match=DIGEST[:8]):
        fetch(url, target, published_hash=DIGEST[:8])
    assert left_over(target) == []


@pytest.mark.parametrize("which", ["published_hash", "first_hash"])
def test_wrong_bytes_are_refused_and_nothing_is_kept(site: Site, target: Path, which: str) -> None:
    url = site.put("/f", BODY)
    with pytest.raises(JobFailed, match="00000000") as caught:
        fetch(url, target, **{which: "0" * 64})  # type: ignore[arg-type]
    assert url in str(caught.value)
    assert left_over(target) == []


def test_the_hash_that_the_hub_promises_before_it_redirects_is_checked(site: Site, target: Path) -> None:
    store = site.put("/store", BODY)
    good = site.redirect("/good", store, X_Linked_ETag=f'"{DIGEST}"', X_Linked_Size=str(len(BODY)))
    assert fetch(good, target) == DIGEST
    target.unlink()
    bad = site.redirect("/bad", store, X_Linked_ETag=f'"{"0" * 64}"', X_Linked_Size=str(len(BODY)))
    with pytest.raises(JobFailed, match="0" * 16):
        fetch(bad, target)
    assert left_over(target) == []


def test_a_size_other_than_the_promised_one_is_refused_at_once(site: Site, target: Path) -> None:
    url = site.redirect("/f", site.put("/store", BODY), X_Linked_Size="17")
    with pytest.raises(JobFailed, match=rf"\b17\b.*\b{len(BODY)}\b"):
        fetch(url, target)
    assert left_over(target) == []


def test_a_transfer_through_a_redirect_resumes_where_it_stopped(site: Site, target: Path) -> None:
    url = site.redirect("/f", site.put("/store", BODY, breaks=[1000]))
    assert fetch(url, target) == DIGEST
    assert site.requests[-1] == ("/store", "bytes=1000-")


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/f", "data:,x"])
def test_a_redirect_away_from_the_web_is_refused(site: Site, target: Path, place: str) -> None:
    with pytest.raises(JobFailed):
        fetch(site.redirect("/f", place), target)
    assert left_over(target) == []


@pytest.mark.parametrize("length", ["", "many", "-5", "9" * 5000])
def test_a_body_without_a_usable_length_is_fetched_up_to_the_bound(site: Site, target: Path, length: str) -> None:
    url = site.put("/f", BODY, claimed_length=length)
    assert fetch(url, target, max_bytes=len(BODY)) == DIGEST
    target.unlink()
    with pytest.raises(JobFailed, match=str(len(BODY) - 1)):
        fetch(url, target, max_bytes=len(BODY) - 1)
    assert not target.exists()


def test_a_body_that_says_it_is_too_large_is_not_fetched(site: Site, target: Path) -> None:
    url = site.put("/f", BODY)
    with pytest.raises(JobFailed, match=str(len(BODY))):
        fetch(url, target, max_bytes=10)
    assert left_over(target) == []


def test_a_redirect_from_outside_to_this_network_is_refused() -> None:
    from email.message import Message
    from io import BytesIO
    from urllib.request import Request

    request = Request("https://example.org/f")
    for host in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "localhost"):
        with pytest.raises(JobFailed, match=re.escape(host.strip("[]"))):
            module._Redirects().redirect_request(request, BytesIO(), 302, "", Message(), f"https://{host}/f")


def test_a_redirect_that_gives_up_encryption_is_refused() -> None:
    from email.message import Message
    from io import BytesIO
    from urllib.request import Request

    redirects = module._Redirects()
    request = Request("https://example.org/f")
    with pytest.raises(JobFailed, match=r"http://example\.org/f"):
        redirects.redirect_request(request, BytesIO(), 302, "", Message(), "http://example.org/f")
    inside = Request("https://127.0.0.1/f")
    assert redirects.redirect_request(inside, BytesIO(), 302, "", Message(), "http://127.0.0.1/f")
    assert redirects.redirect_request(request, BytesIO(), 302, "", Message(), "https://example.com/f")


def test_only_web_addresses_are_fetched(target: Path) -> None:
    with pytest.raises(JobFailed, match="file:///etc/passwd"):
        fetch("file:///etc/passwd", target)


def test_a_missing_file_is_reported_at_once(site: Site, target: Path) -> None:
    with pytest.raises(JobFailed, match="404"):
        fetch(site.url + "/nothing", target)
    assert len(site.requests) == 1


def test_a_busy_server_is_asked_again(site: Site, target: Path) -> None:
    url = site.put("/f", BODY, statuses=[500, 503, 429])
    assert fetch(url, target) == DIGEST
    assert len(site.requests) == 4


def test_a_server_that_stays_busy_is_given_up(site: Site, target: Path) -> None:
    url = site.put("/f", BODY, statuses=[500] * 100)
    with pytest.raises(JobFailed, match="500"):
        fetch(url, target)
    assert len(site.requests) == module.ATTEMPTS


def test_a_closed_port_is_reported_at_once(site: Site, target: Path) -> None:
    closed = "http://127.0.0.1:1/f"
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        fetch(closed, target)


def test_several_at_once_fetch_a_file_once(site: Site, target: Path) -> None:
    url = site.put("/f", BODY * 50)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(url, target))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [hashlib.sha256(BODY * 50).hexdigest()] * 4
    assert len(site.requests) == 1


def test_a_full_disk_is_reported_before_anything_is_written(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: module.shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    with pytest.raises(JobFailed, match=str(len(BODY))):
        fetch(site.put("/f", BODY), target)
    assert left_over(target) == []


def test_a_disk_that_fills_up_is_reported(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)  # type: ignore[attr-defined]
    with pytest.raises(JobFailed, match="No space left on device"):
        fetch(site.put("/f", BODY), target)
    assert not target.exists()


def test_progress_begins_with_the_size_and_ends_with_all_of_it(site: Site, target: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    url = site.put("/f", BODY)
    fetch(url, target, on_download=lambda *news: told.append(news))
    assert told[0] == (url, 0, len(BODY))
    assert told[-1] == (url, len(BODY), len(BODY))


def test_the_log_says_what_is_fetched_from_where_and_how_much(
    site: Site, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="glip")
    url = site.put("/f", bytes(2_500_000))
    fetch(url, target)
    assert url in caplog.text and "2.5 MB" in caplog.text
