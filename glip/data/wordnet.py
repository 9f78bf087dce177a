"""Words close to class names, from WordNet's files: synonyms, narrower words, and the word right above.

A small model cannot learn every word. A word that means a kind of dog may begin with what was learned of "dog". The
files are those of WordNet 3 (Debian's package `wordnet-base` puts them into /usr/share/wordnet). Source: its `wndb`
manual. Knows nothing of tokens or models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glip.data.synonyms import SENSES, SYNONYMS
from glip.errors import InputError

# Lexicographer files of what can be seen: top concepts, animals, artefacts, food, people, plants.
_VISIBLE = frozenset({"03", "05", "06", "13", "18", "20"})
_DEPTH = 4  # levels of narrower words
_USUAL_SENSES = 2  # of a narrower or wider word only the first senses count, which are the frequent ones
_WORD = re.compile(r"[a-z]{3,}")


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, the lexicographer file, and the offsets of narrower and wider meanings."""

    words: tuple[str, ...]
    file: str
    narrower: tuple[str, ...]
    wider: tuple[str, ...]


@dataclass(frozen=True)
class WordNet:
    """The nouns: by word the offsets of its meanings, most frequent first; by offset the meaning."""

    senses: Mapping[str, tuple[str, ...]]
    synsets: Mapping[str, Synset]


def load_wordnet(folder: Path) -> WordNet:
    """Reads the nouns.

    Raises:
        InputError: a file is missing or is not WordNet's.
    """
    try:
        senses = dict(_sense(line) for line in _lines(folder / "index.noun"))
        synsets = dict(_synset(line) for line in _lines(folder / "data.noun"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"WordNet cannot be read from {folder}: {error}. On Debian: apt install wordnet-base"
        ) from error
    except (ValueError, IndexError) as error:
        raise InputError(f"{folder} does not hold the files of WordNet 3: {error}.") from error
    return WordNet(senses, synsets)


def close_words(wordnet: WordNet, names: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Gives single words for class names.

    Args:
        wordnet: the nouns.
        names: of the classes.
        known: words that are not wanted, because they have been learned themselves.

    Returns:
        The word to the class it is close to. A word that is equally close to several classes is left out.
    """
    found: dict[str, set[tuple[int, str]]] = {}
    for name in names:
        offset = _meaning(wordnet, name)
        for distance, word in _around(wordnet, offset, 1 if name == "person" else _DEPTH) if offset else ():
            found.setdefault(word, set()).add((distance, name))
    taken = set(known)
    nearest = {word: [name for distance, name in near if distance == min(near)[0]] for word, near in found.items()}
    return {word: own[0] for word, own in sorted(nearest.items()) if len(own) == 1 and word not in taken}


def spoken_word(name: str) -> str | None:
    """Returns the single word of a class: its name, or the first synonym of one word."""
    return next((word for word in (name, *SYNONYMS.get(name, ())) if " " not in word), None)


def _meaning(wordnet: WordNet, name: str) -> str | None:
    offsets = wordnet.senses.get(SENSES.get(name, name).replace(" ", "_"), ())
    return next((offset for offset in offsets if wordnet.synsets[offset].file in _VISIBLE), None)


def _around(wordnet: WordNet, offset: str, depth: int) -> Iterator[tuple[int, str]]:
    """Words near a meaning with their distance; wider ones are the farthest."""
    level = [offset]
    for distance in range(depth):
        for synset in level:
            yield from ((distance, word) for word in _usual(wordnet, synset, _USUAL_SENSES if distance else None))
        level = [narrower for synset in level for narrower in wordnet.synsets[synset].narrower]
    for wider in wordnet.synsets[offset].wider:
        yield from ((depth, word) for word in _usual(wordnet, wider, 1))


def _usual(wordnet: WordNet, offset: str, senses: int | None) -> Iterator[str]:
    for word in wordnet.synsets[offset].words:
        if _WORD.fullmatch(word) and offset in wordnet.senses.get(word, ())[:senses]:
            yield word


def _lines(path: Path) -> Iterator[str]:
    # The licence stands at the head, indented.
    return (line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith(" "))


def _sense(line: str) -> tuple[str, tuple[str, ...]]:
    word, _, count, *rest = line.split()
    return word, tuple(rest[-int(count) :])


def _synset(line: str) -> tuple[str, Synset]:
    offset, file, _, count, *rest = line.partition(" | ")[0].split()
    words = 2 * int(count, 16)  # each word is followed by a number
    pointers = [rest[start : start + 2] for start in range(words + 1, words + 1 + 4 * int(rest[words]), 4)]
    return offset, Synset(
        tuple(word.lower() for word in rest[:words:2]),
        file,
        tuple(target for kind, target in pointers if kind == "~"),
        tuple(target for kind, target in pointers if kind == "@"),
    )
