"""`evaluate`: a benchmark, a data folder and a model → its table.

    find the files → label each set (or read somebody's results) → score → tables, curves, the worst images

The folder is all the state there is: the same call again goes on where an earlier one ended.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glip.data.lookup import PromptStyle, Suite, find_suite
from glip.data.splits import OpenSplit, Split, open_split
from glip.errors import InputError
from glip.evaluation.inference import LABELS_FOLDER, Looking, from_records, label_split, tuned_prompts, turned
from glip.evaluation.predictions import Predictions, read_predictions
from glip.evaluation.report import find_published, protocol_of, score_rows, write_tables
from glip.evaluation.results import EvaluationResult, SetResult, averages
from glip.evaluation.submission import RESULTS_FILE, read_submission, write_results, write_submission
from glip.evaluation.tasks.detection import LVIS_LIMIT, LVIS_NAMES_PER_CHUNK, Scored, score_set
from glip.files import whole_file
from glip.labeling.records import read_run

if TYPE_CHECKING:
    from glip.labeling.image_prompts import PromptPlan

# COCO-O effective robustness: mean AP over the domains minus this slope times the AP on COCO val2017 (ICCV 2023).
ROBUSTNESS_SLOPE = 0.45
SUBMISSION_FILE = "odinw_submission.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalRequest:
    """Everything that an evaluation is told.

    Attributes:
        dataset: a benchmark, a set of ODinW, a folder or a COCO file.
        out: the folder that everything is written into.
        data_root: the folder that the benchmarks' files lie below.
        look: the model, and how it looks at images; not used with `predictions`.
        split: None for the benchmark's default.
        prompts: how classes are asked.
        predictions: results to score instead of a model's: a file, or for several sets a folder of
            SET.json or SET/results.json, or ODinW's submission form.
        images: the folder of the images, of a dataset of one's own; None: where they usually are.
        limit: only the first so many images of each set, for a trial.
        max_det: most boxes that count of an image. 100 is published for COCO and ODinW.
        gallery: so many of the worst images are drawn.
        coco_ap: AP on COCO val in percent, for COCO-O's effective robustness; None: the published one.
        tta: at several scales and mirrored, as COCO's best published numbers were measured.
    """

    dataset: str
    out: Path
    data_root: Path = Path("data")
    look: Looking = Looking("glip-t")  # noqa: RUF009  # frozen
    split: str | None = None
    prompts: PromptStyle = "plain"
    predictions: Path | None = None
    images: Path | None = None
    limit: int | None = None
    max_det: int = 100
    gallery: int = 12
    coco_ap: float | None = None
    tta: bool = False

    def __post_init__(self) -> None:
        for option, number, least in (
            ("limit", self.limit, 1),
            ("max-det", self.max_det, 1),
            ("gallery", self.gallery, 0),
        ):
            if number is not None and number < least:
                raise InputError(f"--{option} is {number}; it must be {least} or more.")
        if self.max_det > 300 and self.predictions is None:
            raise InputError(f"--max-det is {self.max_det}; at most 300 boxes of an image are recorded.")
        if self.predictions is not None and self.look.adapter is not None:
            raise InputError(
                "--adapter is for a model, and --predictions is scored without one. Leave one of them out."
            )
        if self.predictions is not None and self.tta:
            raise InputError("--tta is for a model, and --predictions is scored without one. Leave one of them out.")


class _Stopped(Exception):
    """The watcher asked to stop."""


def evaluate(request: EvalRequest) -> EvaluationResult:
    """Scores a model, or somebody's results, on a benchmark, and writes tables and images.

    Raises:
        InputError: the benchmark is unknown, a file of it is missing or cannot be used, or what labelling refuses.
        JobFailed: the disk or the network failed. What was labelled before is kept.
    """
    benchmark = find_suite(request.dataset, request.data_root.expanduser(), request.split, request.prompts)
    if request.images is not None:
        benchmark = _with_images(benchmark, request.images)
    look = _opened_once(request.look)
    if request.tta and any(item.format not in ("coco", "coco-images", "voc") for item in benchmark.splits):
        raise InputError(f"--tta is for class lists in COCO's sense, not for {benchmark.name}. Leave it out.")
    if request.look.adapter and any(item.format in ("flickr30k", "d3", "lvis") for item in benchmark.splits):
        raise InputError(f"--adapter is for one class list, not for {benchmark.name}. Leave it out.")
    given = _given(request, benchmark)
    results: list[SetResult] = []
    files: list[Path] = []
    try:
        for place, item in enumerate(benchmark.splits, start=1):
            if len(benchmark.splits) > 1:
                logger.info("%s, %d of %d", item.name, place, len(benchmark.splits))
            result, written = _evaluate_set(item, request, look, given.get(item.name))
            results.append(result)
            files += written
    except _Stopped:
        return EvaluationResult(benchmark.name, look.model, {}, (), tuple(results), interrupted=True)
    return _conclude(benchmark, request, results, files)


def _conclude(
    benchmark: Suite, request: EvalRequest, results: Sequence[SetResult], files: Sequence[Path]
) -> EvaluationResult:
    """Averages, the table, and the files about all sets."""
    model = "" if request.predictions else request.look.model
    summary = averages(results) if len(results) > 1 else {}
    # A part of a benchmark is compared with nothing, nor is what was tuned here with a checkpoint.
    compared = "" if request.limit or request.look.adapter else model
    model += f" with {request.look.adapter}" if request.look.adapter else ""
    words = _looking_in_words(request, results)
    if benchmark.name == "coco-o":
        summary, words = _with_robustness(summary, words, request, model)
    protocol = protocol_of(
        benchmark, sets=results, model=model, look=words, max_det=request.max_det, limit=request.limit
    )
    if request.tta:
        from glip.evaluation.tta import MAX_BOXES

        protocol["limits"] = f"100 boxes of each view, {MAX_BOXES} of an image, {request.max_det} of a class in it"
    rows = score_rows(benchmark, compared, results, summary)
    result = EvaluationResult(benchmark.name, model, protocol, rows, tuple(results), summary)
    if benchmark.name in ("odinw13", "odinw35"):
        write_submission(
            request.out / SUBMISSION_FILE, {item.name: request.out / item.name / RESULTS_FILE for item in results}
        )
        files = [*files, request.out / SUBMISSION_FILE]
    return replace(result, files=(*write_tables(request.out, result), *files))


def _evaluate_set(item: Split, request: EvalRequest, look: Looking, given: Path | None) -> tuple[SetResult, list[Path]]:
    out = request.out / item.name
    if item.format == "flickr30k":
        from glip.evaluation.tasks.phrase_grounding import evaluate_flickr

        recall = evaluate_flickr(
            item, out, look, given, limit=request.limit, max_det=request.max_det, gallery=request.gallery
        )
        if recall is None:
            raise _Stopped
        return recall
    if item.format == "d3":
        from glip.evaluation.tasks.described_objects import evaluate_d3

        described = evaluate_d3(
            item, out, look, given, limit=request.limit, max_det=request.max_det, gallery=request.gallery
        )
        if described is None:
            raise _Stopped
        return described
    opened = open_split(item, request.limit)
    scored = _score(opened, request, look, given)
    written = []
    if item.format in ("coco", "coco-images"):
        write_results(out / RESULTS_FILE, scored.predictions)
        written.append(out / RESULTS_FILE)
    if scored.scores is not None:
        from glip.evaluation.error_gallery import draw_set

        written += draw_set(out, opened, scored, request.gallery)
    return scored.result, written


def _score(opened: OpenSplit, request: EvalRequest, look: Looking, given: Path | None) -> Scored:
    if given is not None:
        boxes = _read(given, opened, request.limit)
        nothing = () if len(boxes) else (f"{given} holds no box for these images, so that all of it is missed.",)
        return score_set(opened, boxes, request.max_det, nothing)
    predictions, notes = _label(opened, request, look)
    return score_set(opened, predictions, request.max_det, notes)


def _label(opened: OpenSplit, request: EvalRequest, look: Looking) -> tuple[Predictions, tuple[str, ...]]:
    """The model's boxes, and sentences about images that something is wrong with."""
    from glip.detectors.base import DetectionLimits
    from glip.labeling.image_prompts import ClassList

    out = request.out / opened.split.name
    lvis = opened.split.format == "lvis"
    if look.adapter is not None:
        prompts: PromptPlan = tuned_prompts(look.adapter, opened.names, opened.split.name)
    else:
        wordings = None if opened.wordings is None else tuple(opened.wordings)
        prompts = ClassList(tuple(opened.names), wordings, LVIS_NAMES_PER_CHUNK if lvis else None)
    images = list(opened.ids_of_image)
    if request.tta:
        return _label_augmented(opened, out, images, prompts, look)
    limits = DetectionLimits(max_detections=LVIS_LIMIT, limit_per_prompt=True) if lvis else None
    labelled = label_split(out, images, prompts, look, limits)
    if labelled.summary.interrupted:
        raise _Stopped
    most = None if lvis else request.max_det
    predictions = from_records(labelled.records(), opened.ids_of_image, lambda path: opened.category_ids, most)
    notes = _failures(labelled.summary.failed, opened, labelled.folder)
    sizes = dict(zip(opened.images, ((h, w) for h, w in opened.truth.sizes_hw.tolist()), strict=True))
    if upright := turned(labelled, sizes):
        notes.append(
            f"{upright} images of {opened.split.name} are turned upright by a tag in their file, which their "
            f"annotations do not know: boxes in them count as wrong."
        )
    return predictions, tuple(notes)


def _label_augmented(
    opened: OpenSplit, out: Path, images: Sequence[Path], prompts: PromptPlan, look: Looking
) -> tuple[Predictions, tuple[str, ...]]:
    from glip.evaluation.tta import label_in_views

    augmented = label_in_views(out, images, prompts, look)
    if augmented.interrupted:
        raise _Stopped
    predictions = from_records(augmented.records(), opened.ids_of_image, lambda path: opened.category_ids, None)
    return predictions, tuple(_failures(augmented.failed, opened, out / "tta"))


def _failures(count: int, opened: OpenSplit, folder: Path) -> list[str]:
    if not count:
        return []
    return [
        f"{count} images of {opened.split.name} could not be read and count as empty; {folder}/errors.jsonl says why."
    ]


def _read(path: Path, opened: OpenSplit, limit: int | None) -> Predictions:
    """Somebody's boxes; with a limit only those of the images that are scored."""
    if limit is None:
        return read_predictions(path, opened.truth)
    predictions = read_predictions(path, open_split(opened.split).truth)
    return predictions.rows(np.isin(predictions.image_id, opened.truth.image_ids))


def _given(request: EvalRequest, benchmark: Suite) -> Mapping[str, Path]:
    """The file of somebody's results for each set, by name; empty where a model is asked."""
    path = request.predictions
    if path is None:
        return {}
    if not path.exists():
        raise InputError(f"There is no file {path} to take the results from.")
    if len(benchmark.splits) == 1 and path.is_file():
        return {benchmark.splits[0].name: path}
    if path.is_file():
        return _of_submission(path, request.out, benchmark)
    given = {}
    for item in benchmark.splits:
        places = (path / f"{item.name}.json", path / item.name / RESULTS_FILE)
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise InputError(f"{path} has no results for {item.name}: neither {places[0]} nor {places[1]} is there.")
        given[item.name] = found
    return given


def _of_submission(path: Path, out: Path, benchmark: Suite) -> Mapping[str, Path]:
    """Results of all sets in one file, taken apart into the sets' folders."""
    sets = read_submission(path)
    if sets is None:
        raise InputError(
            f"{benchmark.name} has {len(benchmark.splits)} sets. Give a folder with a file for each, SET.json, or one "
            f"file with the results of each by its name; {path} is neither."
        )
    given = {}
    for item in benchmark.splits:
        if item.name not in sets:
            has = f"It has {', '.join(list(sets)[:5])}, …" if sets else "It is an empty object"
            raise InputError(
                f"{path} has no results for {item.name}. {has}; expected are the results of each set by its name."
            )
        given[item.name] = out / item.name / RESULTS_FILE
        with whole_file(given[item.name]) as file:
            file.write(bytes(sets[item.name]))
    return given


def _with_images(benchmark: Suite, images: Path) -> Suite:
    if benchmark.known or len(benchmark.splits) != 1:
        raise InputError(f"--images is for a COCO file of your own; {benchmark.name} has its images where it says.")
    if not images.is_dir():
        raise InputError(f"--images {images} is no folder.")
    return replace(benchmark, splits=(replace(benchmark.splits[0], images=(images,)),))


def _opened_once(look: Looking) -> Looking:
    """Returns the same settings with a detector that is opened for the first set and serves all of them."""
    from glip.detectors.base import OpenedOnce

    return replace(look, detector=OpenedOnce(look.detector or look.spec))


def _with_robustness(
    summary: dict[str, float | None], words: dict[str, str], request: EvalRequest, model: str
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Adds COCO-O's effective robustness, if the AP on COCO itself is known."""
    coco, where = request.coco_ap, "given"
    if coco is None:
        published = find_published("coco", "", "AP", model, split="val", prompts="plain")
        coco, where = (None, "") if published is None else (published.value, f"published: {published.source}")
    if coco is None or summary["average"] is None:
        said = "not known: give the model's AP on COCO val with --coco-ap"
        return {**summary, "effective robustness": None}, {**words, "effective robustness": said}
    said = f"average over the domains less {ROBUSTNESS_SLOPE} times the AP on COCO val, {coco:.1f} ({where})"
    return {**summary, "effective robustness": summary["average"] - ROBUSTNESS_SLOPE * coco}, {
        **words,
        "effective robustness": said,
    }


def _looking_in_words(request: EvalRequest, results: Sequence[SetResult]) -> dict[str, str]:
    if request.predictions is not None:
        return {"boxes": f"results of {request.predictions}; how they were made is not known here"}
    look = request.look
    if request.tta:
        from glip.evaluation.tta import SCALES

        sides = ", ".join(str(scale[0]) for scale in SCALES)
        resolution = f"short sides {sides} pixels, each also mirrored, merged at an overlap of 0.6"
    else:
        imgsz = read_run(request.out / results[0].name / LABELS_FOLDER).imgsz
        resolution = f"short side {imgsz} pixels, long side at most {round(imgsz * 1333 / 800)}"
    batch = f"{_batch(request, results[0])}; only images of one padded size run together"
    if results[0].scorer in ("flickr30k", "d3"):
        batch = "1: each image is asked by captions of its own"
    return {
        "resolution": resolution,
        "batch size": batch,
        "precision": look.precision,
        "thresholds": "0.05 on the class score before centerness; suppression by class at an overlap of 0.6",
    }


def _batch(request: EvalRequest, first: SetResult) -> int:
    """Most images that ran together: what was asked for, or what the device of the run gets."""
    from glip.detectors.spec import GPU_BATCH

    folder = request.out / first.name / LABELS_FOLDER
    if request.tta:
        folder = next((request.out / first.name / "tta").glob(f"*/{LABELS_FOLDER}"))
    device = read_run(folder).device
    return request.look.batch or (GPU_BATCH if device.startswith("cuda") else 1)
