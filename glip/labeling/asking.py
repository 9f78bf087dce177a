"""What a job asks of each image: one class list, or a caption of its own.

names, or the phrases of a class file  → one prompt set for all images
a file of captions                     → a prompt for each image, and why some have none
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from glip.images import ImageFile
from glip.labeling.captions import Spans, ask, read_captions
from glip.labeling.noun_phrases import Chunker, phrase_finder
from glip.prompts import Prompt, PromptSet, tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class CaptionSource:
    """Where captions come from, and what is looked for in them.

    Attributes:
        source: a .csv or .jsonl file, or `sidecar`: a text file beside each image.
        chunker: finds the noun phrases of captions that come without phrases.
        phrases: look for these only, where a caption has them.
    """

    source: str
    chunker: Chunker = "auto"
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What is asked of the images of a job.

    Attributes:
        prompts: the class list, or a caption per image.
        unasked: names of images of which nothing can be asked, with the reason.
        further: more captions of images that have several, by name; labels count on through all of an image's.
    """

    prompts: PromptSet
    unasked: Mapping[str, str] = field(default_factory=dict)
    further: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)

    @property
    def by_caption(self) -> bool:
        """Whether each image has its own prompt."""
        return not self.prompts.chunks

    def of(self, name: str) -> tuple[Prompt, ...] | str:
        """The prompts of one image, or the reason why there are none."""
        if name in self.unasked:
            return self.unasked[name]
        return self.prompts.for_image(name) + self.further.get(name, ())

    def mark(self, name: str) -> str:
        """Changes when an image's own question does; empty where all images are asked the same."""
        if not self.by_caption:
            return ""
        return "-" + hashlib.sha256(repr(self.of(name)).encode(errors="replace")).hexdigest()[:16]


def in_one(prompts: Sequence[Prompt]) -> Prompt:
    """Several captions of an image as one text, a line each, with the places of their phrases in it; for records."""
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


def one_caption(caption: str, spans: Spans, names: Sequence[str], tokenizer: Tokenizer) -> Asked:
    """One text for all images, taken as it is, with the places of its phrases.

    Raises:
        InputError: a range cannot be used, or the text is too long.
    """
    prompt = Prompt.from_caption(caption, spans, names)
    tokenize(prompt, tokenizer)
    return Asked(PromptSet(chunks=(prompt,)))


def what_to_ask(
    names: Sequence[str], captions: CaptionSource | None, listing: Sequence[ImageFile], tokenizer: Tokenizer
) -> Asked:
    """Brings the words of a job, its images and the checkpoint's tokenizer together.

    Args:
        names: the class list; not used where there are captions.
        captions: None for a class list.
        listing: the images of the job.
        tokenizer: the checkpoint's.

    Raises:
        InputError: names or captions that cannot be used.
    """
    if captions is None:
        return Asked(PromptSet.from_names(names, tokenizer))
    find = phrase_finder(captions.chunker, captions.phrases)
    asked = ask(read_captions(captions.source, listing), tokenizer, find)
    return Asked(asked.prompt_set(), asked.unasked)
