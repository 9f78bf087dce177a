"""Vocabularies and the one tokenizer that is made of them."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from tokenizers import BertWordPieceTokenizer

from glip.errors import InputError
from glip.weights.tokenizer import (
    SPECIAL_TOKENS,
    build_tokenizer,
    letter_vocabulary,
    load_tokenizer,
    read_vocabulary,
    save_tokenizer,
)

WORDS = [*SPECIAL_TOKENS, "hard", "hat", ".", "##s", "cafe", "犬"]
TEXTS = ["Hard hats.", "Café . 犬hat", "hard\nhat\t[MASK] .", "", "ｈａｔ x", "a" * 200, "İ ﬁ \u200b \U0001f600"]


@pytest.fixture
def vocab_txt(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return path


def test_a_vocabulary_is_read_from_a_list_a_folder_and_a_tokenizer_file(vocab_txt: Path, tmp_path: Path) -> None:
    assert read_vocabulary(vocab_txt) == WORDS
    assert read_vocabulary(vocab_txt.parent) == WORDS
    other = tmp_path / "other"
    other.mkdir()
    build_tokenizer(WORDS).save(str(other / "tokenizer.json"))
    assert read_vocabulary(other) == WORDS


def test_pieces_that_python_takes_for_line_breaks_keep_their_place(tmp_path: Path) -> None:
    words = [*SPECIAL_TOKENS, "\x85", "\u2028", "\x0b", "end"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    assert read_vocabulary(tmp_path) == words


def test_the_tokenizer_is_berts(vocab_txt: Path) -> None:
    ours, theirs = build_tokenizer(WORDS), BertWordPieceTokenizer(str(vocab_txt), lowercase=True)
    for text in TEXTS:
        expected = theirs.encode(text)
        found = ours.encode(text)
        assert (found.ids, found.offsets, found.tokens) == (expected.ids, expected.offsets, expected.tokens), text


def test_the_real_vocabulary_gives_berts_ids(parity: Path) -> None:
    vocabulary = read_vocabulary(parity / "vocab.txt")
    assert len(vocabulary) == 30522
    assert build_tokenizer(vocabulary).encode("Person. traffic light").ids == [101, 2711, 1012, 4026, 2422, 102]


def test_nothing_is_padded_or_cut() -> None:
    assert len(build_tokenizer(WORDS).encode("hat " * 600).ids) == 602


def test_a_saved_tokenizer_is_the_same_and_transformers_reads_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save_tokenizer(tmp_path, WORDS)
    expected = build_tokenizer(WORDS).encode("Hard hats . Café")
    assert load_tokenizer(tmp_path).encode("Hard hats . Café").ids == expected.ids
    (tmp_path / "config.json").write_text("{}")
    assert AutoTokenizer.from_pretrained(tmp_path)("Hard hats . Café").input_ids == expected.ids


def test_padding_in_a_tokenizer_file_is_switched_off(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(WORDS)
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert len(load_tokenizer(tmp_path).encode("hard hat .").ids) == 5


def test_letters_spell_every_word_without_an_unknown_piece() -> None:
    tokenizer = build_tokenizer(letter_vocabulary())
    assert tokenizer.encode("Hard").tokens == ["[CLS]", "h", "##a", "##r", "##d", "[SEP]"]
    for text in (string.ascii_letters, string.digits, string.punctuation, "person1 . Ünïcode naïve"):
        assert "[UNK]" not in tokenizer.encode(text).tokens
    assert len(set(letter_vocabulary())) == len(letter_vocabulary())


def save_json(folder: Path, **changes: object) -> Path:
    path = folder / "tokenizer.json"
    content = json.loads(build_tokenizer(WORDS).to_str())
    path.write_text(json.dumps(content | changes))
    return path


def test_wrong_vocabularies_are_refused_with_the_reason(tmp_path: Path) -> None:
    cases = {
        "[MASK]": "\n".join(WORDS).replace("[MASK]\n", ""),
        "'hat'": "\n".join([*WORDS, "hat"]),
    }
    for message, text in cases.items():
        (tmp_path / "vocab.txt").write_text(text, encoding="utf-8")
        with pytest.raises(InputError) as caught:
            read_vocabulary(tmp_path / "vocab.txt")
        assert message in str(caught.value)


def test_wrong_tokenizer_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="WordPiece"):
        read_vocabulary(save_json(tmp_path, normalizer={"type": "BertNormalizer", "lowercase": False}))
    with pytest.raises(InputError, match="WordPiece"):
        read_vocabulary(save_json(tmp_path, model={"type": "BPE"}))
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        read_vocabulary(save_json(tmp_path, model={"type": "WordPiece", "vocab": {"a": 0, "b": 2}}))
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        read_vocabulary(save_json(tmp_path, model=3))


def test_absent_and_unreadable_vocabularies_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vocab\.txt"):
        read_vocabulary(tmp_path)
    with pytest.raises(InputError, match=r"vocab\.txt"):
        read_vocabulary(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"vocab\.txt"):
        read_vocabulary(tmp_path / "vocab.txt")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
