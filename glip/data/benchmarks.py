"""The table of benchmarks: where each has its files, as it publishes them, and what is asked of its images.

Every row names the source that its layout was read from. Opens no image, no model and no annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from glip.data.benchmark_rows import EvalSet, Prompts, Row, subsets
from glip.errors import InputError

if TYPE_CHECKING:
    from glip.data import class_lists

COCO_O_DOMAINS = ("sketch", "weather", "cartoon", "painting", "tattoo", "handmake")
LVIS_NAMES_PER_CHUNK = 40  # of 1203: 31 chunks an image, the last of three names
LVIS_LIMIT = 300  # boxes of each chunk
# Images of train, val and test as the GLIP paper counts them (arXiv:2112.03857v2, Table 9).
_ODINW_SIZES: dict[str, tuple[int, ...]] = {
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
AUTHORS_SPLIT = "published"  # what the authors' own configuration of a set scores: val, or a smaller part of it
ODINW_SPLIT: dict[Prompts, str] = {"plain": "val", "original": AUTHORS_SPLIT, "paper": "test"}


_TEST_DEV = (
    "The truth of test-dev is COCO's own: call results.json detections_test-dev2017_NAME_results.json, zip it, and "
    "give it to the server that cocodataset.org/#upload names."
)


def _coco(row: Row, root: Path, split: str, prompts: Prompts) -> list[EvalSet]:
    folder = root / "coco"
    if split == "test-dev":
        path = row.need(folder / "annotations/image_info_test-dev2017.json")
        images = (row.need(folder / "test2017"),)
        return [EvalSet("coco", split, "none", path, images, size=20_288, notes=(_TEST_DEV,))]
    path = row.need(folder / "annotations/instances_val2017.json")
    return [EvalSet("coco", split, "coco", path, (row.need(folder / "val2017"),), size=5000)]


def _lvis(row: Row, root: Path, split: str, prompts: Prompts) -> list[EvalSet]:
    folder = root / "coco"
    places = [folder / "annotations" / name for name in _LVIS_FILES[row.name]]
    # LVIS's images are COCO's, from train2017 as well as from val2017; its files name them with and without.
    images = (folder, folder / "val2017", folder / "train2017")
    return [EvalSet(row.name, split, "lvis", row.need(*places), images)]


def _flickr(row: Row, root: Path, split: str, prompts: Prompts) -> list[EvalSet]:
    path = row.need(root / f"mdetr_annotations/final_flickr_separateGT_{split}.json")
    folder = row.need(root / "flickr30k/flickr30k_images")
    return [EvalSet("flickr30k", split, "flickr30k", path, (folder, folder / split))]


def _coco_o(row: Row, root: Path, split: str, prompts: Prompts) -> list[EvalSet]:
    base = row.need(root / "ood_coco", root / "coco-o")
    return [
        EvalSet(
            domain,
            split,
            "coco",
            row.need(base / domain / "annotations/instances_val2017.json"),
            (row.need(base / domain / "val2017"),),
        )
        for domain in COCO_O_DOMAINS
    ]


def _d3(row: Row, root: Path, split: str, prompts: Prompts) -> list[EvalSet]:
    folder = root / "d3"
    path = row.need(folder / "d3_json/d3_full_annotations.json")
    row.need(folder / "d3_pkl/groups.pkl")
    return [EvalSet("d3", split, "d3", path, (row.need(folder / "d3_images"),))]


def _voc(row: Row, root: Path, split: str, prompts: Prompts) -> list[EvalSet]:
    folder = root / "VOCdevkit" / row.name.upper()
    path = row.need(folder / f"ImageSets/Main/{split}.txt")
    row.need(folder / "Annotations")
    return [EvalSet(row.name, split, "voc", path, (row.need(folder / "JPEGImages"),))]


def _sets_below(row: Row, root: Path, split: str, prompts: Prompts) -> list[EvalSet]:
    """RF100 and others whose every folder is a set, with its own class names."""
    folder = row.need(root / row.name)
    groups = _categories().get(row.name, {})
    found = [
        replace(item, group=groups.get(item.name, "")) for item in subsets(folder, _FOLDER_OF_SPLIT.get(split, split))
    ]
    if not found:
        raise InputError(
            f"{folder} holds no set with a split {split!r}. {row.name} is laid out below --data-root as {row.layout}. "
            f"{row.fetch}"
        )
    return found


def _odinw_group(row: Row, root: Path, split: str, prompts: Prompts) -> list[EvalSet]:
    from glip.data.class_lists import group

    return [_odinw_set(row, root, benchmark, split, prompts) for benchmark in group(row.name)]


def row_of_odinw(dataset: str) -> Row | None:
    """The row of a single set of ODinW; None if the word is none."""
    from glip.data.class_lists import resolve

    short = dataset.strip().removeprefix("@").removeprefix("odinw/")
    name = next((known for known in odinw_names() if known.casefold() == short.casefold()), None)
    if name is None:
        return None
    benchmark = resolve(f"odinw/{name}")
    splits = tuple(split.name for split in benchmark.splits)

    def find(row: Row, root: Path, split: str, prompts: Prompts) -> list[EvalSet]:
        return [_odinw_set(row, root, benchmark, split, prompts)]

    row = replace(TABLE["odinw35"], name=benchmark.name, about=f"the set {name} of ODinW", find=find)
    return replace(row, splits=(*splits, AUTHORS_SPLIT))


def _odinw_set(row: Row, root: Path, benchmark: class_lists.Benchmark, split: str, prompts: Prompts) -> EvalSet:
    protocols = {protocol.name: protocol for protocol in benchmark.protocols}
    authors = protocols["glip-35"]
    plain = protocols.get("glip-13", authors) if row.name == "odinw13" else authors
    asked = {"plain": plain, "original": authors, "paper": protocols.get("paper-13", plain)}[prompts]
    where = authors.split if split == AUTHORS_SPLIT else benchmark.split(split)
    folder = root / benchmark.root
    name = benchmark.name.removeprefix("odinw/")
    wordings = None if prompts == "plain" else asked.wordings
    # ODinW's ChessPieces has a class of two spaces, which nothing can be asked for; it stays in the truth.
    classes = [(id, name) for id, name in zip(benchmark.ids, asked.names, strict=True) if name.strip()]
    if wordings is not None and len(classes) < len(asked.names):
        wordings = tuple(w for w, name in zip(wordings, asked.names, strict=True) if name.strip())
    return EvalSet(
        name,
        where.name,
        "coco",
        row.need(folder / where.annotations),
        (folder / where.images if where.images else folder,),
        tuple(classes),
        wordings,
        size=dict(zip(("train", "val", "test"), _ODINW_SIZES.get(name, ()), strict=False)).get(where.name),
        notes=tuple(_odinw_notes(benchmark, split, prompts)),
    )


def _odinw_notes(benchmark: class_lists.Benchmark, split: str, prompts: Prompts) -> Iterable[str]:
    name = benchmark.name.removeprefix("odinw/")
    if prompts == "paper" and all(protocol.name != "paper-13" for protocol in benchmark.protocols):
        yield f"{name} is none of the paper's thirteen, and is asked plainly."
    if split == "test" and benchmark.split("test").annotations == benchmark.split("val").annotations:
        yield f"{name} has no test images of its own: its test split is val."


def sets_of(benchmark: str) -> frozenset[str]:
    """The names of all sets of RF100 or RF100-VL; none of a benchmark whose sets are always all needed."""
    return frozenset(_categories().get(benchmark, {}))


def _categories() -> dict[str, dict[str, str]]:
    """Of RF100 and RF100-VL: each set's part of the benchmark."""
    content = files("glip.evaluation").joinpath("categories.json").read_bytes()
    parts = msgspec.json.decode(content, type=dict[str, dict[str, tuple[str, ...]]])
    return {
        benchmark: {name: part for part, names in groups.items() for name in names}
        for benchmark, groups in parts.items()
    }


def odinw_names() -> list[str]:
    """Of the 35 sets, as they are called after 'odinw/'."""
    from glip.data.class_lists import known_names

    return [name.removeprefix("odinw/") for name in known_names() if name.startswith("odinw/")]


_FOLDER_OF_SPLIT = {"val": "valid"}
_LVIS_FILES = {
    # As GLIP's DATA.md names them, and as LVIS and its minival are published.
    "lvis-minival": ("lvis_v1_minival_inserted_image_name.json", "lvis_v1_minival.json"),
    "lvis-val": ("lvis_od_val.json", "lvis_v1_val.json"),
}
_COCO_SOURCE = "microsoft/GLIP DATA.md and maskrcnn_benchmark/config/paths_catalog.py"
_ODINW_SOURCE = "microsoft/GLIP configs/odinw_13, configs/odinw_35 (commit 9dda955)"
_ODINW_LAYOUT = (
    "odinw/Aquarium/Aquarium Combined.v2-raw-1024.coco/valid/annotations_without_background.json with the images "
    "beside it, and the other sets alike"
)
_ODINW_FETCH = "Fetch it as microsoft/GLIP odinw/README.md says."
_LVIS_FETCH = (
    "The annotations are at lvisdataset.org, of minival in the DATA.md of microsoft/GLIP; the images are COCO's."
)


def _odinw_row(name: str, about: str) -> Row:
    splits = ("val", "test", "train", AUTHORS_SPLIT)
    return Row(name, about, splits, _ODINW_LAYOUT, _ODINW_SOURCE, _ODINW_FETCH, _odinw_group)


def _lvis_row(name: str, about: str) -> Row:
    layout = f"coco/annotations/{_LVIS_FILES[name][0]}, coco/val2017/*.jpg, coco/train2017/*.jpg"
    return Row(name, about, ("val",), layout, "microsoft/GLIP configs/lvis", _LVIS_FETCH, _lvis)


def _voc_row(year: int, splits: Sequence[str]) -> Row:
    name = f"VOCdevkit/VOC{year}"
    return Row(
        f"voc{year}",
        f"Pascal VOC {year}: AP50 over all recalls, and by VOC's own rule",
        tuple(splits),
        f"{name}/ImageSets/Main/{splits[0]}.txt, {name}/Annotations/*.xml, {name}/JPEGImages/*.jpg",
        "the development kit of Pascal VOC",
        "It is at host.robots.ox.ac.uk/pascal/VOC.",
        _voc,
    )


_ROWS = (
    Row(
        "coco",
        "COCO 2017: 80 classes; test-dev makes a results file for the server",
        ("val", "test-dev"),
        "coco/annotations/instances_val2017.json and coco/val2017/*.jpg "
        "(test-dev: coco/annotations/image_info_test-dev2017.json and coco/test2017/*.jpg)",
        _COCO_SOURCE,
        "It is at cocodataset.org.",
        _coco,
    ),
    _lvis_row("lvis-minival", "LVIS v1 on minival: Fixed AP, and LVIS's standard AP"),
    _lvis_row("lvis-val", "LVIS v1 val: Fixed AP, and LVIS's standard AP"),
    _odinw_row("odinw13", "the 13 sets of ODinW that the GLIP paper reports"),
    _odinw_row("odinw35", "all 35 sets of ODinW"),
    Row(
        "flickr30k",
        "Flickr30k Entities: Recall@1/5/10 of phrases",
        ("val", "test"),
        "mdetr_annotations/final_flickr_separateGT_{val,test}.json, flickr30k/flickr30k_images/*.jpg (or in its "
        "folders val and test) and, for recall by type of phrase, flickr30k_entities/{Annotations,Sentences}",
        _COCO_SOURCE,
        "The annotations are MDETR's (zenodo.org/record/4729015), the images Flickr30k's (asked for at "
        "shannon.cs.illinois.edu/DenotationGraph), flickr30k_entities is at "
        "github.com/BryanPlummer/flickr30k_entities.",
        _flickr,
    ),
    Row(
        "coco-o",
        "COCO-O: COCO's classes in six other domains, with effective robustness",
        ("val",),
        "ood_coco/{sketch,weather,cartoon,painting,tattoo,handmake}/annotations/instances_val2017.json, "
        "…/val2017/*.jpg",
        "alibaba/easyrobust benchmarks/coco_o/README.md",
        "The README of alibaba/easyrobust benchmarks/coco_o links it.",
        _coco_o,
    ),
    Row(
        "d3",
        "D3, descriptions as classes: FULL, PRES and ABS, inside each scenario",
        ("test",),
        "d3/d3_json/d3_{full,pres,abs}_annotations.json, d3/d3_pkl/groups.pkl, d3/d3_images/*.jpg",
        "shikras/d-cube README.md and doc.md; open-mmlab/mmdetection configs/mm_grounding_dino/dod",
        "It is linked in the README of shikras/d-cube.",
        _d3,
    ),
    Row(
        "rf100",
        "Roboflow 100: a hundred sets of seven kinds",
        ("test", "val", "train"),
        "rf100/NAME/{train,valid,test}/_annotations.coco.json with the images beside it",
        "roboflow/roboflow-100-benchmark README.md and GLIP-benchmark/train.sh",
        "The README of roboflow/roboflow-100-benchmark says how to download it.",
        _sets_below,
    ),
    Row(
        "rf100-vl",
        "Roboflow 100-VL: a hundred sets of seven kinds",
        ("test", "val", "train"),
        "rf100-vl/NAME/{train,valid,test}/_annotations.coco.json with the images beside it",
        "roboflow/rf100-vl README.md",
        "`rf100vl download rf100vl DATA-ROOT/rf100-vl` of the package rf100vl fetches it.",
        _sets_below,
    ),
    _voc_row(2007, ("test", "val", "trainval")),
    _voc_row(2012, ("val", "trainval")),
    Row(
        "mini-odinw",
        "thirteen small drawn sets in ODinW's layout, for a quick look",
        ("test", "val", "train"),
        "mini-odinw/NAME/{train,valid,test}/annotations_without_background.json with the images beside it",
        "glip data synthetic",
        "`glip data synthetic --mini-odinw DATA-ROOT/mini-odinw` writes it.",
        _sets_below,
    ),
)
TABLE = {row.name: row for row in _ROWS}
