"""Drives a headless Chromium over its DevTools protocol, with nothing but a websocket."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

PATIENCE = 120.0  # seconds; a page that takes a second on an idle machine may take a minute on a busy one


def find_chromium() -> str | None:
    """The browser of this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@asynccontextmanager
async def open_browser(program: str, folder: Path) -> AsyncIterator[Page]:
    """A page of a browser that keeps everything in `folder`; both are gone after the block."""
    profile = folder / "profile"
    words = [
        *(program, "--headless=new", "--no-sandbox", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--disable-quic"),
        *("--remote-debugging-address=127.0.0.1", "--remote-debugging-port=0", f"--user-data-dir={profile}"),
        # No network but loopback; drawing by the processor, for there is no graphics card.
        *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--use-angle=swiftshader"),
        *("--enable-unsafe-swiftshader", "--window-size=1400,900", "about:blank"),
    ]
    with (
        (folder / "chromium.log").open("wb") as log,
        subprocess.Popen(words, stdout=log, stderr=log) as process,
    ):
        try:
            note = profile / "DevToolsActivePort"
            await until(lambda: note.exists() and len(note.read_text().split()) == 2)
            address = f"http://127.0.0.1:{note.read_text().split()[0]}/json/list"
            async with ClientSession() as session:
                async with session.get(address) as answer:
                    page = next(target for target in await answer.json() if target["type"] == "page")
                async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Page(socket)
        finally:
            process.terminate()


async def until(condition: Callable[[], Any]) -> Any:
    """Waits for something to be true, and gives it back."""
    async with asyncio.timeout(PATIENCE):
        while not (found := condition()):
            await asyncio.sleep(0.1)
    return found


class Page:
    """One page of the browser."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its answer; events in between are passed over."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=PATIENCE)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = await self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """Waits for an expression in the page to be true, and gives its value back."""
        async with asyncio.timeout(PATIENCE):
            while not (found := await self.run(script)):
                await asyncio.sleep(0.25)
        return found

    async def box_of(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element, once it is there."""
        find = f"document.querySelector({json.dumps(selector)})"
        found = await self.until(f"{find} && JSON.stringify({find}.getBoundingClientRect())")
        place = json.loads(found)
        return place["x"], place["y"], place["width"], place["height"]

    async def click_on(self, selector: str) -> None:
        """Clicks in the middle of an element."""
        left, top, width, height = await self.box_of(selector)
        await self.drag((left + width / 2, top + height / 2))

    async def drag(self, *points: tuple[float, float]) -> None:
        """Presses at the first point, moves through the others and lets go at the last; one point is a click."""
        await self._mouse("mouseMoved", points[0])
        await self._mouse("mousePressed", points[0], button="left", buttons=1, clickCount=1)
        for point in points[1:]:
            await self._mouse("mouseMoved", point, button="left", buttons=1)
        await self._mouse("mouseReleased", points[-1], button="left", clickCount=1)

    async def _mouse(self, kind: str, point: tuple[float, float], **more: Any) -> None:
        await self.send("Input.dispatchMouseEvent", type=kind, x=point[0], y=point[1], **more)

    async def screenshot(self, path: Path) -> None:
        """What the page looks like, as PNG."""
        answer = await self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))
