"""What benchmarks ask of images: one class list, in chunks or worded, or captions of each image's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glip.errors import InputError
from glip.evaluation.inference import Ask

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from glip.images import ImageFile
    from glip.labeling.asking import Asked
    from glip.prompts import Prompt, Wording


def ask_names(
    names: Sequence[str], wordings: Sequence[Wording] | None = None, names_per_chunk: int | None = None
) -> Ask:
    """The same class list of every image.

    Args:
        names: of the classes.
        wordings: how each stands in the caption; None for the plain names.
        names_per_chunk: at most so many in one caption; None: as many as fit.
    """

    def ask(tokenizer: Tokenizer, listing: Sequence[ImageFile]) -> Asked:
        from glip.labeling.asking import Asked
        from glip.prompts import PromptSet

        return Asked(PromptSet.from_names(names, tokenizer, names_per_chunk, wordings))

    return ask


def ask_tuned(adapter: Path, names: Sequence[str], what: str) -> Ask:
    """The class list of every image, in the caption that an adapter was tuned with.

    Args:
        adapter: its file.
        names: of the classes.
        what: the set's name, for the message.

    Raises:
        InputError: the adapter cannot be read, or was tuned for other classes.
    """
    from glip.weights.adapter import load_adapter

    tuned = load_adapter(adapter)
    if tuned.names != tuple(names):
        raise InputError(
            f"The adapter {adapter} was tuned to find {', '.join(tuned.names)}, but the classes of {what} are "
            f"{', '.join(names)}. Take an adapter that was tuned on {what}, or leave --adapter out."
        )
    prompt = tuned.prompt
    if prompt is None:
        return ask_names(names)

    def ask(tokenizer: Tokenizer, listing: Sequence[ImageFile]) -> Asked:
        from glip.labeling.asking import one_caption

        return one_caption(prompt.caption, prompt.spans, prompt.phrases, tokenizer)

    return ask


def ask_captions(prompts: Mapping[Path, Sequence[Prompt]]) -> Ask:
    """Captions of each image's own, one or several; each is run by itself, on the image's features.

    Args:
        prompts: by the image's absolute path.
    """

    def ask(tokenizer: Tokenizer, listing: Sequence[ImageFile]) -> Asked:
        from glip.labeling.asking import Asked
        from glip.prompts import PromptSet, tokenize

        first: dict[str, Prompt] = {}
        further: dict[str, tuple[Prompt, ...]] = {}
        unasked: dict[str, str] = {}
        for image in listing:
            own = prompts[Path(str(image.path))]
            try:
                for prompt in own:
                    tokenize(prompt, tokenizer)
            except InputError as error:
                unasked[image.name] = str(error).removesuffix(".")
            first[image.name], further[image.name] = own[0], tuple(own[1:])
        return Asked(PromptSet.from_captions(first), unasked, further)

    return ask


def ask_lists(names: Mapping[Path, Sequence[str]]) -> Ask:
    """A class list of each image's own, in as few captions as it fits into.

    Args:
        names: by the image's absolute path; many may share one list.
    """

    def ask(tokenizer: Tokenizer, listing: Sequence[ImageFile]) -> Asked:
        from glip.labeling.asking import Asked
        from glip.prompts import PromptSet

        chunks: dict[tuple[str, ...], tuple[Prompt, ...]] = {}
        first: dict[str, Prompt] = {}
        further: dict[str, tuple[Prompt, ...]] = {}
        for image in listing:
            own = tuple(names[Path(str(image.path))])
            if own not in chunks:
                chunks[own] = PromptSet.from_names(own, tokenizer).chunks
            first[image.name], *rest = chunks[own]
            further[image.name] = tuple(rest)
        return Asked(PromptSet.from_captions(first), further=further)

    return ask
