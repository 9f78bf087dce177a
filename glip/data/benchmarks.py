"""The table of data sets: files, splits, sources, and what evaluation, tuning and pre-training read of each.

A new benchmark is one row in `_ROWS`. Paths are relative to the data folder, as each data set is published. Opens no
file; `glip.data.lookup` finds the files of a row, and `glip.data.splits` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import msgspec

from glip.data.captions import Packing

# How the annotations are written, and so how they are read (`glip.data.splits`) and scored (`glip.evaluation.tasks`).
# coco-images: COCO's form without annotations, whose truth is not public.
Format = Literal["coco", "coco-images", "lvis", "voc", "flickr30k", "d3"]

COCO_O_DOMAINS = ("sketch", "weather", "cartoon", "painting", "tattoo", "handmake")


@dataclass(frozen=True)
class Files:
    """The files of one split, relative to the data folder. `{split}` and `{set}` in a path stand for their names.

    Attributes:
        annotations: paths where the annotation file may be; the first that exists is used.
        images: groups of folders; of each group at least one must exist, and all that exist are searched in order.
        required: other files and folders that must exist.
        format: of the annotations.
        size: number of images of the published split; None if unknown.
        notes: what a reader of the score should know, in sentences.
        folder_of_sets: instead of `annotations` and `images`: every folder below this one is a data set of its own, in
            one of the layouts of `glip.data.coco_folders`.
    """

    annotations: tuple[str, ...] = ()
    images: tuple[tuple[str, ...], ...] = ()
    required: tuple[str, ...] = ()
    format: Format = "coco"
    size: int | None = None
    notes: tuple[str, ...] = ()
    folder_of_sets: str = ""

    def described(self) -> str:
        """Returns the paths as one line of text."""
        if self.folder_of_sets:
            return (
                f"{self.folder_of_sets}/SET/{{train,valid,test}}/_annotations.coco.json (or "
                f"annotations_without_background.json), images in the same folders"
            )
        images = " and ".join(" or ".join(f"{folder}/" for folder in group) for group in self.images)
        return f"{', '.join((' or '.join(self.annotations), *self.required))}, images in {images}"


@dataclass(frozen=True)
class Pretraining:
    """How pre-training reads a data set (`glip.data.pretraining_sets`).

    Attributes:
        files: of the training split.
        kind: detection (boxes of classes, COCO's form) or grounding (captions with boxes, MDETR's form).
        sampling: for detection: which class names a caption holds, see `DetectionStream`.
        patches: for detection: images are in folders `patch0`, …, whatever else their `file_name` says.
        packing: for grounding: how often captions of other images are added.
    """

    files: Files
    kind: Literal["detection", "grounding"]
    sampling: Literal["pretrain", "all-names"] = "pretrain"
    patches: bool = False
    packing: Packing | None = None


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A row of the table.

    Attributes:
        name: the word on the command line.
        about: one line for people.
        splits: files of each split that can be scored or, if called train, val and test, tuned on; the first is the
            default of `glip eval`. Empty for a data set of pre-training only.
        source: the document that describes the layout.
        fetch: where people get the files, as a sentence: it is the end of the message about a missing file.
        sets: the names of its data sets, put into paths for `{set}`; () if the benchmark is one data set.
        pretraining: how pre-training reads it; None if it is not used there.
    """

    name: str
    about: str
    splits: Mapping[str, Files]
    source: str
    fetch: str
    sets: tuple[str, ...] = ()
    pretraining: Pretraining | None = None

    @property
    def layout(self) -> str:
        """Returns where the files are, as text: one clause per split, or one for all if they are alike."""
        texts = {split: files.described() for split, files in self.splits.items()}
        names, domains = ",".join(self.splits), ",".join(self.sets)
        if len(set(texts.values())) == 1:
            text = next(iter(texts.values()))
            return text.replace("{split}", f"{{{names}}}").replace("{set}", f"{{{domains}}}")
        return "; ".join(f"{split}: {text}" for split, text in texts.items())


def known_benchmarks() -> tuple[Benchmark, ...]:
    """Returns the rows that can be scored."""
    return tuple(row for row in _ROWS if row.splits)


def pretraining_rows() -> dict[str, Benchmark]:
    """Returns the rows that pre-training can read, by name."""
    return {row.name: row for row in _ROWS if row.pretraining is not None}


def group_of_set(benchmark: str) -> dict[str, str]:
    """Returns, for each data set of RF100 and RF100-VL, the part of the benchmark it is averaged in; {} for others."""
    content = files("glip.data").joinpath("set_groups.json").read_bytes()
    parts = msgspec.json.decode(content, type=dict[str, dict[str, tuple[str, ...]]])
    return {name: part for part, names in parts.get(benchmark, {}).items() for name in names}


def _one(paths: str) -> tuple[tuple[str, ...], ...]:
    """Returns one group of image folders, from their paths separated by ' | '."""
    return (tuple(paths.split(" | ")),)


_COCO_TRAIN = Files(("coco/annotations/instances_train2017.json",), _one("coco/train2017"))
_COCO_VAL = Files(("coco/annotations/instances_val2017.json",), _one("coco/val2017"), size=5000)
_COCO_TEST_DEV = Files(
    ("coco/annotations/image_info_test-dev2017.json",),
    _one("coco/test2017"),
    format="coco-images",
    size=20_288,
    notes=(
        "The annotations of test-dev are not public: rename results.json to detections_test-dev2017_NAME_results.json, "
        "zip it, and upload it to the server named on cocodataset.org/#upload.",
    ),
)
_COCO_SOURCE = "microsoft/GLIP DATA.md and maskrcnn_benchmark/config/paths_catalog.py"
_LVIS_FETCH = (
    "The annotations are at lvisdataset.org (minival: in the DATA.md of microsoft/GLIP); the images are COCO's."
)
_MIXED = ("mdetr_annotations/final_mixed_train", "mixed_grounding/annotations/final_mixed_train")
_GQA = ("gqa/images", "mixed_grounding/images")
_MDETR_FETCH = "The annotations are MDETR's (zenodo.org/record/4729015)"


def _lvis(name: str, about: str, *annotations: str) -> Benchmark:
    # LVIS uses COCO's images of both train2017 and val2017; its files name them with or without the folder.
    images = _one("coco | coco/val2017 | coco/train2017")
    paths = tuple(f"coco/annotations/{path}" for path in annotations)
    return Benchmark(name, about, {"val": Files(paths, images, format="lvis")}, "GLIP configs/lvis", _LVIS_FETCH)


def _odinw(name: str, about: str) -> Benchmark:
    # The files of each set are in `odinw.json`; this one is an example of the layout.
    root = "odinw/Aquarium/Aquarium Combined.v2-raw-1024.coco"
    example = Files((f"{root}/valid/annotations_without_background.json",), _one(f"{root}/valid"))
    return Benchmark(
        name,
        about,
        dict.fromkeys(("val", "test", "train", "published"), example),
        "microsoft/GLIP configs/odinw_13, configs/odinw_35 (commit 9dda955)",
        "Fetch it as microsoft/GLIP odinw/README.md says.",
    )


def _voc(year: int, *splits: str) -> Benchmark:
    folder = f"VOCdevkit/VOC{year}"
    split_files = Files(
        (f"{folder}/ImageSets/Main/{{split}}.txt",),
        _one(f"{folder}/JPEGImages"),
        required=(f"{folder}/Annotations",),
        format="voc",
    )
    return Benchmark(
        f"voc{year}",
        f"Pascal VOC {year}: AP50 over all recalls, and by VOC's own rule",
        dict.fromkeys(splits, split_files),
        "the development kit of Pascal VOC",
        "It is at host.robots.ox.ac.uk/pascal/VOC.",
    )


def _folder_of_sets(name: str, about: str, source: str, fetch: str) -> Benchmark:
    return Benchmark(name, about, dict.fromkeys(("test", "val", "train"), Files(folder_of_sets=name)), source, fetch)


def _labeled_captions(name: str) -> Benchmark:
    split_files = Files((f"{name}/grounding.json", f"{name}/labels/grounding.json"), _one(f"{name}/images | {name}"))
    return Benchmark(
        name,
        "images of the web with their captions, labelled by `glip label --captions`",
        {},
        "arXiv:2112.03857v2, section 3.3",
        "Fetch the images, then label them with `glip label --captions`.",
        pretraining=Pretraining(split_files, "grounding", packing=Packing()),
    )


def _pretraining(name: str, about: str, fetch: str, reads: Pretraining) -> Benchmark:
    return Benchmark(name, about, {}, _COCO_SOURCE, fetch, pretraining=reads)


_ROWS = (
    Benchmark(
        "coco",
        "COCO 2017: 80 classes; test-dev makes a results file for the server",
        {"val": _COCO_VAL, "test-dev": _COCO_TEST_DEV, "train": _COCO_TRAIN},
        _COCO_SOURCE,
        "It is at cocodataset.org.",
        pretraining=Pretraining(_COCO_TRAIN, "detection", sampling="all-names"),
    ),
    # Annotations as GLIP's DATA.md names them, and as LVIS and its minival are published.
    _lvis(
        "lvis-minival",
        "LVIS v1 on minival: Fixed AP, and LVIS's standard AP",
        "lvis_v1_minival_inserted_image_name.json",
        "lvis_v1_minival.json",
    ),
    _lvis("lvis-val", "LVIS v1 val: Fixed AP, and LVIS's standard AP", "lvis_od_val.json", "lvis_v1_val.json"),
    _odinw("odinw13", "the 13 sets of ODinW that the GLIP paper reports"),
    _odinw("odinw35", "all 35 sets of ODinW"),
    Benchmark(
        "flickr30k",
        "Flickr30k Entities: Recall@1/5/10 of phrases",
        dict.fromkeys(
            ("val", "test"),
            Files(
                # MDETR's file, or Flickr30k Entities' own list of the images of a split.
                ("mdetr_annotations/final_flickr_separateGT_{split}.json", "flickr30k_entities/{split}.txt"),
                _one("flickr30k/flickr30k_images | flickr30k/flickr30k_images/{split}"),
                format="flickr30k",
            ),
        ),
        _COCO_SOURCE,
        f"{_MDETR_FETCH}; the images are Flickr30k's (on request at shannon.cs.illinois.edu/DenotationGraph); "
        f"flickr30k_entities, which recall by type of phrase needs, is at github.com/BryanPlummer/flickr30k_entities.",
        pretraining=Pretraining(
            Files(
                tuple(f"{folder}/final_flickr_separateGT_train.json" for folder in ("mdetr_annotations", "flickr30k")),
                _one("flickr30k/flickr30k_images/train | flickr30k/flickr30k_images | flickr30k/images"),
            ),
            "grounding",
        ),
    ),
    Benchmark(
        "coco-o",
        "COCO-O: COCO's classes in six other domains, with effective robustness",
        {
            "val": Files(
                tuple(f"{root}/{{set}}/annotations/instances_val2017.json" for root in ("ood_coco", "coco-o")),
                _one("ood_coco/{set}/val2017 | coco-o/{set}/val2017"),
            )
        },
        "alibaba/easyrobust benchmarks/coco_o/README.md",
        "The README of alibaba/easyrobust benchmarks/coco_o links it.",
        sets=COCO_O_DOMAINS,
    ),
    Benchmark(
        "d3",
        "D3, descriptions as classes: FULL, PRES and ABS, inside each scenario",
        {
            "test": Files(
                ("d3/d3_json/d3_full_annotations.json",),
                _one("d3/d3_images"),
                required=("d3/d3_pkl/groups.pkl",),
                format="d3",
            )
        },
        "shikras/d-cube README.md and doc.md; open-mmlab/mmdetection configs/mm_grounding_dino/dod",
        "The README of shikras/d-cube links it.",
    ),
    _folder_of_sets(
        "rf100",
        "Roboflow 100: a hundred sets of seven kinds",
        "roboflow/roboflow-100-benchmark README.md and GLIP-benchmark/train.sh",
        "The README of roboflow/roboflow-100-benchmark says how to download it.",
    ),
    _folder_of_sets(
        "rf100-vl",
        "Roboflow 100-VL: a hundred sets of seven kinds",
        "roboflow/rf100-vl README.md",
        "Run `rf100vl download rf100vl DATA-ROOT/rf100-vl` of the package rf100vl.",
    ),
    _voc(2007, "test", "val", "trainval"),
    _voc(2012, "val", "trainval"),
    _folder_of_sets(
        "mini-odinw",
        "thirteen small drawn sets in ODinW's layout, for a quick look",
        "glip data synthetic",
        "Run `glip data synthetic --mini-odinw DATA-ROOT/mini-odinw`.",
    ),
    _pretraining(
        "objects365",
        "Objects365 version 1: 365 classes",
        "It is at objects365.org.",
        Pretraining(
            Files(
                ("objects365v1/objects365_train.json", "objects365v1/annotations/objects365_train.json"),
                _one("objects365v1/train"),
            ),
            "detection",
        ),
    ),
    _pretraining(
        "objects365v2",
        "Objects365 version 2: 365 classes",
        "It is at objects365.org.",
        Pretraining(
            Files(
                ("objects365v2/annotations/zhiyuan_objv2_train.json", "objects365v2/train/zhiyuan_objv2_train.json"),
                _one("objects365v2/train"),
            ),
            "detection",
            patches=True,
        ),
    ),
    _pretraining(
        "mixed",
        "MDETR's mix of COCO, Visual Genome and GQA captions",
        f"{_MDETR_FETCH}; the images are COCO's train2014 and GQA's.",
        Pretraining(Files(tuple(f"{path}.json" for path in _MIXED), (("coco/train2014",), _GQA)), "grounding"),
    ),
    _pretraining(
        "mixed-no-coco",
        "MDETR's mix without COCO's images",
        f"{_MDETR_FETCH}, as published by GLIP without COCO; the images are GQA's.",
        Pretraining(Files(tuple(f"{path}_no_coco.json" for path in _MIXED), (_GQA,)), "grounding"),
    ),
    *map(_labeled_captions, ("cc3m", "cc12m", "sbu")),
    # Any folder with images and one annotation file, such as that of `glip data synthetic`.
    _pretraining(
        "coco-folder",
        "a folder of your own: COCO annotations and images",
        "",
        Pretraining(
            Files(("annotations.json", "annotations.coco.json", "_annotations.coco.json"), _one("images | .")),
            "detection",
        ),
    ),
    _pretraining(
        "grounding-folder",
        "a folder of your own: captions with boxes in MDETR's form, and images",
        "",
        Pretraining(Files(("captions.json", "grounding.json"), _one("images | .")), "grounding"),
    ),
)
TABLE = {row.name: row for row in known_benchmarks()}
