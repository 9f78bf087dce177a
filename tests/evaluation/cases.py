"""Makes random splits that are meant to be hard for an evaluator, and runs the published evaluators on them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glip.data.annotations import Federated, Floats, Truth
from glip.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from glip.evaluation.metrics.coco import CocoScores
from glip.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Case:
    """Annotated and predicted boxes of the same images."""

    truth: Truth
    predictions: Predictions


def random_case(seed: int) -> Case:
    """Returns a split with gaps in all ids, crowds, ties, duplicates, boxes without area, and classes without boxes.

    One in eight has no annotated boxes, one in eight no predicted ones.
    """
    random = np.random.default_rng(seed)
    image_ids = random.permutation(50)[: random.integers(1, 7)] + random.integers(0, 2)
    category_ids = random.permutation(30)[: random.integers(1, 5)]
    coarse = random.random() < 0.5
    count = 0 if random.random() < 0.125 else int(random.integers(1, 40))
    boxes = random_boxes(random, count, coarse)
    first_id = int(random.integers(0, 3))
    annotations = []
    for index, bbox in enumerate(boxes.tolist()):
        area = bbox[2] * bbox[3] * (1 if random.random() < 0.5 else float(random.choice([0.3, 0.7, 1.2])))
        annotations.append(
            CocoAnnotation(
                id=first_id + 3 * index if first_id else index,
                image_id=int(random.choice(image_ids)),
                category_id=int(random.choice(category_ids)),
                bbox=tuple(bbox),
                area=float(random.choice([1024.0, 9216.0])) if random.random() < 0.1 else area,
                iscrowd=int(random.random() < 0.15),
            )
        )
    random.shuffle(annotations)
    dataset = CocoDataset(
        images=tuple(CocoImage(int(id), f"{id}.jpg", 200, 200) for id in image_ids),
        annotations=tuple(annotations),
        categories=tuple(CocoCategory(int(id), f"class {id}") for id in category_ids),
    )
    truth = Truth.from_coco(dataset)
    return Case(truth, random_predictions(random, truth, coarse))


def random_boxes(random: np.random.Generator, count: int, coarse: bool) -> Floats:
    """Returns (count, 4) left, top, width, height. On a coarse grid overlaps are often equal, and some areas are 0."""
    start = random.random((count, 2)) * 100
    size = np.exp(random.random((count, 2)) * 5)
    boxes = np.concatenate([start, size], axis=1)
    return np.round(boxes / 10) * 10 if coarse else boxes


def random_predictions(random: np.random.Generator, truth: Truth, coarse: bool) -> Predictions:
    """Returns annotated boxes moved a little, random ones, and copies, with scores of which many are equal."""
    if random.random() < 0.125:
        return Predictions.none()
    rows = random.integers(0, max(1, len(truth.bbox)), 60 if len(truth.bbox) else 0)
    moved = truth.bbox[rows] + random.normal(0, 1, (len(rows), 4)) * random.choice([0, 1, 8], (len(rows), 1))
    moved[:, 2:] = np.maximum(moved[:, 2:], 0)
    if coarse:
        moved = np.round(moved / 10) * 10
    noise = random_boxes(random, int(random.integers(1, 20)), coarse)
    other = len(noise)
    image = np.concatenate([truth.image_id[rows], random.choice(truth.image_ids, other)])
    category = np.concatenate([truth.category_id[rows], random.choice(truth.category_ids, other)])
    bbox = np.concatenate([moved, noise])
    score = np.round(random.random(len(bbox)), int(random.integers(1, 5)))
    chosen = random.integers(0, len(bbox), int(random.integers(1, 2 * len(bbox))))  # some several times, some never
    return Predictions(image, category, bbox, score).rows(chosen)


def as_results(predictions: Predictions) -> list[dict[str, Any]]:
    """Returns the boxes in the format of the published evaluators."""
    columns = (
        predictions.image_id.tolist(),
        predictions.category_id.tolist(),
        predictions.bbox.tolist(),
        predictions.score.tolist(),
    )
    return [
        {"image_id": image, "category_id": category, "bbox": bbox, "score": score}
        for image, category, bbox, score in zip(*columns, strict=True)
    ]


def as_dataset(truth: Truth) -> dict[str, Any]:
    """Returns the truth in the format of the published evaluators."""
    return {
        "images": [
            {"id": id, "file_name": name, "height": height, "width": width}
            for id, name, (height, width) in zip(
                truth.image_ids.tolist(), truth.file_names, truth.sizes_hw.tolist(), strict=True
            )
        ],
        "categories": [
            {"id": id, "name": name} for id, name in zip(truth.category_ids.tolist(), truth.names, strict=True)
        ],
        "annotations": [
            {
                "id": int(truth.annotation_id[row]),
                "image_id": int(truth.image_id[row]),
                "category_id": int(truth.category_id[row]),
                "bbox": truth.bbox[row].tolist(),
                "area": float(truth.area[row]),
                "iscrowd": int(truth.iscrowd[row]),
                "ignore": int(truth.ignore[row]),
            }
            for row in range(len(truth.annotation_id))
        ],
    }


def pycocotools_run(case: Case, max_dets: tuple[int, ...]) -> Any:
    """Returns pycocotools' evaluator after it has run; `stats` are the twelve numbers."""
    evaluator = pycocotools_loaded(case, max_dets)
    run_quietly(evaluator)
    return evaluator


def pycocotools_loaded(case: Case, max_dets: tuple[int, ...]) -> Any:
    """Returns pycocotools' evaluator, ready to run."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = as_dataset(case.truth)
        truth.createIndex()
        found = COCO()
        found.dataset = as_dataset(case.truth) | {"annotations": []}
        if len(case.predictions):
            found = truth.loadRes(as_results(case.predictions))
        else:
            found.createIndex()  # the reference cannot load an empty list
        evaluator = COCOeval(truth, found, "bbox")
    evaluator.params.maxDets = list(max_dets)
    return evaluator


def run_quietly(evaluator: Any) -> None:
    """Lets pycocotools compute everything without printing."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()


def equals_reference(ours: CocoScores, reference: Any) -> bool:
    """Returns whether every precision, recall, score and number is the same float."""
    # With another limit than 100 the reference's first number is always -1.
    first = 0 if ours.max_dets[-1] == 100 else 1
    return bool(
        np.array_equal(ours.precision, reference.eval["precision"][..., -1])
        and np.array_equal(ours.score, reference.eval["scores"][..., -1])
        and np.array_equal(ours.recall, reference.eval["recall"])
        and list(ours.numbers().values())[first:] == list(reference.stats)[first:]
    )


def perturbed(truth: Truth, seed: int, copies: int = 1) -> Predictions:
    """Returns `copies` of each annotated box, moved, some with another class, and half as many random boxes."""
    random = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(truth.bbox)), copies)
    size = np.tile(truth.bbox[rows, 2:], 2)
    moved = truth.bbox[rows] + random.normal(0, 1, (len(rows), 4)) * size * random.choice([0.01, 0.1], (len(rows), 1))
    moved[:, 2:] = np.maximum(moved[:, 2:], 0)
    category = np.where(
        random.random(len(rows)) < 0.1, random.choice(truth.category_ids, len(rows)), truth.category_id[rows]
    )
    noise = len(rows) // 2
    other = np.concatenate([random.random((noise, 2)) * 400, np.exp(random.random((noise, 2)) * 6)], axis=1)
    return Predictions(
        np.concatenate([truth.image_id[rows], random.choice(truth.image_ids, noise)]),
        np.concatenate([category, random.choice(truth.category_ids, noise)]),
        np.concatenate([moved, other]),
        np.round(np.concatenate([random.beta(3, 2, len(rows)), random.beta(1, 3, noise)]), 3),
    )


def large_case(images: int, seed: int = 0) -> Case:
    """Returns images like COCO's: 80 classes, 7 annotated and about 90 predicted boxes each."""
    random = np.random.default_rng(seed)
    count = 7 * images
    box = np.concatenate([random.random((count, 2)) * 400, np.exp(random.random((count, 2)) * 3 + 2)], axis=1)
    truth = Truth.from_coco(
        CocoDataset(
            images=tuple(CocoImage(id, f"{id}.jpg", 640, 480) for id in range(images)),
            annotations=tuple(
                CocoAnnotation(id, int(random.integers(images)), int(random.geometric(0.06)) % 80 + 1, tuple(bbox))
                for id, bbox in enumerate(box.tolist(), start=1)
            ),
            categories=tuple(CocoCategory(id, f"class {id}") for id in range(1, 81)),
        )
    )
    return Case(truth, perturbed(truth, seed, copies=9))


def random_lvis_case(seed: int) -> Case:
    """Returns a random split in which some classes were not checked, and some not exhaustively annotated."""
    return with_random_federated(random_case(seed), seed)


def with_random_federated(case: Case, seed: int) -> Case:
    """Returns the split with LVIS's frequencies and lists of classes, drawn at random, and without crowds."""
    random = np.random.default_rng(seed)

    def some_classes() -> dict[int, frozenset[int]]:
        return {
            id: frozenset(int(c) for c in case.truth.category_ids if random.random() < 0.3)
            for id in case.truth.image_ids.tolist()
        }

    return Case(
        replace(
            case.truth,
            iscrowd=np.zeros(len(case.truth.bbox), bool),
            ignore=random.random(len(case.truth.bbox)) < 0.05,
            federated=Federated(
                frequency=tuple(random.choice(["r", "c", "f"], len(case.truth.names)).tolist()),
                negative=some_classes(),
                not_exhaustive=some_classes(),
            ),
        ),
        case.predictions,
    )


def as_lvis(truth: Truth) -> dict[str, Any]:
    """Returns the truth in the format of LVIS: images by address, no crowds."""
    assert truth.federated is not None
    content = as_dataset(truth)
    for image in content["images"]:
        image["coco_url"] = f"http://images.example.org/val2017/{image.pop('file_name')}"
        image["neg_category_ids"] = sorted(truth.federated.negative[image["id"]])
        image["not_exhaustive_category_ids"] = sorted(truth.federated.not_exhaustive[image["id"]])
    for category, frequency in zip(content["categories"], truth.federated.frequency, strict=True):
        category["frequency"] = frequency
    for annotation in content["annotations"]:
        del annotation["iscrowd"]
    return content


def simple_truth(
    boxes: Sequence[tuple[int, int, tuple[float, float, float, float]]],
    *,
    classes: int = 1,
    images: int = 1,
    crowds: Sequence[int] = (),
) -> Truth:
    """Returns annotated boxes (image id, category id, bbox) in images 1, 2, … of 100 × 100, of classes 1, 2, …"""
    return Truth.from_coco(
        CocoDataset(
            images=tuple(CocoImage(id, f"{id}.jpg", 100, 100) for id in range(1, images + 1)),
            annotations=tuple(
                CocoAnnotation(index + 1, image, category, bbox, iscrowd=int(index in crowds))
                for index, (image, category, bbox) in enumerate(boxes)
            ),
            categories=tuple(CocoCategory(id, f"class {id}") for id in range(1, classes + 1)),
        )
    )


def simple_predictions(
    boxes: Sequence[tuple[int, int, tuple[float, float, float, float], float]],
) -> Predictions:
    """Returns predicted boxes, given (image id, category id, bbox, score) of each."""
    return Predictions(
        np.array([box[0] for box in boxes], np.int64),
        np.array([box[1] for box in boxes], np.int64),
        np.array([box[2] for box in boxes], np.float64).reshape(-1, 4),
        np.array([box[3] for box in boxes], np.float64),
    )
