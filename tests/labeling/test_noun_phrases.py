"""Noun phrases and the user's own phrases, found in captions to the character."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glip.errors import InputError, MissingExtra
from glip.labeling import noun_phrases as phrases
from glip.labeling.noun_phrases import FindPhrases, locate, phrase_finder


def texts(caption: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    return [caption[start:end] for start, end in spans]


@pytest.fixture(scope="module")
def textblob() -> FindPhrases:
    pytest.importorskip("textblob")
    return phrase_finder("textblob")


# fmt: off
CAPTIONS = [
    ("A tabby cat and a remote lie on two pink couches.", ["A tabby cat", "a remote", "two pink couches"]),
    ("dogs and cats", ["dogs", "cats"]),
    ("A dog and a dog look at a dog.", ["A dog", "a dog", "a dog"]),
    ("A cart and a car", ["A cart", "a car"]),
    ("A red stop sign is glowing against the dark sky.", ["A red stop sign", "the dark sky"]),
    ("A blue and silver train next to the black and white dog", ["A blue and silver train", "the black and white dog"]),
    ("three strange looking birds walking on the grass", ["three strange looking birds", "the grass"]),
    ("A man falls off his skateboard in a skate park.", ["A man", "his skateboard", "a skate park"]),
    ("a large herd of goats in front of a house", ["a large herd of goats", "a house"]),
    ("an image of a couple of people on the left side of the road", ["a couple of people", "the road"]),
    ("an image on a wall", ["an image", "a wall"]),
    ("She looks at herself and it is nice.", []),
    ("Is it there?", []),
    ("a vandalized stop sign, some wore hats", ["a vandalized stop sign", "hats"]),
    ("A man's hat doesn’t fit", ["A man", "hat"]),
    ("The t-shirt  is\n3.5 inches", ["The t-shirt", "3.5 inches"]),
    ("a/the dog -- (the cat), 'a bird'", ["the dog", "the cat", "a bird"]),
    ("TWO DOGS ON THE GRASS", ["TWO DOGS", "THE GRASS"]),
    ("ON A CITY ROAD THERE IS A STOP SIGN", ["A CITY ROAD", "A STOP SIGN"]),
    ("very cute girls at a broken pole", ["very cute girls", "a broken pole"]),
    ("A café́ with naïve people", ["A café́", "naïve people"]),
    ("", []),
    (" \t\n", []),
    ("… 😀 – a cat", ["a cat"]),
]
# fmt: on


@pytest.mark.parametrize(("caption", "expected"), CAPTIONS)
def test_noun_phrases_are_found_with_their_articles(textblob: FindPhrases, caption: str, expected: list[str]) -> None:
    assert texts(caption, textblob(caption)) == expected


def test_equal_phrases_have_places_of_their_own(textblob: FindPhrases) -> None:
    assert textblob("a dog and a dog") == [(0, 5), (10, 15)]


@given(st.text(st.sampled_from("ab d\u00e9\u0301'’-./\n,İß\u3000犬"), max_size=40) | st.text(max_size=40))
def test_any_text_gives_ordered_places_inside_it(caption: str) -> None:
    pytest.importorskip("textblob")
    spans = phrase_finder("textblob")(caption)
    ends = [0, *(place for span in spans for place in span)]
    assert ends == sorted(ends)
    assert all(start < end <= len(caption) for start, end in spans)
    assert all(text == text.strip() for text in texts(caption, spans))


def test_nothing_is_fetched_to_find_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("textblob")

    def refuse(*args: object, **kwargs: object) -> Never:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert phrase_finder("textblob")("a zebra on a skateboard") == [(0, 7), (11, 23)]


def test_a_missing_chunker_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textblob", None)
    with pytest.raises(MissingExtra, match=r"textblob.*pip install 'glip\[captions\]'"):
        phrase_finder("textblob")
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtra, match=r"spacy.*pip install"):
        phrase_finder("spacy")
    with pytest.raises(InputError, match=r"'nltk'.*auto, spacy, textblob"):
        phrase_finder("nltk")  # type: ignore[arg-type]


# --- spaCy, as far as it is used --------------------------------------------------------------------------------------


@dataclass
class _Root:
    pos_: str


@dataclass
class _Chunk:
    start_char: int
    end_char: int
    root: _Root


@dataclass
class _Doc:
    noun_chunks: list[_Chunk]


def fake_spacy(monkeypatch: pytest.MonkeyPatch, models: list[str]) -> list[str]:
    """Puts a spaCy in place whose chunks are words of more than three letters; returns the models loaded."""
    loaded: list[str] = []

    def load(name: str) -> object:
        loaded.append(name)
        return lambda caption: _Doc(
            [
                _Chunk(
                    caption.index(word), caption.index(word) + len(word), _Root("PRON" if word == "They" else "NOUN")
                )
                for word in caption.split()
                if len(word) > 3
            ]
        )

    spacy, util = ModuleType("spacy"), ModuleType("spacy.util")
    spacy.__spec__, spacy.__path__ = ModuleSpec("spacy", None, is_package=True), []
    spacy.load, util.get_installed_models = load, lambda: models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    monkeypatch.setitem(sys.modules, "spacy.util", util)
    return loaded


def test_spacy_is_taken_where_an_english_model_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = fake_spacy(monkeypatch, ["de_core_news_lg", "en_core_web_sm", "en_core_web_lg"])
    find = phrase_finder("auto")
    assert loaded == ["en_core_web_lg"]
    assert texts("They see zebras", find("They see zebras")) == ["zebras"]
    assert texts("a crowd of people", find("a crowd of people")) == ["crowd of people"]


def test_spacy_without_an_english_model_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("textblob")
    loaded = fake_spacy(monkeypatch, ["de_core_news_lg"])
    assert phrase_finder("auto")("a zebra") == [(0, 7)]
    assert loaded == []
    with pytest.raises(MissingExtra, match="en_core_web_sm"):
        phrase_finder("spacy")


# --- phrases that are given -------------------------------------------------------------------------------------------


def test_given_phrases_are_found_as_whole_words_only() -> None:
    caption = "A cart, a Car and a car seat."
    assert texts(caption, locate(caption, ["car", "car seat"])) == ["Car", "car seat"]
    assert locate(caption, ["car"]) == [(10, 13)]
    caption = "The man's t-shirt"
    assert texts(caption, locate(caption, ["man", "T-Shirt"])) == ["man", "t-shirt"]


def test_a_phrase_is_looked_for_behind_the_one_before_it() -> None:
    caption = "a dog bites a man and the dog runs"
    assert locate(caption, ["man", "dog"]) == [(14, 17), (26, 29)]
    assert locate(caption, ["dog", "man"]) == [(2, 5), (14, 17)]
    # From the start again where there is none behind.
    assert locate(caption, ["dog runs", "man"]) == [(26, 34), (14, 17)]


def test_a_phrase_given_twice_stands_twice() -> None:
    assert locate("a dog and a dog", ["a dog", "A DOG"]) == [(0, 5), (10, 15)]
    with pytest.raises(InputError, match=r"'a dog and a dog'.*'a dog'"):
        locate("a dog and a dog", ["a dog"] * 3)


@pytest.mark.parametrize("phrase", ["shirt", "man s", "cat", "dog cat"])
def test_a_phrase_that_does_not_stand_there_is_refused(phrase: str) -> None:
    with pytest.raises(InputError, match=f"'{phrase}'"):
        locate("The man's t-shirt, dog.", [phrase])


def test_phrases_without_words_are_refused() -> None:
    with pytest.raises(InputError, match="has no word"):
        locate("a cat", ["  "])
    with pytest.raises(InputError, match="has no word"):
        phrase_finder(phrases=["cat", ""])


def test_known_phrases_are_found_wherever_they_stand_the_longest_first() -> None:
    find = phrase_finder(phrases=["dog", "hot dog", "car", "car seat"])
    caption = "A dog eats a hot dog in a cart, a Dog in a car on a car seat"
    assert texts(caption, find(caption)) == ["dog", "hot dog", "Dog", "car", "car seat"]
    assert find("a cat") == []


def test_known_phrases_need_no_chunker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrases, "require", lambda *_: pytest.fail("a chunker was loaded"))
    assert phrase_finder(phrases=["cat"])("a cat") == [(2, 5)]
