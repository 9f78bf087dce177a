"""Reading ahead: in order, bounded, with a time limit."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from glip.images.read_ahead import read_ahead


def test_results_come_in_order_whichever_call_ends_first() -> None:
    def read(item: int) -> int:
        time.sleep(0.02 * (3 - item % 4))
        return item * 2

    results = list(read_ahead(range(12), read, ahead=4, time_limit=10))
    assert results == [(item, item * 2) for item in range(12)]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_never_more_items_are_under_way_than_asked_for(ahead: int) -> None:
    begun: list[int] = []
    for taken, _ in enumerate(read_ahead(range(20), begun.append, ahead=ahead, time_limit=10), start=1):
        time.sleep(0.005)
        assert len(begun) <= taken + ahead
    assert sorted(begun) == list(range(20))


def test_a_call_that_hangs_is_given_up_and_the_others_continue() -> None:
    release = threading.Event()

    def read(item: int) -> int:
        if item == 1:
            release.wait(60)
        return item

    started = time.monotonic()
    assert list(read_ahead(range(5), read, ahead=2, time_limit=0.3)) == [(0, 0), (1, None), (2, 2), (3, 3), (4, 4)]
    assert time.monotonic() - started < 5
    release.set()


def test_many_hanging_calls_take_no_place_from_the_others() -> None:
    release = threading.Event()

    def read(item: int) -> int:
        if item < 6:
            release.wait(60)
        return item

    results = list(read_ahead(range(10), read, ahead=3, time_limit=0.1))
    assert [item for item, result in results if result is None] == [0, 1, 2, 3, 4, 5]
    release.set()


def test_what_a_call_raises_is_raised_to_the_caller_even_a_timeout() -> None:
    def read(item: int) -> int:
        raise TimeoutError("of the call itself")

    with pytest.raises(TimeoutError, match="of the call itself"):
        list(read_ahead([1], read, ahead=1, time_limit=10))


def test_a_hanging_call_does_not_keep_the_process_from_ending() -> None:
    code = (
        "import time\nfrom glip.images.read_ahead import read_ahead\n"
        "print(list(read_ahead([1], lambda item: time.sleep(60), ahead=1, time_limit=0.1)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[(1, None)]\n"
