"""What a job would do, before it does it: images, captions with their tokens, and the time it may take.

The time comes from labelling a few of the images, whose results are thrown away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from glip.errors import GlipError
from glip.images import ImageFile, read_image
from glip.labeling.job import LabelJob, list_job_images, load_model, settings_of
from glip.labeling.tiling import plan_views
from glip.labeling.worker import ImageDetector, LabelWorker

TIMED_IMAGES = 3  # spread over the listing
LONG_TRIAL = 20.0  # seconds; longer trials end early
MOST_CAPTIONS = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedPrompt:
    """A caption the model will read.

    Attributes:
        caption: the text.
        names: what is looked for in it.
        tokens: of 256 that the text encoder reads at once.
    """

    caption: str
    names: tuple[str, ...]
    tokens: int


@dataclass(frozen=True)
class LabelPlan:
    """What a job would do.

    Attributes:
        images: that the command is about.
        names: the classes; () where each image has a caption.
        prompts: the chunks of the class list, or the first captions.
        captions: how many images have a caption of their own; 0 for a class list.
        unasked: images of which nothing can be asked.
        views: passes through the backbone for the images that were timed, on average: 1 without tiles.
        seconds_per_image: on this machine, measured now; None if none of the images timed could be read.
        seconds: for all images.
    """

    images: int
    names: tuple[str, ...]
    prompts: tuple[PlannedPrompt, ...]
    captions: int
    unasked: int
    views: float
    seconds_per_image: float | None
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values that JSON can carry."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def plan_label(job: LabelJob, load: Callable[[LabelJob], ImageDetector] | None = None) -> LabelPlan:
    """Says what `label` would do; writes nothing.

    Args:
        job: what to do.
        load: opens the model; without it, `glip.detectors.glip.load_detector`.

    Raises:
        InputError: whatever `label` would refuse before its first image.
    """
    listing = list_job_images(job)[: job.limit]
    detector = (load or load_model)(job)
    settings = settings_of(job, detector, listing)
    prompts = settings.asked.prompts
    planned = tuple(
        PlannedPrompt(prompt.caption, prompt.phrases, tokens)
        for prompt, tokens in prompts.plan(detector.tokenizer)[: None if prompts.chunks else MOST_CAPTIONS]
    )
    worker = LabelWorker(detector, settings, lambda record: None, lambda: False)
    seconds, views = _time(worker, listing, job)
    return LabelPlan(
        images=len(listing),
        names=prompts.names if prompts.chunks else (),
        prompts=planned,
        captions=len(prompts.captions),
        unasked=len(settings.asked.unasked),
        views=views,
        seconds_per_image=seconds,
        seconds=None if seconds is None else seconds * len(listing),
    )


def _time(worker: LabelWorker, listing: list[ImageFile], job: LabelJob) -> tuple[float | None, float]:
    """Seconds and views of an average image."""
    step = max(1, len(listing) // TIMED_IMAGES)
    sample = listing[::step][:TIMED_IMAGES]
    logger.info("Labelling a few images for trial, to tell the time …")
    taken: list[float] = []
    views: list[int] = []
    for number, image in enumerate([sample[0], *sample]):
        if number == 1 and taken and taken[0] < LONG_TRIAL:
            # The first was for warming up: memory, caches, the text's features.
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
