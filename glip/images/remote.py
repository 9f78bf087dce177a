"""Reads images from object stores (s3://, gs://) and web servers (https://, http://).

Knows addresses and fsspec's clients, which are imported at the first request. Knows nothing of image formats. A signed
address holds a secret after its '?', so addresses are written and shown without that part. Reasons are stored in
records, so their wording is part of the format. `web` sends the requests to web servers.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from importlib import import_module
from io import BytesIO
from threading import Condition
from time import monotonic, sleep
from typing import Any, TypeVar

from glip.errors import InputError, JobFailed, require
from glip.images.web import CONNECT, SILENCE, BadStatus, LargerThanAsked, NotFollowed, ask_web, read_web, web_client

CLIENTS = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "https": "aiohttp",
    "http": "aiohttp",
}  # scheme -> the package that fsspec needs
MAX_BYTES = 512 * 2**20  # of one image, because it is decoded from memory
# Many images are fetched at once. Those up to the first size need no permission; larger ones share the second.
SMALL_BYTES = 16 * 2**20
MAX_LARGE_BYTES = 2**30
# Seconds for a request with all its attempts. An image needs two requests, and labelling gives up on it after 60 s.
TIME_LIMIT = 25.0
WAITS = (0.5, 1.5)  # seconds between attempts

Answer = TypeVar("Answer")


class NotFetched(OSError):
    """An image that could not be fetched.

    It is an OSError with an errno, because a later attempt may succeed.
    """

    @property
    def reason(self) -> str:
        """Returns the reason, in one line without the address."""
        return str(self.strerror)


_REFUSED = (errno.ECONNREFUSED, "its server cannot be reached")
_CUT = (errno.ECONNRESET, "the connection was cut")
# Exceptions of the clients, by class name, because the packages that define them may not be installed.
_FAULTS = {
    "FileNotFoundError": (errno.ENOENT, "it does not exist there"),
    "NoSuchBucket": (errno.ENOENT, "it does not exist there"),
    "PermissionError": (errno.EACCES, "its server refuses access; check the credentials"),
    "NoCredentialsError": (errno.EACCES, "no credentials were found for it"),
    "PartialCredentialsError": (errno.EACCES, "a part of the credentials for it is missing"),
    "DefaultCredentialsError": (errno.EACCES, "no credentials were found for it"),
    "RefreshError": (errno.EACCES, "its credentials are not valid any more"),
    "ParamValidationError": (errno.EINVAL, "the address is not valid"),
    "InvalidURL": (errno.EINVAL, "the address is not valid"),
    "ValueError": (errno.EINVAL, "the address is not valid"),
    "TimeoutError": (errno.ETIMEDOUT, "its server took too long to answer"),
    "ConnectTimeoutError": (errno.ETIMEDOUT, "its server took too long to answer"),
    "ReadTimeoutError": (errno.ETIMEDOUT, "its server took too long to answer"),
    "ClientConnectorDNSError": (errno.EHOSTUNREACH, "its server is not known; check the name"),
    "ClientConnectorCertificateError": (errno.EPERM, "the certificate of its server is not valid"),
    "ClientConnectorError": _REFUSED,
    "EndpointConnectionError": _REFUSED,
    "ConnectionError": _CUT,
    "ClientConnectionError": _CUT,
    "ConnectionClosedError": _CUT,
    "ClientPayloadError": (errno.ECONNRESET, "the connection was cut before all of it had come"),
    "TooManyRedirects": (errno.ELOOP, "its server sends the request in circles"),
}
_FOR_THE_USER = {errno.ENOENT, errno.EACCES, errno.EINVAL, errno.EHOSTUNREACH, errno.EPERM, errno.EFBIG, errno.ELOOP}


def is_remote(source: str) -> bool:
    """Returns whether a source is an address rather than a path."""
    return "://" in source


def shown(source: str) -> str:
    """Returns a source as it may be shown: an address without its secret part, a path unchanged."""
    if not is_remote(source):
        return source
    scheme, _, rest = source.partition("://")
    rest = rest.partition("?")[0]
    if scheme.lower().startswith("http"):
        rest = rest.partition("#")[0]
    server, slash, path = rest.partition("/")
    return f"{scheme}://{server.rpartition('@')[2]}{slash}{path}"


@dataclass(frozen=True)
class RemoteMetadata:
    """Metadata of a remote image: its size in bytes, if known, and a stamp that changes when the image changes."""

    size: int | None
    stamp: str


@dataclass(frozen=True)
class RemoteFile:
    """An image at an address. `str` gives the address without its secret part.

    Attributes:
        url: the whole address, with a lower-case scheme.
        metadata: its metadata from the listing; None if they were not requested.
    """

    url: str = field(repr=False)
    metadata: RemoteMetadata | None = None

    def __str__(self) -> str:
        return shown(self.url)

    def ask(self) -> RemoteMetadata:
        """Returns the metadata of the image, from its server if necessary.

        Raises:
            NotFetched: the server gave none.
        """
        if self.metadata is not None:
            return self.metadata
        client = client_for(self.url)
        if self.url.startswith("http"):
            return _answer(client, lambda: _ask_web(client, self.url))
        return _answer(client, lambda: _ask_store(client, self.url))

    @contextmanager
    def open(self) -> Iterator[BytesIO]:
        """Yields the whole file, in memory.

        A large file waits until the others that are open leave enough of `MAX_LARGE_BYTES`.

        Raises:
            NotFetched: it could not be fetched, or is larger than MAX_BYTES.
        """
        client = client_for(self.url)
        if not self.url.startswith("http"):
            stated = self.ask().size
            _check_size(stated)
            with _large_files.room_for(MAX_BYTES if stated is None else stated):
                yield BytesIO(_answer(client, lambda: client._cat_file(_key(self.url))))
            return
        try:
            file = _answer(client, lambda: read_web(client, self.url, min(SMALL_BYTES, MAX_BYTES)))
        except LargerThanAsked as error:
            large = MAX_BYTES if error.size is None else error.size
        else:
            yield file
            return
        _check_size(large)
        with _large_files.room_for(large):
            yield self._read_large(client, large)

    def _read_large(self, client: Any, size: int) -> BytesIO:
        try:
            return _answer(client, lambda: read_web(client, self.url, size))
        except LargerThanAsked:
            raise _too_large() from None


class _Room:
    """Memory that large files share; a file waits until there is enough.

    Args:
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = Condition()

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Takes `size` bytes for the length of the block; nothing for a small file."""
        size = 0 if size <= SMALL_BYTES else size
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


_large_files = _Room(MAX_LARGE_BYTES)


def client_for(url: str) -> Any:
    """Returns fsspec's client for an address; fsspec keeps one for each kind.

    Raises:
        InputError: images are not read from such an address.
        MissingExtra: the client is not installed.
    """
    scheme, _, rest = url.partition("://")
    server = rest.partition("/")[0]
    if scheme not in CLIENTS or not server:
        raise InputError(
            f"Images cannot be read from {shown(url)!r}; give a folder, a file or an address "
            f"({', '.join(f'{known}://…' for known in CLIENTS)})."
        )
    fsspec, package = require("fsspec", "remote"), require(CLIENTS[scheme], "remote")
    if package.__name__ == "aiohttp":
        return web_client()
    if "@" in server:
        raise InputError(
            f"{shown(url)!r} was given with a user or key before the '@'. Give credentials in the environment "
            "variables or files of the store's own tools."
        )
    if scheme == "gs":
        # Not the client that fsspec chooses, which asks for the bucket's type over gRPC before every request.
        return import_module("gcsfs.core").GCSFileSystem(use_listings_cache=False)
    return fsspec.filesystem(
        "s3",
        anon=_no_s3_credentials(),
        config_kwargs={"connect_timeout": CONNECT, "read_timeout": SILENCE, "retries": {"max_attempts": 2}},
        use_listings_cache=False,
    )


def list_store(url: str) -> list[tuple[str, RemoteFile]]:
    """Returns all objects below a prefix of a store, or the one object of that name.

    Args:
        url: s3://… or gs://….

    Returns:
        The name relative to the prefix, and the object, for each.

    Raises:
        InputError: there is no object, or the prefix may not be listed.
        JobFailed: the store does not answer.
    """
    client = client_for(url)
    top = _key(url).rstrip("/")
    try:
        # Without a time limit: a million names take minutes. The client limits each of its requests.
        found = _answer(client, lambda: client._find(top, detail=True), limited=False)
    except NotFetched as error:
        raise _refusal(url, error) from error
    if not found:
        raise InputError(f"There is nothing at {shown(url)!r}. Patterns only work for files on this disk.")
    scheme = url.partition("://")[0]
    return [
        (
            key.removeprefix(top + "/") if key != top else key.rpartition("/")[2],
            RemoteFile(f"{scheme}://{key}", _metadata(about)),
        )
        for key, about in found.items()
        if not key.endswith("/")
    ]


def find_page(url: str) -> RemoteFile:
    """Returns the image at a web address.

    Raises:
        InputError: there is no image.
        JobFailed: the server does not answer.
    """
    path = shown(url).partition("://")[2].partition("/")[2]
    if not path or path.endswith(("/", ".txt")):
        raise InputError(
            f"{shown(url)!r} is not an image. Folders and lists on web servers cannot be read: give the addresses of "
            "images, or a .txt file on this disk with one address per line."
        )
    try:
        return RemoteFile(url, RemoteFile(url).ask())
    except NotFetched as error:
        raise _refusal(url, error) from error


def _refusal(url: str, error: NotFetched) -> InputError | JobFailed:
    kind = InputError if error.errno in _FOR_THE_USER else JobFailed
    return kind(f"{shown(url)!r} cannot be read: {error.reason}.")


def _key(url: str) -> str:
    return url.partition("://")[2]


@cache
def _no_s3_credentials() -> bool:
    """Returns whether there are no credentials, so that requests go unsigned, which public buckets accept."""
    from botocore.session import get_session

    return get_session().get_credentials() is None


def _answer(client: Any, request: Callable[[], Awaitable[Answer]], *, limited: bool = True) -> Answer:
    """Sends a request, and sends it again after an error that may be temporary."""
    import asyncio

    from fsspec.asyn import sync

    end = monotonic() + TIME_LIMIT if limited else None

    async def ask() -> Answer:
        return await asyncio.wait_for(request(), None if end is None else end - monotonic())

    for wait in (*WAITS, None):
        try:
            answer: Answer = sync(client.loop, ask)
            return answer
        except LargerThanAsked:
            raise
        except Exception as error:  # noqa: BLE001 - every client raises exceptions of its own
            fault = _fault(error)
        if fault.errno in _FOR_THE_USER or wait is None or (end is not None and monotonic() + wait > end):
            raise fault
        sleep(wait)
    raise AssertionError


def _fault(error: Exception) -> NotFetched:
    """Returns the reason in words of this program; messages of the clients may hold the whole address."""
    if isinstance(error, NotFetched):
        return error
    if isinstance(error, BadStatus):
        return _status_fault(error.status)
    if isinstance(error, NotFollowed):
        return NotFetched(errno.EPERM, str(error))
    if isinstance(error, OSError) and str(error).startswith("Forbidden"):  # gcsfs has no class for this
        return NotFetched(*_FAULTS["PermissionError"])
    for kind in type(error).__mro__:
        if kind.__name__ in _FAULTS:
            return NotFetched(*_FAULTS[kind.__name__])
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST:
        return _status_fault(status)
    return NotFetched(errno.EIO, f"the request failed ({type(error).__name__})")


def _status_fault(status: int) -> NotFetched:
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        number = errno.ENOENT
    elif status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
        number = errno.EIO
    else:
        number = errno.EACCES
    return NotFetched(number, f"its server says: {status} {phrase}".rstrip())


def _check_size(size: int | None) -> None:
    if size is not None and size > MAX_BYTES:
        raise _too_large()


def _too_large() -> NotFetched:
    return NotFetched(errno.EFBIG, f"it has more than the {MAX_BYTES // 2**20} MB that are read")


def _metadata(about: Mapping[str, Any]) -> RemoteMetadata:
    """Returns the metadata in the headers of a web server, or in fsspec's description of an object."""
    size = _whole_number(about.get("size", about.get("Content-Length")))
    modified = about.get("LastModified") or about.get("Last-Modified") or about.get("updated") or ""
    tag = str(about.get("ETag") or about.get("etag") or "").strip('"')
    # With neither, the stamp never changes, and an image that is labelled once stays labelled.
    return RemoteMetadata(size, (tag or f"{'' if size is None else size}-{modified}")[:200])


def _whole_number(value: object) -> int | None:
    """Returns a size in bytes; None for anything else that a server may write there."""
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


async def _ask_store(client: Any, url: str) -> RemoteMetadata:
    return _metadata(await client._info(_key(url)))


async def _ask_web(client: Any, url: str) -> RemoteMetadata:
    return _metadata(await ask_web(client, url))
