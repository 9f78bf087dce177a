"""A split is labelled as any folder is, by `glip.labeling`: resumable, batched, sharded; scored is what it recorded.

A benchmark differs from other jobs only in its prompts (chunks of 40 names, worded classes, several captions per image)
and its limits; both are fields of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glip.data.annotations import Integers
from glip.errors import InputError
from glip.evaluation.predictions import Predictions
from glip.files import whole_file

if TYPE_CHECKING:
    from glip.detectors.base import DetectionLimits, OpensDetector
    from glip.detectors.spec import DetectorSpec
    from glip.engine import Engine
    from glip.labeling.image_prompts import PromptPlan
    from glip.labeling.job import LabelSummary, Watcher
    from glip.labeling.records import Record

FLOOR = 0.05  # the published threshold: the detector applies it before centerness is multiplied in
IMAGES_FILE = "images.txt"
LABELS_FOLDER = "labels"


@dataclass(frozen=True)
class Looking:
    """How images are looked at; the same for all sets of an evaluation.

    Attributes:
        model: name of a checkpoint, a model folder or a file.
        device, precision, batch, imgsz, offline, overwrite: as of `LabelJob`.
        adapter: what `glip finetune` has learned beside it; None: nothing.
        detector: opens the detector; None for the one that these fields describe.
        engine: where to work; None: here.
        watcher: follows the jobs.
    """

    model: str
    device: str = "auto"
    precision: str = "fp32"
    batch: int | None = None
    imgsz: int | None = None
    offline: bool = False
    overwrite: bool = False
    adapter: Path | None = None
    detector: OpensDetector | None = None
    engine: Engine | None = None
    watcher: Watcher | None = None

    @property
    def spec(self) -> DetectorSpec:
        """Returns which detector to open, and how."""
        from glip.detectors.spec import DetectorSpec

        return DetectorSpec(self.model, self.adapter, self.device, self.precision, offline=self.offline)


@dataclass(frozen=True)
class Labelled:
    """A split that was labelled.

    Attributes:
        folder: the records.
        paths: of the images, by their names in the records.
        summary: what the run did.
    """

    folder: Path
    paths: Mapping[str, Path]
    summary: LabelSummary

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Every image with its record, in natural order of names."""
        from glip.labeling.records import read_records

        for record in read_records(self.folder):
            yield self.paths[record.file_name], record


def label_split(
    out: Path,
    images: Sequence[Path],
    prompts: PromptPlan,
    look: Looking,
    limits: DetectionLimits | None = None,
) -> Labelled:
    """Labels images into `out`/labels, or resumes what an earlier run left there.

    Args:
        out: the folder of the set.
        images: absolute paths.
        prompts: what to look for.
        look: how.
        limits: which boxes are recorded; None for the published ones, with more boxes than are scored.

    Raises:
        InputError: an image is missing, or `glip.labeling.label` refuses the job.
    """
    from glip.detectors.base import DetectionLimits
    from glip.detectors.spec import InferenceOptions
    from glip.labeling.job import LabelJob, label, list_job_images

    _write_list(out / IMAGES_FILE, images)
    job = LabelJob(
        sources=(str(out / IMAGES_FILE),),
        prompts=prompts,
        out=out / LABELS_FOLDER,
        detector=look.spec,
        limits=limits or DetectionLimits(FLOOR),
        options=InferenceOptions(look.imgsz, look.batch),
        overwrite=look.overwrite,
        report=False,
    )
    summary = label(job, detector=look.detector, engine=look.engine, watcher=look.watcher)
    paths = {image.name: Path(str(image.path)) for image in list_job_images(job)}
    return Labelled(job.out, paths, summary)


def tuned_prompts(adapter: Path, names: Sequence[str], what: str) -> PromptPlan:
    """Returns the prompts that an adapter was tuned with.

    Args:
        adapter: its file.
        names: the classes of the data set.
        what: name of the data set, for the message.

    Raises:
        InputError: the adapter cannot be read, or was tuned for other classes.
    """
    from glip.prompts import Prompt
    from glip.weights.adapter import load_adapter

    tuned = load_adapter(adapter)
    if tuned.names != tuple(names):
        raise InputError(
            f"The adapter {adapter} was tuned to find {', '.join(tuned.names)}, but the classes of {what} are "
            f"{', '.join(names)}. Use an adapter that was tuned on {what}, or none."
        )
    if tuned.prompt is None:
        return tuple(names)
    return Prompt.from_caption(tuned.prompt.caption, tuned.prompt.spans, tuned.prompt.phrases)


def from_records(
    records: Iterator[tuple[Path, Record]],
    images: Mapping[Path, Sequence[int]],
    category_ids: Callable[[Path], Sequence[int]],
    most: int | None,
) -> Predictions:
    """The boxes of records as they are scored.

    Args:
        records: images with their records; those that could not be read give no boxes.
        images: the ids of each image in the truth; a file may stand there twice.
        category_ids: of the labels of an image.
        most: boxes of an image that count, ties of the last one too; None for all.
    """
    ids: list[Integers] = []
    categories, boxes, scores = [], [], []
    for path, record in records:
        if not record.scores:
            continue
        found = np.asarray(record.scores, np.float32)
        count = within(found, most)
        xyxy = np.asarray(record.boxes[:count], np.float32).reshape(-1, 4).astype(np.float64)
        own = np.asarray(category_ids(path), np.int64)[np.asarray(record.labels[:count], np.int64)]
        for image in images[path]:
            ids.append(np.full(count, image, np.int64))
            categories.append(own)
            boxes.append(xyxy)
            scores.append(found[:count].astype(np.float64))
    if not ids:
        return Predictions.none()
    bbox = np.concatenate(boxes)
    bbox[:, 2:] -= bbox[:, :2]
    return Predictions(np.concatenate(ids), np.concatenate(categories), bbox, np.concatenate(scores))


def turned(labelled: Labelled, sizes_hw: Mapping[Path, tuple[int, int]]) -> int:
    """How many images are shown upright by a tag in their file, whose annotations do not know it."""
    count = 0
    for path, record in labelled.records():
        height, width = sizes_hw[path]
        count += record.error is None and (record.height, record.width) == (width, height) != (height, width)
    return count


def within(scores: NDArray[np.float32], most: int | None) -> int:
    """So many of scores, best first, stay under a limit; ties of the last one stay, as published."""
    if most is None or len(scores) <= most:
        return len(scores)
    return int(np.count_nonzero(scores >= scores[most - 1]))


def _write_list(path: Path, images: Sequence[Path]) -> None:
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise InputError(
            f"{missing[0]} is missing, and {len(missing) - 1} more of {len(images)} images. "
            f"Every image that the annotations name is needed."
            if len(missing) > 1
            else f"The image {missing[0]} is missing. Every image that the annotations name is needed."
        )
    with whole_file(path) as file:
        file.writelines(f"{image}\n".encode("utf-8", "surrogateescape") for image in images)
