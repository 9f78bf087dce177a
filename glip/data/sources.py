"""The published files of data sets: their addresses, sizes and hashes, and the folders they are unpacked into.

A data set without a row here cannot be fetched by `glip data pull`: its licence asks for a registration, or its files
have no public address. `Benchmark.fetch` says what to do instead. Downloads nothing; `glip.data.pull` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from glip.data.odinw import GROUPS, OdinwSet, odinw_group, odinw_set

_HUB = "https://huggingface.co"
_COCO = "http://images.cocodataset.org"  # published without encryption; the hashes below are checked
_LVIS = "https://dl.fbaipublicfiles.com/LVIS"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
_FLICKR = "https://raw.githubusercontent.com/BryanPlummer/flickr30k_entities/master"
# The addresses that `glip data pull` uses can be replaced: the hub's as everywhere, all others by one mirror.
HUB_MIRROR, DATA_MIRROR = "HF_ENDPOINT", "GLIP_DATA_MIRROR"


@dataclass(frozen=True)
class Source:
    """A published file.

    Attributes:
        host: beginning of its address.
        path: the rest of it.
        folder: where it is put, or unpacked if it is a .zip or .tar; below the data folder.
        makes: paths below the data folder that exist once it is there, in any case the folder of the images.
        size: bytes; None if unknown.
        sha256: hash, from tensorflow/datasets url_checksums (commit 333639b); None if none is published.
        top: the one folder that everything in the archive is below; unpacked into it if the archive has no such folder.
    """

    host: str
    path: str
    folder: str
    makes: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    top: str = ""

    @property
    def file_name(self) -> str:
        """Returns the last part of the address."""
        return self.path.rpartition("/")[2]

    @property
    def url(self) -> str:
        """Returns the address; the environment variables HF_ENDPOINT and GLIP_DATA_MIRROR replace the hosts."""
        mirror = os.environ.get(HUB_MIRROR if self.host == _HUB else DATA_MIRROR, "").rstrip("/")
        return (mirror or self.host) + self.path

    def is_here(self, root: Path) -> bool:
        """Returns whether everything that the file makes exists below a data folder."""
        return all((root / path).exists() for path in self.makes)


_COCO_ANNOTATIONS = Source(
    _COCO,
    "/annotations/annotations_trainval2017.zip",
    "coco",
    ("coco/annotations/instances_val2017.json", "coco/annotations/instances_train2017.json"),
    252_907_541,
    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
)
_COCO_VAL = Source(
    _COCO,
    "/zips/val2017.zip",
    "coco",
    ("coco/val2017",),
    815_585_330,
    "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
)
_COCO_TRAIN = Source(
    _COCO,
    "/zips/train2017.zip",
    "coco",
    ("coco/train2017",),
    19_336_861_798,
    "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
)
_COCO_TEST = Source(
    _COCO,
    "/zips/test2017.zip",
    "coco",
    ("coco/test2017",),
    6_646_970_404,
    "c7908c3c9f94ba2f3340ebbeec58c25db6be8774f18d68c2f15d0e369d95baba",
)
_COCO_TEST_INFO = Source(
    _COCO,
    "/annotations/image_info_test2017.zip",
    "coco",
    ("coco/annotations/image_info_test-dev2017.json",),
    1_144_034,
    "e52f412dd7195ac8f98d782b44c6dd30ea10241e9f42521f67610fbe055a74f8",
)
_MINIVAL = Source(
    _HUB,
    "/GLIPModel/GLIP/resolve/main/lvis_v1_minival_inserted_image_name.json",
    "coco/annotations",
    ("coco/annotations/lvis_v1_minival_inserted_image_name.json",),
)
_LVIS_VAL = Source(_LVIS, "/lvis_v1_val.json.zip", "coco/annotations", ("coco/annotations/lvis_v1_val.json",))


def _voc(year: int, file: str, list_name: str, size: int, sha256: str) -> Source:
    folder = f"VOCdevkit/VOC{year}"
    makes = (f"{folder}/ImageSets/Main/{list_name}.txt", f"{folder}/JPEGImages", f"{folder}/Annotations")
    return Source(_VOC, f"/voc{year}/{file}.tar", "", makes, size, sha256)


_VOC_2007 = _voc(
    2007,
    "VOCtrainval_06-Nov-2007",
    "trainval",
    460_032_000,
    "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
)
_VOC_2007_TEST = _voc(
    2007,
    "VOCtest_06-Nov-2007",
    "test",
    451_020_800,
    "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
)
_VOC_2012 = _voc(
    2012,
    "VOCtrainval_11-May-2012",
    "trainval",
    1_999_639_040,
    "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
)
_ENTITIES = Source(
    "https://github.com/BryanPlummer/flickr30k_entities",
    "/raw/master/annotations.zip",
    "flickr30k_entities",
    ("flickr30k_entities/Annotations", "flickr30k_entities/Sentences"),
)


def _entities_list(split: str) -> Source:
    return Source(_FLICKR, f"/{split}.txt", "flickr30k_entities", (f"flickr30k_entities/{split}.txt",))


# Benchmark → split → the files it needs. ODinW's are made by `sources_of` from the table of its sets.
_SOURCES: Mapping[str, Mapping[str, tuple[Source, ...]]] = {
    "coco": {
        "val": (_COCO_ANNOTATIONS, _COCO_VAL),
        "test-dev": (_COCO_TEST_INFO, _COCO_TEST),
        "train": (_COCO_ANNOTATIONS, _COCO_TRAIN),
    },
    # All images of minival are COCO's val2017; those of LVIS's own val are in both folders.
    "lvis-minival": {"val": (_MINIVAL, _COCO_VAL)},
    "lvis-val": {"val": (_LVIS_VAL, _COCO_VAL, _COCO_TRAIN)},
    "voc2007": {"test": (_VOC_2007_TEST,), "val": (_VOC_2007,), "trainval": (_VOC_2007,)},
    "voc2012": {"val": (_VOC_2012,), "trainval": (_VOC_2012,)},
    "flickr30k": {split: (_ENTITIES, _entities_list(split)) for split in ("val", "test")},
}
# What a person has to fetch besides, as a sentence: no address without a registration.
BY_HAND = {
    "flickr30k": "Flickr30k's images are given out on request: fill in the form at shannon.cs.illinois.edu/"
    "DenotationGraph and unpack flickr30k-images.tar into DATA-ROOT/flickr30k/flickr30k_images.",
}


def can_be_pulled(benchmark: str) -> bool:
    """Returns whether `glip data pull` has addresses for a benchmark or a set of ODinW (`odinw/Aquarium`)."""
    return benchmark in _SOURCES or benchmark in GROUPS or benchmark.startswith("odinw/")


def sources_of(benchmark: str, split: str | None = None) -> tuple[Source, ...]:
    """Returns the files that a benchmark or a set of ODinW (`odinw/Aquarium`) is made of; () if none are known.

    Args:
        benchmark: a name of the table of benchmarks, or `odinw/SET`.
        split: of the benchmark; None for its default. ODinW's archives hold all splits.
    """
    if benchmark in GROUPS or benchmark.startswith("odinw/"):
        wanted = benchmark.removeprefix("odinw/")
        return archives_of(odinw_group(wanted) if wanted in GROUPS else [odinw_set(wanted)])
    splits = _SOURCES.get(benchmark, {})
    return splits.get(split or next(iter(splits), ""), ())


def archives_of(sets: Iterable[OdinwSet]) -> tuple[Source, ...]:
    """Returns the archives that hold sets of ODinW. Some hold two sets.

    They are named like the folder below odinw/ (microsoft/GLIP odinw/download.py).
    """
    of_archive: dict[str, list[OdinwSet]] = {}
    for one in sets:
        of_archive.setdefault(one.root.split("/")[1], []).append(one)
    return tuple(
        Source(
            _HUB,
            f"/GLIPModel/GLIP/resolve/main/odinw_35/{top}.zip",
            "odinw",
            tuple(one.splits[split].annotations[0] for one in rows for split in ("train", "val")),
            top=top,
        )
        for top, rows in of_archive.items()
    )


def pull_command(benchmark: str, root: Path) -> str:
    """Returns the command that fetches a benchmark into a data folder."""
    words = f"glip data pull {benchmark}"
    return words if root == Path("data") else f"{words} --data-root {quote(str(root))}"


def how_to_fetch(benchmark: str, by_hand: str, root: Path) -> str:
    """Returns the sentence that says how to get a benchmark: the command, or what to do by hand."""
    if not can_be_pulled(benchmark):
        return with_root(by_hand, root)
    return f"Run `{pull_command(benchmark, root)}`."


def with_root(sentence: str, root: Path) -> str:
    """Returns a sentence with the data folder put in for DATA-ROOT."""
    return sentence.replace("DATA-ROOT", quote(str(root)))


def splits_with_sources(benchmark: str) -> tuple[str, ...]:
    """Returns the splits of a benchmark that can be fetched one by one; () if its archives hold all of them."""
    return tuple(_SOURCES.get(benchmark, {}))
