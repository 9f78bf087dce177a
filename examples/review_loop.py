"""The loop that glip is for: label, correct, learn from the corrections, label again.

    pip install -e '.[review]' && python examples/review_loop.py loop/

A factory asks for its own parts by its own word, which the model has never read: a "washer" is a ring. Thirty drawn
images are labelled and pushed into FiftyOne; a person, played here by a few lines that know the truth, corrects them
through its API; the corrected labels tune a prompt from five examples, with three draws; and images that nobody has
seen are scored before and after. FiftyOne needs its MongoDB, as `glip review` does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, load_coco, save_coco
from glip.data.synthetic import SceneMaker, cast_of
from glip.data.synthetic.cast import Look
from glip.data.synthetic.sprite_pool import SpritePool
from glip_cli.main import run

NAME, KIND = "washer", "ring"
SIZE_WH = (224, 160)
SIDE = ("--imgsz", min(SIZE_WH))  # images as they are: enlarged for the model they would take four times as long


def command(*words: object) -> None:
    """`glip WORDS…`, shown and run here, where the model's packages are loaded already."""
    print("\n$ glip", *words, flush=True)
    try:
        run([str(word) for word in words])
    except SystemExit as end:
        if end.code:
            raise


def draw(folder: Path, count: int, first: int) -> Path:
    """Scenes of drawn shapes, each with a part or two among others, and a COCO file of the parts."""
    maker = SceneMaker(SpritePool({}), cast_of("seen", (), ()), 7, Look(objects=(3, 6), scale=(0.2, 0.5)))
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
    """What a person does in the app: draws what is missing, deletes what is wrong. Returns how many boxes changed."""
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
    """Intersection over union of two boxes (left, top, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def main() -> None:
    """Runs the loop and prints the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--images", type=int, default=30, help="to label and correct")
    parser.add_argument("--unseen", type=int, default=40, help="to score")
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

    asked = ("eval", "--dataset", unseen, *using, "--gallery", 0)
    command(*asked, "--out", out / "before")
    before = ap50(out / "before")
    after = []
    for number, adapter in enumerate(sorted((out / "tuned").rglob("adapter.safetensors"))):
        command(*asked, "--adapter", adapter, "--out", out / f"after-{number}")
        after.append(ap50(out / f"after-{number}"))
    command("review", "delete", name, "--yes")
    print(f"\n{NAME}, {words.unseen} images that nobody has seen, AP50 in percent")
    print(f"before  {before:.1f}")
    spread = f" ± {stdev(after):.1f}" if len(after) > 1 else ""
    print(f"after   {mean(after):.1f}{spread}   ({', '.join(f'{score:.1f}' for score in after)})")


def ap50(folder: Path) -> float:
    """The number in what `glip eval` wrote."""
    content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    (row,) = (row for row in content["rows"] if row["metric"] == "AP50")
    return float(row["measured"])


if __name__ == "__main__":
    main()
