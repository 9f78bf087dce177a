"""What a job would do, before it does it: pictures, captions with their tokens, and the time it may take.

The time comes from labelling a few of the pictures, whose results are thrown away.
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
from glip.labeling.job import LabelJob, list_pictures, load_model, settings_of
from glip.labeling.tiles import plan_views
from glip.labeling.worker import LabelWorker, PictureDetector

TIMED_PICTURES = 3  # spread over the listing
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
        pictures: that the command is about.
        names: the classes; () where each picture has a caption.
        prompts: the chunks of the class list, or the first captions.
        captions: how many pictures have a caption of their own; 0 for a class list.
        unasked: pictures of which nothing can be asked.
        views: passes through the backbone for the pictures that were timed, on average: 1 without tiles.
        seconds_per_picture: on this machine, measured now; None if none of the pictures timed could be read.
        seconds: for all pictures.
    """

    pictures: int
    names: tuple[str, ...]
    prompts: tuple[PlannedPrompt, ...]
    captions: int
    unasked: int
    views: float
    seconds_per_picture: float | None
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values that JSON can carry."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def plan_label(job: LabelJob, load: Callable[[LabelJob], PictureDetector] | None = None) -> LabelPlan:
    """Says what `label` would do; writes nothing.

    Args:
        job: what to do.
        load: opens the model; without it, `glip.detector.load_detector`.

    Raises:
        InputError: whatever `label` would refuse before its first picture.
    """
    listing = list_pictures(job)[: job.limit]
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
        pictures=len(listing),
        names=prompts.names if prompts.chunks else (),
        prompts=planned,
        captions=len(prompts.captions),
        unasked=len(settings.asked.unasked),
        views=views,
        seconds_per_picture=seconds,
        seconds=None if seconds is None else seconds * len(listing),
    )


def _time(worker: LabelWorker, listing: list[ImageFile], job: LabelJob) -> tuple[float | None, float]:
    """Seconds and views of an average picture."""
    step = max(1, len(listing) // TIMED_PICTURES)
    sample = listing[::step][:TIMED_PICTURES]
    logger.info("Labelling a few pictures for trial, to tell the time …")
    taken: list[float] = []
    views: list[int] = []
    for number, picture in enumerate([sample[0], *sample]):
        if number == 1 and taken and taken[0] < LONG_TRIAL:
            # The first was for warming up: memory, caches, the text's features.
            taken.clear()
            views.clear()
        elif sum(taken) >= LONG_TRIAL:
            break
        started = monotonic()
        if all(record.error is None for record in worker.label([picture])):
            taken.append(monotonic() - started)
            views.append(_count_views(picture, job))
    return (sum(taken) / len(taken), sum(views) / len(views)) if taken else (None, 1.0)


def _count_views(picture: ImageFile, job: LabelJob) -> int:
    if job.tiling is None:
        return 1
    try:
        image = read_image(picture.path)
    except GlipError:
        return 1
    return len(plan_views((image.height, image.width), job.tiling))
