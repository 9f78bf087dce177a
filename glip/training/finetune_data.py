"""What is tuned on: a set's splits, found by name or path, few examples of it, and what is odd about them.

Finds files as `glip eval` does. Knows annotations; opens no image and no model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from glip.data import class_lists
from glip.data.annotations import Truth
from glip.data.benchmark_rows import EvalSet, Prompts
from glip.data.benchmark_search import find_benchmark, known_benchmarks
from glip.data.coco import CocoCategory, CocoDataset, load_coco
from glip.data.discovery import CORRECTED_FILE, LOOKED_FOR, find_folder, find_json
from glip.data.fewshot import draw_few_shot
from glip.data.splits import OpenSet, open_set
from glip.errors import InputError
from glip.prompts import Wording
from glip.training.finetune_checks import (
    Known,
    Placed,
    misplaced,
    more,
    never_found,
    refuse_nothing_to_find,
    refuse_nothing_to_learn,
    refuse_unreadable,
    without_examples,
)
from glip.training.recipes import Shots

HELD_OUT = 5  # without a validation split, every fifth image is one of it
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class Source:
    """A set that can be tuned on.

    Attributes:
        name: in tables and folders.
        train: to learn from; the whole set where it has no splits.
        val: to choose the best epoch by; None: a part of `train` is held out.
        test: scored once, at the end; None: `val` is.
    """

    name: str
    train: EvalSet
    val: EvalSet | None
    test: EvalSet | None


@dataclass(frozen=True, eq=False)
class TuningSet:
    """A set that is ready: as many examples as were asked for.

    Attributes:
        name: of the set.
        train: images to learn from; its categories are those that are asked.
        folders: of the images.
        val: chooses the best epoch.
        test: is scored at the end.
        notes: what is odd, a sentence each.
    """

    name: str
    train: CocoDataset
    folders: tuple[Path, ...]
    val: OpenSet
    test: OpenSet
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The classes as they are asked."""
        return self.test.names

    @property
    def wordings(self) -> tuple[Wording, ...] | None:
        """How the classes stand in the caption; None for the plain names."""
        return self.test.wordings


def find_sources(
    data: str, root: Path, prompts: Prompts | None = None, images: Path | None = None
) -> tuple[list[Source], list[str]]:
    """The sets that a word of the command line means.

    Args:
        data: a set of ODinW, odinw13, odinw35, mini-odinw, coco and other names of `glip eval`; a folder or a file.
        root: the folder that named sets lie below.
        prompts: how ODinW's classes are asked; None: as its authors configured each set.
        images: folder of the images of a COCO file, where they are not beside it.

    Returns:
        The sets found, and a sentence for each of a group that is missing.

    Raises:
        InputError: nothing is found, or a name is unknown.
    """
    path = Path(data).expanduser()
    name = data.strip().removeprefix("@").casefold()
    if name in class_lists.GROUPS:
        return _group(name, root, prompts or "original")
    if name == "coco":
        path = root / "coco"
        if not path.is_dir():
            raise InputError(
                f"There is no folder {path}. COCO lies below --data-root as coco/annotations and coco/train2017."
            )
    if images is not None and not images.is_dir():
        raise InputError(f"--images is {images}, and there is no such folder.")
    if path.exists():
        return _of_path(path, images, prompts), []
    if images is not None:
        raise InputError(f"--images is for a COCO file of your own; {data} has its images where it says.")
    return _named(data, root, prompts), []


def _group(name: str, root: Path, prompts: Prompts) -> tuple[list[Source], list[str]]:
    found, missing = [], []
    for benchmark in class_lists.group(name):
        try:
            found += _named(benchmark.name, root, prompts)
        except InputError:
            missing.append(f"{benchmark.name.removeprefix('odinw/')} is not at {root / benchmark.root}.")
    if not found:
        raise InputError(
            f"None of the {len(missing)} sets of {name} is below {root}; the first is looked for at "
            f"{missing[0].rpartition(' at ')[2]} Say where they are with --data-root."
        )
    return found, missing


def _named(data: str, root: Path, prompts: Prompts | None) -> list[Source]:
    rows = {row.name: row for row in known_benchmarks()}
    row = rows.get(data.strip().removeprefix("@").casefold())
    if row is not None and "train" not in row.splits:
        tunable = ", ".join(name for name, one in rows.items() if "train" in one.splits)
        raise InputError(
            f"{row.name} has {' and '.join(row.splits)}, and no split to learn from. Accepted are {tunable}, coco, "
            f"single sets such as odinw/Aquarium, and any COCO folder or file."
        )
    benchmark = find_benchmark(data, root, None, "plain") if prompts is None else None
    odinw = benchmark is not None and benchmark.name.startswith("odinw")
    chosen: Prompts = prompts or ("original" if odinw else "plain")
    splits = {split: _split(data, root, split, chosen) for split in ("train", "val", "test")}
    if not splits["train"]:
        find_benchmark(data, root, "train", chosen)  # says what is wrong
        raise InputError(f"{data} has no images to learn from.")
    return [
        Source(name, item, splits["val"].get(name), splits["test"].get(name)) for name, item in splits["train"].items()
    ]


def _split(data: str, root: Path, split: str, prompts: Prompts) -> dict[str, EvalSet]:
    try:
        return {item.name: item for item in find_benchmark(data, root, split, prompts).sets}
    except InputError:
        return {}


def _of_path(path: Path, images: Path | None, prompts: Prompts | None) -> list[Source]:
    if prompts not in (None, "plain"):
        raise InputError(
            f"--prompts {prompts} is for ODinW; the classes of {path} are asked by their names. Leave it out."
        )
    corrected = path / CORRECTED_FILE
    if corrected.is_file():
        path = corrected
    if path.is_file():
        found = find_json(path)
        folders = (images,) if images is not None else found.images
        return [Source(path.stem, EvalSet(path.stem, "", "coco", found.annotations, folders), None, None)]
    if images is not None:
        raise InputError(f"--images is for a COCO file; {path} is a folder.")
    if find_folder(path, "train") is not None:
        return [_of_folder(path)]
    below = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and find_folder(folder, "train")]
    if below:
        return [_of_folder(folder) for folder in below]
    if find_folder(path, None) is None:
        raise InputError(
            f"{path} holds no COCO annotations. {LOOKED_FOR} Name the file itself, with --images if its images lie "
            f"elsewhere."
        )
    whole = find_benchmark(str(path), Path()).sets[0]
    return [Source(whole.name, whole, None, None)]


def _of_folder(folder: Path) -> Source:
    train, val, test = (_found(folder, split) for split in ("train", "val", "test"))
    assert train is not None
    return Source(train.name, train, val, test)


def _found(folder: Path, split: str) -> EvalSet | None:
    found = find_folder(folder, split)
    if found is None:
        return None
    return EvalSet(folder.resolve().name, found.split, "coco", found.annotations, found.images)


def open_tuning_set(source: Source, shots: Shots, seed: int) -> TuningSet:
    """Reads a set and takes as many examples as asked for.

    Args:
        source: where it is.
        shots: images a class: the published list of this seed if there is one beside the annotations, else drawn by
            the same rule; validation images likewise. 'all' takes everything, and 0 nothing to learn from.
        seed: of the draw.

    Raises:
        InputError: a file cannot be used, a split is empty, or splits have other categories.
    """
    train_open = open_set(source.train)
    whole = _asked_only(load_coco(source.train.annotations), train_open)
    notes = list(train_open.notes)
    if source.val is None:
        whole, held_out = _held_out(whole, source.train)
        notes.append(
            f"{source.name} has no validation split: {len(held_out.images)} of its images are held out for it."
        )
        val = replace(train_open, truth=Truth.from_coco(held_out), notes=())
    else:
        val = open_set(source.val)
        held_out = _asked_only(load_coco(source.val.annotations), val)
        _refuse_other_categories(source.train, train_open, source.val, val)
    test = val if source.test is None else open_set(source.test)
    if source.test is None:
        notes.append(f"{source.name} has no test split: the validation images are scored at the end.")
    else:
        _refuse_other_categories(source.train, train_open, source.test, test)
    train = whole
    if shots != "all" and shots > 0:
        train, short = _few(whole, source.train.annotations, "train", shots, seed)
        notes += [f"{source.name}: {sentence}" for sentence in short]
        few, _ = _few(held_out, (source.val or source.train).annotations, "val", shots, seed)
        val = replace(val, truth=Truth.from_coco(few))
    for split, truth in {"validation": val.truth, "test": test.truth}.items():
        notes += [f"{source.name}, {split} split: {sentence}" for sentence in never_found(Placed.of_truth(truth))]
    if shots != 0:
        refuse_nothing_to_learn(train, source.train.annotations)
        refuse_nothing_to_find(val.truth, source.name, (source.val or source.train).annotations)
        about = (*without_examples(train), *misplaced(Placed.of_dataset(train)))
        notes += [f"{source.name}: {sentence}" for sentence in about]
    # An evaluation looks into places that may not exist; what is learned from must.
    folders = tuple(folder for folder in source.train.images if folder.is_dir()) or source.train.images[:1]
    return TuningSet(source.name, train, folders, val, test, tuple(dict.fromkeys(notes)))


def look_at_images(data: TuningSet, shots: Shots, known: Known) -> list[str]:
    """Looks whether the images of a set can be read, before hours are spent.

    Args:
        data: as many examples as asked for.
        shots: how many that was. Each of few examples is needed; of whole sets some may be unreadable.
        known: what was found out of images before; grows.

    Returns:
        Sentences about images that will be left out.

    Raises:
        InputError: images that are needed cannot be read.
    """
    found = []
    if shots != 0:
        places = replace(data.test.item, images=data.folders)
        sizes = {places.image(image.file_name): (image.height, image.width) for image in data.train.images}
        found += refuse_unreadable(f"the examples of {data.name}", sizes, known, all_needed=shots != "all")
    for split, opened in (("validation", data.val), ("test", data.test)):
        if shots != 0 or split == "test":
            sizes = dict(zip(opened.images, map(tuple, opened.truth.sizes_hw.tolist()), strict=True))
            found += refuse_unreadable(f"the {split} split of {data.name}", sizes, known, all_needed=True)
    return found


def _asked_only(dataset: CocoDataset, opened: OpenSet) -> CocoDataset:
    """The set with the classes that are asked, called as they are asked."""
    categories = tuple(CocoCategory(id, name) for id, name in zip(opened.category_ids, opened.names, strict=True))
    known = set(opened.category_ids)
    boxes = tuple(box for box in dataset.annotations if box.category_id in known)
    return msgspec.structs.replace(dataset, categories=categories, annotations=boxes)


def _refuse_other_categories(train: EvalSet, opened: OpenSet, other: EvalSet, other_opened: OpenSet) -> None:
    here = dict(zip(opened.category_ids, opened.names, strict=True))
    there = dict(zip(other_opened.category_ids, other_opened.names, strict=True))
    if here == there:
        return
    id = next(id for id in sorted({*here, *there}) if here.get(id) != there.get(id))
    words = [repr(names[id]) if id in names else "no such category" for names in (here, there)]
    raise InputError(
        f"The splits have other categories: {id} is {words[0]} in {train.annotations} and {words[1]} in "
        f"{other.annotations}. Give all splits the same categories."
    )


def _held_out(dataset: CocoDataset, item: EvalSet) -> tuple[CocoDataset, CocoDataset]:
    """Most of the images, and the others."""
    boxes = dataset.boxes_by_image()
    ids = [image.id for image in dataset.images if boxes[image.id]]
    if len(ids) < 2:
        raise InputError(
            f"{item.annotations} has {len(ids)} images with boxes, and no validation split beside it: at least two "
            f"are needed, one to learn from and one to look how well."
        )
    random.Random(HELD_OUT_SEED).shuffle(ids)  # noqa: S311  # which images, no secret
    out = set(ids[::HELD_OUT] if len(ids) >= HELD_OUT else ids[:1])
    return _part(dataset, {image.id for image in dataset.images} - out), _part(dataset, out)


def _part(dataset: CocoDataset, ids: set[int]) -> CocoDataset:
    return msgspec.structs.replace(
        dataset,
        images=tuple(image for image in dataset.images if image.id in ids),
        annotations=tuple(box for box in dataset.annotations if box.image_id in ids),
    )


def few_shot_list(annotations: Path, split: str, shots: Shots, seed: int) -> Path | None:
    """The published list of examples beside the annotations; None where there is none."""
    path = annotations.parent / f"fewshot_{split}_shot{shots}_seed{seed}.json"
    return path if path.is_file() else None


def _few(dataset: CocoDataset, annotations: Path, split: str, shots: int, seed: int) -> tuple[CocoDataset, list[str]]:
    """Few examples of a split, and sentences about classes that have not enough."""
    published = few_shot_list(annotations, split, shots, seed)
    if published is not None:
        few = load_coco(published)
        known = {category.id for category in dataset.categories}
        strange = [category for category in few.categories if category.id not in known and category.name.strip()]
        if any(box.category_id == category.id for category in strange for box in few.annotations):
            raise InputError(
                f"{published} has the category {strange[0].id} {strange[0].name!r}, which {annotations} has not; the "
                f"list is of another version of the set. Delete it, and the examples are drawn."
            )
        boxes = tuple(box for box in few.annotations if box.category_id in known)
        few = msgspec.structs.replace(few, categories=dataset.categories, annotations=boxes)
        return few, []
    drawn = draw_few_shot(dataset, shots, seed)
    if not drawn.dataset.images:
        raise InputError(f"{annotations} has no image with a box, so no example of {split} can be drawn.")
    names = {category.id: category.name for category in dataset.categories}
    short = [(names[id], shots - count) for id, count in drawn.missing.items() if count < shots]
    if split == "train" and short:
        listed = ", ".join(f"{name!r} ({count})" for name, count in short[:5])
        return drawn.dataset, [
            f"{shots} images of each class were asked for, but there are fewer of {listed}{more(short)}; all of "
            f"those are taken."
        ]
    return drawn.dataset, []
