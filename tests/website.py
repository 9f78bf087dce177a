"""A web server on this machine that misbehaves on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Page:
    """How the server answers requests for one path.

    Attributes:
        body: the file.
        etag: sent if set; a conditional range must name it.
        headers: further headers.
        statuses: sent first, one per request, before the file is sent.
        breaks: where the connection is cut, one per request that sends the file.
        claimed_length: Content-Length, if it is to be wrong; '' for none.
        knows_ranges: whether parts can be requested.
    """

    body: bytes = b""
    etag: str | None = '"one"'
    headers: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    claimed_length: int | str | None = None
    knows_ranges: bool = True


@dataclass
class Site:
    """A real web server on this machine."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    # (path, Range header or None) of every request.
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def put(self, path: str, body: bytes, **behaviour: Any) -> str:
        """Serves `body` at a path; returns its URL."""
        self.pages[path] = Page(body, **behaviour)
        return self.url + path

    def redirect(self, path: str, to: str, **headers: str) -> str:
        """Redirects requests for `path`; returns its URL."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = Page(statuses=[302] * 100, headers={"Location": to, **named})
        return self.url + path


@pytest.fixture
def site() -> Iterator[Site]:
    """Runs the server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.site = Site(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server.site  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        wanted = self.headers.get("Range")
        site.requests.append((self.path, wanted))
        page = site.pages.get(self.path, Page(statuses=[404] * 100))
        if page.statuses:
            self.send_response(page.statuses.pop(0))
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if wanted and page.knows_ranges and self.headers.get("If-Range") == page.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = page.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
        if page.claimed_length != "":
            self.send_header("Content-Length", str(len(body) if page.claimed_length is None else page.claimed_length))
        for name, value in page.headers.items():
            self.send_header(name, value)
        if page.etag:
            self.send_header("ETag", page.etag)
        self.end_headers()
        self.wfile.write(body[: page.breaks.pop(0)] if page.breaks else body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass
