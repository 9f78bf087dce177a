"""Prints which of the faults that are planted in a data set `glip data check` finds, and what it finds beside them.

    python -m benchmarks.data_check FOLDER [--images 200] [--seed 0]

FOLDER holds photographs. Copies of some of them become a data set of two splits with planted faults of each kind; the
folder itself is not changed.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance

from glip.data.check import Problem, check_data
from glip.images.listing import list_images
from glip.images.reading import read_image

CLASSES = ("goldfish", "gold fish", "starfish", "penguin")
# How copies are made: scale, JPEG quality, brightness.
COPIES = {
    "same size, quality 30": (1.0, 30, 1.0),
    "half size": (0.5, 85, 1.0),
    "30 % size, quality 60": (0.3, 60, 1.0),
    "larger, brighter": (1.4, 85, 1.15),
}


@dataclass
class Planted:
    """A data set in the making, and the faults in it: kind → what the place of each must contain."""

    root: Path
    splits: dict[str, dict[str, list[dict[str, Any]]]]
    faults: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, place: str) -> None:
        """Notes a planted fault."""
        self.faults.setdefault(kind, []).append(place)

    def add_image(self, split: str, name: str, image: Image.Image, quality: int = 90) -> dict[str, Any]:
        """Writes an image with one good box; returns its entry."""
        content = self.splits[split]
        image.save(self.root / split / name, quality=quality)
        entry = {"id": len(content["images"]) + 1, "file_name": name, "width": image.width, "height": image.height}
        content["images"].append(entry)
        self.add_box(split, entry, (8, 8, image.width / 2, image.height / 2))
        return entry

    def add_box(self, split: str, entry: Mapping[str, Any], box: tuple[float, ...], **more: Any) -> int:
        """Adds a box; returns its id."""
        boxes = self.splits[split]["annotations"]
        id = len(boxes) + 1
        class_id = 1 + id % len(CLASSES)
        known = {"id": id, "image_id": entry["id"], "category_id": class_id, "bbox": list(box), "iscrowd": 0}
        boxes.append({**known, "area": box[2] * box[3], **more})
        return id


def plant(folder: Path, root: Path, images: int, seed: int) -> Planted:
    """Writes a data set with faults below `root`."""
    rng = random.Random(seed)
    files = list_images([folder])
    rng.shuffle(files)
    categories = [{"id": id, "name": name} for id, name in enumerate(CLASSES, start=1)]
    made = Planted(
        root, {split: {"images": [], "annotations": [], "categories": categories} for split in ("train", "valid")}
    )
    for split in made.splits:
        (root / split).mkdir(parents=True)
    chosen = [read_image(file.path) for file in files[:images]]
    for index, image in enumerate(chosen):
        made.add_image("train" if index % 4 else "valid", f"{index}.jpg", image)
    for index, (what, (scale, quality, brightness)) in enumerate(COPIES.items()):
        for number in range(index, len(chosen), 10):
            copy = _copy(chosen[number], scale, brightness)
            leaks = number % 4 == 0
            name = f"copy {number} ({what}).jpg"
            made.add_image("train", name, copy, quality)
            made.note(f"{'leaks' if leaks else 'duplicate_images'}: {what}", name)
    entries = made.splits["train"]["images"]
    for kind, make in _FAULTS.items():
        for entry in rng.sample(entries, 5):
            made.note(kind, make(made, entry))
    for split, content in made.splits.items():
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    made.note("names_alike", "'goldfish' and 'gold fish'")
    return made


def _copy(image: Image.Image, scale: float, brightness: float) -> Image.Image:
    size = max(8, round(image.width * scale)), max(8, round(image.height * scale))
    return ImageEnhance.Brightness(image.resize(size, Image.Resampling.BICUBIC)).enhance(brightness)


def _box_fault(box: tuple[float, float, float, float]) -> Callable[[Planted, dict[str, Any]], str]:
    """Returns what adds a box whose numbers are shares of the image if they are 1 or less, else pixels."""

    def make(made: Planted, entry: dict[str, Any]) -> str:
        sides = (entry["width"], entry["height"]) * 2
        pixels = tuple(value * side if -1 <= value <= 1 else value for value, side in zip(box, sides, strict=True))
        return f"annotation {made.add_box('train', entry, pixels)} "

    return make


def _missing(made: Planted, entry: dict[str, Any]) -> str:
    name = f"gone {entry['id']}.jpg"
    made.add_image("train", name, Image.new("RGB", (40, 30), "red"))
    (made.root / "train" / name).unlink()
    return name


def _unreadable(made: Planted, entry: dict[str, Any]) -> str:
    name = f"broken {entry['id']}.jpg"
    made.add_image("train", name, Image.effect_noise((90, 80), 60).convert("RGB"))
    path = made.root / "train" / name
    path.write_bytes(path.read_bytes()[:200])
    return name


def _unlisted(made: Planted, entry: dict[str, Any]) -> str:
    name = f"unlisted {entry['id']}.jpg"
    Image.effect_noise((90, 80), 60).save(made.root / "train" / name)
    return name


def _wrong_size(made: Planted, entry: dict[str, Any]) -> str:
    name = f"size {entry['id']}.png"
    wrong = made.add_image("train", name, Image.effect_noise((90, 80), 60).convert("RGB"))
    wrong["width"], wrong["height"] = wrong["width"] + 40, wrong["height"] + 40
    return name


def _empty_image(made: Planted, entry: dict[str, Any]) -> str:
    name = f"empty {entry['id']}.png"
    made.add_image("train", name, Image.effect_noise((90, 80), 60).convert("RGB"))
    made.splits["train"]["annotations"].pop()
    return name


def _twice(made: Planted, entry: dict[str, Any]) -> str:
    first = next(box for box in made.splits["train"]["annotations"] if box["image_id"] == entry["id"])
    id = made.add_box("train", entry, tuple(first["bbox"]), category_id=first["category_id"])
    return f"annotation {id} "


def _of_no_image(made: Planted, entry: dict[str, Any]) -> str:
    return f"annotation {made.add_box('train', {'id': 10_000_000 + entry['id']}, (1.0, 1.0, 20.0, 20.0))} "


_FAULTS: dict[str, Callable[[Planted, dict[str, Any]], str]] = {
    "boxes_outside": _box_fault((0.5, 0.5, 0.9, 0.9)),
    "empty_boxes": _box_fault((0.2, 0.2, 0, 0.4)),
    "tiny_boxes": _box_fault((0.2, 0.2, 2, 3)),
    "duplicate_boxes": _twice,
    "unknown_images": _of_no_image,
    "missing_images": _missing,
    "unreadable_images": _unreadable,
    "files_without_entry": _unlisted,
    "wrong_sizes": _wrong_size,
    "images_without_boxes": _empty_image,
}


def score(problems: Mapping[str, Problem], faults: Mapping[str, list[str]]) -> dict[str, tuple[int, int, int]]:
    """Returns for each kind the planted faults, those that were found, and what was found beside them."""
    planted: dict[str, list[str]] = {}
    for kind, places in faults.items():
        planted.setdefault(kind.partition(":")[0], []).extend(places)
    rows = {}
    for kind, places in faults.items():
        found = problems[kind.partition(":")[0]].places if kind.partition(":")[0] in problems else ()
        hits = sum(any(place in text + " " for text in found) for place in places)
        every = planted[kind.partition(":")[0]]
        others = sum(not any(place in text + " " for place in every) for text in found)
        rows[kind] = (len(places), hits, others)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = plant(words.folder, Path(folder) / "set", words.images, words.seed)
        problems = {problem.kind: problem for problem in check_data(made.root).problems}
        print(f"{'fault':<42} planted  found  others")
        for kind, (count, hits, others) in score(problems, made.faults).items():
            print(f"{kind:<42} {count:>7} {hits:>6} {others:>7}")


if __name__ == "__main__":
    main()
