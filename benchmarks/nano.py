"""Scores a small model on synthetic scenes that it has not seen.

    python -m benchmarks.nano MODEL

Every scene is searched for 20 names, some of them absent; the scores of all names are ranked together ("pooled").
Scenes are drawn, so the emoji font must be the one used in training.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from glip.boxes import box_iou
from glip.data.synthetic import Scene, SceneMaker, SpritePool, load_pool, sampler_of_split
from glip.data.synthetic.object_sampler import Look, Split
from glip.data.synthetic.words import COLOURS, KINDS, UNSEEN_PAIRS
from glip.detections import Detections
from glip.detectors.glip import Detector, open_detector
from glip.detectors.spec import DetectorSpec
from glip.prompts import Prompt

SEED = 20_000
NAMES = 20


@dataclass(frozen=True)
class Setting:
    """One kind of scenes."""

    title: str
    split: Split
    shapes: float
    least: int
    most: int


SETTINGS = (
    Setting("mix, 160 px", "seen", 0.4, 160, 160),
    Setting("emoji only, 160 px", "seen", 0.0, 160, 160),
    Setting("shapes only, 160 px", "seen", 1.0, 160, 160),
    Setting("shapes, half unseen pairs, 160 px", "unseen pairs", 1.0, 160, 160),
    Setting("mix, 256 px", "seen", 0.4, 256, 256),
    Setting("mix, 256-640 px", "seen", 0.4, 256, 640),
    Setting("held out emoji, 160 px", "held out", 0.0, 160, 160),
)


@dataclass
class Tally:
    """Detected and true boxes of all scenes."""

    scores: list[float]
    right: dict[float, list[bool]]
    absent: list[float]
    truth: int = 0
    scenes: int = 0


def maker_of(pool: SpritePool, setting: Setting, look: Look | None = None, seed: int = SEED) -> SceneMaker:
    return SceneMaker(pool, sampler_of_split(setting.split, pool.trained, pool.held_out, setting.shapes), seed, look)


def size_of(setting: Setting, index: int) -> tuple[int, int]:
    rng = random.Random(f"{setting.title}/{index}")
    return rng.randint(setting.least // 32, setting.most // 32) * 32, rng.randint(
        setting.least // 32, setting.most // 32
    ) * 32


def truth_of(scene: Scene) -> NDArray[np.float32]:
    boxes = np.array([item.box_xywh for item in scene.objects], dtype=np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def tally(detector: Detector, maker: SceneMaker, setting: Setting, count: int, native: bool) -> Tally:
    result = Tally([], {0.5: [], 0.75: []}, [])
    for index in range(count):
        scene = maker.scene(index, size_of(setting, index))
        asked = maker.names(index, scene, (NAMES, NAMES))
        prompt = Prompt.from_names([item.name for item in asked])
        found = detector.predict(scene.image, prompt, 0.05, min(scene.image.size) if native else None)[0]
        add(result, found, [item.objects for item in asked], truth_of(scene))
    return result


def add(result: Tally, found: Detections, objects: Sequence[tuple[int, ...]], truth: NDArray[np.float32]) -> None:
    result.scenes += 1
    result.truth += sum(map(len, objects))
    for label, rows in enumerate(objects):
        chosen = np.flatnonzero(found.labels == label)
        chosen = chosen[np.argsort(-found.scores[chosen], kind="stable")]
        scores = found.scores[chosen].tolist()
        result.scores += scores
        if not rows:
            result.absent += scores
        iou = (
            box_iou(found.boxes[chosen][:, None], truth[list(rows)][None])
            if rows and len(chosen)
            else np.zeros((len(chosen), 0))
        )
        for least, marks in result.right.items():
            free = np.ones(len(rows), bool)
            for row in iou:
                best = int(np.argmax(np.where(free, row, -1))) if free.any() else -1
                hit = best >= 0 and row[best] >= least
                marks.append(hit)
                if hit:
                    free[best] = False


def average_precision(result: Tally, least: float) -> float:
    """Returns the area under the interpolated precision-recall curve of all names together."""
    order = np.argsort(-np.array(result.scores), kind="stable")
    right = np.array(result.right[least], bool)[order]
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(precision[right].sum() / max(result.truth, 1))


def at_threshold(result: Tally, threshold: float) -> tuple[float, float, float]:
    """Returns precision, recall, and the number of boxes per scene for names that are not in it."""
    shown = np.array(result.scores) >= threshold
    right = np.array(result.right[0.5], bool) & shown
    absent = sum(score >= threshold for score in result.absent) / result.scenes
    return right.sum() / max(shown.sum(), 1), right.sum() / max(result.truth, 1), absent


def forced_choice(
    detector: Detector, pool: SpritePool, unseen: bool, attribute: str, count: int, native: bool
) -> tuple[int, int]:
    """Returns how often the best name at a shape is the right one of ten colours, or of twelve kinds."""
    setting = Setting("choice", "unseen pairs", 1.0, 160, 160)
    maker = maker_of(pool, setting)
    right = asked = index = 0
    while asked < count:
        scene = maker.scene(index, (160, 160))
        index += 1
        truth = truth_of(scene)
        for item, box in zip(scene.objects, truth, strict=True):
            thing = item.thing
            if ((thing.colour, thing.noun) in UNSEEN_PAIRS) != unseen or item.visible < 0.9 or asked == count:
                continue
            choices = COLOURS if attribute == "colour" else KINDS
            own = thing.colour if attribute == "colour" else thing.noun
            names = [f"{c} {thing.noun}" if attribute == "colour" else f"{thing.colour} {c}" for c in choices]
            found = detector.predict(scene.image, Prompt.from_names(names), 0.0, 160 if native else None)[0]
            near = box_iou(box, found.boxes) >= 0.5
            if near.any():
                right += choices[found.labels[near][np.argmax(found.scores[near])]] == own
            asked += 1
    return right, asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--names", type=int, default=400, help="use the N simplest emoji")
    parser.add_argument("--choices", type=int, default=100)
    parser.add_argument("--only", type=int, default=len(SETTINGS), help="only the first N kinds of scenes")
    usual = Look()
    parser.add_argument(
        "--objects", type=int, nargs=2, default=usual.objects, help="minimum and maximum number of objects per scene"
    )
    parser.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=usual.scale,
        help="minimum and maximum size of objects, as a share of the scene's side",
    )
    parser.add_argument("--at", type=float, nargs="+", default=[0.3, 0.4, 0.5, 0.6], help="score thresholds")
    parser.add_argument(
        "--native", action="store_true", help="run at the size of each scene instead of the model's own"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="random seed of the scenes")
    parser.add_argument("--sprites", type=Path)
    options = parser.parse_args()
    detector = open_detector(DetectorSpec(options.model))
    pool = load_pool(options.sprites).simplest(options.names)

    look = replace(usual, objects=tuple(options.objects), scale=tuple(options.scale))
    table = Table("scenes", "AP50", "AP75", *(f"P/R/absent at {t}" for t in options.at), "s/scene", box=None)
    for setting in SETTINGS[: options.only]:
        started = time.perf_counter()
        result = tally(detector, maker_of(pool, setting, look, options.seed), setting, options.scenes, options.native)
        seconds = (time.perf_counter() - started) / options.scenes
        cells = ["{:.2f} / {:.2f} / {:.2f}".format(*at_threshold(result, t)) for t in options.at]
        scores = [f"{100 * average_precision(result, least):.1f}" for least in (0.5, 0.75)]
        table.add_row(setting.title, *scores, *cells, f"{seconds:.3f}")
    console = Console(width=200)
    console.print(table)
    for attribute in ("colour", "kind"):
        for unseen in (False, True):
            right, asked = forced_choice(detector, pool, unseen, attribute, options.choices, options.native)
            pairs = "never shown" if unseen else "trained"
            console.print(f"forced choice of the {attribute} at a shape, pairs {pairs}: {right}/{asked}")


if __name__ == "__main__":
    main()
