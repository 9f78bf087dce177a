"""Finds the phrases of a caption, as character ranges: noun phrases found offline, or given phrases.

Every range comes from the words into which the caption was divided, never from a search for text: a search also finds
'car' in 'cart'. English only, as the published models are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, get_args

from glip.errors import InputError, MissingExtra, require
from glip.prompts import Span

Chunker = Literal["auto", "spacy", "textblob"]
FindPhrases = Callable[[str], Sequence[Span]]

# Words with hyphens, inner dots ('3.5', 'U.S') and combining accents are one token; "don't" and "man's" are two, as the
# taggers learned them; any other character is a token by itself.
_LETTER = r"[\w\u0300-\u036f]"
_TOKEN = re.compile(
    rf"n['’]t\b|{_LETTER}+?(?=n['’]t\b)|{_LETTER}+(?:[-.]{_LETTER}+)*|['’](?:s|re|ve|ll|d|m)\b|\S", re.IGNORECASE
)

# The parts of a noun phrase, one letter per word: D article or possessive, d another determiner, C number, J adjective,
# R adverb, G participle, V plain verb or past, N noun, & conjunction, - anything else. After an article even a plain
# verb belongs to the noun: the lexicon takes the 'stop' of 'a stop sign' for a verb.
# Possessive quantifiers find the same phrases; backtracking would take cubic time on 'three three three …'.
_NOUN_PHRASE = re.compile(
    r"D(?:[JRGVC]++&)?+[JRGVC]*+N++"  # the dog, a stop sign, a blue and silver train
    r"|DJ++"  # a remote, the elderly
    r"|[dC]++[JRGC]*+N++"  # three strange looking birds
    r"|(?:R*+J)*+N++"  # dogs, very cute girls
)
_LETTERS = {"DT": "d", "PDT": "d", "PRP$": "D", "CD": "C", "VBG": "G", "VBN": "G", "VB": "V", "VBD": "V", "CC": "&"}
_ARTICLES = frozenset(("a", "an", "the"))

# 'A group of people' is one phrase, as in the captions that the models learned from.
_AMOUNTS = frozenset(
    ("group", "couple", "pair", "bunch", "lot", "lots", "number", "crowd", "herd", "flock", "row", "piece", "pieces")
)
# 'In front of a house' names a location and 'an image of a house' the image itself; only the house is an object.
_NOT_OBJECTS = frozenset(
    (
        *("front", "top", "back", "side", "middle", "center", "centre", "edge", "bottom", "left", "right", "end"),
        *("rest", "view", "image", "picture", "photo", "photograph", "close-up", "closeup"),
    )
)
_OF = re.compile(r"\s+of\b\s*", re.IGNORECASE)

logger = logging.getLogger(__name__)


def phrase_finder(chunker: Chunker = "auto", phrases: Sequence[str] = ()) -> FindPhrases:
    """Returns a function that finds the phrases of a caption, as character ranges from left to right.

    Args:
        chunker: `textblob` uses a lexicon that comes with it; `spacy` needs an installed English model; `auto` uses
            spaCy if such a model is installed.
        phrases: find only these phrases, wherever they occur as whole words; () for all noun phrases.

    Raises:
        InputError: the chunker is unknown, or a phrase has no word.
        MissingExtra: the chunker is not installed.
    """
    if chunker not in get_args(Chunker):
        raise InputError(f"chunker is {chunker!r}; accepted are {', '.join(get_args(Chunker))}.")
    if phrases:
        vocabulary = [_words_of(phrase) for phrase in phrases]
        return lambda caption: list(_find_known(caption, vocabulary))
    if chunker == "spacy" or (chunker == "auto" and _english_models()):
        return _spacy_finder()
    return _textblob_finder()


def locate(caption: str, phrases: Sequence[str]) -> list[Span]:
    """Returns the character range of each given phrase in a caption: whole words, upper or lower case.

    A phrase is searched after the previous one first, then from the start. A phrase given twice must occur twice.

    Raises:
        InputError: the caption does not contain a phrase.
    """
    tokens = list(_TOKEN.finditer(caption))
    words = [_normal(token.group()) for token in tokens]
    taken: set[tuple[int, int]] = set()
    ranges: list[tuple[int, int]] = []
    for phrase in phrases:
        wanted = _words_of(phrase)
        starts = [
            start
            for start in range(len(words) - len(wanted) + 1)
            if words[start : start + len(wanted)] == wanted and (start, start + len(wanted)) not in taken
        ]
        if not starts:
            raise InputError(
                f"The caption {caption!r} does not contain the phrase {phrase!r}"
                f"{' that often' if any(_words_of(other) == wanted for other in phrases[: len(ranges)]) else ''}. "
                f"Write it as it is in the caption."
            )
        after = ranges[-1][0] if ranges else 0
        start = next((start for start in starts if start >= after), starts[0])
        ranges.append((start, start + len(wanted)))
        taken.add(ranges[-1])
    return [(tokens[start].start(), tokens[end - 1].end()) for start, end in ranges]


def _words_of(phrase: str) -> list[str]:
    words = [_normal(word) for word in _TOKEN.findall(phrase)]
    if not words:
        raise InputError(f"The phrase {phrase!r} has no word.")
    return words


def _normal(word: str) -> str:
    return word.casefold().replace("’", "'")


def _find_known(caption: str, vocabulary: Sequence[Sequence[str]]) -> Iterator[Span]:
    """Yields the ranges of all known phrases: the longest where several begin, none inside another."""
    tokens = list(_TOKEN.finditer(caption))
    words = [_normal(token.group()) for token in tokens]
    start = 0
    while start < len(words):
        lengths = [len(known) for known in vocabulary if words[start : start + len(known)] == known]
        if lengths:
            yield tokens[start].start(), tokens[start + max(lengths) - 1].end()
        start += max(lengths, default=1)


def _textblob_finder() -> FindPhrases:
    require("textblob", "captions")
    parse = import_module("textblob.en").parser.parse

    def find(caption: str) -> list[Span]:
        tokens = list(_TOKEN.finditer(caption))
        # The tagger takes words in capital letters for names.
        text = caption.lower() if caption.isupper() and len(caption.lower()) == len(caption) else caption
        # Given a list, the tagger keeps these words, so that its words are ours.
        words = [text[slice(*token.span())].replace("’", "'") for token in tokens]
        tagged = parse([words], tokenize=False, chunks=False, collapse=False)[0] if words else []
        letters = "".join(_letter(word, tag) for word, tag in tagged)
        groups = [group.span() for group in _NOUN_PHRASE.finditer(letters)]
        return _objects(caption, [(tokens[first].start(), tokens[end - 1].end()) for first, end in groups])

    return find


def _letter(word: str, tag: str) -> str:
    if word.lower() in _ARTICLES:
        return "D"
    if not any(map(str.isalnum, word)):  # the tagger takes unknown words for nouns, even an emoji
        return "-"
    return _LETTERS.get(tag) or {"JJ": "J", "RB": "R", "NN": "N"}.get(tag[:2], "-")


def _objects(caption: str, spans: Sequence[Span]) -> list[Span]:
    """Returns noun phrases as they are grounded: amounts joined with their noun, words for locations left out."""
    objects: list[Span] = []
    amount: int | None = None  # start of a phrase that continues after 'of'
    for index, (start, end) in enumerate(spans):
        begin, amount = (start if amount is None else amount), None
        last_word = _normal(_TOKEN.findall(caption[start:end])[-1])
        of = _OF.match(caption, end)
        if of and last_word in _AMOUNTS and index + 1 < len(spans) and spans[index + 1][0] == of.end():
            amount = begin
        elif not (of and last_word in _NOT_OBJECTS):
            objects.append((begin, end))
    return objects


def _english_models() -> list[str]:
    """Returns the installed spaCy models of English, small ones last."""
    if find_spec("spacy") is None:
        return []
    installed = import_module("spacy.util").get_installed_models()
    sizes = ("trf", "lg", "md", "sm")
    return [name for size in sizes for name in installed if name.startswith("en_") and name.endswith(size)]


def _spacy_finder() -> FindPhrases:
    spacy = require("spacy", "captions")
    models = _english_models()
    if not models:
        raise MissingExtra(
            "spaCy is installed, but it has no English model. Run: python -m spacy download en_core_web_sm"
        )
    logger.info("Noun phrases are found by spaCy's %s.", models[0])
    pipeline: Any = spacy.load(models[0])

    def find(caption: str) -> list[Span]:
        chunks = [chunk for chunk in pipeline(caption).noun_chunks if chunk.root.pos_ != "PRON"]
        return _objects(caption, [(chunk.start_char, chunk.end_char) for chunk in chunks])

    return find
