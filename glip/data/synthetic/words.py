"""Lists the words of synthetic scenes, and those that pre-training never sees."""

from __future__ import annotations

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
KINDS = (
    "circle", "square", "triangle", "star", "diamond", "hexagon",
    "cross", "ring", "heart", "crescent", "arrow", "semicircle",
)  # fmt: skip
PLAIN = "plain"  # left out of full names: a "red circle" is plain
TEXTURES = (PLAIN, "striped", "dotted", "checked", "outlined")
SIZES = ("small", "large")

Pair = tuple[str, str]  # colour and kind of a drawn shape

# Pairs that pre-training neither shows nor names: two per colour, one or two per kind.
_UNSEEN_KINDS = {
    "red": ("diamond", "arrow"),
    "orange": ("square", "crescent"),
    "yellow": ("cross", "heart"),
    "green": ("ring", "triangle"),
    "blue": ("star", "semicircle"),
    "purple": ("circle", "hexagon"),
    "pink": ("arrow", "diamond"),
    "brown": ("heart", "star"),
    "black": ("crescent", "ring"),
    "white": ("triangle", "square"),
}
UNSEEN_PAIRS: tuple[Pair, ...] = tuple((colour, kind) for colour, kinds in _UNSEEN_KINDS.items() for kind in kinds)
SEEN_PAIRS: tuple[Pair, ...] = tuple(
    (colour, kind) for colour in COLOURS for kind in KINDS if (colour, kind) not in UNSEEN_PAIRS
)

# Images that pre-training never shows, by theme: the classes of the small few-shot sets.
HELD_OUT_THEMES = {
    "Animals": ("elephant", "tiger", "rabbit", "hedgehog", "kangaroo"),
    "Aquarium": ("octopus", "tropical fish", "crab", "dolphin"),
    "Birds": ("owl", "parrot", "rooster"),
    "Insects": ("lady beetle", "spider", "butterfly"),
    "Fruit": ("banana", "grapes", "pear", "watermelon"),
    "Vegetables": ("carrot", "broccoli", "aubergine"),
    "FastFood": ("hamburger", "french fries", "hot dog"),
    "Vehicles": ("bus", "tractor", "fire engine", "bicycle"),
    "Aircraft": ("helicopter", "rocket"),
    "Instruments": ("guitar", "trumpet", "violin"),
    "Sports": ("soccer ball", "baseball", "american football"),
    "Tools": ("hammer", "wrench", "screwdriver"),
}
HELD_OUT = tuple(name for names in HELD_OUT_THEMES.values() for name in names)
