"""The chart of a review."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from glip.review.summary import COLOURS, PullSummary, ReviewCounts, write_chart


def drawn(summary: PullSummary) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Returns the chart as (H, W, 3)."""
    file = BytesIO()
    write_chart(summary, file)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def pixels_of(kind: str, chart: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> int:
    """Returns the number of pixels in the colour of a kind of change."""
    colour = [int(COLOURS[kind][i : i + 2], 16) for i in (1, 3, 5)]
    return int((chart == colour).all(axis=-1).sum())


def test_a_bar_is_as_long_as_its_count() -> None:
    counts = ReviewCounts(proposed=8, accepted=6, deleted=2, added=4)
    chart = drawn(PullSummary("set", per_class={"dog": counts}, total=counts))
    accepted, deleted, added = (pixels_of(kind, chart) for kind in ("accepted", "deleted", "added"))
    legend = pixels_of("moved", chart)  # which has no bar
    assert accepted - legend == pytest.approx(3 * (deleted - legend), rel=0.02)
    assert added - legend == pytest.approx(2 * (deleted - legend), rel=0.02)


def test_a_box_that_was_moved_and_relabelled_adds_half_to_each_bar() -> None:
    counts = ReviewCounts(proposed=2, accepted=1, moved=1, relabelled=1)
    chart = drawn(PullSummary("set", per_class={"dog": counts}, total=counts))
    legend = pixels_of("deleted", chart)
    accepted, moved = pixels_of("accepted", chart) - legend, pixels_of("moved", chart) - legend
    assert moved == pytest.approx(accepted / 2, rel=0.02)


def test_a_chart_without_boxes_is_drawn() -> None:
    assert drawn(PullSummary("empty")).shape[1] == 960


def test_the_same_summary_gives_the_same_bytes_and_names_are_not_read_as_formulas() -> None:
    counts = ReviewCounts(proposed=1, accepted=1)
    summary = PullSummary("$x", per_class={"a $\\frac$ b": counts, "long name " * 20: counts}, total=counts)
    assert (drawn(summary) == drawn(summary)).all()
