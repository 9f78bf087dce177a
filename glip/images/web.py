"""Sends requests to web servers, and follows their redirects only where these may lead.

An address that a person gives, on the command line or in a list, may lead anywhere, to this machine and its network as
well. A server outside may not send the request there: a redirect from it to a loopback, private or link-local address
is refused. The address that is checked is the one that the connection uses, so a name that resolves to a public address
first and to a private one later gains nothing. Behind a proxy (`HTTPS_PROXY`) names are resolved by the proxy, and only
addresses written as numbers can be checked.

Knows aiohttp, which is imported at the first request, and fsspec's client. Knows nothing of images.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

from glip.errors import require

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver, ResolveResult

CONNECT, SILENCE = 8, 12  # maximum seconds to connect, and between two parts of a response
MAX_REDIRECTS = 10
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = {"Accept-Encoding": "identity"}
_OWN_NAMES = ("localhost", ".localhost")


class BadStatus(Exception):
    """An answer with an HTTP status from 400."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class NotFollowed(Exception):
    """A redirect that is not followed; the text is the reason."""


class LargerThanAsked(Exception):
    """A file that is larger than the caller wants; `size` is what its server says, None if it does not."""

    def __init__(self, size: int | None) -> None:
        super().__init__(size)
        self.size = size


def web_client() -> Any:
    """Returns fsspec's client for web addresses, with the event loop and the session for addresses of the user."""
    return _client(guarded=False, process=os.getpid())


@cache
def _client(guarded: bool, process: int) -> Any:
    fsspec, aiohttp = require("fsspec", "remote"), require("aiohttp", "remote")
    limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)

    async def open_session(loop: object, **settings: Any) -> Any:
        connector = aiohttp.TCPConnector(resolver=_resolver(public_only=guarded))
        return aiohttp.ClientSession(connector=connector, timeout=limit, trust_env=True, **settings)

    # Not cached by fsspec, which would take both for one: they differ in the function only.
    return fsspec.filesystem("https", get_client=open_session, skip_instance_cache=True)


async def ask_web(client: Any, url: str) -> Mapping[str, str]:
    """Returns the headers of a file.

    Raises:
        BadStatus, NotFollowed: the server refuses, or sends the request elsewhere.
    """
    for method in ("HEAD", "GET"):
        async with _request(client, method, url) as response:
            # Signed addresses, and servers without HEAD, only allow GET.
            if method == "GET" or response.status not in (400, 401, 403, 405, 501):
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise BadStatus(response.status)
                headers: Mapping[str, str] = response.headers
                return headers
    raise AssertionError


async def read_web(client: Any, url: str, max_bytes: int) -> BytesIO:
    """Returns a file in memory.

    Raises:
        BadStatus, NotFollowed: as for `ask_web`.
        LargerThanAsked: it has more than `max_bytes`.
    """
    async with _request(client, "GET", url) as response:
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise BadStatus(response.status)
        size = response.content_length
        if size is not None and size > max_bytes:
            raise LargerThanAsked(size)
        content = BytesIO()
        async for piece in response.content.iter_chunked(2**20):
            if content.tell() + len(piece) > max_bytes:
                raise LargerThanAsked(None if size is None else max(size, max_bytes + 1))
            content.write(piece)
    content.seek(0)
    return content


@asynccontextmanager
async def _request(client: Any, method: str, url: str) -> AsyncIterator[Any]:
    """Yields the answer to a request, after all redirects."""
    address, trusted = _address(url), True
    for _ in range(MAX_REDIRECTS + 1):
        if not trusted and not _seems_outside(address):
            raise NotFollowed("its server sends the request to an address of this machine or its network")
        sender = client if trusted or _has_proxy(address) else _client(guarded=True, process=os.getpid())
        session = await sender.set_session()
        async with session.request(method, address, headers=_HEADERS, allow_redirects=False) as response:
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                yield response
                return
            trusted = trusted and _is_own(address.host)
            try:
                address = address.join(_address(response.headers["Location"]))
            except ValueError:
                raise NotFollowed("its server sends the request to an address that is not valid") from None
            if address.scheme not in ("http", "https") or not address.host:
                raise NotFollowed("its server sends the request to an address that is not on the web")
    raise NotFollowed("its server sends the request in circles")


def _address(url: str) -> Any:
    """Returns the address as given if it is valid, else with its non-ASCII letters and spaces escaped."""
    from yarl import URL

    return URL(url, encoded=url.isascii() and " " not in url)


def _has_proxy(address: Any) -> bool:
    return address.scheme in getproxies() and not proxy_bypass(address.host)


def _seems_outside(address: Any) -> bool:
    """Returns whether an address is not known to be inside; the resolver checks names when they are resolved."""
    host = address.host.rstrip(".").lower()
    if host.endswith(_OWN_NAMES):
        return False
    number = _number(host)
    return number is None or is_public(number)


def _is_own(host: str) -> bool:
    """Returns whether a server, to which a request was sent, is this machine or in its network."""
    number = _number(host)
    if number is not None:
        return not is_public(number)
    return host in _resolved and not _resolved[host]


def _number(host: str) -> str | None:
    """Returns the IP address that a host is written as, in any form that the system's resolver accepts."""
    try:
        return str(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # 127.1, 2130706433, 0x7f000001
    except (OSError, ValueError):
        return None


def is_public(address: str) -> bool:
    """Returns whether an IP address is one of the public internet: not loopback, private, link-local or reserved."""
    number = ipaddress.ip_address(address.partition("%")[0])
    inside = getattr(number, "ipv4_mapped", None) or getattr(number, "sixtofour", None)
    if inside is None and number.version == 6 and number in ipaddress.ip_network("64:ff9b::/96"):
        inside = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
    number = inside or number
    return number.is_global and not number.is_multicast


# Host names that were resolved, and whether any of their addresses, ever, was public.
_resolved: dict[str, bool] = {}


@cache
def _resolver_class() -> type[AbstractResolver]:
    from aiohttp import ThreadedResolver

    class Resolver(ThreadedResolver):
        """Resolves names as the system does. Refuses those with an address inside, if `public_only`."""

        def __init__(self, public_only: bool) -> None:
            super().__init__()
            self._public_only = public_only

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await super().resolve(host, port, family)
            public = [is_public(entry["host"]) for entry in found]
            if self._public_only and not all(public):
                raise NotFollowed("its server sends the request to an address of this machine or its network")
            _resolved[host] = _resolved.get(host, False) or any(public)
            return found

    return Resolver


def _resolver(public_only: bool) -> Any:
    return _resolver_class()(public_only)
