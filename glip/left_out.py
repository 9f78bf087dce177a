"""States what a job left out, so that nothing is left out in silence. Knows no other module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

MAX_EXAMPLES = 3


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Things of one kind that were skipped, not asked or not scored.

    A command prints `sentence` once in its summary, and the whole as an entry of `left_out` with `--json`.

    Attributes:
        kind: stable name for scripts, such as "empty_boxes" or "unreadable_formats".
        count: number of things.
        sentence: what was left out, how many, what that means, and what to do about it.
        examples: the first few, as a user finds them: file names, or "annotation 17 of image a.jpg".
    """

    kind: str
    count: int
    sentence: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Returns the sentence with the examples."""
        if not self.examples:
            return self.sentence
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.sentence} ({', '.join(self.examples)}{more})"


def first_examples(things: Iterable[object]) -> tuple[str, ...]:
    """Returns the first few things as text, for `LeftOut.examples`."""
    return tuple(str(thing) for thing, _ in zip(things, range(MAX_EXAMPLES), strict=False))


def without_repeats(entries: Sequence[LeftOut]) -> Iterator[LeftOut]:
    """Yields each entry once, in order; several parts of a job may state the same one."""
    yield from dict.fromkeys(entries)
