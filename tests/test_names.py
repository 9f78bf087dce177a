"""Names: split as typed, cleaned as published, compared as the model reads them."""

from __future__ import annotations

import re
from pathlib import Path
from string import punctuation

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glip.errors import InputError
from glip.names import clean_name, find_names, name_key, names_read_alike, split_names
from glip.prompts import Prompt, tokenize
from tests.test_prompts import SMALL, bert_tokenizer

LETTERS_OF_NAMES = "abcdefghijklmnopqrstuvwxyz0123456789ａ２犬ßﬁ’" + punctuation
LETTERS = bert_tokenizer(
    {
        piece: number
        for number, piece in enumerate(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS_OF_NAMES, *("##" + letter for letter in LETTERS_OF_NAMES)]
        )
    }
)

# --- typed names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("person . dog .", ["person", "dog"]),
        ("person. dog", ["person", "dog"]),
        ("person. dog. cat. ", ["person", "dog", "cat"]),
        ("bench, car", ["bench", "car"]),
        ("bench,car", ["bench", "car"]),
        ("bench\ncar\r\nhard hat\n", ["bench", "car", "hard hat"]),
        ("one\u2028two", ["one", "two"]),
        ("person .\n dog, cat", ["person", "dog", "cat"]),
        ("hard hat", ["hard hat"]),
        ("bench.car", ["bench.car"]),
        ("node.js . .net", ["node.js", ".net"]),
        ("0.5 litre bottle. cup", ["0.5 litre bottle", "cup"]),
        ("person ... dog..", ["person", "dog"]),
        ("  Hard   Hat  .\tDOG\t", ["Hard   Hat", "DOG"]),
        ("bow_(weapon). T-shirt", ["bow_(weapon)", "T-shirt"]),
        ("car. car. cart", ["car", "car", "cart"]),
        ("犬 . 🦝 . ＤＯＧ", ["犬", "🦝", "ＤＯＧ"]),
        ("מכונית. سيارة", ["מכונית", "سيارة"]),
        ("e-mail me@home", ["e-mail me@home"]),
    ],
)
def test_a_text_is_split_into_names(text: str, names: list[str]) -> None:
    assert split_names(text) == names


@pytest.mark.parametrize("text", ["", " ", " . ", ",", ".", "\n\n", ". , ."])
def test_a_text_without_names_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(text.strip()))):
        split_names(text)


def test_a_file_gives_one_name_per_line_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffSt. Bernard\r\n\r\n# dogs\n  pots, pans \n  # more\nnode.js.\n#\n犬".encode())
    assert split_names(f"  @{path} ") == ["St. Bernard", "pots, pans", "node.js.", "犬"]


def test_a_file_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "names.txt").write_text("cat")
    assert split_names("@~/names.txt") == ["cat"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "names.txt"),
        (b"# nothing\n\n", "names.txt"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_without_names_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        split_names(f"@{path}")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["@", "@.", "@~nobody-of-this-name/x", "@a\0b"])
def test_what_is_no_file_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(text[1:]))):
        split_names(text)


# --- keys


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hard_Hat", "hard hat"),
        ("hard  hat", " hard\that "),
        ("cat (grey)", "CAT"),
        ("Café", "cafe"),
        ("st.bernard", "St. Bernard"),
        ("\x00dog", "dog"),
    ],
)
def test_names_that_the_model_reads_alike_share_a_key(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)
    assert SMALL.encode(clean_name(one)).ids == SMALL.encode(clean_name(other)).ids


@pytest.mark.parametrize(("one", "other"), [("cat", "cats"), ("traffic light", "trafficlight"), ("(x)", "(y)")])
def test_names_that_the_model_tells_apart_have_different_keys(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


@given(st.text(max_size=12))
@settings(deadline=None)
def test_a_key_gives_the_tokens_of_its_name(name: str) -> None:
    assert SMALL.encode(name_key(name)).ids == SMALL.encode(clean_name(name) if clean_name(name).split() else name).ids


# Pieces whose spelling may or may not matter: case, spaces, brackets, underscores, hyphens, full stops, accents in both
# Unicode forms, wide letters, invisible characters, letters of other scripts.
PIECES_OF_NAMES = st.sampled_from(
    (*"aAb _-.,!()1'éÉａ２ßİiﬁ犬’", "  ", "\t", "(a)", "e\u0301", "SS", "\u200b", "\xad", "\xa0", "\u3000", "\x00")
)
NAMES = st.lists(PIECES_OF_NAMES, min_size=1, max_size=5).map("".join)


def tokens_in_a_caption(name: str) -> list[str]:
    """The tokens of a name between two others, letter by letter, so that different words have different tokens."""
    prompt = Prompt.from_names(["b", name, "b"])
    tokens = tokenize(prompt, LETTERS)
    return [str(LETTERS.id_to_token(int(token))) for token in tokens.input_ids[tokens.positive_map[1] > 0]]


@given(NAMES, NAMES)
@settings(deadline=None, max_examples=200)
def test_names_share_a_key_exactly_if_they_have_the_same_tokens_in_a_caption(one: str, other: str) -> None:
    try:
        tokens = [tokens_in_a_caption(name) for name in (one, other)]
    except InputError:  # nothing is left of one of them
        return
    assert (name_key(one) == name_key(other)) == (tokens[0] == tokens[1])
    assert names_read_alike([one, "犬 犬 犬 犬 犬 犬", other]) == ([(one, other)] if tokens[0] == tokens[1] else [])


def test_groups_of_names_that_are_read_alike_keep_the_order_of_the_list() -> None:
    names = ["red star", "dog", "Red_Star", "cat", "dog", "red star (small)"]
    assert names_read_alike(names) == [("red star", "Red_Star", "red star (small)"), ("dog", "dog")]
    assert names_read_alike(["dog", "cat", "t-shirt", "t shirt"]) == []


@pytest.mark.parametrize("character", ["(", ".", " ", "_"])
def test_long_names_take_linear_time(character: str) -> None:
    # With quadratic time each of these would take minutes.
    name = character * 200_000 + "x"
    assert clean_name(name).endswith("x")
    assert split_names(name)


def test_names_are_found_by_their_spelling_first_and_then_by_their_key() -> None:
    known = ["bow_(weapon)", "bow_(ribbon)", "Hard Hat", "hard hat"]
    asked = ["bow_(ribbon)", "bow", "hard hat", "HARD_HAT", "dog"]
    assert find_names(asked, known) == [1, 0, 3, 2, None]


def test_half_a_surrogate_pair_has_a_key() -> None:
    assert name_key("\ud800 cat") == "? cat"
