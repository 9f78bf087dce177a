"""Prompts: names to captions, spans and tokens."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from string import ascii_lowercase, digits, punctuation
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from glip.errors import InputError
from glip.names import clean_name
from glip.prompts import MAX_TOKENS, Prompt, PromptSet, Wording, _warn_of_unknown, tokenize
from tests.conftest import GOLDEN

TEXT_MAPS: dict[str, Any] = json.loads((GOLDEN / "text_maps.json").read_text(encoding="utf-8"))

# Spells every word of a-z and 0-9, and knows some whole.
WORDS = ("car", "cart", "cat", "dog", "man", "woman", "seat", "traffic", "light", "cafe", "st", "bernard", "hat", "犬")
SPELLED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *punctuation, *ascii_lowercase, *digits)
SPELLED += tuple("##" + letter for letter in ascii_lowercase + digits)


def bert_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    """A tokenizer as a checkpoint has it: lower-casing, without padding and truncation."""
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return tokenizer


SMALL = bert_tokenizer({word: number for number, word in enumerate(SPELLED)})


@pytest.fixture(autouse=True)
def forget_warnings() -> None:
    _warn_of_unknown.cache_clear()


@pytest.fixture(scope="module", params=["the words of the cases", "the whole vocabulary"])
def published_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """With the published token ids. The words of the cases are enough to get them right, and are in every clone."""
    if request.param == "the words of the cases":
        return bert_tokenizer(TEXT_MAPS["vocabulary"])
    words = (request.getfixturevalue("parity") / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return bert_tokenizer({word: number for number, word in enumerate(words) if word})


def spelled_by(prompt: Prompt, tokenizer: Tokenizer = SMALL) -> list[list[str]]:
    """For each phrase the tokens that the positive map gives it."""
    tokens = tokenize(prompt, tokenizer)
    return [
        [str(tokenizer.id_to_token(int(token))) for token in tokens.input_ids[row > 0]] for row in tokens.positive_map
    ]


def texts_under_spans(prompt: Prompt) -> list[list[str]]:
    return [[prompt.caption[start:end] for start, end in spans] for spans in prompt.spans]


# --- captions of names


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("traffic light", "traffic light"),
        ("hot_dog", "hot dog"),
        ("bow_(weapon)", "bow "),
        ("a (b) c (d) e", "a e"),
        ("a_ b", "a b"),
        ("a   b", "a  b"),  # one pass, as published
        ("a\tb", "a\tb"),
        ("(a\nb)c", "c"),
        ("half (open", "half (open"),
        ("St. Bernard", "St. Bernard"),
    ],
)
def test_names_are_cleaned_as_published(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned
    prompt = Prompt.from_names(["cat", name])
    assert prompt.caption == f"cat. {cleaned}"
    assert prompt.phrases == ("cat", name)


@pytest.mark.parametrize(
    "names",
    [
        ["car", "cart"],
        ["cart", "car"],
        ["man", "woman"],
        ["car", "car seat"],
        ["car seat", "car", "seat"],
        ["car", "car", "dog", "car"],
        ["St. Bernard", "dog", "Bernard"],
        ["node.js", "js", "node"],
        ["traffic_light", "bow_(weapon)", "bow"],
        ["hard  hat", "hat\ttraffic", "  cat "],
        ["ＤＯＧ", "dog"],
        ["cafe\u0301", "café", "cafe"],
        ["man\u200d", "zero\u200bwidth", "\u200bcat"],
        ["z\u0337\u0322\u0321\u0334\u0335", "\u0337\u0322\u0321\u0334cat\u0337\u0322\u0321\u0334"],
        ["cat       (animal)", "(animal)        cat"],
        ["🦝 cat", "cat 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👩‍🚒", "dog"],
        ["𝔠𝔞𝔱", "cat"],
        ["מכונית", "car"],
        ["\u202bcar\u202c", "cart"],
        ["犬", "car 犬 cat", "犬 犬"],
        ["[CLS]", "#", "...", "a" * 300],
        [" ".join(["car"] * 40), "car"],
        ["cat"],
    ],
)
def test_every_name_is_spelled_by_its_own_tokens(names: list[str]) -> None:
    prompt = Prompt.from_names(names)
    assert prompt.phrases == tuple(names)
    assert texts_under_spans(prompt) == [[clean_name(name)] for name in names]
    alone = [
        [SMALL.id_to_token(token) for token in SMALL.encode(clean_name(name), add_special_tokens=False).ids]
        for name in names
    ]
    assert spelled_by(prompt) == alone


def test_tokens_do_not_go_to_the_neighbour_of_a_short_name() -> None:
    tokens = tokenize(Prompt.from_names(["car", "car", "cart", "car seat"]), SMALL)
    assert tokens.positive_map.nonzero().tolist() == [[0, 1], [1, 3], [2, 5], [3, 7], [3, 8]]
    assert tokens.positive_map.shape == (4, 10)
    assert tokens.positive_map.dtype == torch.float32
    assert tokens.input_ids.dtype == torch.int64
    assert " ".join(str(SMALL.id_to_token(int(token))) for token in tokens.input_ids) == (
        "[CLS] car . car . cart . car seat [SEP]"
    )


@pytest.mark.parametrize("names", [["cat", "(x)"], [" "], ["_"], ["cat", "", "dog"], ["\u3000"]])
def test_a_name_of_which_nothing_is_left_is_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match=re.escape(repr(next(name for name in names if not clean_name(name).strip())))):
        PromptSet.from_names(names, SMALL)


@pytest.mark.parametrize("name", ["\u200b", "\u200b\u200d\ufeff", "\x00\x01", "\u0301\u0301"])
def test_a_name_that_no_token_spells_is_refused(name: str) -> None:
    for names in ([name], ["cat", name], [name, "cat"], ["cat", name, "dog"]):
        with pytest.raises(InputError, match=re.escape(repr(name))):
            PromptSet.from_names(names, SMALL)


@pytest.mark.parametrize("names", ["cat", ["cat", 7], [None]])
def test_names_must_be_a_list_of_texts(names: Any) -> None:
    with pytest.raises(InputError, match=re.escape(repr(names))):
        Prompt.from_names(names)


def test_an_empty_list_of_names_is_refused() -> None:
    with pytest.raises(InputError, match="name"):
        Prompt.from_names([])
    with pytest.raises(InputError, match="name"):
        PromptSet.from_names([], SMALL)


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape(repr("caf\udce9"))):
        Prompt.from_names(["caf\udce9"])


def test_only_the_text_of_a_wording_is_looked_for() -> None:
    wordings = [Wording("holes", "there are some ", " on the road"), Wording("cat_(x)"), Wording("dog", suffix=" ,")]
    prompt = Prompt.from_names(["pothole", "cat", "dog"], wordings)
    assert prompt.caption == "there are some holes on the road. cat_(x). dog ,"
    assert prompt.phrases == ("pothole", "cat", "dog")
    assert texts_under_spans(prompt) == [["holes"], ["cat_(x)"], ["dog"]]


def test_every_name_needs_a_wording_if_one_has() -> None:
    with pytest.raises(InputError, match=r"\b2\b.*\b1\b"):
        Prompt.from_names(["a", "b"], [Wording("a")])
    with pytest.raises(InputError, match="'a'"):
        Prompt.from_names(["a"], [Wording(" ", "the ")])


# --- captions as they are


def test_a_caption_keeps_its_text_and_gets_its_phrases_from_the_spans() -> None:
    prompt = Prompt.from_caption("two dogs chase a cat", [[(0, 8)], [(17, 20), [0, 3]]])
    assert prompt.caption == "two dogs chase a cat"
    assert prompt.phrases == ("two dogs", "cat / two")
    assert spelled_by(prompt) == [["t", "##w", "##o", "dog", "##s"], ["t", "##w", "##o", "cat"]]
    assert Prompt.from_caption("a cat", [[(2, 5)]], phrases=["pet"]).phrases == ("pet",)


@pytest.mark.parametrize("span", [(0, 0), (3, 2), (-1, 3), (0, 6), (5, 9), (1, 2), (0, 100)], ids=str)
def test_a_span_that_marks_nothing_is_refused_with_its_numbers(span: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"\b5\b") as caught:
        Prompt.from_caption("a cat", [[(2, 5)], [span]], phrases=["cat", "other"])
    assert str(span) in str(caught.value)
    assert "'other'" in str(caught.value)


@pytest.mark.parametrize("spans", [[], 3, [(0, 1)], [[0, 1]], [[(0, 1, 2)]], [[(0.0, 1.0)]], [["ab"]], None])
def test_spans_of_another_form_are_refused(spans: Any) -> None:
    with pytest.raises(InputError, match=re.escape(repr(spans))):
        Prompt.from_caption("a cat", spans)


def test_every_phrase_needs_a_span() -> None:
    with pytest.raises(InputError, match="''"):
        Prompt.from_caption("a cat", [[(0, 1)], []])
    with pytest.raises(InputError, match=r"\b1\b.*\b2\b"):
        Prompt.from_caption("a cat", [[(0, 1)], [(2, 5)]], phrases=["cat"])


def test_spans_that_begin_and_end_beside_a_word_find_it() -> None:
    caption = "a    cat     dog"
    assert spelled_by(Prompt.from_caption(caption, [[(1, 13)]])) == [["cat"]]  # beyond the published reach
    assert spelled_by(Prompt.from_caption(caption, [[(3, 9)]])) == [["cat"]]
    # The published rule looks up to two characters past a short range: the zero-width letter is inside a word.
    assert spelled_by(Prompt.from_caption("ca\u200bt", [[(2, 3)]])) == [["cat"]]


def test_a_caption_that_is_too_long_is_refused_with_its_number_of_tokens() -> None:
    fitting = Prompt.from_caption(" ".join(["cat"] * 254), [[(0, 3)]])
    assert len(tokenize(fitting, SMALL).input_ids) == MAX_TOKENS
    with pytest.raises(InputError, match=r"\b257\b"):
        tokenize(Prompt.from_caption(fitting.caption + " cat", [[(0, 3)]]), SMALL)


def test_an_unknown_word_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    prompt = Prompt.from_names(["🦝", "cat 🦝", "dog"])
    for _ in range(3):
        tokenize(prompt, SMALL)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "'🦝'" in caplog.text


# --- equal to the original


def rows_as_published(tokens: Any) -> dict[str, list[int]]:
    return {str(label): row.nonzero()[:, 0].tolist() for label, row in enumerate(tokens.positive_map, start=1)}


@pytest.mark.parametrize("case", TEXT_MAPS["detection"])
def test_class_lists_become_the_published_tokens(case: str, published_tokenizer: Tokenizer) -> None:
    golden = TEXT_MAPS["detection"][case]
    prompt = Prompt.from_names(golden["classes"])
    assert prompt.caption == golden["caption"]
    assert texts_under_spans(prompt) == [[name] for name in golden["cleaned"]]
    tokens = tokenize(prompt, published_tokenizer)
    assert tokens.input_ids.tolist() == golden["input_ids"]
    assert rows_as_published(tokens) == golden["positive_map"]
    assert PromptSet.from_names(golden["classes"], published_tokenizer).chunks == (prompt,)


def test_caption_prompts_become_the_published_tokens(published_tokenizer: Tokenizer) -> None:
    golden = TEXT_MAPS["caption_prompt"]
    wordings = [Wording(part["name"], part["prefix"], part["suffix"]) for part in golden["caption_prompt"]]
    prompt = Prompt.from_names(golden["classes"], wordings)
    assert prompt.caption == golden["caption"]
    tokens = tokenize(prompt, published_tokenizer)
    assert tokens.input_ids.tolist() == golden["input_ids"]
    assert rows_as_published(tokens) == golden["positive_map"]


@pytest.mark.parametrize("golden", TEXT_MAPS["sentences"], ids=lambda golden: golden["caption"])
def test_sentences_become_the_published_tokens(golden: dict[str, Any], published_tokenizer: Tokenizer) -> None:
    tokens = tokenize(Prompt.from_caption(golden["caption"], golden["tokens_positive"]), published_tokenizer)
    assert tokens.input_ids.tolist() == golden["input_ids"]
    assert rows_as_published(tokens) == golden["label_to_tokens"]


# --- long lists


def token_counts(prompts: PromptSet) -> list[int]:
    return [len(SMALL.encode(chunk.caption).ids) for chunk in prompts.chunks]


def chunk_names(prompts: PromptSet) -> list[tuple[str, ...]]:
    return [chunk.phrases for chunk in prompts.chunks]


def test_names_are_cut_where_the_next_one_would_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    names = ["car"] * 127 + ["dog", "cat"]  # 127 names and 126 full stops with [CLS] and [SEP]: 255 tokens
    with caplog.at_level(logging.INFO):
        prompts = PromptSet.from_names(names, SMALL)
    assert chunk_names(prompts) == [tuple(names[:127]), ("dog", "cat")]
    assert prompts.names == tuple(names)
    assert [(chunk.phrases, len(SMALL.encode(chunk.caption).ids)) for chunk in prompts.chunks] == [
        (tuple(names[:127]), 255),
        (("dog", "cat"), 5),
    ]
    assert "129 names (259 tokens)" in caplog.text


def test_a_chunk_may_be_full_to_the_last_token() -> None:
    full = [" ".join(["car"] * 200), " ".join(["dog"] * 53)]
    assert token_counts(PromptSet.from_names([*full, "cat"], SMALL)) == [256, 3]
    assert token_counts(PromptSet.from_names([full[0], full[1] + " dog"], SMALL)) == [202, 56]


def test_one_prompt_is_not_worth_a_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert len(PromptSet.from_names(["car", "dog"], SMALL).chunks) == 1
    assert not caplog.records


def test_the_number_of_names_in_a_chunk_can_be_given() -> None:
    names = [f"cat {number}" for number in range(90)]
    assert [len(chunk) for chunk in chunk_names(PromptSet.from_names(names, SMALL, names_per_chunk=40))] == [40, 40, 10]
    assert [len(chunk) for chunk in chunk_names(PromptSet.from_names(["car"] * 200, SMALL, 150))] == [127, 73]
    for number in (0, -1):
        with pytest.raises(InputError, match=rf"names_per_chunk.*{number}"):
            PromptSet.from_names(names, SMALL, names_per_chunk=number)


def test_a_single_name_may_fill_a_prompt_but_not_more() -> None:
    longest = " ".join(["car"] * 254)
    assert token_counts(PromptSet.from_names(["cat", longest, "dog"], SMALL)) == [3, 256, 3]
    with pytest.raises(InputError, match=r"\b255\b"):
        PromptSet.from_names(["cat", longest + " car"], SMALL)


def test_wordings_are_cut_together_with_their_names() -> None:
    wordings = [Wording("car", "the ", f" number {number}") for number in range(60)]
    prompts = PromptSet.from_names([f"car {number}" for number in range(60)], SMALL, wordings=wordings)
    assert len(prompts.chunks) > 1
    assert "; ".join(chunk.caption for chunk in prompts.chunks).replace("; ", ". ") == (
        ". ".join(f"the car number {number}" for number in range(60))
    )


def test_equal_names_stay_two_classes() -> None:
    assert PromptSet.from_names(["car", "car"], SMALL).names == ("car", "car")


# --- prompts as values


def test_prompts_are_values_that_json_can_carry() -> None:
    prompts = PromptSet.from_names(["car"] * 200, SMALL)
    text = msgspec.json.encode(prompts)
    again = msgspec.json.decode(text, type=PromptSet)
    assert again == prompts
    assert hash(again) == hash(prompts)
    assert msgspec.json.encode(again) == text
    assert set(json.loads(text)) == {"chunks"}


def test_a_saved_prompt_is_checked_when_it_comes_back() -> None:
    with pytest.raises(InputError, match=r"\(0, 4\)"):
        msgspec.json.decode(b'{"caption": "cat", "phrases": ["cat"], "spans": [[[0, 4]]]}', type=Prompt)


def spellable(names: Sequence[str]) -> bool:
    """Whether each name has a token of its own, which the property below needs."""
    return all(clean_name(name).strip() and SMALL.encode(clean_name(name)).ids[1:-1] for name in names)


# Full stops, brackets, underscores, spaces, marks, invisible and wide letters, next to words of the vocabulary.
PIECES = st.sampled_from(
    [
        *WORDS,
        *"ab. ,_()[]-'\t",
        "  ",
        ". ",
        "\u200b",
        "\u0301",
        "e\u0301",
        "\u00ad",
        "\ufeff",
        "犬",
        "🦝",
        "Ａ",
        "ß",
        "א",
    ]
)
NAMES = st.one_of(st.lists(PIECES, min_size=1, max_size=12).map("".join), st.text(max_size=30))


@settings(max_examples=300, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=60).filter(spellable), st.none() | st.integers(1, 50))
def test_every_name_of_any_list_is_asked_once_in_order(names: list[str], names_per_chunk: int | None) -> None:
    prompts = PromptSet.from_names(names, SMALL, names_per_chunk)
    assert prompts.names == tuple(names)
    assert [text for chunk in prompts.chunks for text in texts_under_spans(chunk)] == [
        [clean_name(name)] for name in names
    ]
    for chunk in prompts.chunks:
        tokens = tokenize(chunk, SMALL)
        assert len(tokens.input_ids) <= MAX_TOKENS
        assert len(chunk.phrases) <= (names_per_chunk or MAX_TOKENS)
        assert not tokens.positive_map[:, [0, -1]].any()  # [CLS] and [SEP] belong to no name
        assert tokens.positive_map.sum(0).max() == 1  # and no token to two
        assert tokens.positive_map.sum(1).min() >= 1


def test_methods_of_0_1_still_work_and_say_that_they_go() -> None:
    with pytest.warns(DeprecationWarning, match=r"PromptSet\.parse"):
        parsed = PromptSet.parse("cat . dog . cat", SMALL)
    assert parsed == PromptSet.from_names(["cat", "dog"], SMALL)
    with pytest.warns(DeprecationWarning, match=r"PromptSet\.for_image"):
        assert parsed.for_image("a.jpg") == parsed.chunks
