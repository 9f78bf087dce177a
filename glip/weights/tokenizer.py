"""Reads a checkpoint's vocabulary of word pieces, and builds the tokenizer from it.

A vocabulary gives the same tokenizer whatever file it comes from: BERT's, lower case, with [CLS] and [SEP] around.
"""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from glip.errors import InputError
from glip.files import decode_json

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
_LONGEST_WORD = 100
_MAX_TOKENS = 512
MAX_VOCABULARY_BYTES = 64 << 20  # of a vocabulary; the largest published ones have a few megabytes


class _Model(msgspec.Struct):
    vocab: dict[str, int] = {}
    # Files of early versions of the package leave out the type of the model.
    type: str = "WordPiece"
    unk_token: str = "[UNK]"  # noqa: S105  # no password
    continuing_subword_prefix: str = "##"


class _Normalizer(msgspec.Struct):
    type: str
    lowercase: bool = False


class _Part(msgspec.Struct):
    type: str


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _TokenizerFile(msgspec.Struct):
    """The parts of a tokenizer.json that are read. The rest, such as padding, changes no token of a prompt here."""

    model: _Model
    normalizer: _Normalizer
    pre_tokenizer: _Part
    post_processor: _Part
    added_tokens: list[_AddedToken] = []


def read_vocabulary(source: Path) -> list[str]:
    """Returns the word pieces in the order of their ids.

    Args:
        source: a `vocab.txt` (one piece per line), a `tokenizer.json`, or a folder that holds one of them.

    Raises:
        InputError: there is no vocabulary, or it is not a lower-case BERT vocabulary.
    """
    if source.is_dir():
        found = next((source / name for name in ("vocab.txt", "tokenizer.json") if (source / name).is_file()), None)
        if found is None:
            raise InputError(f"The folder {source} holds neither vocab.txt nor tokenizer.json.")
        source = found
    try:
        if source.stat().st_size > MAX_VOCABULARY_BYTES:
            raise InputError(
                f"The vocabulary {source} is larger than {MAX_VOCABULARY_BYTES >> 20} MB. Is it another file?"
            )
        text = source.read_text(encoding="utf-8")
        vocabulary = _from_json(text, source) if source.suffix == ".json" else text.rstrip("\n").split("\n")
    except OSError as error:
        raise InputError(f"The vocabulary {source} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not a vocabulary ({error}); give a vocab.txt or tokenizer.json.") from error
    if missing := [token for token in SPECIAL_TOKENS if token not in vocabulary]:
        raise InputError(f"The vocabulary {source} lacks {', '.join(missing)}; use that of bert-base-uncased.")
    if len(set(vocabulary)) < len(vocabulary):
        double = next(piece for piece, count in Counter(vocabulary).items() if count > 1)
        raise InputError(
            f"The vocabulary {source} holds {double[:60]!r} twice, so the ids after it would be wrong. Fetch it again."
        )
    return vocabulary


def _from_json(text: str, source: Path) -> list[str]:
    content = decode_json(text, _TokenizerFile, str(source), "a tokenizer.json", hint="Fetch it again.")
    differing = [
        f"{part} {kind!r}"
        for part, kind, known in (
            ("model", content.model.type, ("WordPiece",)),
            ("normalizer", content.normalizer.type, ("BertNormalizer",)),
            ("pre-tokenizer", content.pre_tokenizer.type, ("BertPreTokenizer",)),
            ("post-processor", content.post_processor.type, ("BertProcessing", "TemplateProcessing")),
            ("case", "as written" if not content.normalizer.lowercase else "lower", ("lower",)),
            ("unknown token", content.model.unk_token, ("[UNK]",)),
            ("prefix", content.model.continuing_subword_prefix, ("##",)),
        )
        if kind not in known
    ]
    if differing:
        raise InputError(
            f"The tokenizer {source} is not BERT's lower-case WordPiece: it has the {differing[0][:80]}. Use that of "
            f"bert-base-uncased."
        )
    ids = content.model.vocab
    ids |= {token.content: token.id for token in content.added_tokens}
    if sorted(ids.values()) != list(range(len(ids))):
        raise InputError(
            f"The tokenizer {source} skips ids, so its word pieces have no order. Use that of bert-base-uncased."
        )
    return sorted(ids, key=ids.__getitem__)


def letter_vocabulary() -> list[str]:
    """Returns a vocabulary that spells every word letter by letter, for models that need no download."""
    characters = string.ascii_lowercase + string.digits
    return [*SPECIAL_TOKENS, *string.punctuation, *characters, *(f"##{character}" for character in characters)]


def build_tokenizer(vocabulary: Sequence[str]) -> Tokenizer:
    """Builds BERT's lower-case tokenizer, which neither pads nor truncates."""
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=_LONGEST_WORD))  # noqa: S106
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def save_tokenizer(folder: Path, vocabulary: Sequence[str]) -> None:
    """Writes the three files from which this program and transformers' AutoTokenizer load the tokenizer."""
    (folder / "tokenizer.json").write_text(build_tokenizer(vocabulary).to_str(pretty=True), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8", newline="\n")
    settings = {"do_lower_case": True, "model_max_length": _MAX_TOKENS, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads the tokenizer of a model folder: BERT's, with the vocabulary of its tokenizer.json.

    The file itself is never given to the tokenizers package: its normalizers can multiply a text, its expressions take
    time without end, and damaged parts stop the process.

    Raises:
        InputError: the file is missing or damaged, or describes another tokenizer.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"The model folder {folder} lacks tokenizer.json; convert the checkpoint again.")
    return build_tokenizer(read_vocabulary(path))
