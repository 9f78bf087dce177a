"""The image of a review: what became of the proposals, class by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from glip.review.pull import Counts, PullSummary

# Told apart by people who see no red or green as well: blue, sky, orange, vermilion; and grey-green for what was added.
COLOURS = {
    "accepted": "#0072b2",
    "moved": "#56b4e9",
    "relabelled": "#e69f00",
    "deleted": "#d55e00",
    "added": "#009e73",
}
MOST_CLASSES = 40
_WIDTH, _ROW, _NAMES, _BARS, _TOP = 960, 30, 220, 620, 110


def draw_chart(summary: PullSummary) -> Image.Image:
    """A bar a class, the class with most boxes first: proposals by what became of them, then what was added."""
    rows = sorted(summary.per_class.items(), key=lambda row: (-_length(row[1]), row[0]))
    rows = [(name, counts) for name, counts in rows if _length(counts)][:MOST_CLASSES]
    image = Image.new("RGB", (_WIDTH, _TOP + _ROW * max(len(rows), 1) + 20), "white")
    draw = ImageDraw.Draw(image)
    text, title = ImageFont.load_default(15), ImageFont.load_default(22)
    rate = summary.acceptance_rate
    told = "nothing reviewed yet" if rate is None else f"{rate:.1%} of {summary.total.proposed:,} proposals accepted"
    draw.text((20, 16), _fitting(draw, f"{summary.dataset}: {told}", title, _WIDTH - 40), "black", title)
    draw.text((20, 46), f"{summary.reviewed:,} of {summary.images:,} images reviewed", "#555555", text)
    left = 20.0
    for kind, colour in COLOURS.items():
        draw.rectangle((left, 78, left + 14, 92), colour)
        name = f"{kind} {getattr(summary.total, kind):,}"
        draw.text((left + 20, 75), name, "black", text)
        left += 44 + draw.textlength(name, text)
    longest = max((_length(counts) for _, counts in rows), default=1)
    for place, (name, counts) in enumerate(rows):
        top = _TOP + _ROW * place
        draw.text((20, top + 4), _fitting(draw, name, text, _NAMES - 20), "black", text)
        left = 20.0 + _NAMES
        for kind, length in _shares(counts).items():
            right = left + _BARS * length / longest
            if length:
                draw.rectangle((left, top + 2, right, top + _ROW - 6), COLOURS[kind])
            left = right
        draw.text((left + 8, top + 4), f"{_length(counts):,}", "#555555", text)
    return image


def _length(counts: Counts) -> int:
    return counts.proposed + counts.added


def _shares(counts: Counts) -> dict[str, float]:
    """Lengths that add up to the bar's: a box that was moved and relabelled is half of each."""
    both = counts.accepted + counts.moved + counts.relabelled + counts.deleted - counts.proposed
    return {
        "accepted": counts.accepted,
        "moved": counts.moved - both / 2,
        "relabelled": counts.relabelled - both / 2,
        "deleted": counts.deleted,
        "added": counts.added,
    }


def _fitting(
    draw: ImageDraw.ImageDraw, words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    if draw.textlength(words, font) <= width:
        return words
    while words and draw.textlength(words + "…", font) > width:
        words = words[:-1]
    return words + "…"
