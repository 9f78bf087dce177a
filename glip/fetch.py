"""Downloads a file from the web, checked and whole or not at all. An interrupted download is resumed.

Serves weights and data sets alike, from plain web addresses and from the Hugging Face hub; `docs/checkpoints.md`,
"Downloads", says why the hub's own package is not used. Knows HTTP and hashes; knows nothing of checkpoints.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import logging
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import msgspec
from filelock import FileLock, Timeout

from glip.errors import JobFailed

logger = logging.getLogger(__name__)

# Receives the URL, the number of bytes on disk and the file's size in bytes (None if the server does not tell it). The
# first call comes before any byte is fetched.
OnDownload = Callable[[str, int, int | None], None]

ATTEMPTS = 5
DELAY_S = 1.0
TIMEOUT_S = 60.0
_CHUNK = 1 << 20
_RETRIED_STATUSES = {408, 425, 429, 500, 502, 503, 504}
MAX_BYTES = 1 << 40  # of a file, where the caller knows nothing better
_DIGITS = re.compile(r"[0-9]{1,18}")
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


class Unreachable(JobFailed):
    """The host could not be reached: no network, a wrong name, a closed port."""


class _TransferError(Exception):
    """A failed transfer that may succeed when it is tried again."""


@dataclass
class _Transfer:
    """Facts about a file that is being downloaded, kept beside its bytes so that a later process can resume."""

    url: str
    total: int | None = None
    # ETag or date of the file; proves when resuming that it has not changed.
    validator: str | None = None
    # What the server promises, see `_describe`.
    sha256: str | None = None


def fetch(
    url: str,
    target: Path,
    *,
    published_hash: str | None = None,
    first_hash: str | None = None,
    on_download: OnDownload | None = None,
    max_bytes: int = MAX_BYTES,
) -> str:
    """Downloads a file, unless it is there, and returns its sha256.

    Args:
        url: http or https.
        target: where the file appears once it is whole and has passed every check.
        published_hash: the published beginning of its sha256. What the server promises is checked as well.
        first_hash: its sha256 when it was fetched for the first time.
        on_download: receives the progress.
        max_bytes: a larger file is refused, whether the server tells its size or not.

    Raises:
        Unreachable: the host could not be reached.
        JobFailed: the file could not be fetched, or is not the expected one.
    """
    on_download = on_download or (lambda *_: None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _disk_error(target.parent, error) from error
    with _alone(target):
        if target.is_file():
            found = hash_file(target)
            if found.startswith(published_hash or "") and found.startswith(first_hash or ""):
                return found
            logger.warning("%s is damaged; fetching it again.", target)
        part = target.with_name(target.name + ".part")
        promised = _persist(url, part, on_download, max_bytes)
        found = hash_file(part)
        expected = {"published": published_hash, "of the first download": first_hash, "the server promises": promised}
        for which, wanted in expected.items():
            if wanted and not found.startswith(wanted):
                _discard(part)
                raise JobFailed(
                    f"{url} is not the expected file: its sha256 begins with {found[:16]}, the one {which} "
                    f"with {wanted[:16]}. Nothing was kept. Try again; if this repeats, do not trust that host."
                )
        part.replace(target)
        _discard(part)
    return found


def _alone(target: Path) -> AbstractContextManager[object]:
    """Locks the file for one process and thread; the others wait and then find it there."""
    lock = FileLock(target.with_name(target.name + ".lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another process is fetching %s; waiting for it.", target.name)
        return lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise _disk_error(target.parent, error) from error


def _persist(url: str, part: Path, on_download: OnDownload, max_bytes: int) -> str | None:
    """Downloads into `part`, trying again while that helps; returns the sha256 that the server promises, if any."""
    failures, furthest = 0, _size(part)
    while True:
        try:
            return _attempt(url, part, on_download, max_bytes)
        except (_TransferError, Unreachable) as error:
            # A network that worked a moment ago may come back; waiting for one that never worked is useless.
            if isinstance(error, Unreachable) and failures == 0:
                raise
            size = _size(part)
            failures = 1 if size > furthest else failures + 1
            furthest = max(furthest, size)
            if failures >= ATTEMPTS:
                kept = f" {size} bytes are kept; the same command resumes." if size else ""
                raise JobFailed(f"{url} could not be fetched: {error}.{kept}") from error
            logger.info("%s; trying again.", error)
            time.sleep(DELAY_S * 2 ** (failures - 1))


def _attempt(url: str, part: Path, on_download: OnDownload, max_bytes: int) -> str | None:
    before = _remembered(part, url)
    have = _size(part) if before.validator else 0
    if have and have == before.total:
        on_download(url, have, before.total)
        return before.sha256
    response, redirects = _open(url, have, before.validator)
    with response:
        now = _describe(url, response, redirects.promises)
        resumed = response.status == 206
        if resumed and not _continues(response, have, before, now):
            _discard(part)
            raise _TransferError(f"{urlsplit(url).hostname} sent another part of the file than requested")
        if resumed:
            now.validator = before.validator
        else:
            # A server that knows no ranges, or has a newer file, sends all of it: start over.
            have = 0
            _discard(part)
        if now.total is not None and now.total > max_bytes:
            raise JobFailed(f"{url} has {now.total} bytes, but the file has at most {max_bytes}; nothing was fetched.")
        _announce(now.url, now.total, have, part)
        on_download(url, have, now.total)
        try:
            _memory(part).write_bytes(msgspec.json.encode(now))
            with part.open("ab") as file:
                _copy(response, file, now, have, on_download, max_bytes)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _disk_error(part, error) from error
    if now.total not in (None, _size(part)):
        raise _TransferError(f"{urlsplit(url).hostname} sent {_size(part)} of {now.total} bytes")
    return now.sha256


def _announce(url: str, total: int | None, have: int, part: Path) -> None:
    """Logs what is fetched, and checks that it fits on the disk."""
    size = f"{total / 1e6:.1f} MB" if total else "unknown size"
    logger.info("Fetching %s (%s%s).", url, size, ", resuming" if have else "")
    if total is not None and shutil.disk_usage(part.parent).free < total - have:
        raise JobFailed(f"{total} bytes do not fit on the disk of {part.parent}; free some space, or set GLIP_HOME.")


def _copy(
    response: Any, file: IO[bytes], transfer: _Transfer, have: int, on_download: OnDownload, max_bytes: int
) -> None:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _TransferError(
                f"the transfer broke off after {have} bytes ({error or type(error).__name__})"
            ) from error
        if not chunk:
            return
        have += len(chunk)
        if have > (max_bytes if transfer.total is None else transfer.total):
            # Such a body may have no end, and its file is not the expected one in any case.
            file.truncate(0)
            raise JobFailed(
                f"{transfer.url} sends more than the {transfer.total or max_bytes} bytes that the file can have; it is "
                f"another file, and nothing was kept."
            )
        file.write(chunk)
        on_download(transfer.url, have, transfer.total)


class _Redirects(HTTPRedirectHandler):
    """Follows redirects that stay on the web and keep encryption, and collects the promises made on the way.

    The hub redirects to a store; only the headers of that redirect promise the size and hash of the file.
    """

    def __init__(self) -> None:
        self.promises: dict[str, str] = {}

    def note(self, headers: Message) -> None:
        """Keeps the promises of one response."""
        self.promises |= {name: headers[name] for name in ("X-Linked-ETag", "X-Linked-Size") if headers.get(name)}

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Returns the request that follows a redirect; urllib calls it."""
        self.note(headers)
        _check_scheme(newurl)
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if _is_private(new.hostname or "") and not _is_private(old.hostname or ""):
            raise JobFailed(
                f"{req.full_url} redirects to {newurl}, an address inside this network, so it is not followed."
            )
        if (old.scheme, new.scheme) == ("https", "http") and not _is_loopback(new.hostname or ""):
            raise JobFailed(f"{req.full_url} redirects to {newurl}, which is not encrypted, so it is not followed.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, have: int, validator: str | None) -> tuple[Any, _Redirects]:
    """Requests the file, from byte `have` on if it is still the one that `validator` names."""
    _check_scheme(url)
    redirects = _Redirects()
    # Compression would change the length, and with it the byte to resume from.
    headers = {"User-Agent": "glip", "Accept-Encoding": "identity"}
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        response = build_opener(redirects).open(Request(url, headers=headers), timeout=TIMEOUT_S)  # noqa: S310
    except HTTPError as error:
        text = f"{urlsplit(error.url or url).hostname} answered {error.code} {error.reason}"
        if error.code in _RETRIED_STATUSES:
            raise _TransferError(text) from error
        raise JobFailed(f"{url} could not be fetched: {text}.") from error
    except (TimeoutError, ConnectionResetError, http.client.HTTPException) as error:
        raise _TransferError(f"{urlsplit(url).hostname} did not answer ({error or type(error).__name__})") from error
    except ValueError as error:  # a host or a port that is none
        raise JobFailed(f"{url} could not be fetched: it is not a web address ({error}).") from error
    except URLError as error:
        if isinstance(error.reason, (TimeoutError, ConnectionResetError)):
            raise _TransferError(f"{urlsplit(url).hostname} did not answer ({error.reason})") from error
        if isinstance(error.reason, ssl.SSLError):
            raise JobFailed(f"{url} could not be fetched: no trusted connection ({error.reason}).") from error
        raise Unreachable(f"{urlsplit(url).hostname} could not be reached ({error.reason})") from error
    redirects.note(response.headers)
    return response, redirects


def _describe(url: str, response: Any, promises: dict[str, str]) -> _Transfer:
    """Reads the headers of the response, and the promises made on the way to it.

    Raises:
        JobFailed: the promised size is not the one that is sent.
    """
    headers = response.headers
    if response.status == 206:
        length = (headers.get("Content-Range") or "").rpartition("/")[2]
    else:
        length = headers.get("Content-Length") or ""
    total, promised = _number(length), _number(promises.get("X-Linked-Size", ""))
    if promised is not None:
        if total not in (None, promised):
            raise JobFailed(f"{url} should have {promised} bytes, but {total} are sent; nothing was fetched.")
        total = promised
    etag = headers.get("ETag") or ""
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    sha256 = _SHA256.fullmatch(promises.get("X-Linked-ETag", ""))
    return _Transfer(url, total, validator, sha256[1] if sha256 else None)


def _number(text: str) -> int | None:
    """Returns the number of bytes that a header tells; None if it is no such number."""
    return int(text) if _DIGITS.fullmatch(text) else None


def _continues(response: Any, have: int, before: _Transfer, now: _Transfer) -> bool:
    """Returns whether a part of a file is the rest of the one on disk."""
    is_same = now.total == before.total and now.validator in (None, before.validator)
    return is_same and str(response.headers.get("Content-Range")).startswith(f"bytes {have}-")


def _check_scheme(url: str) -> None:
    try:
        scheme = urlsplit(url).scheme
    except ValueError:  # brackets that are no address
        scheme = ""
    if scheme not in ("http", "https"):
        raise JobFailed(f"{url} is not a web address (http or https); it is not fetched.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_private(host: str) -> bool:
    """Returns whether a host is this machine or inside its network; a name counts as the addresses it stands for."""
    try:
        found = {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False  # it cannot be reached either
    return any(not ipaddress.ip_address(address.partition("%")[0]).is_global for address in found)


def _memory(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remembered(part: Path, url: str) -> _Transfer:
    """Returns the record of an earlier attempt; an empty one if it was for another URL or is unreadable."""
    try:
        known = msgspec.json.decode(_memory(part).read_bytes(), type=_Transfer)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Transfer(url)
    return known if known.url == url else _Transfer(url)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _memory(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def hash_file(path: Path) -> str:
    """Returns the sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _disk_error(path: Path, error: OSError | NotImplementedError) -> JobFailed:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return JobFailed(f"{path} could not be written: {reason}. Free some space, or set GLIP_HOME.")
