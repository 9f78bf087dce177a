"""What a job left out: the entries that commands show."""

from __future__ import annotations

from glip.left_out import MAX_EXAMPLES, LeftOut, first_examples, without_repeats


def test_examples_are_the_first_few() -> None:
    numbers = iter(range(100))
    assert first_examples(numbers) == ("0", "1", "2")
    assert len(first_examples("abcdef")) == MAX_EXAMPLES


def test_more_things_than_examples_end_in_an_ellipsis() -> None:
    some = LeftOut(kind="empty_boxes", count=5, sentence="5 boxes are empty.", examples=("a.jpg", "b.jpg"))
    every = LeftOut(kind="empty_boxes", count=2, sentence="2 boxes are empty.", examples=("a.jpg", "b.jpg"))
    assert "a.jpg, b.jpg, …" in str(some)
    assert "a.jpg, b.jpg" in str(every) and "…" not in str(every)
    assert str(LeftOut(kind="k", count=1, sentence="One.")) == "One."


def test_an_entry_stated_twice_is_shown_once() -> None:
    entry = LeftOut(kind="k", count=1, sentence="One.")
    other = LeftOut(kind="k", count=2, sentence="Two.")
    assert list(without_repeats([entry, other, entry])) == [entry, other]
