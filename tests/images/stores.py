"""Servers on loopback that remote images are read from: S3 (moto's), Google's storage (a small one), and the web."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from glip.images import remote


@dataclass
class Page:
    """What a web server answers at one path.

    Attributes:
        content: the body.
        status: of every answer.
        headers: beside the length; an empty one is left out.
        cut: number of bytes of the body that are sent before the connection is closed.
        faults: number of answers with status 503 before the first other one.
        delay: seconds before each answer.
        head: the status of HEAD alone, if another.
    """

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    faults: int = 0
    delay: float = 0.0
    head: int | None = None


@dataclass
class Web:
    """A web server: pages by path, and the requests it got."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that went away."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Runs a server; yields its address."""
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def web_server() -> Iterator[Web]:
    """A web server without pages."""
    web = Web("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            web.asked.append(f"{self.command} {self.path}")
            page = web.pages.get(unquote(self.path), web.pages.get(unquote(urlsplit(self.path).path), Page(status=404)))
            time.sleep(page.delay)
            status = page.head if self.command == "HEAD" and page.head else page.status
            if page.faults:
                page.faults, status = page.faults - 1, 503
            self.send_response(status)
            headers = {"Content-Length": str(len(page.content))} | page.headers
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(page.content[: page.cut])
                self.close_connection = page.cut is not None or not headers["Content-Length"]

        do_HEAD = do_GET

        def log_message(self, *words: Any) -> None:
            pass

    with serving(Handler) as web.url:
        yield web


@contextmanager
def google_storage(objects: dict[str, bytes]) -> Iterator[str]:
    """What gcsfs asks of Google's storage to list and to read: objects by bucket/key, any other bucket is missing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            place, _, rest = address.path.partition("/b/")[2].partition("/o")
            known = {
                key.removeprefix(f"{place}/"): body for key, body in objects.items() if key.startswith(f"{place}/")
            }
            key, query = unquote(rest.removeprefix("/")), parse_qs(address.query)
            if not known or (key and key not in known):
                self._send(404, b'{"error": {"message": "Not Found"}}')
            elif key and query.get("alt") == ["media"]:
                self._send(200, known[key])
            elif key:
                self._send(200, json.dumps(self._about(place, key, known[key])).encode())
            else:
                prefix = query.get("prefix", [""])[0]
                items = [self._about(place, key, body) for key, body in known.items() if key.startswith(prefix)]
                self._send(200, json.dumps({"items": items}).encode())

        def _about(self, bucket: str, key: str, body: bytes) -> dict[str, str]:
            return {"name": key, "bucket": bucket, "size": str(len(body)), "etag": f"tag{hash(body)}"}

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: Any) -> None:
            pass

    with serving(Handler) as url:
        yield url


@contextmanager
def s3_server() -> Iterator[tuple[str, Any]]:
    """moto's server, and a client to fill it with."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        yield url, boto3.client("s3", endpoint_url=url, **keys)
    finally:
        server.stop()


def forget_clients() -> None:
    """Forgets the clients, so that the next request reads the environment again."""
    import gcsfs
    import s3fs

    for kind in (s3fs.S3FileSystem, gcsfs.GCSFileSystem):
        kind.clear_instance_cache()
    remote._no_s3_credentials.cache_clear()


def use_s3(monkeypatch: pytest.MonkeyPatch, url: str, *, signed: bool = True) -> None:
    """Points the standard environment variables to a server."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    if signed:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    forget_clients()
