"""Compares decoding large JPEG files at full and at reduced size (`glip label --fast-decode`).

    python -m benchmarks.decoding [FILE…]

Prints the processor time in milliseconds from the file to the model's input tensor, and the difference of the pixels in
grey levels of 255. Without FILE, a drawn image of twelve megapixels is used.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from glip.images import PreparedImage, decode_image, prepare, read_image, resized_hw

ROUNDS = 5
STD = 57.4  # grey levels to one unit of the model's input


def draw(path: Path) -> Path:
    """Writes an image of 4000 × 3000 smooth colours with fine noise; returns its path."""
    dice = np.random.default_rng(0)
    coarse = Image.fromarray(dice.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((4000, 3000))
    noise = dice.normal(0, 12, (3000, 4000, 1))
    Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def measured(work: Callable[[], PreparedImage]) -> tuple[PreparedImage, float]:
    """Returns the result and the shortest processor time, in milliseconds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return result, 1000 * min(seconds)


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--imgsz", type=int, default=800)
    words = parser.parse_args()
    table = Table("image", "whole ms", "reduced ms", "ratio", "mean difference", "largest")

    def reduced(path: Path) -> PreparedImage:
        decoded = decode_image(path, lambda size_hw: resized_hw(size_hw, words.imgsz))
        image, size_hw = decoded.image, decoded.size_hw
        return prepare(image, words.imgsz, size_hw)

    with tempfile.TemporaryDirectory() as folder:
        for path in words.files or [draw(Path(folder) / "drawn, 12 megapixels.jpg")]:
            exact, whole_ms = measured(lambda path=path: prepare(read_image(path), words.imgsz))  # type: ignore[misc]
            near, reduced_ms = measured(lambda path=path: reduced(path))  # type: ignore[misc]
            difference = (near.pixels - exact.pixels).abs() * STD
            cells = (f"{whole_ms:.0f}", f"{reduced_ms:.0f}", f"{whole_ms / reduced_ms:.1f}")
            table.add_row(path.stem, *cells, f"{difference.mean():.2f}", f"{difference.max():.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
