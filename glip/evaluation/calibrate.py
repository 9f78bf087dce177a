"""Makes a class file with thresholds and wordings from a few labelled images and the records of a labelling run.

    labelled images + records → the best wording of each class → a threshold for each class → classes.yaml

The model is not needed: records hold every box down to their minimum score.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from glip.boxes import xyxy_to_xywh
from glip.data.annotations import Truth, check_box_format
from glip.data.coco_folders import read_own
from glip.detections import Detections
from glip.errors import InputError
from glip.evaluation.predictions import Predictions
from glip.evaluation.threshold_selection import ClassThreshold, Interval, WordingScore, class_thresholds, wording_scores
from glip.files import whole_file
from glip.labeling.classes import ClassFile
from glip.labeling.filtering import DEFAULT_CONF, Chooser, ExportSettings, open_run
from glip.labeling.records import Record, RunInfo, read_records, read_run
from glip.left_out import LeftOut, first_examples
from glip.names import find_names

_MAX_BOXES = 300

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """The thresholds and wordings that the labelled images support.

    Attributes:
        thresholds: one row per class of the labelled images, in the order of their ids.
        wordings: of classes that were labelled with several; the best of each class first. Scores are 0 to 1.
        classes: content of classes.yaml: the wordings that are kept, with the thresholds.
        images: number of labelled images with a record.
        unknown: number of labelled images without one.
        left_out: states what of the labelled images is not used.
    """

    thresholds: tuple[ClassThreshold, ...]
    wordings: tuple[WordingScore, ...]
    classes: ClassFile
    images: int
    unknown: int
    left_out: tuple[LeftOut, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain values that JSON can hold."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def calibrate(
    labelled: Path,
    folder: Path,
    *,
    precision: float | None = None,
    all_wordings: bool = False,
    resamples: int = 1000,
) -> Calibration:
    """Selects the wording and the threshold of every class.

    Args:
        labelled: annotations of a few images, each annotated completely, as a COCO file or in another format that
            `glip.data.formats` reads; file names as in the records.
        folder: output folder of a labelling run over these images, with all wordings to compare.
        precision: wanted precision, 0 to 1; None for the highest F1.
        all_wordings: keep every wording of a class instead of only the best.
        resamples: number of resamples of the images, for the intervals.

    Raises:
        InputError: a file cannot be used, or the two have no image or no class in common.
    """
    run = read_run(folder)
    if run.by_caption:
        raise InputError(
            f"{folder} was labelled with a caption for each image, and thresholds are for classes. Label with class "
            f"names instead."
        )
    chooser = _keeping_all(open_run(folder, run, _settings(run)).classes, run)
    whole, left_out = _read_truth(labelled)
    truth, image_ids, missing = _common_images(whole, labelled, folder)
    truth, category_of = _common_classes(truth, chooser.classes, labelled, folder)
    records = [
        (image_ids[record.file_name], record) for record in read_records(folder) if record.file_name in image_ids
    ]
    wordings = _score_wordings(truth, records, chooser.classes, category_of, resamples)
    classes = chooser.classes if all_wordings else _best_wordings(chooser.classes, category_of, wordings)
    kept = _keeping_all(classes, run)
    found = ((image, kept.choose(record)) for image, record in records)
    predictions = _predictions(found, [category_of.get(name) for name in classes.names])
    thresholds = class_thresholds(truth, predictions, precision=precision, resamples=resamples)
    return Calibration(
        tuple(thresholds),
        tuple(wordings),
        _with_thresholds(classes, category_of, thresholds),
        len(truth.image_ids),
        len(missing),
        (*left_out, *_left_out(truth, missing, category_of, labelled, folder)),
    )


def _left_out(
    truth: Truth, missing: Sequence[str], category_of: Mapping[str, int], labelled: Path, folder: Path
) -> Iterator[LeftOut]:
    """Yields the labelled images without a record, and the classes that were not looked for."""
    if missing:
        yield LeftOut(
            kind="images_without_record",
            count=len(missing),
            sentence=f"{len(missing)} labelled images of {labelled} are not in the records of {folder} and are left "
            f"out. Label them with `glip label`.",
            examples=first_examples(missing),
        )
    known = set(category_of.values())
    names = [name for id, name in zip(truth.category_ids.tolist(), truth.names, strict=True) if id not in known]
    if names:
        yield LeftOut(
            kind="classes_not_asked",
            count=len(names),
            sentence=f"{len(names)} classes of {labelled} were not looked for in {folder} and get no threshold. Label "
            f"with their names.",
            examples=first_examples(map(repr, names)),
        )


def write_class_file(path: Path, calibration: Calibration, overwrite: bool = False) -> None:
    """Writes classes.yaml for `glip label --classes`, with the measured scores as comments.

    Raises:
        InputError: the file exists and `overwrite` is not set.
        JobFailed: the file cannot be written.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already. Choose another file (out), or replace this one (overwrite).")
    with whole_file(path) as file:
        file.write("".join(f"{line}\n" for line in _yaml(calibration)).encode())


def interval_text(interval: Interval | None, percent: bool = False) -> str:
    """Returns a value with its interval for people: '0.50 (0.25 to 0.75)'."""
    if interval is None:
        return "—"

    def text(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.2f}"

    if interval.low is None or interval.high is None:
        return text(interval.value)
    return f"{text(interval.value)} ({text(interval.low)} to {text(interval.high)})"


def _read_truth(labelled: Path) -> tuple[Truth, Sequence[LeftOut]]:
    """Reads the labelled images, in any format of `glip.data.formats`, and returns what was left out with them."""
    file = read_own(labelled)
    for sentence in file.notes:
        logger.warning("%s", sentence)
    truth = Truth.from_coco(file.dataset)
    check_box_format(truth, labelled)
    return truth, file.left_out


def _settings(run: RunInfo) -> ExportSettings:
    return ExportSettings(conf=max(run.floor, DEFAULT_CONF), max_det=_max_boxes(run))


def _max_boxes(run: RunInfo) -> int:
    return min(_MAX_BOXES, run.max_detections or _MAX_BOXES)


def _keeping_all(classes: ClassFile, run: RunInfo) -> Chooser:
    """Returns a chooser that keeps every recorded box, whatever the thresholds of the classes."""
    minimum = dict.fromkeys(classes.names, run.floor)
    return Chooser(ExportSettings(conf=run.floor, class_conf=minimum, max_det=_max_boxes(run)), classes, run)


def _common_images(truth: Truth, labelled: Path, folder: Path) -> tuple[Truth, dict[str, int], list[str]]:
    """Keeps the images that have a record.

    Returns:
        The truth of these images, their ids by name in the records, and the names of images without a record.
    """
    names = {record.file_name for record in read_records(folder) if record.error is None}
    by_last_part = _unique_last_parts(names)
    image_ids: dict[str, int] = {}
    for name, id in zip(truth.file_names, truth.image_ids.tolist(), strict=True):
        known = name if name in names else by_last_part.get(PurePosixPath(name).name)
        if known is not None:
            image_ids[known] = id
    if not image_ids:
        raise InputError(
            f"None of the {len(truth.file_names)} images of {labelled} is in the records of {folder}. Their names are "
            f"{truth.file_names[0] if truth.file_names else '?'!r} in the file and {min(names, default='?')!r} in "
            f"the records. Label these images first with `glip label`."
        )
    known_ids = set(image_ids.values())
    missing = [n for n, id in zip(truth.file_names, truth.image_ids.tolist(), strict=True) if id not in known_ids]
    return truth.of_images(list(image_ids.values())), image_ids, missing


def _unique_last_parts(names: set[str]) -> dict[str, str]:
    """Returns names by their last part, if it is unique: labelled images are often copied to another folder."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(PurePosixPath(name).name, []).append(name)
    return {last: own[0] for last, own in found.items() if len(own) == 1}


def _common_classes(truth: Truth, classes: ClassFile, labelled: Path, folder: Path) -> tuple[Truth, dict[str, int]]:
    """Returns the truth with classes named as in the records, and the category id of each common class by name."""
    names = list(truth.names)
    category_of = {}
    for name, index in zip(classes.names, find_names(classes.names, truth.names), strict=True):
        if index is not None:
            category_of[name] = int(truth.category_ids[index])
            names[index] = name
    if not category_of:
        raise InputError(
            f"{labelled} annotates {', '.join(map(repr, truth.names[:5]))}, and {folder} was labelled with "
            f"{', '.join(map(repr, classes.names[:5]))}: they have no class in common. Label with its names."
        )
    return replace(truth, names=tuple(names)), category_of


def _score_wordings(
    truth: Truth,
    records: Sequence[tuple[int, Record]],
    classes: ClassFile,
    category_of: Mapping[str, int],
    resamples: int,
) -> list[WordingScore]:
    """Scores the wordings of every class that has several."""
    found = {}
    for index, name in enumerate(classes.names):
        own = [phrase for phrase, of_phrase in enumerate(classes.class_of) if of_phrase == index]
        if len(own) < 2 or name not in category_of:
            continue
        for phrase in own:
            found[category_of[name], classes.phrases[phrase]] = _predictions(
                ((image, _of_phrase(record, phrase)) for image, record in records), [category_of[name]]
            )
    return wording_scores(truth, found, resamples=resamples)


def _of_phrase(record: Record, phrase: int) -> Detections:
    """Returns the boxes of one wording, with the label 0."""
    own = np.asarray(record.labels, np.int64) == phrase
    boxes = np.asarray(record.boxes, np.float32).reshape(-1, 4)[own]
    scores = np.asarray(record.scores, np.float32)[own]
    return Detections(boxes, scores, np.zeros(len(scores), np.int64), ("",))


def _best_wordings(classes: ClassFile, category_of: Mapping[str, int], wordings: Sequence[WordingScore]) -> ClassFile:
    """Returns each class with its best wording only; a class without a scored wording keeps all."""
    best: dict[int, str] = {}
    for row in wordings:
        if row.ap > 0:
            best.setdefault(row.category_id, row.wording)

    def kept(phrase: str, index: int | None) -> int | None:
        if index is None:
            return None
        wording = best.get(category_of.get(classes.names[index], -1))
        return index if wording in (None, phrase) else None

    return replace(
        classes,
        class_of=tuple(kept(phrase, index) for phrase, index in zip(classes.phrases, classes.class_of, strict=True)),
    )


def _predictions(found: Iterable[tuple[int, Detections]], category_ids: Sequence[int | None]) -> Predictions:
    """Returns the boxes as columns.

    Args:
        found: (image id, its boxes).
        category_ids: of each label; boxes of a label without one are left out.
    """
    ids = np.array([-1 if id is None else id for id in category_ids], np.int64)
    images, categories, boxes, scores = [], [], [], []
    for image, detections in found:
        images.append(np.full(len(detections), image, np.int64))
        categories.append(ids[detections.labels])
        boxes.append(xyxy_to_xywh(detections.boxes.astype(np.float64)))
        scores.append(detections.scores.astype(np.float64))
    if not images:
        return Predictions.none()
    everything = Predictions(
        np.concatenate(images), np.concatenate(categories), np.concatenate(boxes), np.concatenate(scores)
    )
    return everything.rows(everything.category_id >= 0) if None in category_ids else everything


def _with_thresholds(
    classes: ClassFile, category_of: Mapping[str, int], thresholds: Sequence[ClassThreshold]
) -> ClassFile:
    value = {row.category_id: row.threshold.value for row in thresholds if row.threshold is not None}
    return replace(classes, conf=tuple(value.get(category_of.get(name, -1)) for name in classes.names))


def _yaml(calibration: Calibration) -> Iterator[str]:
    classes = calibration.classes
    rows = {row.name: row for row in calibration.thresholds}
    yield f"# Made by `glip calibrate` from {calibration.images} labelled images."
    for index, name in enumerate(classes.names):
        yield f"{_quoted(name)}:"
        prompts = [phrase for phrase, own in zip(classes.phrases, classes.class_of, strict=True) if own == index]
        yield f"  prompts: [{', '.join(map(_quoted, prompts))}]"
        for wording in calibration.wordings:
            if wording.name == name:
                yield f"  # AP {100 * wording.ap:.1f}, AP50 {100 * wording.ap50.value:.1f}: {_quoted(wording.wording)}"
        row, conf = rows.get(name), classes.conf[index]
        if conf is not None and row is not None:
            yield f"  conf: {conf:g}  # F1 {interval_text(row.f1)} on {row.boxes} boxes"
        else:
            yield f"  # no threshold: {row.why if row else 'not annotated in the labelled images'}"
        yield f"  id: {classes.ids[index]}"
        negatives = [
            phrase for phrase, claims in zip(classes.phrases, classes.negative_of, strict=True) if index in claims
        ]
        if negatives:
            yield f"  negative: [{', '.join(map(_quoted, negatives))}]"


def _quoted(text: str) -> str:
    """Returns a YAML string of any text: JSON strings are YAML strings."""
    return json.dumps(text, ensure_ascii=False)
