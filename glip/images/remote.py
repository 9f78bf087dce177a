"""Images that lie elsewhere: in the buckets of object stores (s3://, gs://) and on web servers (https://, http://).

Knows addresses and fsspec's clients, which are imported for the first request. Knows nothing of image formats.
A signed address holds a secret behind its '?': whatever is written or shown is the address without that part.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from importlib import import_module
from time import monotonic, sleep
from typing import Any, TypeVar

from glip.errors import InputError, JobFailed, require

CLIENTS = {"s3": "s3fs", "gs": "gcsfs", "https": "aiohttp", "http": "aiohttp"}  # the packages fsspec asks
MAX_BYTES = 512 * 2**20  # of one image: it is decoded from memory
# For one question with all its tries. An image asks two, and the labelling job gives up on it after 60 seconds.
TIME_LIMIT = 25.0  # seconds
WAITS = (0.5, 1.5)  # seconds between the tries
_CONNECT, _SILENCE = 8, 12  # seconds that a server may take to answer the call, and between two pieces of its answer

Answer = TypeVar("Answer")


class NotFetched(OSError):
    """An image that did not come.

    It is an OSError with a number: what a network refuses today it may give tomorrow.
    """

    @property
    def reason(self) -> str:
        """Why, in one line without the address."""
        return str(self.strerror)


_REFUSED = (errno.ECONNREFUSED, "its server cannot be reached")
_CUT = (errno.ECONNRESET, "the connection was cut")
# What the clients raise, by the names of the classes: the packages that define them may not be installed.
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
    """Whether a source is an address, and no path."""
    return "://" in source


def shown(source: str) -> str:
    """A source as it may be written: an address without what may be secret; a path as it is."""
    if not is_remote(source):
        return source
    scheme, _, rest = source.partition("://")
    rest = rest.partition("?")[0]
    if scheme.lower().startswith("http"):
        rest = rest.partition("#")[0]
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


@dataclass(frozen=True)
class Facts:
    """What a server says about an image: its bytes, if known, and what changes when they change."""

    size: int | None
    stamp: str


@dataclass(frozen=True)
class RemoteFile:
    """An image at an address. As text it is the address without what may be secret.

    Attributes:
        url: the address, whole; its scheme in small letters.
        facts: what its server said when it was listed; None: it was not asked.
    """

    url: str = field(repr=False)
    facts: Facts | None = None

    def __str__(self) -> str:
        return shown(self.url)

    def ask(self) -> Facts:
        """What its server says about it.

        Raises:
            NotFetched: nothing.
        """
        if self.facts is not None:
            return self.facts
        client = client_for(self.url)
        if self.url.startswith("http"):
            return _answer(client, lambda: _ask_web(client, self.url))
        return _answer(client, lambda: _ask_store(client, self.url))

    def read(self) -> bytes:
        """The whole file.

        Raises:
            NotFetched: it did not come, or is larger than MAX_BYTES.
        """
        client = client_for(self.url)
        if self.url.startswith("http"):
            return _answer(client, lambda: _read_web(client, self.url))
        _check_size(self.ask().size)
        return _answer(client, lambda: client._cat_file(_key(self.url)))


def client_for(url: str) -> Any:
    """fsspec's client for an address; fsspec keeps one for each kind.

    Raises:
        InputError: no image is read from there.
        MissingExtra: the client is not installed.
    """
    scheme, _, rest = url.partition("://")
    place = rest.partition("/")[0]
    if scheme not in CLIENTS or not place:
        raise InputError(
            f"{shown(url)!r} is no place that images are read from: accepted are folders and files, "
            f"{', '.join(f'{known}://…' for known in CLIENTS)}."
        )
    fsspec, package = require("fsspec", "remote"), require(CLIENTS[scheme], "remote")
    if package.__name__ == "aiohttp":
        limit = package.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
        return fsspec.filesystem("https", client_kwargs={"timeout": limit, "trust_env": True})
    if "@" in place:
        raise InputError(
            f"{shown(url)!r} was given with a user or key before the '@'. Give credentials where the tools of the "
            "store look for them: its environment variables or files."
        )
    if scheme == "gs":
        # Not the one that fsspec would choose: it asks over gRPC for the kind of a bucket before every request.
        return import_module("gcsfs.core").GCSFileSystem(use_listings_cache=False)
    return fsspec.filesystem(
        "s3",
        anon=_no_s3_credentials(),
        config_kwargs={"connect_timeout": _CONNECT, "read_timeout": _SILENCE, "retries": {"max_attempts": 2}},
        use_listings_cache=False,
    )


def list_store(url: str) -> list[tuple[str, RemoteFile]]:
    """All objects below a prefix of a store, or the one object of that name.

    Args:
        url: s3://… or gs://….

    Returns:
        The name relative to the prefix, and the object.

    Raises:
        InputError: there is none, or it may not be listed.
        JobFailed: the store does not answer.
    """
    client = client_for(url)
    top = _key(url).rstrip("/")
    try:
        # No limit of time: a million names take minutes. The client has its own for each of its requests.
        found = _answer(client, lambda: client._find(top, detail=True), limited=False)
    except NotFetched as error:
        raise _refusal(url, error) from error
    if not found:
        raise InputError(f"There is nothing at {shown(url)!r}. Patterns are for files on this disk only.")
    scheme = url.partition("://")[0]
    return [
        (key.removeprefix(top + "/") if key != top else key.rpartition("/")[2], RemoteFile(f"{scheme}://{key}", facts))
        for key, facts in ((key, _facts(about)) for key, about in found.items() if not key.endswith("/"))
    ]


def find_page(url: str) -> RemoteFile:
    """The image at a web address.

    Raises:
        InputError: there is none.
        JobFailed: the server does not answer.
    """
    path = shown(url).partition("://")[2].partition("/")[2]
    if not path or path.endswith(("/", ".txt")):
        raise InputError(
            f"{shown(url)!r} is no image. Folders and lists on web servers are not read: give the addresses of "
            "images, or a .txt file on this disk with an address a line."
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
    """Whether requests go out unsigned, which public buckets answer."""
    from botocore.session import get_session

    return get_session().get_credentials() is None


def _answer(client: Any, question: Callable[[], Awaitable[Answer]], *, limited: bool = True) -> Answer:
    """Asks, and asks again after a fault that may pass."""
    import asyncio

    from fsspec.asyn import sync

    end = monotonic() + TIME_LIMIT if limited else None

    async def ask() -> Answer:
        return await asyncio.wait_for(question(), None if end is None else end - monotonic())

    for wait in (*WAITS, None):
        try:
            answer: Answer = sync(client.loop, ask)
            return answer
        except Exception as error:  # noqa: BLE001 - each client has its own kinds of fault
            fault = _fault(error)
        if fault.errno in _FOR_THE_USER or wait is None or (end is not None and monotonic() + wait > end):
            raise fault
        sleep(wait)
    raise AssertionError


def _fault(error: Exception) -> NotFetched:
    """The reason in our words: those of the clients may hold the whole address."""
    if isinstance(error, NotFetched):
        return error
    if isinstance(error, OSError) and str(error).startswith("Forbidden"):  # gcsfs has no class for it
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
        raise NotFetched(errno.EFBIG, f"it has more than the {MAX_BYTES // 2**20} MB that are read")


def _facts(about: Mapping[str, Any]) -> Facts:
    """Facts from the headers of a web server, or from what fsspec says about an object."""
    size = about.get("size", about.get("Content-Length"))
    modified = about.get("LastModified") or about.get("Last-Modified") or about.get("updated") or ""
    tag = (about.get("ETag") or about.get("etag") or "").strip('"')
    # Neither: the stamp never changes, and an image that is labelled once stays labelled.
    return Facts(None if size is None else int(size), (tag or f"{'' if size is None else size}-{modified}")[:200])


async def _ask_store(client: Any, url: str) -> Facts:
    return _facts(await client._info(_key(url)))


async def _ask_web(client: Any, url: str) -> Facts:
    session = await client.set_session()
    for method in ("HEAD", "GET"):
        async with session.request(method, _web_address(url), headers={"Accept-Encoding": "identity"}) as response:
            # Signed addresses, and servers that do not know HEAD, allow nothing but GET.
            if method == "GET" or response.status not in (400, 401, 403, 405, 501):
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise _status_fault(response.status)
                return _facts(response.headers)
    raise AssertionError


async def _read_web(client: Any, url: str) -> bytes:
    session = await client.set_session()
    async with session.get(_web_address(url), headers={"Accept-Encoding": "identity"}) as response:
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _status_fault(response.status)
        _check_size(response.content_length)
        content = bytearray()
        async for piece in response.content.iter_chunked(2**20):
            content += piece
            _check_size(len(content))
    return bytes(content)


def _web_address(url: str) -> Any:
    """The address as given, where it is one; with its letters and spaces escaped, where it is not yet."""
    from yarl import URL

    return URL(url, encoded=url.isascii() and " " not in url)
