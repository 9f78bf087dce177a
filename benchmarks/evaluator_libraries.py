"""Compares other evaluators with the published ones: are their scores equal to the last digit, and how fast are they?

    pip install faster-coco-eval lvis
    python -m benchmarks.evaluator_libraries --cases 1000
    python -m benchmarks.evaluator_libraries --cases 0 --truth instances_val2017.json

The judges are pycocotools for COCO and the `lvis` package for LVIS. Each is compared with our code and with
faster-coco-eval on random splits that are meant to be hard (crowds, ties, ids of 0, boxes without area, limits other
than 100, classes that LVIS did not check), then on one larger split and on annotation files. LVIS splits are made
from COCO splits by drawing frequencies and lists of unchecked classes at random.

Prints, for every number of the judge, whether the other code gives the same float, and the largest difference.
Times are processor times without loading.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glip.data.annotations import Truth
from glip.evaluation.metrics.coco import coco_scores
from glip.evaluation.metrics.lvis import LvisScores, lvis_scores
from tests.evaluation.cases import (
    Case,
    as_dataset,
    as_lvis,
    as_results,
    large_case,
    perturbed,
    pycocotools_loaded,
    random_case,
    random_lvis_case,
    run_quietly,
    with_random_federated,
)

LIMITS = ((1, 10, 100), (1, 2, 4), (1, 10, 300), (1, 10, 1000))
Arrays = Mapping[str, np.ndarray]
Evaluator = Callable[[], Arrays]


def coco_judge(case: Case, limits: tuple[int, ...]) -> Evaluator:
    """Returns pycocotools, loaded."""
    evaluator = pycocotools_loaded(case, limits)

    def run() -> Arrays:
        run_quietly(evaluator)
        return {name: np.asarray(evaluator.eval[name]) for name in ("precision", "scores", "recall")}

    return run


def coco_ours(case: Case, limits: tuple[int, ...]) -> Evaluator:
    """Returns our COCO scores; the judge repeats precision for every limit, so only its last one is compared."""

    def run() -> Arrays:
        scores = coco_scores(case.truth, case.predictions, limits)
        return {"precision": scores.precision, "scores": scores.score, "recall": scores.recall}

    return run


def coco_faster(case: Case, limits: tuple[int, ...]) -> Evaluator:
    """Returns faster-coco-eval, loaded."""
    evaluator = _faster(as_dataset(case.truth), case, limits, lvis_style=False)

    def run() -> Arrays:
        evaluator.run()
        return {name: np.asarray(evaluator.eval[name]) for name in ("precision", "scores", "recall")}

    return run


def lvis_judge(case: Case, limit: int) -> Evaluator:
    """Returns the `lvis` package, loaded."""
    # The package was written for NumPy 1.
    np.float = float  # type: ignore[attr-defined]
    from lvis import LVIS, LVISEval, LVISResults

    with tempfile.TemporaryDirectory() as folder, _silent():
        path = Path(folder, "lvis.json")
        path.write_text(json.dumps(as_lvis(case.truth)))
        truth = LVIS(str(path))
        evaluator = LVISEval(truth, LVISResults(truth, as_results(case.predictions), max_dets=limit), "bbox")

    def run() -> Arrays:
        with _silent():
            evaluator.run()
        return {"precision": evaluator.eval["precision"], "recall": evaluator.eval["recall"]}

    return run


def lvis_ours(case: Case, limit: int) -> Evaluator:
    """Returns our LVIS scores under the standard protocol."""

    def run() -> Arrays:
        scores: LvisScores = lvis_scores(case.truth, case.predictions, fixed=False)
        return {"precision": scores.scores.precision, "recall": scores.scores.recall[..., 0]}

    return run


def lvis_faster(case: Case, limit: int) -> Evaluator:
    """Returns faster-coco-eval in its LVIS style, loaded; it limits boxes by class and image, not by image."""
    evaluator = _faster(as_lvis(case.truth), case, (limit,), lvis_style=True)

    def run() -> Arrays:
        evaluator.run()
        return {"precision": evaluator.eval["precision"][..., -1], "recall": evaluator.eval["recall"][..., -1]}

    return run


def _faster(dataset: dict[str, Any], case: Case, limits: tuple[int, ...], *, lvis_style: bool) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of annotations with the id 0
        truth = COCO(dataset)
        results = as_results(case.predictions)
        found = truth.loadRes(results) if results else COCO(dataset | {"annotations": []})
        evaluator = COCOeval_faster(truth, found, "bbox", lvis_style=lvis_style)
    evaluator.params.maxDets = list(limits)
    return evaluator


@contextlib.contextmanager
def _silent() -> Any:
    import logging

    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def differences(judge: Arrays, other: Arrays) -> dict[str, float]:
    """Returns the largest difference of every array that is not equal, by name."""
    found = {}
    for name, expected in judge.items():
        value = other[name]
        expected = expected[..., -1] if expected.ndim > value.ndim else expected
        if not np.array_equal(expected, value):
            found[name] = float(np.abs(expected - value).max())
    return found


def compare(
    title: str, cases: int, judge: Any, others: Mapping[str, Any], draw: Callable[[int], tuple[Case, Any]]
) -> None:
    """Prints how many random splits get equal scores, for each of the other evaluators."""
    equal = dict.fromkeys(others, 0)
    largest: dict[str, dict[str, float]] = {name: {} for name in others}
    first: dict[str, int] = {}
    for seed in range(cases):
        case, limits = draw(seed)
        expected = judge(case, limits)()
        for name, build in others.items():
            wrong = differences(expected, build(case, limits)())
            equal[name] += not wrong
            if wrong:
                first.setdefault(name, seed)
            for array, value in wrong.items():
                largest[name][array] = max(largest[name].get(array, 0.0), value)
    print(f"\n{title}: {cases} random splits")
    for name in others:
        print(f"  {name:18} equal {equal[name]}, largest difference {largest[name]}, first at seed {first.get(name)}")


def race(title: str, case: Case, limits: Any, evaluators: Mapping[str, Any]) -> None:
    """Prints the time of each on one split, and whether the result equals that of the first, the judge."""
    print(
        f"\n{title}: {len(case.truth.image_ids)} images, {len(case.truth.bbox)} annotated, "
        f"{len(case.predictions)} found boxes"
    )
    expected: Arrays = {}
    judge_time = 0.0
    for name, build in evaluators.items():
        run = build(case, limits)
        start = time.process_time()
        result = run()
        took = time.process_time() - start
        if not expected:
            expected, judge_time = result, took
        wrong = differences(expected, result)
        print(f"  {name:18} {took:7.2f} s, {judge_time / took:6.1f} times as fast as the judge, {wrong or 'equal'}")


def main() -> None:
    """Compares on random splits, then times on larger ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="random splits to compare on")
    parser.add_argument("--images", type=int, default=500, help="random images to time on; 0 for none")
    parser.add_argument("--truth", type=Path, nargs="*", default=(), help="COCO annotation files to time on too")
    arguments = parser.parse_args()
    coco = {"ours": coco_ours, "faster-coco-eval": coco_faster}
    lvis = {"ours": lvis_ours, "faster-coco-eval": lvis_faster}
    if arguments.cases:
        compare("COCO", arguments.cases, coco_judge, coco, lambda seed: (random_case(seed), LIMITS[seed % len(LIMITS)]))
        compare("LVIS", arguments.cases, lvis_judge, lvis, lambda seed: (_lvis_case(seed), 300))
    large = [("random images", large_case(arguments.images))] if arguments.images else []
    for path in arguments.truth:
        truth = Truth.from_coco(path)
        large.append((path.name, Case(truth, perturbed(truth, seed=0, copies=9))))
    for title, case in large:
        race(f"COCO, {title}", case, LIMITS[0], {"pycocotools": coco_judge} | coco)
        race(f"LVIS, {title}", with_random_federated(case, seed=0), 300, {"lvis": lvis_judge} | lvis)


def _lvis_case(seed: int) -> Case:
    """Returns the first random split from this seed on with predicted boxes; the judge cannot load an empty list."""
    case = random_lvis_case(seed)
    return case if len(case.predictions) else _lvis_case(seed + 1_000_000)


if __name__ == "__main__":
    main()
