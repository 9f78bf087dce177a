"""Words close to class names, in a WordNet of a dozen meanings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.photos import OTHER_WORDS
from glip.data.synonyms import SENSES, SYNONYMS
from glip.data.wordnet import close_words, load_wordnet, spoken_word
from glip.errors import InputError

# offset, lexicographer file, words, offsets of narrower and wider meanings
MEANINGS: Sequence[tuple[str, str, str, str, str]] = (
    ("00000010", "05", "dog domestic_dog", "00000020 00000030", "00000060"),
    ("00000020", "05", "puppy", "", "00000010"),
    ("00000030", "05", "hunting_dog", "00000040", "00000010"),
    ("00000040", "05", "beagle Setter", "", "00000030"),
    ("00000050", "18", "dog cad", "", ""),
    ("00000060", "05", "canine", "00000010 00000070", ""),
    ("00000070", "05", "wolf", "", "00000060"),
    ("00000080", "06", "mouse computer_mouse", "", "00000110"),
    ("00000090", "05", "mouse", "", ""),
    ("00000100", "04", "kite", "", ""),
    ("00000110", "06", "pointer", "00000080", ""),
    ("00000120", "05", "cat", "00000130", "00000060"),
    ("00000130", "05", "setter", "", "00000120"),
)


def write_wordnet(folder: Path) -> Path:
    data, senses = [], dict[str, list[str]]()
    for offset, file, words, narrower, wider in MEANINGS:
        pointers = [("~", target) for target in narrower.split()] + [("@", target) for target in wider.split()]
        spelled = " ".join(f"{word} 0" for word in words.split())
        pointed = "".join(f"{kind} {target} n 0000 " for kind, target in pointers)
        data.append(f"{offset} {file} n {len(words.split()):02x} {spelled} {len(pointers):03d} {pointed}| what it is  ")
        for word in words.lower().split():
            senses.setdefault(word, []).append(offset)
    senses["mouse"].reverse()  # the animal is meant more often
    index = [f"{word} n {len(own)} 2 @ ~ {len(own)} 0 {' '.join(own)}  " for word, own in senses.items()]
    folder.mkdir(exist_ok=True)
    for name, lines in (("data.noun", data), ("index.noun", index)):
        (folder / name).write_text("\n".join(["  1 This software and database", *lines]) + "\n")
    return folder


def test_narrower_words_and_the_one_above_are_close(tmp_path: Path) -> None:
    words = close_words(load_wordnet(write_wordnet(tmp_path)), ["dog"], ["dog"])
    assert words == {"puppy": "dog", "beagle": "dog", "setter": "dog", "canine": "dog"}


def test_a_word_as_close_to_two_classes_is_left_out(tmp_path: Path) -> None:
    words = close_words(load_wordnet(write_wordnet(tmp_path)), ["cat", "dog"], ["dog", "cat"])
    assert words == {"puppy": "dog", "beagle": "dog", "setter": "cat"}  # a dog's setter is one step farther


def test_a_class_means_what_the_table_says(tmp_path: Path) -> None:
    wordnet = load_wordnet(write_wordnet(tmp_path))
    assert close_words(wordnet, ["mouse"], []) == {"mouse": "mouse", "pointer": "mouse"}
    assert close_words(wordnet, ["kite", "unknown"], []) == {}  # an act cannot be seen


def test_trained_words_are_left_alone(tmp_path: Path) -> None:
    assert "puppy" not in close_words(load_wordnet(write_wordnet(tmp_path)), ["dog"], ["puppy"])


def test_a_class_is_spoken_as_one_word() -> None:
    assert spoken_word("dog") == "dog"
    assert spoken_word("potted plant") == "plant"
    assert spoken_word("baseball bat") is None


def test_a_bad_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="apt install wordnet-base"):
        load_wordnet(tmp_path)
    write_wordnet(tmp_path)
    (tmp_path / "data.noun").write_text("nothing of the kind\n")
    with pytest.raises(InputError, match="does not hold the files of WordNet"):
        load_wordnet(tmp_path)


def test_what_the_benchmark_asks_is_never_trained() -> None:
    trained = {word for words in SYNONYMS.values() for word in words} | set(SYNONYMS) | set(SENSES)
    assert len(OTHER_WORDS) == 40
    assert not trained & set(OTHER_WORDS.values())
