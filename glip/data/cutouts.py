"""Named things cut out of their background, to be pasted onto photographs: files, names, poses.

A folder holds PNG files with transparency and `names.tsv` (columns file, group, name). Knows nothing of classes.
"""

from __future__ import annotations

import csv
import random
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageEnhance

from glip.errors import InputError

TABLE = "names.tsv"
_MOST_WORDS = 3
_ARTICLES = re.compile(
    r"^(?:(?:an?|the|our|some|two|big|little|large|very|small|old|modern|pair|head|bunch|quarter|string|baby|another|of)\s+)+"
)
# A clause with one of these is a sentence about the thing and not its name.
_VERBS = re.compile(
    r"\b(?:is|are|was|lets?|you|your|we|its?|stands|means|resembles|gets|remember|eat|last|have|has|put|died)\b"
)
# Signs are named by what they command, and fire or confetti has no edge.
_SKIPPED_GROUPS = frozenset({"town/roadsigns", "naturalforces", "group", "military"})
_OPAQUE = 128


@dataclass(frozen=True)
class Cutout:
    """Describes an object that can be pasted into an image.

    Attributes:
        path: of the image with transparency.
        name: what it is called, in lower case without an article.
        group: the family it belongs to, such as 'animals/birds'.
    """

    path: Path
    name: str
    group: str


def load_cutouts(folder: Path) -> tuple[Cutout, ...]:
    """Reads a folder of cut-outs; those without a usable name are left out.

    Raises:
        InputError: there is no table, it lacks a column, or no cut-out has a name and a file.
    """
    table = folder / TABLE
    try:
        text = table.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The table of cut-outs {table} cannot be read: {error}.") from error
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not {"file", "group", "name"} <= rows[0].keys():
        raise InputError(f"The table of cut-outs {table} needs the columns file, group and name, separated by tabs.")
    found = [
        Cutout(folder / row["file"], name, row["group"])
        for row in rows
        if row["group"] not in _SKIPPED_GROUPS and (name := clean_cutout_name(row["name"] or ""))
    ]
    found = [cutout for cutout in found if cutout.path.is_file()]
    if not found:
        raise InputError(f"No line of {table} has both a usable name and a file in {folder}.")
    return tuple(found)


def clean_cutout_name(text: str) -> str:
    """Returns the name in a short description ('A ripe, red tomato!' gives 'ripe red tomato'), '' if there is none."""
    text = re.sub(r"\([^)]*\)", " ", text.lower())
    text = re.sub(r"[“”\"'’‘]", "", text)
    clause = re.split(r"[.!?;:—]|, (?:it|from|also|a|an|the)\b", text.strip())[0]
    words = re.findall(r"[a-z0-9]+", _ARTICLES.sub("", clause.strip()))
    if not words or len(words) > _MOST_WORDS or _VERBS.search(clause):
        return ""
    return " ".join(words)


@lru_cache(maxsize=1024)
def _image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGBA")


def posed(cutout: Cutout, long_side: int, rng: random.Random) -> Image.Image:
    """Returns the cut-out as an RGBA image, cropped to its opaque pixels; its longer side has `long_side` pixels.

    It is mirrored, rotated, and made brighter or darker at random.

    Raises:
        InputError: the file is no image, or nothing in it is opaque.
    """
    try:
        image = _image(cutout.path)
    except OSError as error:
        raise InputError(f"The cut-out {cutout.path} cannot be read: {error}.") from error
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        image = image.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR, expand=True)
    image = _cropped(image, cutout.path)
    scale = long_side / max(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    return ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.2))


def _cropped(image: Image.Image, path: Path) -> Image.Image:
    box = image.getchannel("A").point([255 * (value >= _OPAQUE) for value in range(256)]).getbbox()
    if box is None:
        raise InputError(f"The cut-out {path} is transparent everywhere; remove its line from {TABLE}.")
    return image.crop(box)
