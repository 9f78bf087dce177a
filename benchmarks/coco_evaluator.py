"""Checks that our COCO scores equal those of pycocotools to the last digit, and compares their speed.

    python -m benchmarks.coco_evaluator --cases 1000
    python -m benchmarks.coco_evaluator --cases 0 --images 1000
    python -m benchmarks.coco_evaluator --cases 0 --truth instances_val2017.json

Compares all precisions, recalls, scores and the twelve numbers on random adversarial splits. Then measures both on one
larger split: random images with 80 classes and 94 detected boxes each, or the images of an annotation file with its own
boxes, shifted, as detections. Times are processor times without loading.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from glip.data.annotations import Truth
from glip.evaluation.metrics.coco import coco_scores
from tests.evaluation.cases import (
    Case,
    equals_reference,
    large_case,
    perturbed,
    pycocotools_loaded,
    pycocotools_run,
    random_case,
    run_quietly,
)

LIMITS = ((1, 10, 100), (1, 2, 4), (1, 10, 300), (1, 10, 1000))


def compare(cases: int) -> None:
    """Prints the number of random splits with equal scores."""
    same = 0
    for seed in range(cases):
        case, limits = random_case(seed), LIMITS[seed % len(LIMITS)]
        if equals_reference(coco_scores(case.truth, case.predictions, limits), pycocotools_run(case, limits)):
            same += 1
        else:
            print(f"seed {seed}, limits {limits}: not equal")
    print(f"{same} of {cases} random splits: equal to the last digit")


def race(case: Case) -> None:
    """Prints the times of both evaluators on one split."""
    print(f"{len(case.truth.image_ids)} images, {len(case.truth.bbox)} annotated, {len(case.predictions)} found boxes")
    reference = pycocotools_loaded(case, (1, 10, 100))
    start = time.process_time()
    ours = coco_scores(case.truth, case.predictions)
    middle = time.process_time()
    run_quietly(reference)
    end = time.process_time()
    print(
        f"ours {middle - start:.2f} s, pycocotools {end - middle:.2f} s: {(end - middle) / (middle - start):.1f} times"
    )
    print("equal to the last digit" if equals_reference(ours, reference) else "NOT EQUAL")
    print({name: round(number, 4) for name, number in ours.numbers().items()})


def main() -> None:
    """Compares scores, then times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="number of random splits to compare")
    parser.add_argument("--images", type=int, default=500, help="number of random images to time; 0 for none")
    parser.add_argument("--truth", type=Path, nargs="*", default=(), help="annotation files to time as well")
    arguments = parser.parse_args()
    if arguments.cases:
        compare(arguments.cases)
    if arguments.images:
        race(large_case(arguments.images))
    for path in arguments.truth:
        truth = Truth.from_coco(path)
        race(Case(truth, perturbed(truth, seed=0, copies=9)))


if __name__ == "__main__":
    main()
