"""Reads ahead in threads, with a time limit for each item. Knows nothing of images."""

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
    """Calls `read` on every item and yields item and result in order, None for a call that takes too long.

    Each call has a daemon thread of its own. A thread that hangs cannot be killed, but it can be abandoned: unlike in a
    pool it blocks no other call, and it does not keep the process from ending.

    Args:
        items: items to read.
        read: called in a thread; its exceptions are raised here.
        ahead: maximum number of calls that run, or whose results wait, at any time.
        time_limit: maximum seconds per call.
    """
    rest = iter(items)
    running = deque(_start(read, item) for item in islice(rest, ahead))
    while running:
        item, started, future = running.popleft()
        result: Result | None = None
        try:
            result = future.result(timeout=max(0.0, started + time_limit - monotonic()))
        except TimeoutError:
            # A TimeoutError that the call itself raised belongs to the caller.
            if future.done():
                raise
        running.extend(_start(read, item) for item in islice(rest, 1))
        yield item, result


def _start(read: Callable[[Item], Result], item: Item) -> tuple[Item, float, Future[Result]]:
    future: Future[Result] = Future()

    def call() -> None:
        try:
            future.set_result(read(item))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is read
            future.set_exception(error)

    Thread(target=call, name="glip read ahead", daemon=True).start()
    return item, monotonic(), future
