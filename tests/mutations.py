"""Valid JSON-like values with one or two changes, and what readers may do with them.

Changes keep the structure, so that they reach the code behind the decoders.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from glip.errors import InputError, JobFailed

EXTREMES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 2**31, 2**63, -(2**63) - 1, 2**64, 10**30, 1e308, -0.0, 1e-320, float("nan")),
    *("", " ", "7", "7.0", "x", "../../x", "/etc/passwd", "C:\\x", "a\0b", "\u202e", "😀" * 50, "9" * 5000, "no", "~"),
    *([], {}, [[]], [None], {"a": {}}, [1, 2, 3], ["x"] * 4, [1e308] * 4, [-5, -5, 1, 1], [0, 0, 0, 0]),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields container and key of every value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from places(inner)


def changed(value: Any, rng: random.Random) -> Any:
    """Returns a copy with one or two changes."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2))):
        container, key = rng.choice(list(places(value)) or [([0], 0)])
        match rng.randrange(5):
            case 0 if isinstance(container, dict):
                del container[key]
            case 1 if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case 2 if isinstance(container, list):
                del container[key]
            case 3 if not isinstance(container[key], list | dict):
                container[key] = rng.choice((str(container[key]), [container[key]], {"x": container[key]}))
            case _:
                container[key] = copy.deepcopy(rng.choice(EXTREMES))
    return value


def survives(read: Callable[[], object]) -> bool:
    """Returns whether a file was read; any error but those of users fails the test."""
    try:
        read()
    except (InputError, JobFailed) as error:
        assert len(str(error)) < 3000
        return False
    return True
