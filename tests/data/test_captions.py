"""Captions of class names: the published rules, exact spans, never too long."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glip.data.captions import (
    AS_MANY_AS_FIT,
    PRETRAINING,
    TOKEN_BUDGET,
    ClassCaption,
    ClassNames,
    Negatives,
    Packing,
    cut_caption,
    full_caption,
    packed_caption,
    sampled_caption,
)
from glip.errors import InputError
from glip.prompts import MAX_TOKENS, Wording
from tests.tiny import letters_tokenizer

TOKENIZER = letters_tokenizer()
NO_NEGATIVES = Negatives(maximum=0)


def tokens(text: str) -> int:
    return len(TOKENIZER.encode(text).ids)


def of(*names: str) -> ClassNames:
    return ClassNames.of(names, TOKENIZER)


def words(letter: str, count: int) -> str:
    """A text of so many tokens; words are short, since of those above 100 letters the tokenizer makes one [UNK]."""
    return " ".join(letter * min(50, count - start) for start in range(0, count, 50))


def said(caption: ClassCaption) -> dict[int, str]:
    return {label: caption.text[start:end] for label, (start, end) in caption.spans.items()}


NAMES = st.lists(st.text(st.sampled_from("abz09 _(.)-é猫"), max_size=40) | st.text(max_size=8), min_size=1, max_size=60)


@settings(deadline=None, max_examples=150)
@given(NAMES, st.data())
def test_every_name_stands_at_its_span_and_no_caption_is_too_long(names: list[str], data: st.DataObject) -> None:
    names.append("cat")
    classes = of(*names)
    present = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=20))
    seed = data.draw(st.integers(0, 99))
    for caption in (
        sampled_caption(classes, present, random.Random(seed)),
        sampled_caption(classes, present, random.Random(seed), AS_MANY_AS_FIT),
        full_caption(classes, present, random.Random(seed)),
        full_caption(classes, present, random.Random(seed), shuffled=True),
    ):
        assert tokens(caption.text) <= MAX_TOKENS
        assert said(caption) == {label: classes.wordings[label].text for label in caption.spans}
        # Names, their order and '. ' between them are all there is.
        in_order = [classes.wordings[label].text for label in sorted(caption.spans, key=caption.spans.__getitem__)]
        assert caption.text == ". ".join(in_order)
        assert all(classes.tokens[label] for label in caption.spans)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.sampled_from("abc _"), min_size=1, max_size=30), min_size=1, max_size=30))
def test_tokens_of_names_add_up_to_those_of_the_caption(names: list[str]) -> None:
    classes = of(*names, "cat")
    caption = full_caption(classes, (), random.Random(0))
    if classes.fit:
        assert sum(classes.tokens[:-1]) == tokens(caption.text) - 2 + 1  # one separator less than names


def test_names_are_spelled_as_the_original_spells_them() -> None:
    classes = of("traffic_light", "bow_(weapon)", "person")
    caption = full_caption(classes, (), random.Random(0))
    assert caption.text == "traffic light. bow . person"
    assert caption.spans == {0: (0, 13), 1: (15, 19), 2: (21, 27)}
    assert classes.wordings[classes.background].text == " background "


def test_names_of_which_nothing_is_left_are_never_asked() -> None:
    classes = of("(all)", "cat", "  ")
    assert classes.labels == [1]
    assert full_caption(classes, (0, 1, 2), random.Random(0)) == ClassCaption("cat", {1: (0, 3)})
    assert set(sampled_caption(classes, (0, 1, 2), random.Random(0)).spans) <= {1, classes.background}


def test_names_that_no_caption_can_hold_are_refused() -> None:
    with pytest.raises(InputError, match="2 class names"):
        of("(cat)", " ")
    with pytest.raises(InputError, match=r"2 names .*1 wordings"):
        ClassNames.of(("cat", "dog"), TOKENIZER, [Wording("cat")])


def test_all_present_names_are_asked_whatever_is_drawn() -> None:
    classes = of(*"abcdefgh")
    for seed in range(50):
        assert {1, 4, 7} <= set(sampled_caption(classes, (7, 1, 4, 1), random.Random(seed)).spans)
    assert set(sampled_caption(classes, (7, 1, 4, 1), random.Random(0), NO_NEGATIVES).spans) == {1, 4, 7}


def test_every_class_is_drawn_and_present_ones_stand_anywhere() -> None:
    classes = of(*"abcdefgh")
    captions = [sampled_caption(classes, (2,), random.Random(seed)) for seed in range(200)]
    assert set().union(*(caption.spans for caption in captions)) == {*range(8), classes.background}
    places = {sorted(caption.spans, key=caption.spans.__getitem__).index(2) for caption in captions}
    assert {0, 1, 2, 3, 4, 5} <= places


def test_how_many_absent_names_are_drawn_for_objects365() -> None:
    # 365 names of two tokens each: room for all that are drawn.
    classes = of(*["a"] * 365)
    counts = [len(sampled_caption(classes, (), random.Random(seed)).spans) for seed in range(3000)]
    most = counts.count(85) / len(counts)
    assert abs(most - (0.5 + 0.5 / 85)) < 0.03  # half of the time all 85
    fewer = [count for count in counts if count < 85]
    assert min(fewer) == 1
    assert max(fewer) == 84
    assert abs(sum(fewer) / len(fewer) - 42.5) < 2  # else any number, each equally often
    thirds = [sum(low <= count < low + 28 for count in fewer) / len(fewer) for low in (1, 29, 57)]
    assert all(abs(share - 1 / 3) < 0.05 for share in thirds)


def test_absent_names_are_drawn_from_all_and_present_ones_taken_out_afterwards() -> None:
    # Of 10 classes and the background 5 are there, so that 85 means 11 draws, of which 6 are of absent names.
    classes = of(*"abcdefghij")
    rule = Negatives(share_of_maximum=1.0)
    assert len(sampled_caption(classes, range(5), random.Random(0), rule).spans) == 11
    one = Negatives(maximum=1, share_of_maximum=1.0, background=False)
    sizes = [len(sampled_caption(classes, range(5), random.Random(seed), one).spans) for seed in range(400)]
    assert set(sizes) == {5, 6}  # the one draw hits a present name half of the time
    assert abs(sizes.count(6) / 400 - 0.5) < 0.1


def test_absent_names_are_taken_while_room_is_left() -> None:
    classes = of(words("x", 100), *["y" * 49] * 9)  # 101 tokens, and 50 each
    for seed in range(20):
        caption = sampled_caption(classes, (0,), random.Random(seed), AS_MANY_AS_FIT)
        assert len(caption.spans) == 4  # 254 - 101 = 153, and 153 - 3 * 50 = 3 > 0
        assert 0 in caption.spans
    # Exactly no room left is none: 254 = 104 + 3 * 50.
    exact = of(words("x", 103), *["y" * 49] * 9)
    assert len(sampled_caption(exact, (0,), random.Random(0), AS_MANY_AS_FIT).spans) == 3


def test_present_names_are_taken_in_random_order_until_one_does_not_fit() -> None:
    classes = of(*["z" * 99] * 4, "a", "b")  # 100 tokens each, and 2
    seen = set()
    for seed in range(60):
        spans = sampled_caption(classes, range(4), random.Random(seed)).spans
        assert len(spans) == 2
        assert not {4, 5} & set(spans)  # nothing absent joins once a present name was left out
        seen.add(frozenset(spans))
    assert len(seen) == 6
    full = of(words("z", 126), words("z", 126))  # 127 + 127 = 254: exactly full, and the caption has one separator less
    caption = sampled_caption(full, (0, 1), random.Random(0))
    assert len(caption.spans) == 2
    assert tokens(caption.text) == MAX_TOKENS - 1
    assert TOKEN_BUDGET == 254


def test_a_name_too_long_for_any_caption_is_left_out() -> None:
    classes = of(words("q", 255), "a")
    assert classes.labels == [0, 1]
    assert sampled_caption(classes, (0,), random.Random(0)) == ClassCaption("", {})
    assert set(full_caption(classes, (1,), random.Random(0)).spans) == {1}


def test_all_names_stand_in_the_order_of_their_labels_or_shuffled() -> None:
    classes = of("cat", "dog", "emu")
    assert full_caption(classes, (2,), random.Random(0)).text == "cat. dog. emu"
    texts = {full_caption(classes, (), random.Random(seed), shuffled=True).text for seed in range(60)}
    assert len(texts) == 6


def test_too_many_names_for_one_caption_are_sampled_with_the_present_ones_among_them() -> None:
    classes = of(*[f"thing{number}" for number in range(200)])
    assert not classes.fit
    caption = full_caption(classes, (3, 150), random.Random(0))
    assert {3, 150} <= set(caption.spans)
    assert classes.background not in caption.spans
    # 8 or 7 or 6 letters and a separator each: no further name fits.
    assert MAX_TOKENS - 12 < tokens(caption.text) <= MAX_TOKENS


def test_wordings_stand_as_they_are_and_only_their_text_is_looked_for() -> None:
    wordings = [Wording("fish", "the ", " in water"), Wording("jelly_fish")]
    classes = ClassNames.of(("fish", "jellyfish"), TOKENIZER, wordings)
    caption = full_caption(classes, (), random.Random(0))
    assert caption.text == "the fish in water. jelly_fish"
    assert said(caption) == {0: "fish", 1: "jelly_fish"}
    assert classes.tokens[0] == len("thefishinwater") + 1


def test_equal_seeds_give_equal_captions() -> None:
    classes = of(*"abcdefghijklmnop")
    once = sampled_caption(classes, (5, 2, 9), random.Random(7))
    assert sampled_caption(classes, [9, 5, 2, 2], random.Random(7)) == once
    assert sampled_caption(classes, (5, 2, 9), random.Random(8)) != once


def test_a_short_caption_stays_and_ranges_that_say_nothing_go() -> None:
    text = "a cat, \u0007 and a dog"
    spans = [[(2, 5), (15, 18)], [(5, 6), (6, 7)], [(7, 8)], [(6, 9)], [(2, 99)]]
    assert cut_caption(text, spans, TOKENIZER) == (text, [((2, 5), (15, 18)), ((5, 6),), (), (), ()])


def test_a_long_caption_is_cut_at_the_last_token_that_is_read() -> None:
    text = " ".join(["abcd"] * 100)  # 400 tokens
    cut, spans = cut_caption(text, [[(0, 4), (495, 499)], [(310, 314)], [(315, 319)], [(315, 316)]], TOKENIZER)
    assert tokens(cut) == MAX_TOKENS
    assert text.startswith(cut)
    assert len(cut) == 317  # 63 words of 4 letters, and 2 letters
    assert spans == [((0, 4),), ((310, 314),), (), ((315, 316),)]


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from("ab é猫.-"), max_size=600))
def test_no_cut_caption_is_too_long_and_none_is_cut_without_need(text: str) -> None:
    cut, _ = cut_caption(text, [], TOKENIZER)
    assert tokens(cut) <= MAX_TOKENS
    assert text.startswith(cut)
    assert cut == text or tokens(cut) == MAX_TOKENS


def test_a_packed_caption_stands_whole_at_its_place_among_others() -> None:
    starts = set()
    for seed in range(30):
        text, start = packed_caption("a cat", ["one dog.", "two emus"], random.Random(seed), TOKENIZER)
        assert sorted(text.replace(".", "").split(" ")) == ["a", "cat", "dog", "emus", "one", "two"]
        assert text[start : start + 5] == "a cat"
        assert ".." not in text
        starts.add(start)
    assert len(starts) > 2


def test_others_join_while_room_is_left() -> None:
    text, start = packed_caption("a cat", ["b" * 90, "c" * 99, "d" * 99, "", "e" * 50], random.Random(1), TOKENIZER)
    assert text[start : start + 5] == "a cat"
    assert set(text.split(". ")) | {"."} >= {"b" * 90}
    assert "c" * 99 in text
    assert "d" not in text  # 254 - 5 - 91 - 100 = 58
    assert "e" * 50 in text
    assert tokens(text) <= MAX_TOKENS
    assert packed_caption("a cat", [], random.Random(1), TOKENIZER) == ("a cat", 0)
    full = words("f", 254)
    assert packed_caption(full, ["g"], random.Random(1), TOKENIZER) == (full, 0)


def test_how_often_captions_are_packed() -> None:
    rng = random.Random(0)
    drawn = [Packing().draw(rng) for _ in range(4000)]
    assert abs(drawn.count(20) / 4000 - 0.3) < 0.03
    assert abs(drawn.count(0) / 4000 - (0.4 + 0.3 / 20)) < 0.03
    assert max(number for number in drawn if number < 20) == 19


def test_the_published_numbers() -> None:
    assert Negatives(maximum=85, share_of_maximum=0.5, background=True) == PRETRAINING
    assert Negatives(maximum=None, share_of_maximum=1.0, background=False) == AS_MANY_AS_FIT
    assert Packing() == Packing(alone=0.4, maximum=20, share_of_maximum=0.5)
