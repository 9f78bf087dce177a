"""Class names as captions: what an image with boxes of classes is asked in training, and where each name stands.

Two published forms: names of what is there among random others (`sampled_caption`), and all names (`full_caption`).
Longer captions of people are cut, or packed with those of other images. Knows names, labels and tokens. Knows
nothing of images, boxes or files.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glip.errors import InputError
from glip.prompts import MAX_TOKENS, SEPARATOR, Prompt, Wording, clean_name

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from glip.data.examples import Span

ROOM = MAX_TOKENS - 2  # tokens of a caption without [CLS] and [SEP]

# The published pre-training counts this class among those that may be drawn as absent; it is spelled ' background '.
BACKGROUND = "__background__"


@dataclass(frozen=True)
class Negatives:
    """How many names of absent things are drawn for a caption.

    Attributes:
        most: at most so many; None for all there are.
        share_of_most: how often exactly `most` are drawn; otherwise it is any number from 1 to `most`.
        background: whether `BACKGROUND` is one of the names that can be drawn.
    """

    most: int | None = 85
    share_of_most: float = 0.5
    background: bool = True


PRETRAINING = Negatives()  # as published for Objects365
# As published for LVIS, whose names do not fit into one caption: as many as there is room for.
AS_MANY_AS_FIT = Negatives(most=None, share_of_most=1.0, background=False)


@dataclass(frozen=True)
class ClassNames:
    """The names of a data set as captions spell them, counted in tokens once. Labels count from 0.

    Attributes:
        wordings: (C + 1) how each class stands in a caption; the last is `BACKGROUND`.
        tokens: (C + 1) how many tokens each takes, with the separator after it. 0 if no token spells the name, as for
            one of spaces: such a class is never in a caption.
        fit: whether all of them fit into one caption.
    """

    wordings: tuple[Wording, ...]
    tokens: tuple[int, ...]
    fit: bool

    @classmethod
    def of(cls, names: Sequence[str], tokenizer: Tokenizer, wordings: Sequence[Wording] | None = None) -> ClassNames:
        """Spells and counts.

        Args:
            names: by label.
            tokenizer: the model's, padding and truncation switched off.
            wordings: how each class stands in the caption instead, one per name (the caption prompts of ODinW).

        Raises:
            InputError: there is no name that a caption could hold, or not one wording per name.
        """
        if wordings is not None and len(wordings) != len(names):
            raise InputError(f"There are {len(names)} names but {len(wordings)} wordings. Give one per name.")
        spelled = (*(wordings or [Wording(clean_name(name)) for name in names]), Wording(clean_name(BACKGROUND)))
        tokens = tuple(_count(wording, tokenizer) for wording in spelled)
        sayable = [wording for wording, count in zip(spelled[:-1], tokens, strict=False) if count]
        if not sayable:
            raise InputError(
                f"None of the {len(names)} class names can stand in a caption: nothing is left of them once brackets "
                f"are dropped. Give the classes names of letters."
            )
        caption = Prompt.from_names([wording.text for wording in sayable], sayable).caption
        return cls(spelled, tokens, len(tokenizer.encode(caption).ids) <= MAX_TOKENS)

    @property
    def background(self) -> int:
        """The label of `BACKGROUND`."""
        return len(self.wordings) - 1

    @property
    def labels(self) -> list[int]:
        """Of all classes that captions can hold."""
        return [label for label, count in enumerate(self.tokens[:-1]) if count]


def _count(wording: Wording, tokenizer: Tokenizer) -> int:
    def tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    if not wording.text.strip() or not tokens(wording.text):
        return 0
    return tokens(wording.prefix + wording.text + wording.suffix + SEPARATOR)


@dataclass(frozen=True)
class ClassCaption:
    """A caption of class names: its text, and by label the characters [start, end) of each name that is in it."""

    text: str
    spans: dict[int, Span]


def sampled_caption(
    names: ClassNames, present: Iterable[int], rng: random.Random, negatives: Negatives = PRETRAINING
) -> ClassCaption:
    """Names of what is in an image among random others, in random order; at most 256 tokens.

    Present names come first, in random order until one does not fit: it and those after it are left out, and their
    boxes must be. Absent names are drawn as `negatives` says and taken while there is room.

    Args:
        names: of the data set.
        present: labels of the image's boxes, each as often as you like.
        rng: of this example.
        negatives: what is drawn.
    """
    positives = [label for label in sorted(set(present)) if names.tokens[label]]
    rng.shuffle(positives)
    kept: list[int] = []
    length = 0
    for label in positives:
        length += names.tokens[label]
        if length > ROOM:
            break
        kept.append(label)
    left = ROOM - length
    for label in _drawn(names, negatives, rng):
        if label in positives:  # drawn from all names and taken out afterwards, as published
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
    most = len(pool) if negatives.most is None else min(negatives.most, len(pool))
    if not most:
        return []
    return rng.sample(pool, most if rng.random() < negatives.share_of_most else rng.randint(1, most))


def full_caption(names: ClassNames, present: Iterable[int], rng: random.Random, shuffled: bool = False) -> ClassCaption:
    """All names, as in testing; where they do not fit into 256 tokens, as many as do, those of `present` first.

    Args:
        names: of the data set.
        present: labels of the image's boxes; matter only where there are too many names.
        rng: of this example.
        shuffled: in random order instead of that of the labels.
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
    """How often a caption is read together with captions of other images, which say what is not there.

    Attributes:
        alone: share of the examples whose caption stands alone.
        most: at most so many others.
        share_of_most: of the examples that do not stand alone, how often `most` others are drawn; otherwise it is
            any number from 0 to `most` - 1.
    """

    alone: float = 0.4
    most: int = 20
    share_of_most: float = 0.5

    def draw(self, rng: random.Random) -> int:
        """How many others one example gets."""
        if rng.random() < self.alone:
            return 0
        return self.most if rng.random() < self.share_of_most else rng.randrange(self.most)


def packed_caption(caption: str, others: Sequence[str], rng: random.Random, tokenizer: Tokenizer) -> tuple[str, int]:
    """A caption among others, in random order, each ended by a full stop; others join while there is room.

    Returns:
        The text, and at which of its characters `caption` starts.
    """
    room = ROOM - _sentence_tokens(caption, tokenizer)
    texts = [caption]
    for other in others:
        length = _sentence_tokens(other, tokenizer)
        if other and length <= room:
            texts.append(other)
            room -= length
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
    """A caption of at most 256 tokens, and what can be learned of it.

    Args:
        caption: any text.
        spans: (N) for each box the ranges of the caption that name it.
        tokenizer: the model's, padding and truncation switched off.

    Returns:
        The caption, cut after its last token that can be read; (N) the ranges of each box that lie inside of it
        as a whole and that a token spells, which may be none.
    """
    encoding = tokenizer.encode(caption)
    if len(encoding.ids) > MAX_TOKENS:
        caption = caption[: encoding.offsets[ROOM][1]]  # token 0 is [CLS]
    return caption, [tuple(span for span in group if _is_spelled(encoding, span, len(caption))) for group in spans]


def _is_spelled(encoding: Encoding, span: Span, length: int) -> bool:
    start, end = span
    return end <= length and any(encoding.char_to_token(character) is not None for character in range(start, end))
