"""Records of a tiny random model are those of 0.1.0, up to the rounding of different processors.

`python -m benchmarks.against_0_1` compares byte for byte, with both versions on one machine.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from glip.detections import Detections
from glip.detectors.spec import DetectorSpec, InferenceOptions
from glip.labeling.job import LabelJob, label
from glip.labeling.records import Record, read_records
from glip.labeling.tiling import Tiling
from glip.weights.random_weights import random_model

NAMES = ("person", "dog", "car", "red ball")
FIXTURE = Path(__file__).parent / "tiny_records.jsonl"  # written by 0.1.0 (commit b10c474): whole images, then tiles
# Processors differ in the last bits of float32, and a random model amplifies them.
SCORE_TOLERANCE, PIXEL_TOLERANCE = 2e-3, 0.5
# Boxes near the floor, or with a rival of almost the same score, may come and go: compare those that are well above.
SURE = 0.3


def scene(index: int, width: int, height: int) -> Image.Image:
    """Draws rectangles on noise, always the same for one index."""
    random = np.random.default_rng(index)
    pixels = random.integers(60, 120, (height, width, 3), dtype=np.uint8)
    for _ in range(6):
        x, y, side = int(random.integers(0, width - 20)), int(random.integers(0, height - 20)), 10 * index + 20
        pixels[y : y + side, x : x + side] = random.integers(0, 256, 3)
    return Image.fromarray(pixels)


def write_scenes(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index, (width, height) in enumerate(((200, 150), (150, 200), (240, 160))):
        scene(index, width, height).save(folder / f"p{index}.png")
    return folder


@pytest.mark.parametrize(("tiling", "first"), [(None, 0), (Tiling(96), 3)])
def test_records_are_those_of_the_first_version(tmp_path: Path, tiling: Tiling | None, first: int) -> None:
    images = write_scenes(tmp_path / "in")
    spec = DetectorSpec(str(random_model(tmp_path / "model", "tiny").path), device="cpu", offline=True)
    job = LabelJob(
        (str(images),), NAMES, tmp_path / "out", spec, options=InferenceOptions(96), tiling=tiling, report=False
    )
    label(job)
    lines = FIXTURE.read_bytes().splitlines()[first : first + 3]
    for record, line in zip(read_records(job.out), lines, strict=True):
        before = msgspec.json.decode(line, type=Record)
        assert (record.file_name, record.width, record.height) == (before.file_name, before.width, before.height)
        assert_found(before.detections(NAMES), record.detections(NAMES))
        assert_found(record.detections(NAMES), before.detections(NAMES))


def assert_found(expected: Detections, found: Detections) -> None:
    """Every sure box is among the others, with its label, score and corners up to the tolerance."""
    sure = expected.filter(expected.scores > SURE)
    assert len(sure) > 5
    for box, score, label_ in zip(sure.boxes, sure.scores, sure.labels, strict=True):
        same = found.labels == label_
        near = np.abs(found.boxes[same] - box).max(axis=1) < PIXEL_TOLERANCE
        assert (np.abs(found.scores[same][near] - score) < SCORE_TOLERANCE).any(), (box, score, label_)
