"""The dry run of a job: its images, its prompts with their tokens, and an estimate of the time.

The estimate comes from labelling a few of the images; their results are discarded.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from glip.detectors.base import OpenedOnce, OpensDetector
from glip.errors import GlipError
from glip.images import ImageFile, read_image
from glip.labeling.job import LabelJob, list_job_images, read_alike, settings_of
from glip.labeling.tiling import plan_views
from glip.labeling.worker import LabelWorker
from glip.left_out import LeftOut

TIMED_IMAGES = 3  # spread over the listing
LONG_TRIAL = 20.0  # seconds after which no further image is timed
MAX_CAPTIONS = 20  # shown

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedPrompt:
    """A prompt that the model will read.

    Attributes:
        caption: its text.
        names: the phrases it looks for.
        tokens: number of tokens.
    """

    caption: str
    names: tuple[str, ...]
    tokens: int


@dataclass(frozen=True)
class LabelPlan:
    """What a job would do.

    Attributes:
        images: number of images.
        names: the classes; () where each image has its own prompts.
        prompts: the chunks of the class list, or the first captions.
        captions: number of images with prompts of their own; 0 for a class list.
        skipped: number of images without a prompt.
        max_tokens: maximum number of tokens of one prompt.
        views: passes through the backbone per timed image, on average: 1 without tiles.
        seconds_per_image: measured now, on this machine; None if no timed image could be read.
        seconds: estimate for all images.
        left_out: what is passed over.
    """

    images: int
    names: tuple[str, ...]
    prompts: tuple[PlannedPrompt, ...]
    captions: int
    skipped: int
    max_tokens: int
    views: float
    seconds_per_image: float | None
    seconds: float | None
    left_out: tuple[LeftOut, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as plain values for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def plan_label(job: LabelJob, *, detector: OpensDetector | None = None) -> LabelPlan:
    """Returns what `label` would do; writes nothing.

    Args:
        job: the job.
        detector: opens the detector; None for `job.detector`.

    Raises:
        InputError: `label` would refuse the job before its first image.
    """
    listing = list_job_images(job)
    images = listing.images[: job.limit]
    opener = OpenedOnce(detector or job.detector)
    opened = opener.open()
    settings = settings_of(job, opened, images)
    prompts = settings.prompts
    own = [prompt for several in prompts.by_image.values() for prompt in several]
    planned = tuple(
        PlannedPrompt(prompt.caption, prompt.phrases, opened.count_tokens(prompt))
        for prompt in (prompts.shared or own[:MAX_CAPTIONS])
    )
    seconds, views = _time(LabelWorker(opener, settings), images, job)
    return LabelPlan(
        images=len(images),
        names=prompts.names,
        prompts=planned,
        captions=len(prompts.by_image),
        skipped=len(prompts.skipped),
        max_tokens=opened.max_tokens,
        views=views,
        seconds_per_image=seconds,
        seconds=None if seconds is None else seconds * len(images),
        left_out=(*read_alike(prompts.names), *listing.left_out),
    )


def _time(worker: LabelWorker, images: list[ImageFile], job: LabelJob) -> tuple[float | None, float]:
    """Returns seconds and views of an average image."""
    step = max(1, len(images) // TIMED_IMAGES)
    sample = images[::step][:TIMED_IMAGES]
    logger.info("Labelling a few images to estimate the time …")
    taken: list[float] = []
    views: list[int] = []
    for index, image in enumerate([sample[0], *sample]):
        if index == 1 and taken and taken[0] < LONG_TRIAL:
            # The first image warmed up memory, caches and the text's features; it does not count.
            taken.clear()
            views.clear()
        elif sum(taken) >= LONG_TRIAL:
            break
        started = monotonic()
        if all(record.error is None for record in worker.label([image])):
            taken.append(monotonic() - started)
            views.append(_count_views(image, job))
    return (sum(taken) / len(taken), sum(views) / len(views)) if taken else (None, 1.0)


def _count_views(image: ImageFile, job: LabelJob) -> int:
    if job.tiling is None:
        return 1
    try:
        decoded = read_image(image.path)
    except GlipError:
        return 1
    return len(plan_views((decoded.height, decoded.width), job.tiling))
