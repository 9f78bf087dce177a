"""`evaluate`: a benchmark, a data folder and a detector → its table.

    find the splits → label each (or read a results file) → score → tables, curves, images of the worst errors

The output folder is all the state there is: the same call resumes where an earlier one ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from glip.data.benchmarks import Format, group_of_set
from glip.data.lookup import PromptStyle, Suite, find_suite
from glip.data.splits import Split
from glip.detectors.spec import GPU_BATCH, DetectorSpec, InferenceOptions
from glip.errors import InputError
from glip.evaluation.inference import LABELS_FOLDER, SplitLabelling, label_split
from glip.evaluation.page import write_page
from glip.evaluation.report import find_published, protocol_of, score_rows, write_tables
from glip.evaluation.results import EvaluationResult, SetResult, averages, left_out_of_sets
from glip.evaluation.submission import RESULTS_FILE, read_submission, write_submission
from glip.evaluation.tasks import ONE_CLASS_LIST, Score, ScoreOptions, Task
from glip.evaluation.tasks.described_objects import DescribedObjects
from glip.evaluation.tasks.detection import Detection
from glip.evaluation.tasks.phrase_grounding import PhraseGrounding
from glip.files import whole_file
from glip.labeling.records import read_run
from glip.left_out import LeftOut, first_examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glip.detectors.base import OpensDetector
    from glip.engine import Engine
    from glip.labeling.job import Watcher
    from glip.labeling.records import Record

# COCO-O effective robustness: mean AP over the domains minus this slope times the AP on COCO val2017 (ICCV 2023).
ROBUSTNESS_SLOPE = 0.45
SUBMISSION_FILE = "odinw_submission.json"
# The task of each annotation format.
_TASKS: Mapping[Format, Callable[[Split, ScoreOptions], Task]] = {
    "coco": Detection,
    "coco-images": Detection,
    "lvis": Detection,
    "voc": Detection,
    "flickr30k": PhraseGrounding,
    "d3": DescribedObjects,
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalRequest:
    """Everything that decides what an evaluation does.

    Attributes:
        dataset: a benchmark, a set of ODinW, a folder or a COCO file.
        out: output folder.
        data_root: folder that holds the benchmarks' files.
        detector: which detector, and how it runs; not used with `predictions`.
        options: how images run through it.
        split: name of the split; None for the benchmark's default.
        prompts: how ODinW's classes are written.
        predictions: results to score instead of a detector's: a file, or for several sets a folder of SET.json or
            SET/results.json, or a file in ODinW's submission format.
        images: folder of the images of a COCO file of your own; None for the usual places.
        limit: score only the first N images of each set; None for all.
        max_det: maximum number of boxes per image that are scored. 100 is published for COCO and ODinW.
        gallery: number of images with the worst errors.
        coco_ap: AP on COCO val in percent, for COCO-O's effective robustness; None for the published one.
        tta: test-time augmentation: several scales, each also flipped, as COCO's best published numbers were measured.
        overwrite: delete the records of an earlier run first.

    Raises:
        InputError: a value is out of range, or two exclude each other.
    """

    dataset: str
    out: Path
    data_root: Path = Path("data")
    detector: DetectorSpec = field(default_factory=DetectorSpec)
    options: InferenceOptions = field(default_factory=InferenceOptions)
    split: str | None = None
    prompts: PromptStyle = "plain"
    predictions: Path | None = None
    images: Path | None = None
    limit: int | None = None
    max_det: int = 100
    gallery: int = 12
    coco_ap: float | None = None
    tta: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        minimums = (("limit", self.limit, 1), ("max_det", self.max_det, 1), ("gallery", self.gallery, 0))
        for name, number, minimum in minimums:
            if number is not None and number < minimum:
                raise InputError(f"{name} is {number}; it must be {minimum} or more.")
        if self.max_det > 300 and self.predictions is None:
            raise InputError(f"max_det is {self.max_det}; at most 300 boxes per image are recorded.")
        for name, value in (("adapter", self.detector.adapter), ("tta", self.tta)):
            if self.predictions is not None and value:
                raise InputError(f"{name} is for a detector, and predictions are scored without one. Leave out one.")

    @property
    def score_options(self) -> ScoreOptions:
        """Returns how splits are scored."""
        return ScoreOptions(self.limit, self.max_det, self.prompts, augmented=self.tta)


class _Stopped(Exception):
    """The watcher stopped the labelling."""


def evaluate(
    request: EvalRequest,
    *,
    detector: OpensDetector | None = None,
    engine: Engine | None = None,
    watcher: Watcher | None = None,
) -> EvaluationResult:
    """Scores a detector, or a results file, on a benchmark, and writes tables and images.

    Args:
        request: what to evaluate.
        detector: opens the detector; None for `request.detector`.
        engine: where the workers run; None for this process.
        watcher: follows the labelling.

    Raises:
        InputError: the benchmark is unknown, a file is missing or cannot be used, or labelling refuses a value.
        JobFailed: the disk or the network failed. What was labelled before is kept.
    """
    from glip.detectors.base import OpenedOnce

    suite = find_suite(request.dataset, request.data_root.expanduser(), request.split, request.prompts)
    if request.images is not None:
        suite = _with_images(suite, request.images)
    _check_class_lists(suite, request)
    files_given = _results_files(request, suite)
    # The detector is opened for the first split, and serves all of them.
    opens = OpenedOnce(detector or request.detector)
    labelling = SplitLabelling(request.detector, request.options, request.overwrite, opens, engine, watcher)
    scored: list[_ScoredSplit] = []
    try:
        for number, split in enumerate(suite.splits, start=1):
            if len(suite.splits) > 1:
                logger.info("%s, %d of %d", split.name, number, len(suite.splits))
            scored.append(_score_split(split, request, labelling, files_given.get(split.name)))
    except _Stopped:
        results = tuple(one.result for one in scored)
        return EvaluationResult(
            suite.name,
            request.detector.model,
            {},
            (),
            results,
            interrupted=True,
            left_out=(*suite.left_out, *left_out_of_sets(results)),
        )
    return _conclude(suite, request, scored)


@dataclass(frozen=True)
class _ScoredSplit:
    result: SetResult
    protocol: Mapping[str, str]
    files: Sequence[Path]


def _score_split(split: Split, request: EvalRequest, labelling: SplitLabelling, given: Path | None) -> _ScoredSplit:
    out = request.out / split.name
    task = open_task(split, request.score_options)
    if given is not None:
        score = task.score_file(given)
        return _ScoredSplit(score.result, {"limits": task.limits_of_file()}, score.write(out, request.gallery))
    score, failed = _label_and_score(task, split, out, request, labelling)
    result = replace(score.result, left_out=(*score.result.left_out, *failed))
    return _ScoredSplit(result, task.protocol(), score.write(out, request.gallery))


def _label_and_score(
    task: Task, split: Split, out: Path, request: EvalRequest, labelling: SplitLabelling
) -> tuple[Score, list[LeftOut]]:
    """Returns the score of a split, and the images that could not be labelled."""
    prompts = task.prompts(request.detector.adapter)
    labelled: _Labelled
    if request.tta:
        from glip.evaluation.tta import label_in_views

        labelled = label_in_views(out, task.images(), prompts, labelling)
    else:
        labelled = label_split(out, task.images(), prompts, labelling, task.limits())
    if labelled.interrupted:
        raise _Stopped
    score = task.score_records(labelled.records())
    if not labelled.failed:
        return score, []
    failed = LeftOut(
        kind="unreadable_images",
        count=labelled.failed,
        sentence=f"{labelled.failed} images of {split.name} could not be labelled and count as images without a "
        f"prediction; errors.jsonl below {out} has the reasons.",
        examples=first_examples(path.name for path, record in labelled.records() if record.error is not None),
    )
    return score, [failed]


class _Labelled(Protocol):
    @property
    def interrupted(self) -> bool: ...
    @property
    def failed(self) -> int: ...
    def records(self) -> Iterator[tuple[Path, Record]]: ...


def _check_class_lists(suite: Suite, request: EvalRequest) -> None:
    """Refuses an adapter or test-time augmentation where images do not share one class list."""
    if all(split.format in ONE_CLASS_LIST for split in suite.splits):
        return
    for name, value in (("adapter", request.detector.adapter), ("tta", request.tta)):
        if value:
            raise InputError(f"{name} needs one class list for all images, which {suite.name} has not. Leave it out.")


# Results files --------------------------------------------------------------------------------------------------------


def _results_files(request: EvalRequest, suite: Suite) -> Mapping[str, Path]:
    """Returns the results file of each split by its name; {} if a detector is evaluated."""
    path = request.predictions
    if path is None:
        return {}
    if not path.exists():
        raise InputError(f"predictions is {path}, which does not exist.")
    if len(suite.splits) == 1 and path.is_file():
        return {suite.splits[0].name: path}
    if path.is_file():
        return _files_of_submission(path, request.out, suite)
    files = {}
    for split in suite.splits:
        candidates = (path / f"{split.name}.json", path / split.name / RESULTS_FILE)
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None:
            raise InputError(
                f"{path} has no results for {split.name}: neither {candidates[0]} nor {candidates[1]} exists."
            )
        files[split.name] = found
    return files


def _files_of_submission(path: Path, out: Path, suite: Suite) -> Mapping[str, Path]:
    """Splits a submission into one file per set, in the folders of the sets."""
    sets = read_submission(path)
    if sets is None:
        raise InputError(
            f"{suite.name} has {len(suite.splits)} sets, and {path} holds the results of one. Give a folder with a "
            f"file SET.json for each set, or one file with the results of each set by its name."
        )
    files = {}
    for split in suite.splits:
        if split.name not in sets:
            listed = f"It has {', '.join(list(sets)[:5])}, …" if sets else "It is an empty object"
            raise InputError(f"{path} has no results for {split.name}. {listed}; the results of each set are needed.")
        files[split.name] = out / split.name / RESULTS_FILE
        with whole_file(files[split.name]) as file:
            file.write(bytes(sets[split.name]))
    return files


def _with_images(suite: Suite, images: Path) -> Suite:
    if suite.known or len(suite.splits) != 1:
        raise InputError(f"images is for a COCO file of your own; {suite.name} has its images in its own folders.")
    if not images.is_dir():
        raise InputError(f"images is {images}, which is not a folder.")
    return replace(suite, splits=(replace(suite.splits[0], images=(images,)),))


# The table and the protocol -------------------------------------------------------------------------------------------


def _conclude(suite: Suite, request: EvalRequest, scored: Sequence[_ScoredSplit]) -> EvaluationResult:
    """Returns averages and table, and writes the files about all sets."""
    results = tuple(one.result for one in scored)
    files = [path for one in scored for path in one.files]
    model = "" if request.predictions else request.detector.model
    groups = group_of_set(suite.name)
    summary = averages(results, [groups.get(name, "") for name in suite.missing]) if len(results) > 1 else {}
    # A part of a benchmark, or a model tuned here, has no published score to compare with.
    compared = "" if request.limit or request.detector.adapter else model
    model += f" with {request.detector.adapter}" if request.detector.adapter else ""
    words = _protocol_words(request, scored[0])
    if suite.name == "coco-o":
        summary, words = _with_robustness(suite, summary, words, request, model)
    protocol = protocol_of(suite, sets=results, model=model, words=words, limit=request.limit)
    rows = score_rows(suite, compared, results, summary)
    left_out = (*suite.left_out, *left_out_of_sets(results))
    result = EvaluationResult(suite.name, model, protocol, rows, results, summary, left_out=left_out)
    # The server of ODinW takes the results of all sets at once.
    if suite.name in ("odinw13", "odinw35") and not suite.missing:
        write_submission(
            request.out / SUBMISSION_FILE, {item.name: request.out / item.name / RESULTS_FILE for item in results}
        )
        files.append(request.out / SUBMISSION_FILE)
    tables = write_tables(request.out, result)
    result = replace(result, files=(*tables, *files))
    return replace(result, files=(*tables, write_page(request.out, result), *files))


def _with_robustness(
    suite: Suite,
    summary: dict[str, float | None],
    words: dict[str, str],
    request: EvalRequest,
    model: str,
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Adds COCO-O's effective robustness, if all domains were scored and the AP on COCO itself is known."""
    if suite.missing:
        text = f"unknown: it is defined over all {len(suite.splits) + len(suite.missing)} domains"
        return {**summary, "effective robustness": None}, {**words, "effective robustness": text}
    coco_ap, source = request.coco_ap, "given"
    if coco_ap is None:
        published = find_published("coco", "", "AP", model, split="val", prompts="plain")
        coco_ap, source = (None, "") if published is None else (published.value, f"published: {published.source}")
    if coco_ap is None or summary["average"] is None:
        text = "unknown: set coco_ap to the model's AP on COCO val"
        return {**summary, "effective robustness": None}, {**words, "effective robustness": text}
    text = f"average over the domains minus {ROBUSTNESS_SLOPE} times the AP on COCO val, {coco_ap:.1f} ({source})"
    robustness = summary["average"] - ROBUSTNESS_SLOPE * coco_ap
    return {**summary, "effective robustness": robustness}, {**words, "effective robustness": text}


def _protocol_words(request: EvalRequest, first: _ScoredSplit) -> dict[str, str]:
    """Returns how the boxes were made, in words by topic, or the file they are from."""
    if request.predictions is not None:
        boxes = f"results of {request.predictions}; how they were made is unknown"
        return {"boxes": boxes, "limits": first.protocol["limits"]}
    folder = request.out / first.result.name / LABELS_FOLDER
    words = dict(first.protocol)
    if request.tta:
        from glip.evaluation.tta import MAX_BOXES, SCALES

        folder = next((request.out / first.result.name / "tta").glob(f"*/{LABELS_FOLDER}"))
        sides = ", ".join(str(scale[0]) for scale in SCALES)
        words["resolution"] = f"short sides {sides} pixels, each also flipped, merged at an IoU of 0.6"
        words["limits"] = f"100 boxes per view, {MAX_BOXES} per image, {request.max_det} per class and image"
    run = read_run(folder)
    if not request.tta:
        words["resolution"] = f"short side {run.imgsz} pixels, long side at most {round(run.imgsz * 1333 / 800)}"
    if "batch size" not in words:
        batch = request.options.batch or (GPU_BATCH if run.device.startswith("cuda") else 1)
        words["batch size"] = f"{batch}; only images of one padded size share a batch"
    return words | {"precision": run.precision, "thresholds": run.score_rule}


def open_task(split: Split, options: ScoreOptions) -> Task:
    """Reads the annotations of a split as a task.

    Raises:
        InputError: a file cannot be used.
    """
    return _TASKS[split.format](split, options)
