"""Files for the servers that keep the truth to themselves: COCO's test-dev, and ODinW's challenge on EvalAI.

ODinW's forms, as microsoft/GLIP README.md gives them:

    zero-shot and full   {"WildfireSmoke": [{"image_id": …, "category_id": …, "bbox": […], "score": …}, …], …}
    few-shot             {"WildfireSmoke": {"3": […], "30": […], "300": […]}, …}, by the seed of the examples
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from glip.data.coco import CocoResult, results_writer
from glip.data.fewshot import SEEDS
from glip.errors import InputError
from glip.evaluation.predictions import Predictions
from glip.files import whole_file

RESULTS_FILE = "results.json"


def write_results(path: Path, predictions: Predictions) -> None:
    """Writes COCO's results form: of COCO's test-dev what its server takes.

    Raises:
        JobFailed: the file cannot be written.
    """
    with whole_file(path) as file, results_writer(file) as add:
        for result in _results(predictions):
            add(result)


def write_submission(path: Path, sets: Mapping[str, Path]) -> None:
    """Writes ODinW's form for zero-shot and full-data results.

    Args:
        path: the file to write.
        sets: by the benchmark's name of the set its results.

    Raises:
        InputError: results cannot be read.
        JobFailed: the file cannot be written.
    """
    with whole_file(path) as file:
        file.write(b"{")
        for place, (name, results) in enumerate(sets.items()):
            file.write((b",\n" if place else b"\n") + msgspec.json.encode(name) + b": ")
            file.write(_checked(results))
        file.write(b"\n}\n")


def write_few_shot_submission(path: Path, runs: Mapping[int, Mapping[str, Path]]) -> None:
    """Writes ODinW's form for few-shot results.

    Args:
        path: the file to write.
        runs: by the seed of its examples, the results of each set.

    Raises:
        InputError: a seed is missing or unknown, sets differ between runs, or results cannot be read.
        JobFailed: the file cannot be written.
    """
    if sorted(runs) != list(SEEDS):
        raise InputError(
            f"ODinW's few-shot form takes results for the seeds {', '.join(map(str, SEEDS))}, "
            f"not for {', '.join(map(str, sorted(runs))) or 'none'}."
        )
    sets = list(runs[SEEDS[0]])
    for seed, found in runs.items():
        if different := set(sets) ^ set(found):
            raise InputError(f"The run of seed {seed} and that of {SEEDS[0]} differ in the set {min(different)!r}.")
    with whole_file(path) as file:
        file.write(b"{")
        for place, name in enumerate(sets):
            file.write((b",\n" if place else b"\n") + msgspec.json.encode(name) + b": {")
            for number, seed in enumerate(SEEDS):
                file.write((b", " if number else b"") + msgspec.json.encode(str(seed)) + b": ")
                file.write(_checked(runs[seed][name]))
            file.write(b"}")
        file.write(b"\n}\n")


def results_of(folder: Path) -> dict[str, Path]:
    """The results of an evaluation's sets, by name: `folder`/SET/results.json.

    Raises:
        InputError: there are none.
    """
    found = {path.parent.name: path for path in sorted(folder.glob(f"*/{RESULTS_FILE}"))}
    if not found:
        raise InputError(f"{folder} holds no results of sets, {RESULTS_FILE} in a folder each. `glip eval` makes them.")
    return found


def read_submission(path: Path) -> dict[str, msgspec.Raw] | None:
    """The results of each set in ODinW's form for zero-shot and full data; None if the file has another form."""
    content = path.read_bytes()
    if content.lstrip()[:1] != b"{":
        return None
    try:
        sets = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if "images" in sets or "annotations" in sets else sets


def _results(predictions: Predictions) -> Iterator[CocoResult]:
    columns = (predictions.image_id, predictions.category_id, predictions.bbox, predictions.score)
    for image, category, bbox, score in zip(*(column.tolist() for column in columns), strict=True):
        yield CocoResult(image, category, tuple(bbox), score)


def _checked(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        msgspec.json.decode(content, type=list[CocoResult])
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no list of COCO results: {error}. Make it again with `glip eval`.") from error
    return content.strip()
