"""Which prompts each image of a job gets. A job holds a plan; the detector turns it into prompts.

    names, ClassList    the same class list for every image
    Prompt              the same caption for every image, with the ranges of its phrases
    CaptionSource       each image's own caption, from a file
    PromptsByImage      each image's own prompts or class list, given in Python

Everything here is picklable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from glip.errors import InputError
from glip.images import ImageFile
from glip.labeling.captions import MAX_CAPTION, Captions, read_captions, shorten
from glip.labeling.noun_phrases import Chunker, FindPhrases, phrase_finder
from glip.prompts import Prompt, Wording

if TYPE_CHECKING:
    from glip.detectors.base import ObjectDetector


@dataclass(frozen=True)
class ClassList:
    """A class list, in as few prompts as the detector needs.

    Attributes:
        names: class names.
        wordings: how each class is worded in the prompt, one per name; None for the plain names.
        names_per_prompt: maximum number of names in one prompt; None for as many as fit.
    """

    names: tuple[str, ...]
    wordings: tuple[Wording, ...] | None = None
    names_per_prompt: int | None = None

    def prompts(self, detector: ObjectDetector) -> tuple[Prompt, ...]:
        """Returns the prompts of the list.

        Raises:
            InputError: there is no name, or the detector cannot read one of them.
        """
        return detector.prompts_for(self.names, wordings=self.wordings, names_per_prompt=self.names_per_prompt)


@dataclass(frozen=True)
class CaptionSource:
    """A file of captions, one per image.

    Attributes:
        source: a .csv or .jsonl file, or `sidecar` for a text file beside each image.
        chunker: finds the noun phrases of captions that come without phrases.
        phrases: look only for these phrases, in the captions that have them; () for all noun phrases.
    """

    source: str
    chunker: Chunker = "auto"
    phrases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.chunker not in get_args(Chunker):
            raise InputError(f"chunker is {self.chunker!r}; accepted are {', '.join(get_args(Chunker))}.")


@dataclass(frozen=True)
class PromptsByImage:
    """Prompts or a class list for each image.

    Attributes:
        of_path: by the absolute path of the image.
    """

    of_path: Mapping[Path, tuple[Prompt, ...] | ClassList]


PromptPlan = tuple[str, ...] | ClassList | Prompt | CaptionSource | PromptsByImage


@dataclass(frozen=True)
class ImagePrompts:
    """The prompts of every image of a job.

    Attributes:
        shared: the prompts of every image; () if each image has its own.
        by_image: each image's own prompts, by its name. Labels count through all prompts of an image.
        skipped: names of images without prompts, with the reason.
    """

    shared: tuple[Prompt, ...] = ()
    by_image: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_caption(self) -> bool:
        """Whether each image has its own prompts."""
        return not self.shared

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the class list; () if each image has its own prompts."""
        return tuple(phrase for prompt in self.shared for phrase in prompt.phrases)

    def of(self, name: str) -> tuple[Prompt, ...] | str:
        """Returns the prompts of one image, or the reason why it has none."""
        if name in self.skipped:
            return self.skipped[name]
        return self.shared or self.by_image[name]

    def mark(self, name: str) -> str:
        """Returns text that changes when the image's own prompts change; empty where all images share them.

        The mark is part of the stamp of a record. It must stay as it is, or every image would be labelled again.
        """
        if not self.by_caption:
            return ""
        prompts = self.of(name)
        text = repr(prompts) if isinstance(prompts, str) else repr(tuple(_Plain(prompt) for prompt in prompts))
        return "-" + hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def resolve_prompts(plan: PromptPlan, detector: ObjectDetector, images: Sequence[ImageFile]) -> ImagePrompts:
    """Turns the plan of a job into the prompts of its images.

    Args:
        plan: what the job looks for.
        detector: reads the prompts.
        images: the images of the job.

    Raises:
        InputError: the names or captions cannot be used, or no image has a prompt.
    """
    if isinstance(plan, Prompt):
        detector.count_tokens(plan)
        return ImagePrompts(shared=(plan,))
    if isinstance(plan, tuple):
        plan = ClassList(plan)
    if isinstance(plan, ClassList):
        return ImagePrompts(shared=plan.prompts(detector))
    if isinstance(plan, PromptsByImage):
        return _given_prompts(plan, detector, images)
    find = phrase_finder(plan.chunker, plan.phrases)
    return caption_prompts(read_captions(plan.source, images), detector, find)


def caption_prompts(captions: Captions, detector: ObjectDetector, find: FindPhrases) -> ImagePrompts:
    """Returns the prompts of captions. A caption that cannot be used skips its image.

    Args:
        captions: see `read_captions`.
        detector: reads the prompts.
        find: finds the noun phrases of captions that come without phrases.

    Raises:
        InputError: no caption can be used.
    """
    prompts: dict[str, tuple[Prompt, ...]] = {}
    skipped = dict(captions.missing)
    for name, caption in captions.of.items():
        if len(caption.text) > MAX_CAPTION:
            skipped[name] = f"its caption has {len(caption.text)} characters; at most {MAX_CAPTION} are read"
            continue
        spans = caption.spans or tuple((span,) for span in find(caption.text))
        if not spans:
            skipped[name] = f"its caption {shorten(caption.text)!r} contains no phrase to look for"
            continue
        try:
            prompt = Prompt.from_caption(caption.text, spans, caption.phrases or None)
            detector.count_tokens(prompt)
        except InputError as error:
            skipped[name] = str(error).removesuffix(".")
        else:
            prompts[name] = (prompt,)
    return _some_prompts(prompts, skipped)


def join_prompts(prompts: Sequence[Prompt]) -> Prompt:
    """Joins the captions of an image into one text, one per line, and moves the ranges of their phrases with them."""
    starts = [0]
    for prompt in prompts:
        starts.append(starts[-1] + len(prompt.caption) + 1)
    return Prompt(
        "\n".join(prompt.caption for prompt in prompts),
        tuple(phrase for prompt in prompts for phrase in prompt.phrases),
        tuple(
            tuple((start + first, start + end) for first, end in spans)
            for start, prompt in zip(starts, prompts, strict=False)
            for spans in prompt.spans
        ),
    )


def describe_plan(plan: PromptPlan) -> Any:
    """Returns a plan as plain values for JSON; of prompts given by image, their number."""
    if isinstance(plan, PromptsByImage):
        return {"images": len(plan.of_path)}
    return msgspec.to_builtins(plan)


def _given_prompts(plan: PromptsByImage, detector: ObjectDetector, images: Sequence[ImageFile]) -> ImagePrompts:
    lists: dict[ClassList, tuple[Prompt, ...]] = {}
    prompts: dict[str, tuple[Prompt, ...]] = {}
    skipped: dict[str, str] = {}
    for image in images:
        own = plan.of_path[Path(str(image.path))]
        if isinstance(own, ClassList):
            if own not in lists:  # many images share one list
                lists[own] = own.prompts(detector)
            prompts[image.name] = lists[own]
            continue
        try:
            for prompt in own:
                detector.count_tokens(prompt)
        except InputError as error:
            skipped[image.name] = str(error).removesuffix(".")
        else:
            prompts[image.name] = own
    return _some_prompts(prompts, skipped)


def _some_prompts(prompts: Mapping[str, tuple[Prompt, ...]], skipped: Mapping[str, str]) -> ImagePrompts:
    if not prompts:
        name, reason = next(iter(skipped.items()), ("", "there are no images"))
        raise InputError(f"None of the {len(skipped)} images has a prompt. {name}: {reason}.")
    return ImagePrompts(by_image=prompts, skipped=skipped)


class _Plain:
    """Prints a prompt as 0.1.0 did, whatever fields `Prompt` gains later."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt

    def __repr__(self) -> str:
        prompt = self._prompt
        return f"Prompt(caption={prompt.caption!r}, phrases={prompt.phrases!r}, spans={prompt.spans!r})"
