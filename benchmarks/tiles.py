"""Measures the gain of tiles on small objects: recall with and without them at equal precision.

    python benchmarks/tiles.py                      with a simulated detector; takes seconds
    python benchmarks/tiles.py --model glip-t       with a real one: any checkpoint or model folder

Scenes are drawn from a seed: coloured shapes of 6 to 96 pixels on noise, half of them under 16 pixels. Each row of the
table uses the threshold at which a share of PRECISION of its boxes is right (IoU 0.5 and the right class), so that no
row wins by guessing more often. `plain nms` merges all views as one list of boxes, without the rules for cut objects.

THE SIMULATED DETECTOR IS NOT A MODEL. It knows the true boxes and makes errors by rule: it finds an object with a
probability that grows with its size in the resized view (one half at 16 pixels), shifts its edges by about one resized
pixel, reports the visible part of objects at the border of a view, and adds three false boxes per view. It tests the
geometry and the merging, including the false boxes that tiles add. Only --model measures the gain of a real model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parent.parent))

from glip.boxes import box_iou, grouped_nms
from glip.detections import Detections
from glip.detectors.glip import Detector, open_detector
from glip.detectors.spec import DetectorSpec
from glip.images import collate, padded_hw, prepare, resized_hw
from glip.labeling.tile_merging import NMS_IOU, merge_views
from glip.labeling.tiling import TileView, Tiling, tile_views
from glip.prompts import PromptSet

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230), "yellow": (235, 215, 50)}
SHAPES = {"red": "circle", "green": "square", "blue": "triangle", "yellow": "cross"}
NAMES = tuple(f"{colour} {shape}" for colour, shape in SHAPES.items())
PRECISION = 0.9
GROUPS = ((0, 16), (16, 32), (32, 1000))  # sides in pixels of the image

Look = Callable[[int, Sequence[TileView]], list[Detections]]


@dataclass(frozen=True)
class Scene:
    """An image and its true boxes."""

    number: int
    image: Image.Image
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def draw_scene(number: int, size_hw: tuple[int, int], things: int) -> Scene:
    """Draws shapes on noise that do not touch each other."""
    random = np.random.default_rng(number)
    height, width = size_hw
    image = Image.fromarray(random.integers(60, 200, (height, width, 3), np.uint8))
    draw = ImageDraw.Draw(image)
    boxes: list[list[float]] = []
    labels = []
    while len(boxes) < things:
        side = random.uniform(6, 16) if random.random() < 0.5 else random.uniform(16, 96)
        x, y = random.uniform(0, width - side), random.uniform(0, height - side)
        box = [x, y, x + side, y + side]
        grown = np.array([[x - 4, y - 4, x + side + 4, y + side + 4]], np.float32)
        if boxes and box_iou(grown[:, None], np.array(boxes, np.float32)[None]).max() > 0:
            continue
        label = int(random.integers(len(NAMES)))
        _draw(draw, box, *NAMES[label].split())
        boxes.append(box)
        labels.append(label)
    return Scene(number, image, np.array(boxes, np.float32), np.array(labels, np.int64))


def _draw(draw: ImageDraw.ImageDraw, box: list[float], colour: str, shape: str) -> None:
    x1, y1, x2, y2 = box
    x, y, third, fill = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 3, COLOURS[colour]
    if shape == "circle":
        draw.ellipse((x1, y1, x2, y2), fill)
    elif shape == "square":
        draw.rectangle((x1, y1, x2, y2), fill)
    elif shape == "triangle":
        draw.polygon(((x, y1), (x2, y2), (x1, y2)), fill)
    else:
        draw.rectangle((x1 + third, y1, x2 - third, y2), fill)
        draw.rectangle((x1, y - third / 2, x2, y + third / 2), fill)


def simulated(scenes: Sequence[Scene], imgsz: int) -> Look:
    """The simulated detector; see the top of this file."""

    def look_at(scene: Scene, place: int, view: TileView) -> Detections:
        random = np.random.default_rng((scene.number, place))
        left, top, right, bottom = view.box
        scale = resized_hw((bottom - top, right - left), imgsz)[0] / (bottom - top)
        limit = np.array([right - left, bottom - top] * 2)
        local = scene.boxes - np.array([left, top, left, top], np.float32)
        part = np.clip(local, 0, limit)
        sides, full = part[:, 2:] - part[:, :2], local[:, 2:] - local[:, :2]
        share = (sides / full).prod(axis=1)
        ease = 1 / (1 + np.exp(-(np.sqrt(sides.prod(axis=1)) * scale - 16) / 3))
        found = (share > 0.3) & (random.random(len(ease)) < ease)
        off = random.normal(0, 1, part.shape) / scale
        score = np.clip(ease * np.sqrt(share) * 0.8 + random.normal(0, 0.1, len(ease)), 0.06, 1)
        count = int(random.poisson(3))
        corner = random.random((count, 2)) * limit[:2]
        invented = np.concatenate([corner, corner + random.uniform(12, 60, (count, 2)) / scale], axis=1)
        boxes = np.clip(
            np.concatenate([np.sort((part + off)[found].reshape(-1, 2, 2), axis=1).reshape(-1, 4), invented]), 0, limit
        )
        scores = np.concatenate([score[found], 0.06 + 0.6 * random.beta(1, 3, count)])
        labels = np.concatenate([scene.labels[found], random.integers(0, len(NAMES), count)])
        order = np.argsort(-scores)
        return Detections(boxes.astype(np.float32), scores.astype(np.float32), labels, NAMES).filter(order)

    return lambda scene, views: [look_at(scenes[scene], place, view) for place, view in enumerate(views)]


def by_model(detector: Detector, imgsz: int, batch: int) -> Look:
    """A real detector; views of equal padded size share batches."""
    prompts = PromptSet.from_names(NAMES, detector.tokenizer).chunks

    def look(scene: int, views: Sequence[TileView]) -> list[Detections]:
        prepared = [prepare(view.image, imgsz) for view in views]
        found: dict[int, Detections] = {}
        for shape in {padded_hw(image.resized_hw) for image in prepared}:
            places = [place for place, image in enumerate(prepared) if padded_hw(image.resized_hw) == shape]
            for start in range(0, len(places), batch):
                some = places[start : start + batch]
                results = detector.detect_batch(collate([prepared[place] for place in some]), prompts)
                found.update(zip(some, results, strict=True))
        return [found[place] for place in range(len(views))]

    return look


def merge_plainly(views: Sequence[TileView], found: Sequence[Detections]) -> Detections:
    """Merges all boxes of all views by one non-maximum suppression."""
    boxes = np.concatenate(
        [d.boxes + np.array(v.box, np.float32)[[0, 1, 0, 1]] for v, d in zip(views, found, strict=True)]
    )
    scores, labels = (np.concatenate([getattr(d, field) for d in found]) for field in ("scores", "labels"))
    together = Detections(boxes, scores, labels, NAMES).filter(np.argsort(-scores, kind="stable"))
    return together.filter(grouped_nms(together.boxes, together.labels, NMS_IOU))


def recall_at_precision(scenes: Sequence[Scene], results: Sequence[Detections]) -> tuple[list[float], float, float]:
    """Returns the recall of each size group and of all objects, and the lowest threshold that is precise enough."""
    rows = []  # score, right or not, group
    totals = np.zeros(len(GROUPS))
    for scene, found in zip(scenes, results, strict=True):
        sides = np.sqrt((scene.boxes[:, 2:] - scene.boxes[:, :2]).prod(axis=1))
        group = np.searchsorted([start for start, _ in GROUPS], sides, side="right") - 1
        totals += np.bincount(group, minlength=len(GROUPS))
        overlaps = box_iou(found.boxes[:, None], scene.boxes[None]) * (found.labels[:, None] == scene.labels[None])
        taken = np.zeros(len(scene.boxes), bool)
        for score, row in zip(found.scores.tolist(), overlaps, strict=True):
            best = int(np.where(taken, 0, row).argmax())
            right = bool(row[best] >= 0.5 and not taken[best])
            taken[best] |= right
            rows.append((score, right, int(group[best]) if right else -1))
    rows.sort(key=lambda row: -row[0])
    precision = np.array([row[1] for row in rows], bool).cumsum() / np.arange(1, len(rows) + 1)
    enough = np.flatnonzero(precision >= PRECISION)
    last = int(enough[-1]) + 1 if len(enough) else 0
    groups = np.array([row[2] for row in rows[:last]], np.int64)
    hits = np.array([(groups == number).sum() for number in range(len(GROUPS))])
    threshold = rows[last - 1][0] if last else 1.0
    return [*(hits / totals), hits.sum() / totals.sum()], threshold, float(precision[last - 1]) if last else 0.0


def main() -> None:
    """Prints the table."""
    words = argparse.ArgumentParser(description="What tiles gain on small objects.")
    words.add_argument("--model", help="checkpoint or model folder; default: the simulated detector")
    words.add_argument("--scenes", type=int, default=20)
    words.add_argument("--things", type=int, default=80, help="number of objects per scene")
    words.add_argument("--size", type=int, nargs=2, default=(1440, 1920), metavar=("HEIGHT", "WIDTH"))
    words.add_argument("--tile", type=int, default=640)
    words.add_argument("--overlap", type=float, default=0.2)
    words.add_argument("--imgsz", type=int, default=800)
    words.add_argument("--batch", type=int, default=4)
    words.add_argument("--device", default="auto")
    told = words.parse_args()

    scenes = [draw_scene(number, tuple(told.size), told.things) for number in range(told.scenes)]
    tiling = Tiling(told.tile, told.overlap)
    if told.model:
        detector = open_detector(DetectorSpec(told.model, device=told.device))
        look, who = by_model(detector, told.imgsz, told.batch), f"model {detector.name}"
    else:
        look, who = simulated(scenes, told.imgsz), "SIMULATED detector (no model)"
    views = [list(tile_views(scene.image, tiling)) for scene in scenes]
    start = time.perf_counter()
    found = [look(number, parts) for number, parts in enumerate(views)]
    print(
        f"{who}; {told.scenes} scenes of {told.things} shapes, {told.size[1]}×{told.size[0]}, short side {told.imgsz}"
    )
    print(f"tiles of {told.tile}, overlap {told.overlap}: {len(views[0])} views an image; detecting took ", end="")
    print(f"{time.perf_counter() - start:.1f} s. Recall at precision {PRECISION}:\n")

    def merged(merge: str) -> Callable[[Sequence[TileView], Sequence[Detections]], Detections]:
        rule = Tiling(told.tile, told.overlap, merge).merge  # type: ignore[arg-type]
        return lambda parts, each: merge_views(
            [part.box for part in parts],
            each,
            merge=rule,
            scales=[
                resized_hw((y2 - y1, x2 - x1), told.imgsz)[0] / (y2 - y1) for x1, y1, x2, y2 in (p.box for p in parts)
            ],
        )

    ways: dict[str, Callable[[Sequence[TileView], Sequence[Detections]], Detections]] = {
        "whole view only": lambda parts, each: each[0],
        "tiles, plain nms": merge_plainly,
        "tiles, nms": merged("nms"),
        "tiles, wbf": merged("wbf"),
    }
    heads = [f"{low}-{high} px" if high < 1000 else f"{low}+ px" for low, high in GROUPS]
    print(
        f"{'':18}"
        + "".join(f"{head:>10}" for head in [*heads, "all"])
        + f"{'precision':>11}{'threshold':>11}{'merging':>10}"
    )
    for name, way in ways.items():
        start = time.perf_counter()
        results = [way(parts, each) for parts, each in zip(views, found, strict=True)]
        seconds = (time.perf_counter() - start) / len(scenes)
        recalls, threshold, precision = recall_at_precision(scenes, results)
        numbers = "".join(f"{recall:>10.3f}" for recall in recalls)
        print(f"{name:18}{numbers}{precision:>11.3f}{threshold:>11.2f}{seconds * 1000:>7.1f} ms", flush=True)


if __name__ == "__main__":
    main()
