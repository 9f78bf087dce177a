"""The 35 data sets of ODinW: files, class names and the published prompts of each.

Read from `odinw.json`, which follows microsoft/GLIP configs/odinw_13 and configs/odinw_35 (commit 9dda955),
MMDetection's port, and the GLIP paper (arXiv:2112.03857v2, Tables 9 and 10). Opens no data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import msgspec

from glip.data.benchmarks import Files
from glip.errors import InputError
from glip.prompts import Wording

GROUPS = ("odinw13", "odinw35")
AUTHORS_SPLIT = "published"  # the split that the authors' own configuration scores: val, or a smaller part of it
# Images of train, val and test as the GLIP paper counts them (Table 9).
_SIZES: dict[str, tuple[int, int, int]] = {
    "PascalVOC": (13_690, 3422, 3422),
    "AerialMaritimeDrone_large": (52, 15, 7),
    "Aquarium": (448, 127, 63),
    "CottontailRabbits": (1980, 19, 10),
    "EgoHands_generic": (3840, 480, 480),
    "NorthAmericaMushrooms": (41, 5, 5),
    "Packages": (19, 4, 3),
    "Raccoons": (150, 29, 17),
    "ShellfishOpenImages": (406, 116, 58),
    "VehiclesOpenImages": (878, 250, 126),
    "pistols": (2377, 297, 297),
    "pothole": (465, 133, 67),
    "thermalDogsAndPeople": (142, 41, 20),
}


@dataclass(frozen=True)
class PublishedPrompt:
    """One published way to prompt a set's classes and to score the result.

    Attributes:
        split: name of the split that is scored.
        names: class names as this protocol spells them, in the order of the ids.
        wordings: how each name is written in the caption; None for the plain names.
        annotations: another annotation file of the split, where the protocol uses one; '' for the usual file.
    """

    split: str
    names: tuple[str, ...]
    wordings: tuple[Wording, ...] | None
    annotations: str = ""


@dataclass(frozen=True)
class OdinwSet:
    """One data set of ODinW.

    Attributes:
        name: for example Aquarium; `odinw/Aquarium` on the command line.
        root: its folder below the data folder.
        names: class names of the 35-set configuration; their ids are 1, 2, …
        splits: files of train, val, test and, where it exists, minival.
        published: published protocols by name: glip-35 and glip-13 (the authors' configurations), mmdet-35 and
            mmdet-13 (MMDetection's), paper-13 (the paper's prompts, on the test images).
    """

    name: str
    root: str
    names: tuple[str, ...]
    splits: Mapping[str, Files]
    published: Mapping[str, PublishedPrompt]

    @property
    def ids(self) -> tuple[int, ...]:
        """Returns the category ids of `names`."""
        return tuple(range(1, len(self.names) + 1))

    @property
    def test_is_val(self) -> bool:
        """Returns whether the test split has no images of its own."""
        return self.splits["test"].annotations == self.splits["val"].annotations


def odinw_group(name: str) -> tuple[OdinwSet, ...]:
    """Returns the 13 or 35 sets whose average is published as one number.

    Raises:
        InputError: the name is neither odinw13 nor odinw35.
    """
    if name not in GROUPS:
        raise InputError(f"No group of ODinW is called {name!r}; accepted are {' and '.join(GROUPS)}.")
    protocol = f"glip-{name.removeprefix('odinw')}"
    return tuple(row for row in odinw_sets() if protocol in row.published)


def odinw_set(name: str) -> OdinwSet:
    """Returns the set of that name, in any case; KeyError if there is none."""
    return {row.name.casefold(): row for row in odinw_sets()}[name.casefold()]


@cache
def odinw_sets() -> tuple[OdinwSet, ...]:
    """Returns the 35 sets, in the order of `odinw.json`."""
    content = files("glip.data").joinpath("odinw.json").read_bytes()
    return tuple(map(_odinw_set, msgspec.json.decode(content, type=tuple[_Row, ...])))


class _Row(msgspec.Struct, frozen=True):
    """A row of `odinw.json`: how a set differs from the usual layout and prompts.

    Attributes:
        name: of the set.
        root: its folder below the data folder.
        names: class names of the 35-set configuration.
        in_13: whether it is also one of the 13 sets.
        names_13: class names of the 13-set configuration, where they differ.
        flat: whether the annotation files are in the root, next to the images.
        minival: whether a smaller val split exists, which the authors' configuration scores.
        test_is_val: whether the test split has no images of its own.
        renamed_by_mmdet: whether MMDetection scores a copy of the file with other class names.
        wordings: of the authors' 35-set configuration; their spaces are part of the caption.
        mmdet_wordings: of MMDetection's configuration.
        paper_wordings: of the paper's Table 10.
    """

    name: str
    root: str
    names: tuple[str, ...]
    in_13: bool = False
    names_13: tuple[str, ...] = ()
    flat: bool = False
    minival: bool = False
    test_is_val: bool = False
    renamed_by_mmdet: bool = False
    wordings: tuple[Wording, ...] | None = None
    mmdet_wordings: tuple[Wording, ...] | None = None
    paper_wordings: tuple[Wording, ...] | None = None


def _odinw_set(row: _Row) -> OdinwSet:
    return OdinwSet(row.name, row.root, row.names, dict(_splits(row)), dict(_published(row)))


def _splits(row: _Row) -> Iterator[tuple[str, Files]]:
    folders = {"train": "train", "val": "valid", "test": "valid" if row.test_is_val else "test"}
    if row.minival:
        folders["minival"] = "mini_val"
    sizes = dict(zip(("train", "val", "test"), _SIZES.get(row.name, ()), strict=False))
    for name, folder in folders.items():
        path = f"{name}_annotations_without_background.json" if row.flat else f"{folder}/{_FILE}"
        images = row.root if row.flat else f"{row.root}/{folder}"
        yield name, Files((f"{row.root}/{path}",), ((images,),), size=sizes.get(name))


_FILE = "annotations_without_background.json"


def _published(row: _Row) -> Iterator[tuple[str, PublishedPrompt]]:
    authors = "minival" if row.minival else "val"
    renamed = f"{row.root}/valid/new_{_FILE}" if row.renamed_by_mmdet else ""
    yield "glip-35", PublishedPrompt(authors, row.names, row.wordings)
    yield "mmdet-35", PublishedPrompt("val", row.names, row.mmdet_wordings, renamed)
    if row.in_13:
        names = row.names_13 or row.names
        yield "glip-13", PublishedPrompt(authors, names, None)
        yield "mmdet-13", PublishedPrompt("val", names, None)
        yield "paper-13", PublishedPrompt("test", names, row.paper_wordings)
