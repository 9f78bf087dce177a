"""Turns class names or captions into the input of the text encoder.

Source: the paper (arXiv:2112.03857), section 3.1, and `docs/model.md`, "Prompts". Knows characters, phrases and tokens;
knows nothing of images, boxes or the model.
"""

from __future__ import annotations

import logging
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from glip.errors import InputError, shortened
from glip.names import clean_name, find_names, split_names

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from torch import Tensor

logger = logging.getLogger(__name__)

MAX_TOKENS = 256  # maximum input of the published text encoder, [CLS] and [SEP] included
SEPARATOR = ". "  # between the names of a caption; published captions have none after the last name

Span = tuple[int, int]


@dataclass(frozen=True)
class Wording:
    """Spelling of a class in a caption: `prefix` + `text` + `suffix`, unchanged. Only `text` is its phrase."""

    text: str
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True)
class Prompt:
    """A caption and the phrases in it that are to be found. Plain data, which JSON can hold.

    Attributes:
        caption: the input of the text encoder.
        phrases: (P) name of each phrase in the results.
        spans: (P) for each phrase the character ranges [start, end) of `caption` that spell it.

    Raises:
        InputError: there is no phrase, or a range is empty, blank or outside the caption.
    """

    caption: str
    phrases: tuple[str, ...]
    spans: tuple[tuple[Span, ...], ...]

    def __post_init__(self) -> None:
        if not self.phrases:
            raise InputError("The prompt has no name to look for; give at least one.")
        if len(self.phrases) != len(self.spans):
            raise InputError(
                f"There are {len(self.phrases)} phrases but {len(self.spans)} groups of spans; give a group per phrase."
            )
        length = len(self.caption)
        for phrase, spans in zip(self.phrases, self.spans, strict=True):
            if not spans:
                raise InputError(f"The phrase {phrase!r} has no span; give its (start, end) in the caption.")
            for start, end in spans:
                if not 0 <= start < end <= length or not self.caption[start:end].strip():
                    raise InputError(
                        f"The span ({start}, {end}) of {phrase!r} cannot be used: 0 <= start < end <= {length} must "
                        f"hold, the length of the caption, and the text between must not be blank."
                    )
        if not _is_text(self.caption):
            raise InputError(f"The caption {self.caption!r} is not valid Unicode; write it in UTF-8.")

    def in_order_of(self, names: Sequence[str]) -> Prompt | None:
        """Returns the same caption with its phrases in another order, named as in `names`.

        Names are compared as the model reads them. Returns None unless they are these phrases, each of them once.
        """
        if tuple(names) == self.phrases:
            return self
        order = find_names(names, self.phrases)
        if len(order) != len(self.phrases) or None in order or len(set(order)) < len(order):
            return None
        return Prompt(self.caption, tuple(names), tuple(self.spans[index] for index in order if index is not None))

    @classmethod
    def from_names(cls, names: Sequence[str], wordings: Sequence[Wording] | None = None) -> Prompt:
        """Makes the published caption of a class list: cleaned names, joined by '. ', nothing after the last.

        Args:
            names: name of each class in the results. Equal names have a span each.
            wordings: spelling of each class in the caption, if it is not its cleaned name (ODinW's caption prompts).

        Raises:
            InputError: there is no name, or nothing of a name is left in the caption.
        """
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise InputError(
                f"The names are {names!r}; they must be a list of texts. `split_names` makes one from a text."
            )
        if wordings is not None and len(wordings) != len(names):
            raise InputError(f"There are {len(names)} names but {len(wordings)} wordings; give one wording per name.")
        caption = ""
        spans: list[tuple[Span, ...]] = []
        for name, wording in zip(names, wordings or [Wording(clean_name(name)) for name in names], strict=True):
            if not wording.text.strip():
                raise InputError(
                    f"The name {name!r} is empty in the caption, where text in brackets is dropped. "
                    "Write a word outside brackets."
                )
            caption += (SEPARATOR if spans else "") + wording.prefix
            # Recorded here and never searched for: a search would also find 'car' in 'cart'.
            spans.append(((len(caption), len(caption) + len(wording.text)),))
            caption += wording.text + wording.suffix
        return cls(caption, tuple(names), tuple(spans))

    @classmethod
    def from_caption(
        cls, caption: str, spans: Sequence[Sequence[Sequence[int]]], phrases: Sequence[str] | None = None
    ) -> Prompt:
        """Makes a prompt of an unchanged caption and the character ranges of its phrases.

        Args:
            caption: any text.
            spans: (P) for each phrase its character ranges, such as [[(0, 7)], [(12, 17), (20, 25)]].
            phrases: (P) their names in the results; None: the texts of the ranges, joined by ' / '.

        Raises:
            InputError: a range cannot be used.
        """
        try:
            ranges = tuple(tuple((start, end) for start, end in group) for group in spans)
        except (TypeError, ValueError):
            ranges = ()
        if (
            not all(type(position) is int for position in chain.from_iterable(chain.from_iterable(ranges)))
            or not ranges
        ):
            raise InputError(
                f"The spans are {spans!r}; they must be one list of (start, end) pairs per phrase, "
                "such as [[(0, 7)], [(12, 17)]]."
            )
        if phrases is None:
            phrases = [" / ".join(caption[start:end] for start, end in group) for group in ranges]
        return cls(caption, tuple(phrases), ranges)


def _is_text(text: str) -> bool:
    # Undecodable words of a command line arrive as lone surrogates, which no tokenizer accepts.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class TokenizedPrompt:
    """Input of the text encoder, and the tokens that spell each phrase.

    Attributes:
        input_ids: (T,) int64, [CLS] and [SEP] included, no padding.
        positive_map: (P, T) float32, 1 where a token spells a phrase, else 0.
    """

    input_ids: Tensor
    positive_map: Tensor


def tokenize(prompt: Prompt, tokenizer: Tokenizer) -> TokenizedPrompt:
    """Tokenizes a prompt.

    Args:
        prompt: a caption of at most 256 tokens; `PromptSet.from_names` splits longer lists.
        tokenizer: the checkpoint's, without padding and truncation.

    Raises:
        InputError: there are too many tokens, or no token spells a phrase.
    """
    import torch  # many users of names and captions need no torch

    encoding = tokenizer.encode(prompt.caption)
    if len(encoding.ids) > MAX_TOKENS:
        raise InputError(
            f"The caption {shortened(prompt.caption, 60)!r} has {len(encoding.ids)} tokens, "
            f"but the text encoder reads at most {MAX_TOKENS}. Shorten it."
        )
    input_ids = torch.tensor(encoding.ids, dtype=torch.int64)
    positive_map = torch.zeros(len(prompt.phrases), len(input_ids))
    unknown = tokenizer.token_to_id("[UNK]")
    for phrase, spans, row in zip(prompt.phrases, prompt.spans, positive_map, strict=True):
        for span in spans:
            row[_tokens_of(encoding, span, len(prompt.caption))] = 1
        if not row.any():
            raise InputError(f"No token spells {phrase!r}, so it cannot be found. Write it in letters.")
        if set(input_ids[row > 0].tolist()) == {unknown}:
            _warn_of_unknown(phrase)
    return TokenizedPrompt(input_ids, positive_map)


def tokenize_boxes(caption: str, spans: Sequence[Sequence[Span]], tokenizer: Tokenizer) -> TokenizedPrompt:
    """Tokenizes a caption to learn from.

    Args:
        caption: any text; it is cut after 256 tokens.
        spans: (N) for each box its character ranges in the caption.
        tokenizer: as for `tokenize`.

    Returns:
        The tokens. The positive map has a row per box, which is 0 if none of the 256 tokens spells its phrase.
    """
    import torch

    encoding = tokenizer.encode(caption)
    input_ids = torch.tensor(encoding.ids, dtype=torch.int64)
    positive_map = torch.zeros(len(spans), len(input_ids))
    for ranges, row in zip(spans, positive_map, strict=True):
        for span in ranges:
            row[_tokens_of(encoding, span, len(caption))] = 1
    if len(input_ids) > MAX_TOKENS:
        # The text must end with [SEP].
        input_ids = torch.cat((input_ids[: MAX_TOKENS - 1], input_ids[-1:]))
        positive_map = torch.cat((positive_map[:, : MAX_TOKENS - 1], positive_map.new_zeros(len(spans), 1)), dim=1)
    return TokenizedPrompt(input_ids, positive_map)


def _tokens_of(encoding: Encoding, span: Span, length: int) -> slice:
    """Returns the tokens of a character range as a slice, which is empty if there are none.

    Matches the published rule: an end of the range without a token (a space) moves by up to two characters. Where the
    published rule then drops the range, the search continues inside it.
    """
    start, end = span
    first = _first_token(encoding, chain(range(start, min(start + 3, length)), range(start + 3, end)))
    last = _first_token(encoding, chain(range(end - 1, max(end - 4, -1), -1), range(end - 4, start - 1, -1)))
    return slice(0) if first is None or last is None else slice(first, last + 1)


def _first_token(encoding: Encoding, characters: Iterator[int]) -> int | None:
    tokens = (encoding.char_to_token(character) for character in characters)
    return next((token for token in tokens if token is not None), None)


@lru_cache(maxsize=4096)  # once per phrase, not once per image
def _warn_of_unknown(phrase: str) -> None:
    logger.warning(
        "No word of %r is in the model's vocabulary, so it reads [UNK], as for every unknown word. "
        "Describe the object in other words.",
        phrase,
    )


@dataclass(frozen=True)
class PromptSet:
    """A class list in as many prompts as it needs. Plain data, as `Prompt` is.

    Attributes:
        chunks: the prompts, each of at most 256 tokens. Labels continue from chunk to chunk.
    """

    chunks: tuple[Prompt, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the class list as given."""
        return tuple(chain.from_iterable(chunk.phrases for chunk in self.chunks))

    @classmethod
    def from_names(
        cls,
        names: Sequence[str],
        tokenizer: Tokenizer,
        names_per_chunk: int | None = None,
        wordings: Sequence[Wording] | None = None,
    ) -> PromptSet:
        """Splits a class list into as few prompts as its order allows, each of at most 256 tokens.

        Args:
            names: names to find.
            tokenizer: counts the tokens, [CLS], [SEP] and separators included.
            names_per_chunk: maximum number of names per prompt (published for LVIS: 40).
            wordings: as for `Prompt.from_names`.

        Raises:
            InputError: there is no name, or one cannot be used.
        """
        if names_per_chunk is not None and names_per_chunk < 1:
            raise InputError(f"names_per_chunk is {names_per_chunk}; it must be at least 1.")
        Prompt.from_names(names, wordings)  # checks the list as a whole
        chunks = []
        start = 0
        while start < len(names):
            chunk = _longest_prompt(names, wordings, start, tokenizer, names_per_chunk)
            tokenize(chunk, tokenizer)  # refuses an unusable name now, not at the first image
            chunks.append(chunk)
            start += len(chunk.phrases)
        if len(chunks) > 1:
            tokens = _count_tokens(Prompt.from_names(names, wordings), tokenizer)
            logger.info(
                "%d names (%d tokens) are split into %d prompts of at most %d tokens each.",
                len(names),
                tokens,
                len(chunks),
                MAX_TOKENS,
            )
        return cls(tuple(chunks))

    @classmethod
    def parse(cls, text: str, tokenizer: Tokenizer, names_per_chunk: int | None = None) -> PromptSet:
        """Splits typed names ('person . dog .') into prompts. Deprecated: use `split_names` and `from_names`."""
        _warn_deprecated("PromptSet.parse", "split_names and PromptSet.from_names")
        return cls.from_names(list(dict.fromkeys(split_names(text))), tokenizer, names_per_chunk)

    def for_image(self, file_name: str) -> tuple[Prompt, ...]:
        """Returns the prompts, which are the same for every image. Deprecated: use `chunks`."""
        _warn_deprecated("PromptSet.for_image", "PromptSet.chunks")
        return self.chunks


def _warn_deprecated(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated and will be removed in 0.3; use {new}.", DeprecationWarning, stacklevel=3)


def _count_tokens(prompt: Prompt, tokenizer: Tokenizer) -> int:
    return len(tokenizer.encode(prompt.caption).ids)


def _longest_prompt(
    names: Sequence[str],
    wordings: Sequence[Wording] | None,
    start: int,
    tokenizer: Tokenizer,
    names_per_chunk: int | None,
) -> Prompt:
    """Returns the longest prompt, with names from index `start` on, that fits into the text encoder."""

    def prompt_until(end: int) -> Prompt:
        return Prompt.from_names(names[start:end], wordings[start:end] if wordings else None)

    # A name and its separator are at least two tokens, so more names than this cannot fit.
    maximum = min(names_per_chunk or MAX_TOKENS, MAX_TOKENS // 2, len(names) - start)
    ends = range(start + 1, start + maximum + 1)
    fitting = bisect_right(ends, MAX_TOKENS, key=lambda end: _count_tokens(prompt_until(end), tokenizer))
    if not fitting:
        alone = _count_tokens(prompt_until(start + 1), tokenizer) - 2
        raise InputError(
            f"The name {shortened(names[start], 60)!r} has {alone} tokens; "
            f"the text encoder reads at most {MAX_TOKENS - 2}. Shorten the name."
        )
    return prompt_until(start + fitting)
