"""Makes the captions of training: of class names, or of people's captions, and says where each phrase is.

Two published rules make captions of class names: the names of present classes among random others
(`sampled_caption`), and all names (`full_caption`). Captions of people are cut if too long (`cut_caption`), or packed
with those of other images (`packed_caption`). Knows names, labels and tokens. Knows nothing of images, boxes or files.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glip.errors import InputError
from glip.names import clean_name
from glip.prompts import MAX_TOKENS, SEPARATOR, Prompt, Wording

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from glip.data.examples import Span

TOKEN_BUDGET = MAX_TOKENS - 2  # tokens of a caption without [CLS] and [SEP]

# The published pre-training also draws this class as an absent one; a caption spells it ' background '.
BACKGROUND = "__background__"


@dataclass(frozen=True)
class Negatives:
    """How many names of absent classes are drawn for a caption.

    Attributes:
        maximum: maximum number of names; None for all.
        share_of_maximum: share of the captions that get exactly `maximum` names; the others get 1 to `maximum`.
        background: whether `BACKGROUND` can be drawn.
    """

    maximum: int | None = 85
    share_of_maximum: float = 0.5
    background: bool = True


PRETRAINING = Negatives()  # as published for Objects365
# As published for LVIS, whose names do not fit into one caption: as many as fit.
AS_MANY_AS_FIT = Negatives(maximum=None, share_of_maximum=1.0, background=False)


@dataclass(frozen=True)
class ClassNames:
    """The class names of a data set as captions spell them, with their lengths in tokens. Labels count from 0.

    Attributes:
        wordings: (C + 1) how each class is written in a caption; the last is `BACKGROUND`.
        tokens: (C + 1) number of tokens of each class, including the separator after it. 0 if no token spells the name
            (such as one of spaces): the class is then in no caption.
        fit: whether all names fit into one caption.
    """

    wordings: tuple[Wording, ...]
    tokens: tuple[int, ...]
    fit: bool

    @classmethod
    def of(cls, names: Sequence[str], tokenizer: Tokenizer, wordings: Sequence[Wording] | None = None) -> ClassNames:
        """Returns the names as captions spell them.

        Args:
            names: by label.
            tokenizer: the model's, with padding and truncation switched off.
            wordings: how each class is written in the caption, one per name (the caption prompts of ODinW); None for
                the plain names.

        Raises:
            InputError: no name can be written in a caption, or the number of wordings is not that of the names.
        """
        if wordings is not None and len(wordings) != len(names):
            raise InputError(f"There are {len(names)} names but {len(wordings)} wordings; give one wording per name.")
        spelled = (*(wordings or [Wording(clean_name(name)) for name in names]), Wording(clean_name(BACKGROUND)))
        tokens = tuple(_count(wording, tokenizer) for wording in spelled)
        usable = [wording for wording, count in zip(spelled[:-1], tokens, strict=False) if count]
        if not usable:
            raise InputError(
                f"None of the {len(names)} class names can be written in a caption: nothing is left of them without "
                f"brackets. Give the classes names of letters."
            )
        caption = Prompt.from_names([wording.text for wording in usable], usable).caption
        return cls(spelled, tokens, len(tokenizer.encode(caption).ids) <= MAX_TOKENS)

    @property
    def background(self) -> int:
        """Returns the label of the class `BACKGROUND`, which comes after all others."""
        return len(self.wordings) - 1

    @property
    def labels(self) -> list[int]:
        """Returns the labels of all classes that a caption can hold."""
        return [label for label, count in enumerate(self.tokens[:-1]) if count]


def _count(wording: Wording, tokenizer: Tokenizer) -> int:
    def tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    if not wording.text.strip() or not tokens(wording.text):
        return 0
    return tokens(wording.prefix + wording.text + wording.suffix + SEPARATOR)


@dataclass(frozen=True)
class ClassCaption:
    """A caption of class names: its text, and the character range [start, end) of each of its names by label."""

    text: str
    spans: dict[int, Span]


def sampled_caption(
    names: ClassNames, present: Iterable[int], rng: random.Random, negatives: Negatives = PRETRAINING
) -> ClassCaption:
    """Returns a caption of the names in an image and random others, in random order; at most 256 tokens.

    Names of present classes are added in random order until one does not fit; it and the rest are left out, and so
    must be their boxes. Names of absent classes are then drawn by `negatives` and added while they fit.

    Args:
        names: of the data set.
        present: labels of the image's boxes; repeated labels count once.
        rng: of this example.
        negatives: how many absent names are drawn.
    """
    positives = [label for label in sorted(set(present)) if names.tokens[label]]
    rng.shuffle(positives)
    kept: list[int] = []
    length = 0
    for label in positives:
        length += names.tokens[label]
        if length > TOKEN_BUDGET:
            break
        kept.append(label)
    left = TOKEN_BUDGET - length
    for label in _drawn(names, negatives, rng):
        if label in positives:  # drawn from all names and removed afterwards, as published
            continue
        left -= names.tokens[label]
        if left <= 0:
            break
        kept.append(label)
    rng.shuffle(kept)
    return _caption(names, kept)


def _drawn(names: ClassNames, negatives: Negatives, rng: random.Random) -> list[int]:
    pool = names.labels
    if negatives.background and names.tokens[names.background]:
        pool.append(names.background)
    maximum = len(pool) if negatives.maximum is None else min(negatives.maximum, len(pool))
    if not maximum:
        return []
    return rng.sample(pool, maximum if rng.random() < negatives.share_of_maximum else rng.randint(1, maximum))


def full_caption(names: ClassNames, present: Iterable[int], rng: random.Random, shuffled: bool = False) -> ClassCaption:
    """Returns a caption of all names, as in testing; if they exceed 256 tokens, of those that fit, `present` first.

    Args:
        names: of the data set.
        present: labels of the image's boxes; used only if not all names fit.
        rng: of this example.
        shuffled: in random order instead of the order of the labels.
    """
    if not names.fit:
        return sampled_caption(names, present, rng, AS_MANY_AS_FIT)
    labels = names.labels
    if shuffled:
        rng.shuffle(labels)
    return _caption(names, labels)


def _caption(names: ClassNames, labels: Sequence[int]) -> ClassCaption:
    if not labels:
        return ClassCaption("", {})
    wordings = [names.wordings[label] for label in labels]
    prompt = Prompt.from_names([wording.text for wording in wordings], wordings)
    return ClassCaption(prompt.caption, {label: spans[0] for label, spans in zip(labels, prompt.spans, strict=True)})


@dataclass(frozen=True)
class Packing:
    """How often captions of other images are added to a caption, as descriptions of absent things.

    Attributes:
        alone: share of the examples whose caption is alone.
        maximum: maximum number of other captions.
        share_of_maximum: share of the other examples that get exactly `maximum` captions; the rest get 0 to
            `maximum` - 1.
    """

    alone: float = 0.4
    maximum: int = 20
    share_of_maximum: float = 0.5

    def draw(self, rng: random.Random) -> int:
        """Returns the number of other captions for one example."""
        if rng.random() < self.alone:
            return 0
        return self.maximum if rng.random() < self.share_of_maximum else rng.randrange(self.maximum)


def packed_caption(caption: str, others: Sequence[str], rng: random.Random, tokenizer: Tokenizer) -> tuple[str, int]:
    """Joins a caption with others in random order, each ended by a full stop; others are added while they fit.

    Returns:
        The text, and the index of the character at which `caption` starts.
    """
    left = TOKEN_BUDGET - _sentence_tokens(caption, tokenizer)
    texts = [caption]
    for other in others:
        length = _sentence_tokens(other, tokenizer)
        if other and length <= left:
            texts.append(other)
            left -= length
    order = rng.sample(range(len(texts)), len(texts))
    sentences = [_sentence(texts[index]) for index in order]
    start = sum(len(sentence) + 1 for sentence in sentences[: order.index(0)])
    return (" ".join(sentences), start) if len(texts) > 1 else (caption, 0)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."


def _sentence_tokens(text: str, tokenizer: Tokenizer) -> int:
    return len(tokenizer.encode(_sentence(text), add_special_tokens=False).ids)


def cut_caption(
    caption: str, spans: Sequence[Sequence[Span]], tokenizer: Tokenizer
) -> tuple[str, list[tuple[Span, ...]]]:
    """Cuts a caption to 256 tokens, and drops the ranges that it no longer holds.

    Args:
        caption: any text.
        spans: (N) the ranges of the caption that name each box.
        tokenizer: the model's, with padding and truncation switched off.

    Returns:
        The caption, cut after the last token that fits; (N) the ranges of each box that are wholly inside it and
        spelled by a token. A box may have none.
    """
    encoding = tokenizer.encode(caption)
    if len(encoding.ids) > MAX_TOKENS:
        caption = caption[: encoding.offsets[TOKEN_BUDGET][1]]  # token 0 is [CLS]
    return caption, [tuple(span for span in group if _is_spelled(encoding, span, len(caption))) for group in spans]


def _is_spelled(encoding: Encoding, span: Span, length: int) -> bool:
    start, end = span
    return end <= length and any(encoding.char_to_token(character) is not None for character in range(start, end))
