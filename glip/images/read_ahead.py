"""Reads ahead in threads, and gives up on what hangs. Knows nothing of images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from threading import Thread
from time import monotonic
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Result], *, ahead: int, time_limit: float
) -> Iterator[tuple[Item, Result | None]]:
    """Calls `read` on every item and yields the results in order, None for a call that takes too long.

    Each call has a daemon thread of its own. A thread that hangs cannot be killed, but it can be left behind: it
    takes no place from the others, as it would in a pool, and does not keep the process from ending.

    Args:
        items: what to read.
        read: called in a thread; what it raises is raised here.
        ahead: most calls that run, or have run and wait to be asked for, at any time.
        time_limit: seconds a call may take.
    """
    rest = iter(items)
    running = deque(_start(read, item) for item in islice(rest, ahead))
    while running:
        item, started, future = running.popleft()
        result: Result | None = None
        try:
            result = future.result(timeout=max(0.0, started + time_limit - monotonic()))
        except TimeoutError:
            # The call itself may have raised a TimeoutError: that one is for the caller.
            if future.done():
                raise
        running.extend(_start(read, item) for item in islice(rest, 1))
        yield item, result


def _start(read: Callable[[Item], Result], item: Item) -> tuple[Item, float, Future[Result]]:
    future: Future[Result] = Future()

    def call() -> None:
        try:
            future.set_result(read(item))
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            future.set_exception(error)

    Thread(target=call, name="glip read ahead", daemon=True).start()
    return item, monotonic(), future
