"""From a handful of labelled images and the records of a labelling run to a class file with thresholds and wordings.

    labelled images + records → the best wording of each class → a threshold for each class → classes.yaml

The model is not needed: records hold everything that was found down to their floor.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from glip.data.annotations import Truth
from glip.detections import Detections
from glip.errors import InputError
from glip.evaluation.predictions import Predictions
from glip.evaluation.threshold_selection import ClassThreshold, Interval, WordingScore, class_thresholds, wording_scores
from glip.files import whole_file
from glip.labeling.classes import ClassFile
from glip.labeling.export import open_run
from glip.labeling.filtering import DEFAULT_CONF, Chooser, ExportSettings
from glip.labeling.records import Record, RunInfo, read_records, read_run

_MOST_BOXES = 300

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """What the labelled images say.

    Attributes:
        thresholds: one row a class of the labelled images, in the order of their ids.
        wordings: of classes that were asked by several; the best of each class first. A score is from 0 to 1.
        classes: that classes.yaml holds: the wordings that are kept, with the thresholds.
        images: labelled images that the records know.
        unknown: labelled images that they do not.
    """

    thresholds: tuple[ClassThreshold, ...]
    wordings: tuple[WordingScore, ...]
    classes: ClassFile
    images: int
    unknown: int

    def to_json(self) -> dict[str, Any]:
        """As plain values that JSON can carry."""
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
    """Chooses the wording and the threshold of every class.

    Args:
        labelled: COCO file of a few images, each annotated completely; file names as in the records.
        folder: of the labelling run that looked at them, with all the wordings that are to be compared.
        precision: the wanted one; None for the highest F1.
        all_wordings: keep every wording of a class instead of the best alone.
        resamples: of the images, for the intervals.

    Raises:
        InputError: a file cannot be used, or the two do not talk of the same images and classes.
    """
    run = read_run(folder)
    if run.by_caption:
        raise InputError(f"{folder} asked each image for its own caption; thresholds are for classes.")
    chooser = _down_to_floor(open_run(folder, run, _settings(run)).classes, run)
    truth, places, unknown = _same_images(Truth.from_coco(labelled), labelled, folder)
    category_of = _same_classes(truth, chooser.classes, labelled, folder)
    records = [(places[record.file_name], record) for record in read_records(folder) if record.file_name in places]

    wordings = _score_wordings(truth, records, chooser.classes, category_of, resamples)
    classes = chooser.classes if all_wordings else _best_alone(chooser.classes, category_of, wordings)
    kept = _down_to_floor(classes, run)
    found = _predictions(_chosen(records, kept), [category_of.get(name) for name in classes.names])
    thresholds = class_thresholds(truth, found, precision=precision, resamples=resamples)
    return Calibration(
        tuple(thresholds),
        tuple(wordings),
        _with_thresholds(classes, category_of, thresholds),
        len(truth.image_ids),
        unknown,
    )


def write_class_file(path: Path, calibration: Calibration, overwrite: bool = False) -> None:
    """Writes classes.yaml for `glip label --classes`, with what was measured as comments.

    Raises:
        InputError: there is such a file already, and it is not to be overwritten.
        JobFailed: it cannot be written.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already. Choose another with --out, or replace it with --overwrite.")
    with whole_file(path) as file:
        file.write("".join(f"{line}\n" for line in _yaml(calibration)).encode())


def in_words(interval: Interval | None, percent: bool = False) -> str:
    """A value with its interval, for people."""
    if interval is None:
        return "—"

    def shown(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.2f}"

    if interval.low is None or interval.high is None:
        return shown(interval.value)
    return f"{shown(interval.value)} ({shown(interval.low)} to {shown(interval.high)})"


def _settings(run: RunInfo) -> ExportSettings:
    return ExportSettings(conf=max(run.floor, DEFAULT_CONF), max_det=_most(run))


def _most(run: RunInfo) -> int:
    return min(_MOST_BOXES, run.max_detections or _MOST_BOXES)


def _down_to_floor(classes: ClassFile, run: RunInfo) -> Chooser:
    """Chooses everything that was recorded, whatever the classes' thresholds are."""
    lowest = dict.fromkeys(classes.names, run.floor)
    return Chooser(ExportSettings(conf=run.floor, class_conf=lowest, max_det=_most(run)), classes, run)


def _same_images(truth: Truth, labelled: Path, folder: Path) -> tuple[Truth, dict[str, int], int]:
    """The truth of the images that the records know, their image ids by name in the records, and how many are not."""
    names = {record.file_name for record in read_records(folder) if record.error is None}
    last = _by_last_part(names)
    places: dict[str, int] = {}
    for name, id in zip(truth.file_names, truth.image_ids.tolist(), strict=True):
        known = name if name in names else last.get(PurePosixPath(name).name)
        if known is not None:
            places[known] = id
    if not places:
        raise InputError(
            f"None of the {len(truth.file_names)} images of {labelled} is in the records of {folder}. They are "
            f"called {truth.file_names[0] if truth.file_names else '?'!r} here and "
            f"{min(names, default='?')!r} there. Label these images first: `glip label`."
        )
    unknown = len(truth.image_ids) - len(places)
    if unknown:
        logger.warning("%d images of %s are not in the records, and are left out.", unknown, labelled)
    return truth.of_images(list(places.values())), places, unknown


def _by_last_part(names: set[str]) -> dict[str, str]:
    """Names by the file's own name, where that is unique: people keep their few images in another folder."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(PurePosixPath(name).name, []).append(name)
    return {last: own[0] for last, own in found.items() if len(own) == 1}


def _same_classes(truth: Truth, classes: ClassFile, labelled: Path, folder: Path) -> dict[str, int]:
    """Category id in the truth of each class of the records that is annotated there."""
    known = {name: id for id, name in zip(truth.category_ids.tolist(), truth.names, strict=True)}
    small = {name.casefold(): name for name in known}
    category_of = {}
    for name in classes.names:
        if name in known:
            category_of[name] = known[name]
        elif name.casefold() in small:
            raise InputError(
                f"The records of {folder} call a class {name!r}, and {labelled} calls it "
                f"{small[name.casefold()]!r}. Use the same letters."
            )
    if not category_of:
        raise InputError(
            f"{labelled} annotates {', '.join(map(repr, list(known)[:5]))}, and the records of {folder} are about "
            f"{', '.join(map(repr, classes.names[:5]))}: they have no class in common."
        )
    return category_of


def _score_wordings(
    truth: Truth,
    records: Sequence[tuple[int, Record]],
    classes: ClassFile,
    category_of: Mapping[str, int],
    resamples: int,
) -> list[WordingScore]:
    """Of every class that was asked by several wordings."""
    found = {}
    for place, name in enumerate(classes.names):
        own = [phrase for phrase, index in enumerate(classes.class_of) if index == place]
        if len(own) < 2 or name not in category_of:
            continue
        for phrase in own:
            found[category_of[name], classes.phrases[phrase]] = _predictions(
                ((image, _of_phrase(record, phrase)) for image, record in records), [category_of[name]]
            )
    return wording_scores(truth, found, resamples=resamples)


def _of_phrase(record: Record, phrase: int) -> Detections:
    """What was found by one wording, as label 0."""
    own = np.asarray(record.labels, np.int64) == phrase
    boxes = np.asarray(record.boxes, np.float32).reshape(-1, 4)[own]
    scores = np.asarray(record.scores, np.float32)[own]
    return Detections(boxes, scores, np.zeros(len(scores), np.int64), ("",))


def _best_alone(classes: ClassFile, category_of: Mapping[str, int], wordings: Sequence[WordingScore]) -> ClassFile:
    """Each class by its best wording only; one of which nothing is known keeps all."""
    best: dict[int, str] = {}
    for row in wordings:
        if row.ap > 0:
            best.setdefault(row.category_id, row.wording)

    def kept(phrase: str, place: int | None) -> int | None:
        if place is None:
            return None
        only = best.get(category_of.get(classes.names[place], -1))
        return place if only in (None, phrase) else None

    return replace(
        classes,
        class_of=tuple(kept(phrase, place) for phrase, place in zip(classes.phrases, classes.class_of, strict=True)),
    )


def _chosen(records: Sequence[tuple[int, Record]], chooser: Chooser) -> Iterator[tuple[int, Detections]]:
    return ((image, chooser.choose(record)) for image, record in records)


def _predictions(found: Iterator[tuple[int, Detections]], category_ids: Sequence[int | None]) -> Predictions:
    """Boxes as they are scored; labels without a category are left out."""
    ids = np.array([-1 if id is None else id for id in category_ids], np.int64)
    images, categories, boxes, scores = [], [], [np.zeros((0, 4))], []
    for image, detections in found:
        images.append(np.full(len(detections), image, np.int64))
        categories.append(ids[detections.labels])
        boxes.append(detections.boxes.astype(np.float64))
        scores.append(detections.scores.astype(np.float64))
    if not images:
        return Predictions.none()
    bbox = np.concatenate(boxes)
    bbox[:, 2:] -= bbox[:, :2]
    everything = Predictions(np.concatenate(images), np.concatenate(categories), bbox, np.concatenate(scores))
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
    for place, name in enumerate(classes.names):
        yield f"{_quoted(name)}:"
        prompts = [phrase for phrase, own in zip(classes.phrases, classes.class_of, strict=True) if own == place]
        yield f"  prompts: [{', '.join(map(_quoted, prompts))}]"
        for wording in calibration.wordings:
            if wording.name == name:
                yield f"  # AP {100 * wording.ap:.1f}, AP50 {100 * wording.ap50.value:.1f}: {_quoted(wording.wording)}"
        row, conf = rows.get(name), classes.conf[place]
        if conf is not None and row is not None:
            yield f"  conf: {conf:g}  # F1 {in_words(row.f1)} on {row.boxes} boxes"
        else:
            yield f"  # no threshold: {row.why if row else 'not annotated in the labelled images'}"
        yield f"  id: {classes.ids[place]}"
        negatives = [
            phrase for phrase, claims in zip(classes.phrases, classes.negative_of, strict=True) if place in claims
        ]
        if negatives:
            yield f"  negative: [{', '.join(map(_quoted, negatives))}]"


def _quoted(text: str) -> str:
    """A word as YAML reads it back, whatever it holds: JSON's strings are YAML's."""
    return json.dumps(text, ensure_ascii=False)
