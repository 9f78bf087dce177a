"""Counts what people changed, class by class, and draws the counts as a chart."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec.structs import asdict as asdict_of

from glip.left_out import LeftOut

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours of the chart's bars (Okabe and Ito), which colour-blind people can tell apart.
COLOURS = {
    "accepted": "#0072b2",
    "moved": "#56b4e9",
    "relabelled": "#e69f00",
    "deleted": "#d55e00",
    "added": "#009e73",
}
MAX_CLASSES = 40  # in the chart
MAX_NAME = 40  # characters of a name in the chart


@dataclass
class ReviewCounts:
    """Numbers of boxes, of one class or of all. A box that was moved and relabelled is counted in both.

    Attributes:
        proposed: labels before the review, in reviewed images.
        accepted: of these, unchanged.
        moved: of these, with another box.
        relabelled: of these, with another class.
        deleted: of these, deleted or rejected.
        added: drawn by people, or approved although below the threshold.
    """

    proposed: int = 0
    accepted: int = 0
    moved: int = 0
    relabelled: int = 0
    deleted: int = 0
    added: int = 0


@dataclass
class PullSummary:
    """The result of a review.

    Attributes:
        dataset: its name.
        images: number of images in it.
        reviewed: number of images in which a person changed or tagged something.
        boxes: number of corrected boxes.
        unreviewed: of these, in images that nobody changed or tagged.
        nameless: boxes that people drew without a class, which are left out.
        total: counts in the reviewed images.
        per_class: likewise, by the class that was proposed, or of the box that was added.
        mean_iou: between boxes before and after they were moved; None if none was moved.
        left_out: states what of the dataset is not in the corrected file.
    """

    dataset: str
    images: int = 0
    reviewed: int = 0
    boxes: int = 0
    unreviewed: int = 0
    nameless: int = 0
    total: ReviewCounts = field(default_factory=ReviewCounts)
    per_class: dict[str, ReviewCounts] = field(default_factory=dict)
    mean_iou: float | None = None
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def acceptance_rate(self) -> float | None:
        """Returns the share of unchanged labels in reviewed images; None if no label was reviewed."""
        return self.total.accepted / self.total.proposed if self.total.proposed else None

    def to_json(self) -> dict[str, Any]:
        """Returns the summary as plain values for JSON."""
        left_out = [asdict_of(entry) for entry in self.left_out]
        return asdict(self) | {"acceptance_rate": self.acceptance_rate, "left_out": left_out}


def write_chart(summary: PullSummary, file: BinaryIO) -> None:
    """Draws one bar per class as a PNG, the class with most boxes first: proposals by result, then added boxes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = sorted(summary.per_class.items(), key=lambda row: (-_length(row[1]), row[0]))
    rows = [(name, counts) for name, counts in rows if _length(counts)][:MAX_CLASSES]
    figure = Figure(figsize=(9.6, 1.8 + 0.3 * max(len(rows), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_bars(axes, rows)
    rate = summary.acceptance_rate
    accepted = (
        "nothing reviewed yet" if rate is None else f"{rate:.1%} of {summary.total.proposed:,} proposals accepted"
    )
    title = f"{_shortened(summary.dataset)}: {accepted}\n{summary.reviewed:,} of {summary.images:,} images reviewed"
    axes.set_title(title, loc="left", parse_math=False)
    figure.legend(
        handles=[
            Patch(color=colour, label=f"{kind} {getattr(summary.total, kind):,}") for kind, colour in COLOURS.items()
        ],
        loc="outside upper left",
        ncols=len(COLOURS),
        frameon=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the font has no glyphs for some scripts
        # Without matplotlib's version, so that the same review gives the same bytes.
        figure.savefig(file, format="png", dpi=100, metadata={"Software": None})


def _draw_bars(axes: Axes, rows: list[tuple[str, ReviewCounts]]) -> None:
    left = [0.0] * len(rows)
    positions = range(len(rows))
    for kind, colour in COLOURS.items():
        lengths = [_shares(counts)[kind] for _, counts in rows]
        axes.barh(positions, lengths, left=left, color=colour)
        left = [start + length for start, length in zip(left, lengths, strict=True)]
    for position, (_, counts) in enumerate(rows):
        axes.text(left[position], position, f" {_length(counts):,}", va="center", color="#555555")
    axes.set_yticks(positions, [_shortened(name) for name, _ in rows], parse_math=False)
    axes.invert_yaxis()
    axes.xaxis.set_visible(False)
    axes.tick_params(left=False)
    axes.spines[:].set_visible(False)
    axes.margins(x=0.08)


def _length(counts: ReviewCounts) -> int:
    return counts.proposed + counts.added


def _shares(counts: ReviewCounts) -> dict[str, float]:
    """Returns the lengths of a bar's parts. A box that was moved and relabelled adds one half to each."""
    both = counts.accepted + counts.moved + counts.relabelled + counts.deleted - counts.proposed
    return {
        "accepted": counts.accepted,
        "moved": counts.moved - both / 2,
        "relabelled": counts.relabelled - both / 2,
        "deleted": counts.deleted,
        "added": counts.added,
    }


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
