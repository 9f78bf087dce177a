"""Labels a split as any folder is labelled, by `glip.labeling`; scores are computed from its records.

A benchmark differs from other jobs only in its prompts (chunks of 40 names, worded classes, several captions per image)
and its limits; both are fields of the job. So labelling a benchmark resumes, batches and shards like any other job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glip.boxes import xyxy_to_xywh
from glip.data.annotations import Integers
from glip.errors import InputError
from glip.evaluation.predictions import Predictions
from glip.files import whole_file

if TYPE_CHECKING:
    from glip.detectors.base import DetectionLimits, OpensDetector
    from glip.detectors.spec import DetectorSpec, InferenceOptions
    from glip.engine import Engine
    from glip.labeling.image_prompts import PromptPlan
    from glip.labeling.job import LabelSummary, Watcher
    from glip.labeling.records import Record

IMAGES_FILE = "images.txt"
LABELS_FOLDER = "labels"


@dataclass(frozen=True)
class SplitLabelling:
    """How the splits of an evaluation are labelled.

    Attributes:
        spec: which detector, and how it runs.
        options: how images run through it.
        overwrite: delete the records of an earlier run first.
        detector: opens the detector; None for `spec`.
        engine: where the workers run; None for this process.
        watcher: follows the jobs.
    """

    spec: DetectorSpec
    options: InferenceOptions
    overwrite: bool = False
    detector: OpensDetector | None = None
    engine: Engine | None = None
    watcher: Watcher | None = None


@dataclass(frozen=True)
class LabelledSplit:
    """A split that was labelled.

    Attributes:
        folder: of the records.
        paths: of the images, by their names in the records.
        summary: of the run.
    """

    folder: Path
    paths: Mapping[str, Path]
    summary: LabelSummary

    @property
    def interrupted(self) -> bool:
        """Returns whether the run was stopped."""
        return self.summary.interrupted

    @property
    def failed(self) -> int:
        """Returns the number of images that could not be labelled."""
        return self.summary.failed

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Yields every image with its record, in natural order of names."""
        from glip.labeling.records import read_records

        for record in read_records(self.folder):
            yield self.paths[record.file_name], record


def label_split(
    out: Path,
    images: Sequence[Path],
    prompts: PromptPlan,
    labelling: SplitLabelling,
    limits: DetectionLimits,
) -> LabelledSplit:
    """Labels images into `out`/labels, or resumes an earlier run there.

    Args:
        out: folder of the split.
        images: absolute paths.
        prompts: what to look for.
        labelling: which detector, and how it runs.
        limits: which boxes are recorded.

    Raises:
        InputError: an image is missing, or `glip.labeling.label` refuses the job.
    """
    from glip.labeling.job import LabelJob, label, list_job_images

    _write_list(out / IMAGES_FILE, images)
    job = LabelJob(
        sources=(str(out / IMAGES_FILE),),
        prompts=prompts,
        out=out / LABELS_FOLDER,
        detector=labelling.spec,
        limits=limits,
        options=labelling.options,
        overwrite=labelling.overwrite,
        report=False,
    )
    summary = label(job, detector=labelling.detector, engine=labelling.engine, watcher=labelling.watcher)
    paths = {image.name: Path(str(image.path)) for image in list_job_images(job).images}
    return LabelledSplit(job.out, paths, summary)


def tuned_prompts(adapter: Path, names: Sequence[str], data_set: str) -> PromptPlan:
    """Returns the prompts that an adapter was tuned with.

    Args:
        adapter: its file.
        names: the classes of the data set.
        data_set: its name, for the message.

    Raises:
        InputError: the adapter cannot be read, or was tuned for other classes.
    """
    from glip.prompts import Prompt
    from glip.weights.adapter import load_adapter

    tuned = load_adapter(adapter)
    known = tuned.prompt or Prompt.from_names(tuned.names)
    prompt = known.in_order_of(names)
    if prompt is None:
        raise InputError(
            f"The adapter {adapter} was tuned to find {', '.join(tuned.names)}, but the classes of {data_set} are "
            f"{', '.join(names)}. Use an adapter that was tuned on {data_set}, or none."
        )
    return tuple(names) if tuned.prompt is None else prompt


def predictions_of(
    records: Iterator[tuple[Path, Record]],
    ids_of_image: Mapping[Path, Sequence[int]],
    category_ids: Callable[[Path], Sequence[int]],
    maximum: int | None,
) -> Predictions:
    """Returns the boxes of records as they are scored.

    Args:
        records: images with their records; those that could not be read give no boxes.
        ids_of_image: the ids of each image in the truth; an image may have several.
        category_ids: the category id of each label of an image.
        maximum: maximum number of boxes per image, plus ties with the last one; None for all.
    """
    ids: list[Integers] = []
    categories, boxes, scores = [], [], []
    for path, record in records:
        if not record.scores:
            continue
        found = np.asarray(record.scores, np.float32)
        count = count_within(found, maximum)
        xyxy = np.asarray(record.boxes[:count], np.float32).reshape(-1, 4).astype(np.float64)
        own = np.asarray(category_ids(path), np.int64)[np.asarray(record.labels[:count], np.int64)]
        for image in ids_of_image[path]:
            ids.append(np.full(count, image, np.int64))
            categories.append(own)
            boxes.append(xyxy)
            scores.append(found[:count].astype(np.float64))
    if not ids:
        return Predictions.none()
    bbox = xyxy_to_xywh(np.concatenate(boxes))
    return Predictions(np.concatenate(ids), np.concatenate(categories), bbox, np.concatenate(scores))


def find_rotated(
    records: Iterator[tuple[Path, Record]], sizes_hw: Mapping[Path, tuple[int, int]], rotated: list[Path]
) -> Iterator[tuple[Path, Record]]:
    """Passes records on, and collects images that a tag in their file rotates but their annotations do not.

    Args:
        records: images with their records.
        sizes_hw: height and width of each image, as annotated.
        rotated: such images are appended.
    """
    for path, record in records:
        height, width = sizes_hw[path]
        if record.error is None and (record.height, record.width) == (width, height) != (height, width):
            rotated.append(path)
        yield path, record


def count_within(scores: NDArray[np.float32], maximum: int | None) -> int:
    """Returns how many scores, best first, a maximum keeps: also the ties with the last one, as published."""
    if maximum is None or len(scores) <= maximum:
        return len(scores)
    return int(np.count_nonzero(scores >= scores[maximum - 1]))


def _write_list(path: Path, images: Sequence[Path]) -> None:
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(images)} images are missing, first {missing[0]}. Every image of the annotations "
            f"is needed."
        )
    with whole_file(path) as file:
        file.writelines(f"{image}\n".encode("utf-8", "surrogateescape") for image in images)
