"""Text that is safe inside XML."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from glip.errors import InputError

# No escape makes these legal in XML 1.0.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def text(value: str) -> str:
    """`value` between two tags, line breaks kept.

    Raises:
        InputError: it holds a character that XML cannot carry.
    """
    return escape(_checked(value), {"\r": "&#13;"})


def attribute(value: object) -> str:
    """`value` as a quoted attribute."""
    return quoteattr(_checked(str(value)))


def _checked(value: str) -> str:
    if _FORBIDDEN.search(value):
        raise InputError(
            f"{value!r} holds a control character, which XML cannot carry. Rename it, or choose another format."
        )
    return value
