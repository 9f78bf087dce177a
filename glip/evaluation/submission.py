"""Reads and writes the files that evaluation servers take: COCO's test-dev and ODinW's challenge on EvalAI.

ODinW has two formats (README.md of microsoft/GLIP):

    zero-shot and full   {"WildfireSmoke": [{"image_id": …, "category_id": …, "bbox": […], "score": …}, …], …}
    few-shot             {"WildfireSmoke": {"3": […], "30": […], "300": […]}, …}, by the seed of the few-shot draw
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from glip.data.coco import CocoResult, results_writer
from glip.data.coco_reading import decode_results
from glip.data.fewshot import SEEDS
from glip.errors import InputError
from glip.evaluation.predictions import Predictions
from glip.files import UnexpectedJson, decode_json, read_content, whole_file

RESULTS_FILE = "results.json"


def write_results(path: Path, predictions: Predictions) -> None:
    """Writes a list of COCO results, the format that the server of COCO's test-dev takes.

    Raises:
        JobFailed: the file cannot be written.
    """
    with whole_file(path) as file, results_writer(file) as add:
        for result in _results(predictions):
            add(result)


def write_submission(path: Path, sets: Mapping[str, Path]) -> None:
    """Writes the zero-shot and full-data results of ODinW.

    Args:
        path: the file to write.
        sets: results file of each set, by the name of the set in the benchmark.

    Raises:
        InputError: a results file cannot be read.
        JobFailed: the file cannot be written.
    """
    with whole_file(path) as file:
        file.write(b"{")
        for index, (name, results) in enumerate(sets.items()):
            file.write((b",\n" if index else b"\n") + msgspec.json.encode(name) + b": ")
            file.write(_checked(results))
        file.write(b"\n}\n")


def write_few_shot_submission(path: Path, runs: Mapping[int, Mapping[str, Path]]) -> None:
    """Writes the few-shot results of ODinW.

    Args:
        path: the file to write.
        runs: results file of each set, by the seed of the few-shot draw.

    Raises:
        InputError: a seed is missing or unknown, the runs have different sets, or a results file cannot be read.
        JobFailed: the file cannot be written.
    """
    if sorted(runs) != list(SEEDS):
        raise InputError(
            f"The runs have the seeds {', '.join(map(str, sorted(runs))) or 'none'}; ODinW's few-shot file needs "
            f"{', '.join(map(str, SEEDS))}."
        )
    sets = list(runs[SEEDS[0]])
    for seed, found in runs.items():
        if different := set(sets) ^ set(found):
            raise InputError(
                f"Of the runs of the seeds {seed} and {SEEDS[0]} only one has the set {min(different)!r}. Give runs "
                f"with the same sets."
            )
    with whole_file(path) as file:
        file.write(b"{")
        for index, name in enumerate(sets):
            file.write((b",\n" if index else b"\n") + msgspec.json.encode(name) + b": {")
            for number, seed in enumerate(SEEDS):
                file.write((b", " if number else b"") + msgspec.json.encode(str(seed)) + b": ")
                file.write(_checked(runs[seed][name]))
            file.write(b"}")
        file.write(b"\n}\n")


def results_of(folder: Path) -> dict[str, Path]:
    """Returns the results files of an evaluation, `folder`/SET/results.json, by the name of the set.

    Raises:
        InputError: there is none.
    """
    found = {path.parent.name: path for path in sorted(folder.glob(f"*/{RESULTS_FILE}"))}
    if not found:
        raise InputError(f"{folder} has no SET/{RESULTS_FILE}. Give the output folder of `glip eval`.")
    return found


def read_submission(path: Path) -> dict[str, msgspec.Raw] | None:
    """Returns the results of each set from a zero-shot or full-data file of ODinW; None for any other file."""
    content = read_content(path, "a submission for ODinW")
    if content.removeprefix(codecs.BOM_UTF8).lstrip()[:1] != b"{":
        return None
    try:
        sets = decode_json(content, dict[str, msgspec.Raw], str(path), "a submission for ODinW")
    except InputError:
        return None
    return None if "images" in sets or "annotations" in sets else sets


def _results(predictions: Predictions) -> Iterator[CocoResult]:
    columns = (predictions.image_id, predictions.category_id, predictions.bbox, predictions.score)
    for image, category, bbox, score in zip(*(column.tolist() for column in columns), strict=True):
        yield CocoResult(image, category, tuple(bbox), score)


def _checked(path: Path) -> bytes:
    """Returns the content of a results file as servers accept it: strict, without a byte order mark."""
    content = read_content(path, "a list of COCO results")
    try:
        decode_json(content, list[CocoResult], str(path), "a list of COCO results")
    except UnexpectedJson:
        results = decode_results(path, content, "a list of COCO results; write it again with `glip eval`")
        return msgspec.json.encode(results)
    return content.removeprefix(codecs.BOM_UTF8).strip()
