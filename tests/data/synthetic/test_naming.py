"""Names that fit a thing, and the class list of a scene."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from glip.data.synthetic.naming import AskedName, SceneVocabulary, Thing, choose_name, fits, sample_names
from glip.data.synthetic.words import COLOURS, HELD_OUT, KINDS, SEEN_PAIRS, UNSEEN_PAIRS

CIRCLE = Thing("circle", "red", "striped", "small")
SQUARE = Thing("square", "blue", "plain")
DOG = Thing("dog face", size="large")
NOUNS = ("cat face", "dog face", "pig face", "red apple", "green apple", "pear", "bus", "tram", "hammer", "lock")
VOCABULARY = SceneVocabulary(NOUNS, SEEN_PAIRS)


@pytest.mark.parametrize(
    "name",
    ["circle", "red circle", "small circle", "striped circle", "small red circle", "small striped red circle"],
)
def test_every_true_part_of_a_name_fits(name: str) -> None:
    assert fits(name, CIRCLE)


@pytest.mark.parametrize(
    "name",
    [
        "", "red", "blue circle", "red square", "large red circle", "plain circle", "dotted red circle",
        "semicircle", "red semicircle", "circle red", "redcircle", "circles",
    ],
)  # fmt: skip
def test_a_name_with_one_wrong_word_does_not_fit(name: str) -> None:
    assert not fits(name, CIRCLE)


def test_a_name_ends_with_the_whole_noun() -> None:
    assert not fits("circle", Thing("semicircle", "red", "plain"))
    assert not fits("face", DOG)
    assert not fits("big dog face", DOG)
    assert fits("dog face", DOG)
    assert fits("large dog face", DOG)
    assert not fits("small dog face", DOG)


def test_plain_may_be_said_but_is_not_part_of_the_full_name() -> None:
    assert fits("plain blue square", SQUARE)
    assert SQUARE.name == "blue square"
    assert CIRCLE.name == "small striped red circle"
    assert DOG.name == "dog face"
    assert (CIRCLE.label, SQUARE.label, DOG.label) == ("red circle", "blue square", "dog face")


def test_what_is_said_of_a_thing_fits_it_and_differs_from_time_to_time() -> None:
    rng = random.Random(0)
    names = {choose_name(CIRCLE, VOCABULARY, rng) for _ in range(200)}
    assert all(fits(name, CIRCLE) for name in names)
    assert {"circle", "red circle", "small striped red circle"} <= names
    assert {choose_name(DOG, VOCABULARY, rng) for _ in range(100)} == {"dog face", "large dog face"}


def asked_for(seed: int, things: tuple[Thing, ...] = (CIRCLE, SQUARE, DOG)) -> tuple[AskedName, ...]:
    return sample_names(things, VOCABULARY, random.Random(seed))


def test_every_name_comes_with_exactly_the_objects_that_it_fits() -> None:
    things = (CIRCLE, SQUARE, DOG, Thing("circle", "green", "plain", "large"), DOG)
    shared = 0
    for seed in range(100):
        asked = asked_for(seed, things)
        assert len({item.name for item in asked}) == len(asked)
        for item in asked:
            assert item.objects == tuple(index for index, thing in enumerate(things) if fits(item.name, thing))
            shared += len(item.objects) > 1
    assert shared > 20


def test_there_are_five_to_twenty_five_names_right_and_wrong_in_any_order() -> None:
    lists = [asked_for(seed) for seed in range(200)]
    assert {len(asked) for asked in lists} == set(range(5, 26))
    assert all(any(not item.objects for item in asked) for asked in lists)
    first_right = Counter(bool(asked[0].objects) for asked in lists)
    assert min(first_right.values()) > 10


def test_a_crowded_scene_still_leaves_room_for_wrong_names() -> None:
    crowd = tuple(Thing(noun) for noun in NOUNS)
    for seed in range(40):
        asked = sample_names(crowd, VOCABULARY, random.Random(seed), (6, 6))
        assert 0 < sum(bool(item.objects) for item in asked) < len(asked) == 6


def test_now_and_then_an_object_is_not_asked_for() -> None:
    named = Counter(index for seed in range(200) for item in asked_for(seed) for index in item.objects)
    assert all(120 < named[index] < 200 for index in range(3))


def test_many_wrong_names_are_nearly_right() -> None:
    wrong = [item.name for seed in range(100) for item in asked_for(seed, (CIRCLE,)) if not item.objects]
    other_colour = sum(name.endswith("circle") and not fits(name, CIRCLE) for name in wrong)
    assert other_colour / len(wrong) > 0.25
    many = SceneVocabulary((*NOUNS, *(f"thing {number}" for number in range(200))), SEEN_PAIRS)
    lists = [sample_names((DOG,), many, random.Random(seed)) for seed in range(100)]
    near_dog = Counter(item.name for asked in lists for item in asked if not item.objects)
    assert near_dog["cat face"] > 40 > 10 > near_dog["thing 150"]
    assert near_dog["small dog face"] > 3


def test_similar_images_share_a_word_or_stand_near_each_other() -> None:
    nouns = (*(f"thing {letter}" for letter in "abcdefghijk"), "dog face", *"lmnopqrstu", "cat face")
    similar = SceneVocabulary(nouns).similar("dog face")
    assert "cat face" in similar
    assert "thing k" in similar
    assert "thing a" not in similar
    assert "dog face" not in similar


def test_pairs_that_are_not_in_the_vocabulary_are_never_named() -> None:
    unseen = Thing("star", "blue", "plain", "small")
    near = Thing("star", "red", "plain", "small")
    for seed in range(300):
        for item in asked_for(seed, (unseen, near)):
            words = item.name.split()
            assert not any((word, words[-1]) in UNSEEN_PAIRS for word in words[:-1])


def test_a_small_vocabulary_and_an_empty_scene_are_no_problem() -> None:
    alone = sample_names((Thing("key"),), SceneVocabulary(("key",)), random.Random(0))
    assert [item for item in alone if item.objects] in ([], [AskedName("key", (0,))])
    assert all(not item.objects for item in asked_for(0, ()))
    assert sample_names((), SceneVocabulary(), random.Random(0)) == ()


def test_names_follow_from_the_generator_alone() -> None:
    assert asked_for(5) == asked_for(5)
    assert asked_for(5) != asked_for(6)


def test_pre_training_sees_every_colour_and_kind_but_not_all_pairs() -> None:
    assert ("blue", "star") in UNSEEN_PAIRS
    assert not {*SEEN_PAIRS} & {*UNSEEN_PAIRS}
    assert len(SEEN_PAIRS) + len(UNSEEN_PAIRS) == len(COLOURS) * len(KINDS)
    assert {colour for colour, _ in SEEN_PAIRS} == {*COLOURS} == {colour for colour, _ in UNSEEN_PAIRS}
    assert {kind for _, kind in SEEN_PAIRS} == {*KINDS} == {kind for _, kind in UNSEEN_PAIRS}


def test_no_class_is_held_out_twice() -> None:
    assert len(set(HELD_OUT)) == len(HELD_OUT) == 40
