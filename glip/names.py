"""Splits, cleans and compares names of classes. Knows characters and words; knows nothing of captions or token ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from glip.errors import InputError
from glip.name_files import NamedClasses, read_names

# A full stop only ends a name before a space or at the end, so that 'node.js' stays whole. A row of full stops is tried
# once, from its first, because trying it from each of them would take quadratic time.
_ENDS_OF_NAMES = re.compile(r"[,\n\r\v\f\x85\u2028\u2029]|(?<!\.)\.++(?=\s|$)")


def split_names(text: str) -> list[str]:
    """Returns the names in a typed text, as written, without spaces around them.

    Args:
        text: names separated by line breaks, commas or full stops ('person . dog .', 'bench. car'), or '@names.txt' for
            a file with one name per line. In a file a name may hold '. ' or a comma; empty lines and lines that begin
            with '#' are skipped. A list in JSON or YAML, YOLO's data.yaml and COCO files are read as well.

    Raises:
        InputError: there is no name, or the file cannot be read.
    """
    text = text.strip()
    parts = _lines_of(text[1:].strip()) if text.startswith("@") else _ENDS_OF_NAMES.split(text)
    names = [name for part in parts if (name := part.strip())]
    if not names:
        where = f"The file {text[1:].strip()!r}" if text.startswith("@") else f"The prompt {text!r}"
        raise InputError(f"{where} holds no name. Write names such as 'person . hard hat .', or @FILE.")
    return names


def _lines_of(path: str) -> list[str]:
    try:
        found = read_names(Path(path).expanduser(), lists=True)
    except RuntimeError as error:  # an unknown ~user
        raise InputError(f"The file of names {path!r} cannot be read: {error}.") from None
    except InputError as error:
        raise InputError(f"The file of names {path!r} cannot be used. {error}") from None
    if isinstance(found, NamedClasses):
        return list(found.names)
    return [line for line in found.split("\n") if not line.lstrip().startswith("#")]


def clean_name(name: str) -> str:
    """Returns a class name as published captions spell it: without brackets, underscores as spaces.

    Matches the original, oddities included: 'bow_(weapon)' becomes 'bow ', and three spaces become two.
    """
    first, last = name.find("("), name.rfind(")")
    if 0 <= first < last:  # an expression would search from every bracket, in quadratic time
        name = name[:first] + name[last + 1 :]
    return name.replace("_", " ").replace("  ", " ")


@lru_cache(maxsize=1 << 16)
def name_key(name: str) -> str:
    """Returns the key by which names are compared: two names have the same one if the model reads the same words.

    The key follows the way a name takes to the model: `clean_name` puts it into a caption (brackets dropped,
    underscores as spaces), and the tokenizer reads lower case, no accents, any run of spaces as one, and punctuation
    as words of its own. 'Hard_Hat', 'hard hat' and 'hard  hat (yellow)' are one name. So two names of one list may
    share a key, as the bows of LVIS do: `find_names` looks for the exact spelling first.
    """
    key = _words(clean_name(name))
    return key or _words(name)  # a name in brackets only; a prompt refuses it


def find_names(names: Iterable[str], known: Sequence[str]) -> list[int | None]:
    """Returns for each name its index in `known`: of its exact spelling, else of the first with its key, else None."""
    exact = {name: index for index, name in reversed(list(enumerate(known)))}
    by_key = {name_key(name): index for index, name in reversed(list(enumerate(known)))}
    return [exact.get(name, by_key.get(name_key(name))) for name in names]


def names_read_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Returns the groups of names that the model cannot tell apart, in the order of the names; equal names are a group.

    Each name of a group gets the boxes of all of them, so an object has as many labels as its group has names.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name_key(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _words(text: str) -> str:
    """Returns the words of a text as BERT's lower-case tokenizer separates them, with one space between."""
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    valid = text.encode("utf-8", "replace").decode()  # half a surrogate pair, as file names can hold, is not Unicode
    normal = BertNormalizer(lowercase=True).normalize_str(valid)
    return " ".join(word for word, _ in BertPreTokenizer().pre_tokenize_str(normal))
