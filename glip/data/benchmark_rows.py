"""One split of one set of images, and a row of the table of benchmarks. Knows names and paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from glip.data.discovery import find_folder
from glip.errors import InputError

if TYPE_CHECKING:
    from glip.prompts import Wording

Scorer = Literal["coco", "lvis", "flickr30k", "d3", "voc", "none"]
Prompts = Literal["plain", "original", "paper"]


@dataclass(frozen=True)
class EvalSet:
    """One split of one set of images.

    Attributes:
        name: as in tables, files and submissions.
        split: train, val, test, …; '' where the files name none.
        scorer: which evaluator scores it; none: its truth is not public, a results file is all there is.
        annotations: the file of the truth; of D3 the file of all descriptions, of VOC the list of images.
        images: folders that file names are relative to; the first that holds an image is right.
        classes: category ids and names as they are asked; None: those of the annotations.
        wordings: how the classes stand in the caption, one a class; None for the plain names.
        group: the part of a benchmark that it is averaged in.
        size: images of the published split; None where that is not known here.
        notes: what is unusual about it, in sentences.
    """

    name: str
    split: str
    scorer: Scorer
    annotations: Path
    images: tuple[Path, ...]
    classes: tuple[tuple[int, str], ...] | None = None
    wordings: tuple[Wording, ...] | None = None
    group: str = ""
    size: int | None = None
    notes: tuple[str, ...] = ()

    def image(self, file_name: str) -> Path:
        """Where an image is, or is looked for first if it is nowhere."""
        places = [folder / file_name for folder in self.images]
        return next((place for place in places if place.is_file()), places[0])


@dataclass(frozen=True)
class Row:
    """A line of the table of benchmarks.

    Attributes:
        name: what --dataset takes.
        about: one line for people.
        splits: accepted by --split; the first is the default.
        layout: files below the data folder.
        source: where that layout was read.
        fetch: where people get the files.
        find: makes the sets, from the row, the data folder, a split of `splits`, and the prompts.
    """

    name: str
    about: str
    splits: tuple[str, ...]
    layout: str
    source: str
    fetch: str
    find: Callable[[Row, Path, str, Prompts], list[EvalSet]]

    def need(self, *places: Path) -> Path:
        """The first of some places that exists.

        Raises:
            InputError: none does. The message names the first, the layout, and where people get the files.
        """
        for place in places:
            if place.exists():
                return place
        other = f" (or {', '.join(str(place) for place in places[1:])})" if places[1:] else ""
        raise InputError(
            f"{places[0]}{other} is missing. {self.name} is laid out below --data-root as {self.layout}. {self.fetch}"
        )


def subsets(folder: Path, split: str) -> list[EvalSet]:
    """Every folder below one that is a set with that split."""
    found = []
    for below in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        one = find_folder(below, split)
        if one is not None:
            found.append(EvalSet(below.name, one.split, "coco", one.annotations, one.images))
    return found
