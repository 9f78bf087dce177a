"""Runs the whole loop: label, correct, tune on the corrections, score.

    pip install -e '.[review]' && python examples/review_loop.py loop/

A factory uses a word of its own that the model has never read: a "washer" is a ring. Thirty drawn images are labelled
and pushed into FiftyOne. A person, here a few lines that know the true boxes, corrects them through its API. Three
prompts are tuned on five examples each, drawn from the corrected labels, and other images are scored before and after.
FiftyOne needs MongoDB, as `glip review` does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from glip.boxes import box_iou_xywh
from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, load_coco, save_coco
from glip.data.synthetic import SceneMaker, sampler_of_split
from glip.data.synthetic.object_sampler import Look
from glip.data.synthetic.sprite_pool import SpritePool
from glip_cli.main import run

NAME, KIND = "washer", "ring"
SIZE_WH = (224, 160)
SIDE = ("--imgsz", min(SIZE_WH))  # without enlarging the images, which would take four times as long


def command(*words: object) -> None:
    """Prints and runs `glip WORDS…` in this process, which has already imported torch."""
    print("\n$ glip", *words, flush=True)
    try:
        run([str(word) for word in words])
    except SystemExit as end:
        if end.code:
            raise


def draw(folder: Path, count: int, first: int) -> Path:
    """Draws scenes of shapes with one or two rings each, and writes a COCO file of the rings."""
    maker = SceneMaker(SpritePool({}), sampler_of_split("seen", (), ()), 7, Look(objects=(3, 6), scale=(0.2, 0.5)))
    folder.mkdir(parents=True)
    images: list[CocoImage] = []
    annotations: list[CocoAnnotation] = []
    index = first
    while len(images) < count:
        scene = maker.scene(index, SIZE_WH)
        index += 1
        boxes = [item.box_xywh for item in scene.objects if item.thing.noun == KIND]
        if not 1 <= len(boxes) <= 2:
            continue
        image = CocoImage(len(images) + 1, f"{index:05}.png", *SIZE_WH)
        scene.image.save(folder / image.file_name)
        images.append(image)
        for box in boxes:
            annotations.append(CocoAnnotation(len(annotations) + 1, image.id, 1, box, box[2] * box[3], 0))
    save_coco(folder / "truth.coco.json", CocoDataset(tuple(images), tuple(annotations), (CocoCategory(1, NAME),)))
    return folder / "truth.coco.json"


def correct(dataset_name: str, truth: Path) -> int:
    """Corrects a dataset as a person would: adds missed boxes, deletes wrong ones. Returns the number of changes."""
    import fiftyone

    content = load_coco(truth)
    changed = 0
    dataset = fiftyone.load_dataset(dataset_name)
    for sample in dataset.iter_samples(autosave=True):
        image = next(image for image in content.images if image.file_name == sample["file_name"])
        true = [
            [box[0] / image.width, box[1] / image.height, box[2] / image.width, box[3] / image.height]
            for box in (entry.bbox for entry in content.annotations if entry.image_id == image.id)
        ]
        labels = [] if sample["labels"] is None else sample["labels"].detections
        right = [label for label in labels if any(overlap(label.bounding_box, box) > 0.7 for box in true)]
        missing = [box for box in true if all(overlap(label.bounding_box, box) <= 0.7 for label in labels)]
        changed += len(labels) - len(right) + len(missing)
        drawn = [fiftyone.Detection(label=NAME, bounding_box=box) for box in missing]
        sample["labels"] = fiftyone.Detections(detections=right + drawn)
        sample.tags.append("approve")
    return changed


def overlap(one: list[float], other: list[float]) -> float:
    """Returns the intersection over union of two boxes (left, top, width, height)."""
    return float(box_iou_xywh(np.array(one), np.array(other)))


def main() -> None:
    """Runs the loop and prints the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="output folder; must not exist")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--images", type=int, default=30, help="number of images to label and correct")
    parser.add_argument("--unseen", type=int, default=40, help="number of images to score")
    parser.add_argument("--seeds", default="3,30,300")
    parser.add_argument("--epochs", type=int, default=20)
    words = parser.parse_args()
    out, model, name = words.out, words.model, f"loop-{words.out.resolve().name}"

    truth = draw(out / "images", words.images, first=0)
    unseen = draw(out / "unseen", words.unseen, first=10_000)
    using = ("--model", model, *SIDE)
    command("label", out / "images", "--prompt", NAME, *using, "--out", out / "labels", "--conf", 0.4)
    command("review", "push", out / "labels", "--name", name, "--no-launch")
    print(f"\n{correct(name, truth)} boxes corrected in FiftyOne")
    command("review", "pull", name, "--out", out / "corrected")
    tuning = ("--shots", 5, "--mode", "prompt", "--seeds", words.seeds, "--epochs", words.epochs, "--comparisons", 0)
    command("finetune", out / "corrected", *tuning, *using, "--out", out / "tuned")

    score = ("eval", "--dataset", unseen, *using, "--gallery", 0)
    command(*score, "--out", out / "before")
    before = ap50(out / "before")
    after = []
    for index, adapter in enumerate(sorted((out / "tuned").rglob("adapter.safetensors"))):
        command(*score, "--adapter", adapter, "--out", out / f"after-{index}")
        after.append(ap50(out / f"after-{index}"))
    command("review", "delete", name, "--yes")
    print(f"\n{NAME}, {words.unseen} other images, AP50 in percent")
    print(f"before  {before:.1f}")
    spread = f" ± {stdev(after):.1f}" if len(after) > 1 else ""
    print(f"after   {mean(after):.1f}{spread}   ({', '.join(f'{score:.1f}' for score in after)})")


def ap50(folder: Path) -> float:
    """Returns the AP50 that `glip eval` wrote, in percent."""
    content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    (row,) = (row for row in content["rows"] if row["metric"] == "AP50")
    return float(row["measured"])


if __name__ == "__main__":
    main()
