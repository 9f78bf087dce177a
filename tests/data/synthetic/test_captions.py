"""Sentences about scenes."""

from __future__ import annotations

import random

import pytest

from glip.data.synthetic.captions import BoxXYWH, SceneCaption, article, plural, write_caption
from glip.data.synthetic.naming import SceneVocabulary, Thing
from glip.data.synthetic.words import SEEN_PAIRS

VOCABULARY = SceneVocabulary(("dog face", "cat face"), SEEN_PAIRS)
DOG, CAT = Thing("dog face"), Thing("cat face")
OPENINGS = ("", "an image of ", "I see ", "here you see ")


def captions(things: tuple[Thing, ...], boxes: tuple[BoxXYWH, ...], count: int = 100) -> list[SceneCaption]:
    return [write_caption(things, boxes, VOCABULARY, random.Random(seed)) for seed in range(count)]


@pytest.mark.parametrize(
    ("other", "relation", "inverse"),
    [
        ((60.0, 0.0, 20.0, 20.0), "left of", "right of"),
        ((10.0, 70.0, 20.0, 20.0), "above", "below"),
        ((20.0, 20.0, 20.0, 20.0), "and", "and"),
    ],
)
def test_a_relation_is_said_where_it_is_plain_to_see(other: BoxXYWH, relation: str, inverse: str) -> None:
    texts = {caption.text for caption in captions((DOG, CAT), ((0.0, 0.0, 50.0, 60.0), other))}
    both = {f"{start}a dog face {relation} a cat face" for start in OPENINGS}
    both |= {f"{start}a cat face {inverse} a dog face" for start in OPENINGS}
    alone = {f"{start}a {one}" for start in OPENINGS for one in ("dog face", "cat face")}
    assert texts == both | alone


def test_spans_are_the_characters_of_the_names() -> None:
    for caption in captions((DOG, CAT), ((0.0, 0.0, 5.0, 5.0), (9.0, 0.0, 5.0, 5.0))):
        found = {phrase.objects: caption.text[slice(*phrase.span)] for phrase in caption.phrases}
        assert found.items() <= {(0,): "dog face", (1,): "cat face"}.items()
        assert len(found) == len(caption.phrases) >= 1


def test_several_things_of_one_name_are_counted_and_have_no_relation() -> None:
    boxes = ((0.0, 0.0, 5.0, 5.0), (20.0, 0.0, 5.0, 5.0), (40.0, 0.0, 5.0, 5.0))
    for caption in captions((DOG, CAT, DOG), boxes):
        assert "of" not in caption.text.replace("image of", "")
        for phrase in caption.phrases:
            words = caption.text[slice(*phrase.span)]
            assert (words, phrase.objects) in (("dog faces", (0, 2)), ("cat face", (1,)))
            if words == "dog faces":
                assert caption.text[: phrase.span[0]].endswith("two ")


def test_more_than_ten_are_many() -> None:
    (caption,) = captions((DOG,) * 11, ((0.0, 0.0, 5.0, 5.0),) * 11, count=1)
    assert caption.text.endswith("many dog faces")


def test_a_colour_that_may_not_be_named_is_not_said() -> None:
    star = Thing("star", "blue", "plain")
    assert all("blue" not in caption.text for caption in captions((star,), ((0.0, 0.0, 5.0, 5.0),)))


@pytest.mark.parametrize(
    ("one", "many", "with_article"),
    [
        ("dog face", "dog faces", "a dog face"),
        ("slice of pizza", "slices of pizza", "a slice of pizza"),
        ("face with tears", "faces with tears", "a face with tears"),
        ("octopus", "octopuses", "an octopus"),
        ("red fox", "red foxes", "a red fox"),
        ("ferry", "ferries", "a ferry"),
        ("monkey", "monkeys", "a monkey"),
        ("wine glass", "wine glasses", "a wine glass"),
        ("jeans", "jeans", "jeans"),
        ("unicorn face", "unicorn faces", "a unicorn face"),
    ],
)
def test_grammar(one: str, many: str, with_article: str) -> None:
    assert plural(one) == many
    assert article(one) + one == with_article
