"""Measures how half precision changes detections.

    python -m benchmarks.half_precision --model nano --prompt 'heart . taxi' IMAGE…

Pairs every detection in fp32 with the best one of the same name in half precision. Prints the share that has a partner
with an IoU of 0.99 and of 0.9, and the differences of the scores. Without --model, the weights are pseudo-random GLIP-T
weights, whose scores are closer together than those of a trained model: the hardest case.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from glip.boxes import box_iou
from glip.detections import Detections
from glip.detectors.spec import load_detector
from glip.weights.random_weights import random_model


def partners(exact: Detections, half: Detections) -> tuple[list[float], list[float]]:
    """Returns, for each fp32 detection, the IoU with its partner (0 without one) and the difference of their scores."""
    overlaps, differences = [], []
    for box, score, label in zip(exact.boxes, exact.scores, exact.labels, strict=True):
        same = half.labels == label
        if not same.any():
            overlaps.append(0.0)
            continue
        iou = box_iou(box, half.boxes[same])
        best = int(iou.argmax())
        overlaps.append(float(iou[best]))
        differences.append(abs(float(score) - float(half.scores[same][best])))
    return overlaps, differences


def compare(model: Path | str, images: Sequence[Path], words: argparse.Namespace) -> tuple[int, list[str]]:
    """Returns the number of fp32 detections and a row of the table for a half precision."""
    found = []
    for precision in ("fp32", words.precision):
        detector = load_detector(model, precision=precision, device=words.device)
        found.append(detector.predict(images, words.prompt, words.threshold, imgsz=words.imgsz))
    overlaps, differences = [], []
    for exact, half in zip(*found, strict=True):
        one, other = partners(exact, half)
        overlaps += one
        differences += other
    if not overlaps:
        raise SystemExit(f"No box reaches a score of {words.threshold}. Give a lower --threshold, or other names.")
    shares = np.array(overlaps)
    return len(shares), [
        words.precision,
        f"{100 * (shares >= 0.99).mean():.1f}",
        f"{100 * (shares >= 0.9).mean():.1f}",
        f"{np.mean(differences):.5f}",
        f"{np.max(differences):.5f}",
    ]


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", help="checkpoint; default: pseudo-random GLIP-T")
    parser.add_argument("--prompt", default="person . cat . dog .")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp16"))
    parser.add_argument("--threshold", type=float, default=0.3, help="minimum score in fp32 and in half precision")
    parser.add_argument("--imgsz", type=int)
    parser.add_argument("--device", default="auto")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        model = words.model or random_model(Path(place) / "m", "glip-t").path
        count, row = compare(model, words.images, words)
    table = Table(
        "precision", "% at IoU 0.99", "% at IoU 0.9", "mean score difference", "largest", title=f"{count} boxes"
    )
    table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
