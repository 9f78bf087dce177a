"""FiftyOne's own app in a real browser: it shows the boxes, one is moved by hand, and `pull` sees it.

Marked `full`: the app and a browser that draws without a graphics card take a minute.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glip.review.app import ADDRESS
from glip.review.pull import pull
from glip.review.push import push
from glip.review.source import open_source
from tests.labeling.runs import a_record
from tests.review.chromium import Page, find_chromium, open_browser, until
from tests.review.conftest import free_port, make_folder
from tests.review.test_roundtrip import sample

WIDTH, HEIGHT = 640, 480
RECORDS = (
    a_record("a.png", [[100, 100, 300, 260]], [0.9], [0], (HEIGHT, WIDTH)),
    a_record("b.png", [[400, 60, 560, 200], [60, 300, 180, 420]], [0.8, 0.5], [1, 2], (HEIGHT, WIDTH)),
)
SHOW = """
import signal, sys
from glip.review import app, database
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background hand on that it is ignored
app.serve(database.connect(), sys.argv[1], int(sys.argv[2]), print)
"""


@pytest.mark.full
def test_a_box_moved_in_the_app_comes_back(fiftyone: ModuleType, database_uri: str, name: str, tmp_path: Path) -> None:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium")
    push(open_source(make_folder(tmp_path, RECORDS)), name)
    words = [sys.executable, "-c", SHOW, name, str(free_port())]
    # Whoever has a browser of their own does not want it opened by a test.
    environment = os.environ | {"BROWSER": "true", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as app:
        try:
            assert app.stdout is not None
            address = next(line.strip() for line in app.stdout if line.startswith("http"))
            assert address.startswith(f"http://{ADDRESS}:")
            asyncio.run(_review(program, address, fiftyone, name, tmp_path))
            app.send_signal(signal.SIGINT)
            assert app.wait(60) == 0
        finally:
            app.terminate()
    summary = pull(name, tmp_path / "out")
    assert (summary.reviewed, summary.total.moved, summary.total.accepted) == (1, 1, 0)
    assert summary.mean_iou is not None
    assert 0.3 < summary.mean_iou < 0.8


async def _review(program: str, address: str, fiftyone: ModuleType, name: str, folder: Path) -> None:
    def box() -> Any:
        return sample(fiftyone, name, "a.png").labels.detections[0]

    before = box().bounding_box
    async with open_browser(program, folder) as page, _seen_last(page, folder / "last.png"):
        await page.send("Page.navigate", url=address)
        await page.until("document.querySelectorAll('[data-cy=fo-grid] canvas').length == 2")
        await page.screenshot(folder / "grid.png")
        await page.send("Page.navigate", url=f"{address}?id={sample(fiftyone, name, 'a.png').id}")
        await page.click_on("[data-cy=annotate]")
        canvas = await page.box_of("#lighter-singleton-canvas")
        middle = _on_screen(canvas, 200, 180)
        await _select(page, middle)
        await page.screenshot(folder / "box.png")
        _assert_box_is_drawn(folder / "box.png", canvas)
        steps = [_on_screen(canvas, 200 + step, 180) for step in range(0, 81, 10)]
        await page.drag(*steps)
        await until(lambda: box().bounding_box != before)


@asynccontextmanager
async def _seen_last(page: Page, path: Path) -> AsyncIterator[None]:
    """Leaves a screenshot of the last state, also after an error."""
    try:
        yield
    finally:
        await page.screenshot(path)


async def _select(page: Page, point: tuple[float, float]) -> None:
    """Clicks at a box until it is chosen; the app takes no clicks while it still draws."""
    while not await page.run("!!document.querySelector('[data-cy=root_position_x_container] input')"):
        await page.drag(point)
        await asyncio.sleep(1)


def _on_screen(canvas: tuple[float, float, float, float], x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the image is, which the canvas shows as large as it can, in its middle."""
    left, top, width, height = canvas
    scale = min(width / WIDTH, height / HEIGHT)
    return left + (width - scale * WIDTH) / 2 + x * scale, top + (height - scale * HEIGHT) / 2 + y * scale


def _assert_box_is_drawn(path: Path, canvas: tuple[float, float, float, float]) -> None:
    """The image is plain; where the left side of its box should be, there is something coloured, beside it not."""
    with Image.open(path) as file:
        shot = file.convert("RGB")
    (x, top), (_, bottom) = _on_screen(canvas, 100, 120), _on_screen(canvas, 100, 240)

    def colourful(centre: float) -> bool:
        area = shot.crop((round(centre) - 3, round(top), round(centre) + 4, round(bottom)))
        return any(int(np.ptp(pixel)) > 60 for pixel in np.asarray(area).reshape(-1, 3))

    assert colourful(x)
    assert not colourful(x - 40)
