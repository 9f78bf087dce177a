"""Errors that a user can repair, hints at misspelt names, and the import of optional packages.

Knows no other module; every module may use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from importlib import import_module
from types import ModuleType
from typing import ClassVar


class GlipError(Exception):
    """Something a user can repair. Its text is shown as it is, without a traceback.

    A message says what happened, the value, what is accepted and what to do. It names a field as the API spells it: at
    the beginning of the message (`conf is 1.5; …`), or in backticks. The command line replaces these names with its
    options (`--conf is 1.5; …`).
    """

    exit_code: ClassVar[int] = 2


class InputError(GlipError):
    """An argument, a prompt, a file or a folder that cannot be used as given."""


class MissingExtra(GlipError):
    """An optional package is not installed."""


class JobFailed(GlipError):
    """The input is valid, but the work failed: network, disk, a failed check."""

    exit_code: ClassVar[int] = 1


_HINTS, _NEARLY = 3, 0.05  # names shown, and how much less similar than the best one they may be


def did_you_mean(name: str, known: Mapping[str, str] | Iterable[str], cutoff: float = 0.6) -> str:
    """Returns ` Did you mean 'x' or 'y'?` for a name that is close to known ones, else an empty text.

    Names are shown that are nearly as similar as the most similar one, three at most.

    Args:
        name: as given.
        known: the accepted names; as a mapping, with the text that is shown for each.
        cutoff: minimum similarity, 0 to 1.
    """
    shown = known if isinstance(known, Mapping) else {one: repr(one) for one in known}
    close = get_close_matches(name, shown, n=_HINTS, cutoff=cutoff)
    likeness = [SequenceMatcher(None, known_name, name).ratio() for known_name in close]
    texts = [shown[one] for one, ratio in zip(close, likeness, strict=True) if ratio > likeness[0] - _NEARLY]
    return f" Did you mean {' or '.join(dict.fromkeys(texts))}?" if texts else ""


def shortened(text: str, limit: int = 80) -> str:
    """Returns a text for a message: its first `limit` characters, followed by an ellipsis if there are more."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def require(module: str, extra: str) -> ModuleType:
    """Imports and returns an optional package.

    Raises:
        MissingExtra: it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"This needs {module}, which is not installed. Run: pip install 'glip[{extra}]'") from error
