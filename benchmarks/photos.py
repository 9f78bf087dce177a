"""What a small model finds in photographs that it has never seen: `python -m benchmarks.photos MODEL --data-root DIR`.

Every image is asked for all names of its set in one prompt, at the model's own size, one image at a time. AP and AP50
are pycocotools'. Precision and recall are those of boxes at the model's threshold and an overlap of 0.5. Then the
classes of `OTHER_WORDS` are asked again by a word that was never trained.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from glip.boxes import box_iou
from glip.data.coco import CocoDataset, load_coco
from glip.detections import Detections
from glip.detectors.base import ObjectDetector
from glip.detectors.spec import load_detector

SETS = ("voc_photos", "coco_photos", "street_highway", "street_weather", "wild_animals")
EVERYDAY = ("person", "dog", "cat", "horse", "car")
FLOOR = 0.05
# Forty words for the classes above that no training caption contains.
OTHER_WORDS: Mapping[str, str] = {
    "airplane": "aircraft",
    "backpack": "knapsack",
    "bear": "bruin",
    "bed": "cot",
    "bench": "pew",
    "bird": "songbird",
    "boat": "vessel",
    "book": "paperback",
    "bowl": "basin",
    "bus": "minibus",
    "cake": "gateau",
    "car": "automobile",
    "cat": "kitten",
    "cell phone": "cellphone",
    "chair": "armchair",
    "clock": "timepiece",
    "couch": "settee",
    "cow": "cattle",
    "cup": "teacup",
    "dining table": "tabletop",
    "dog": "puppy",
    "handbag": "pocketbook",
    "horse": "stallion",
    "hot dog": "hotdog",
    "laptop": "notebook",
    "monkey": "macaque",
    "motorcycle": "moped",
    "oven": "cooker",
    "person": "individual",
    "potted plant": "houseplant",
    "refrigerator": "icebox",
    "sheep": "ewe",
    "sink": "washbowl",
    "suitcase": "baggage",
    "tie": "cravat",
    "toilet": "loo",
    "train": "railcar",
    "turtle": "terrapin",
    "tv": "television",
    "umbrella": "brolly",
}


@dataclass(frozen=True)
class Answers:
    """What a model found in a split: a list of detections as long as the images, labels in the order of the names."""

    dataset: CocoDataset
    names: tuple[str, ...]
    found: list[Detections]
    seconds: float

    def truth(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes (N, 4) and labels (N,) of an image; crowds are left out."""
        label_of = self.dataset.label_of_category
        own = self.dataset.boxes_by_image()[self.dataset.images[index].id]
        boxes = np.array([box.bbox for box in own if not box.iscrowd], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes, np.array([label_of[box.category_id] for box in own if not box.iscrowd], np.int64)


def ask(detector: ObjectDetector, folder: Path, words: Mapping[str, str], limit: int | None) -> Answers:
    """Labels the images of a split with its class names, some of them replaced."""
    dataset = load_coco(folder / "annotations.json")
    dataset = CocoDataset(dataset.images[:limit], dataset.annotations, dataset.categories)
    kept = {image.id for image in dataset.images}
    annotations = tuple(box for box in dataset.annotations if box.image_id in kept)
    dataset = CocoDataset(dataset.images, annotations, dataset.categories)
    asked = [words.get(name, name) for name in dataset.names]
    started = time.perf_counter()
    found = [detector.predict(folder / image.file_name, asked, FLOOR)[0] for image in dataset.images]
    return Answers(dataset, dataset.names, found, time.perf_counter() - started)


def average_precisions(answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP and AP50 of every class by pycocotools; NaN for a class without a box."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    categories = sorted(category.id for category in answers.dataset.categories)
    results = [
        {"image_id": image.id, "category_id": categories[label], "bbox": xywh, "score": score}
        for image, found in zip(answers.dataset.images, answers.found, strict=True)
        for label, xywh, score in zip(found.labels.tolist(), _xywh(found.boxes), found.scores.tolist(), strict=True)
    ]
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _as_json(answers.dataset)
        truth.createIndex()
        if not results:
            there = {box.category_id for box in answers.dataset.annotations if not box.iscrowd}
            nothing = np.array([0.0 if category in there else np.nan for category in categories])
            return nothing, nothing
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, -1]  # (T, R, K)
    counted = np.where(precision >= 0, precision, np.nan)
    return counted.mean(axis=(0, 1)), counted[0].mean(axis=0)


def _xywh(boxes: NDArray[np.float32]) -> list[list[float]]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


def _as_json(dataset: CocoDataset) -> dict[str, Any]:
    return {
        "images": [{"id": image.id} for image in dataset.images],
        "categories": [{"id": category.id, "name": category.name} for category in dataset.categories],
        "annotations": [
            {
                "id": index + 1,
                "image_id": box.image_id,
                "category_id": box.category_id,
                "bbox": list(box.bbox),
                "area": box.bbox[2] * box.bbox[3],
                "iscrowd": box.iscrowd,
            }
            for index, box in enumerate(dataset.annotations)
        ],
    }


def at_threshold(answers: Answers, threshold: float, names: Sequence[str] | None = None) -> tuple[float, float, float]:
    """Precision and recall of some classes, and boxes an image on names of what it does not show (all classes)."""
    labels = [answers.names.index(name) for name in names or answers.names if name in answers.names]
    right = shown = there = absent = 0
    for index, found in enumerate(answers.found):
        boxes, truth = answers.truth(index)
        strong = found.scores >= threshold
        absent += int((strong & ~np.isin(found.labels, truth)).sum())
        for label in labels:
            own, real = found.boxes[strong & (found.labels == label)], boxes[truth == label]
            shown, there = shown + len(own), there + len(real)
            right += _matches(own, real)
    return right / max(shown, 1), right / max(there, 1), absent / max(len(answers.found), 1)


def _matches(found: NDArray[np.float32], truth: NDArray[np.float32]) -> int:
    """Counts found boxes, best first, that overlap a free true box by half."""
    if not len(found) or not len(truth):
        return 0
    free, count = np.ones(len(truth), bool), 0
    for row in box_iou(found[:, None], truth[None]):
        best = int(np.argmax(np.where(free, row, -1)))
        if free[best] and row[best] >= 0.5:
            free[best] = False
            count += 1
    return count


def words_row(detector: ObjectDetector, plain: Answers, folder: Path, limit: int | None) -> list[str] | None:
    """AP50 of the classes with another word, asked by their names and by the words; None if there are none."""
    rows = [label for label, name in enumerate(plain.names) if name in OTHER_WORDS]
    if not rows:
        return None
    other = ask(detector, folder, OTHER_WORDS, limit)
    by_name, by_word = average_precisions(plain)[1][rows], average_precisions(other)[1][rows]
    named = {plain.names[row]: score for row, score in zip(rows, by_word, strict=True) if not np.isnan(score)}
    best = sorted(named, key=named.__getitem__, reverse=True)[:6]
    shown = ", ".join(f"{OTHER_WORDS[name]} {100 * named[name]:.0f}" for name in best)
    return [str(len(named)), f"{100 * np.nanmean(by_name):.1f}", f"{100 * np.nanmean(by_word):.1f}", shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data-root", type=Path, required=True, help="folder with the folder `photos`")
    parser.add_argument("--split", default="valid", choices=("train", "valid", "test"))
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="folders of `photos`")
    parser.add_argument("--limit", type=int, help="only the first N images of each set")
    parser.add_argument("--at", type=float, nargs="+", help="thresholds of the score; default: the model's own")
    parser.add_argument("--no-words", action="store_true", help="skip the words that were never trained")
    options = parser.parse_args()
    detector = load_detector(options.model)
    thresholds = options.at or [detector.conf]
    titles = [f"P / R {names} / absent an image at {t:g}" for t in thresholds for names in ("all", "everyday")]
    table = Table("set", "images", "names", "AP50", "AP", *titles, "images/s", box=None)
    words = Table("set", "words", "AP50 by name", "AP50 by word", "best", box=None)
    for name in options.sets:
        folder = options.data_root / "photos" / name / options.split
        answers = ask(detector, folder, {}, options.limit)
        ap, ap50 = average_precisions(answers)
        cells = [
            "{:.2f} / {:.2f} / {:.2f}".format(*at_threshold(answers, threshold, chosen))
            for threshold in thresholds
            for chosen in (None, EVERYDAY)
        ]
        scores = [f"{100 * np.nanmean(ap50):.1f}", f"{100 * np.nanmean(ap):.1f}"]
        speed = f"{len(answers.found) / answers.seconds:.1f}"
        table.add_row(name, str(len(answers.found)), str(len(answers.names)), *scores, *cells, speed)
        row = None if options.no_words else words_row(detector, answers, folder, options.limit)
        if row:
            words.add_row(name, *row)
    console = Console(width=220)
    console.print(table)
    if words.row_count:
        console.print(words)


if __name__ == "__main__":
    main()
