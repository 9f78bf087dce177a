"""Measures the peak memory of a job on a folder of 12-megapixel images, in our order of operations and the original's.

    python -m benchmarks.memory --architecture glip-t

Each line is one process with pseudo-random weights: resident memory in MB after the start, with the model open, and at
the peak of the job (Linux). `job` is the memory that images need in addition to an open model. Both orders use the same
libraries. A model that is open in float32 is a mapped file, which processes share.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glip.bench import forget_peak, peak_bytes
from glip.detectors.glip import Detector, open_detector
from glip.detectors.spec import DetectorSpec
from glip.labeling.job import LabelJob, label
from glip.model.reference_mode import use_plain_forms
from glip.model.text import TextFeatures
from glip.prompts import MAX_TOKENS, Prompt
from glip.weights.random_weights import random_model

CPU = torch.device("cpu")
SIZE_WH = (4032, 3024)


def write_images(folder: Path, count: int) -> None:
    """Writes JPEG files of smooth colours with as much detail as a photograph."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        colours = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        image = Image.fromarray(colours).resize(SIZE_WH, Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.jpg", quality=90)


def keep_original_order(detector: Detector) -> None:
    """Changes the model to the published order of operations, with texts of 256 tokens."""
    use_plain_forms(detector._model)
    encode = detector._encode

    def encode_padded(prompt: Prompt) -> tuple[TextFeatures, Tensor]:
        text, positive = encode(prompt)
        padding = MAX_TOKENS - positive.shape[1]
        mask = torch.arange(MAX_TOKENS)[None] < positive.shape[1]
        return TextFeatures(F.pad(text.hidden, (0, 0, 0, padding)), mask), F.pad(positive, (0, padding))

    detector._encode = encode_padded  # type: ignore[method-assign]


class _Opened:
    """Gives a job a detector that is open already."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def open(self, on_download: object = None) -> Detector:
        return self._detector


def measure(model: Path, images: Path, out: Path, form: str, precision: str, names: int) -> dict[str, int]:
    """Returns the memory of this process in bytes: at the start, with the model open, and at the peak of the job."""
    started = peak_bytes(CPU)
    # The original keeps its weights in float32 and lowers them in every call.
    detector = open_detector(DetectorSpec(str(model), device="cpu", precision="fp32" if form == "plain" else precision))
    detector.precision = precision
    for weight in detector._model.parameters():
        weight.sum()  # a mapped file counts from its first use
    if form == "plain":
        keep_original_order(detector)
    forget_peak(CPU)
    opened = peak_bytes(CPU)

    job = LabelJob((str(images),), tuple(f"name {k}" for k in range(names)), out=out, report=False)
    label(job, detector=_Opened(detector))
    peak = peak_bytes(CPU)
    assert started is not None and opened is not None and peak is not None
    return {"started": started, "open": opened, "peak": peak}


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--architecture", default="glip-t")
    parser.add_argument("--names", type=int, default=2)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.one:
        model, images, out = map(Path, words.one[:3])
        form, precision = words.one[3:]
        print(json.dumps(measure(model, images, out, form, precision, words.names)))
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        random_model(root / "model", words.architecture)
        write_images(root / "images", words.images)
        print(f"{words.architecture}, {words.names} names, {words.images} images of 12 megapixels, MB")
        print(f"{'':<12} {'started':>8} {'open':>8} {'peak':>8} {'job':>8}", flush=True)
        for precision in ("fp32", "bf16"):
            rows = {}
            for form in ("fast", "plain"):
                out = root / f"{form}-{precision}"
                command = [sys.executable, "-m", "benchmarks.memory", "--names", str(words.names), "--one"]
                command += [str(root / "model"), str(root / "images"), str(out), form, precision]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                rows[form] = row = json.loads(done.stdout.splitlines()[-1])
                columns = (row["started"], row["open"], row["peak"], row["peak"] - row["open"])
                print(f"{form:<6} {precision:<5} " + " ".join(f"{value >> 20:>8}" for value in columns), flush=True)
            fast, plain = rows["fast"], rows["plain"]
            beyond = (fast["peak"] - fast["open"]) / (plain["peak"] - plain["open"])
            print(f"ratio: peak {fast['peak'] / plain['peak']:.2f}, job {beyond:.2f}", flush=True)


if __name__ == "__main__":
    main()
