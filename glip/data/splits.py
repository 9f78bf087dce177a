"""Opens a split of a data set: its annotations, its images, and the class names to prompt.

`Split` says where the files are (made by `glip.data.lookup`); `open_split` reads the annotation file once, and gives
the columns that scores are computed from and, for COCO's format, the data set that training learns from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from glip.data.annotations import Truth, check_box_format
from glip.data.benchmarks import Format
from glip.data.coco import CocoDataset
from glip.data.coco_reading import read_coco
from glip.data.formats import read_annotated
from glip.data.unusable import LEARNED, SCORED, can_be_prompted, unusable_parts
from glip.errors import InputError
from glip.left_out import LeftOut
from glip.names import names_read_alike

if TYPE_CHECKING:
    from glip.prompts import Wording


@dataclass(frozen=True)
class Split:
    """One split of one data set, found on disk.

    Attributes:
        name: of the data set, in tables, files and submissions.
        split: train, val, test, …; '' where the files name none.
        format: how the annotations are written; decides how they are read and scored.
        annotations: the annotation file; of D3 that of all descriptions, of VOC the list of images.
        images: folders that file names are relative to, searched in order.
        classes: category ids and the names to prompt; None: those of the annotations.
        wordings: how each class is written in the caption; None for the plain names.
        group: the part of a benchmark that the set is averaged in.
        size: number of images of the published split; None if unknown.
        notes: what a reader of the score should know, in sentences.
    """

    name: str
    split: str
    format: Format
    annotations: Path
    images: tuple[Path, ...]
    classes: tuple[tuple[int, str], ...] | None = None
    wordings: tuple[Wording, ...] | None = None
    group: str = ""
    size: int | None = None
    notes: tuple[str, ...] = ()

    def image_path(self, file_name: str) -> Path:
        """Returns the path of an image: the first that exists, or the first candidate if none does."""
        candidates = [folder / file_name for folder in self.images]
        return next((path for path in candidates if path.is_file()), candidates[0])


@dataclass(frozen=True, eq=False)
class OpenSplit:
    """A split whose annotations are read.

    Attributes:
        split: where its files are.
        truth: the annotated boxes; none if they are not public.
        names: of the classes, as they are prompted.
        category_ids: of `names`.
        wordings: how each class is written in the caption; None for the plain names.
        notes: what a reader of the score should know, in sentences.
        dataset: images and boxes of the classes in `names`, in the order of the file and renamed as they are
            prompted; None for formats that nothing is trained on. Not cut by `limit`.
        unlimited: the annotated boxes of all images; None if `truth` has them.
        left_out: boxes and classes that are not asked or cannot be found, as they count in a score.
    """

    split: Split
    truth: Truth
    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    wordings: tuple[Wording, ...] | None
    notes: tuple[str, ...]
    dataset: CocoDataset | None = None
    unlimited: Truth | None = None
    left_out: tuple[LeftOut, ...] = ()

    @property
    def whole_truth(self) -> Truth:
        """Returns the annotated boxes of all images, also beyond the limit."""
        return self.truth if self.unlimited is None else self.unlimited

    @property
    def class_of_id(self) -> dict[int, str]:
        """Returns the prompted name of each category id."""
        return dict(zip(self.category_ids, self.names, strict=True))

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """Returns (I) absolute paths, in the order of `truth.image_ids`; an image may be missing."""
        return tuple(self.split.image_path(name).resolve() for name in self.truth.file_names)

    @cached_property
    def ids_of_image(self) -> Mapping[Path, Sequence[int]]:
        """Returns the image ids of each file; a file that is listed twice has two."""
        ids: dict[Path, list[int]] = {}
        for path, id in zip(self.images, self.truth.image_ids.tolist(), strict=True):
            ids.setdefault(path, []).append(id)
        return ids


def open_split(split: Split, limit: int | None = None) -> OpenSplit:
    """Reads the annotations of a split whose classes are names.

    Args:
        split: of any format but flickr30k, whose phrases are not classes (see `glip.data.flickr30k`).
        limit: keep only the first N images, by their ids; None for all.

    Raises:
        InputError: a file cannot be used, or its classes are not those of the benchmark.
    """
    read = _read(split)
    whole, dataset = read.truth, read.dataset
    names, ids = _prompted_classes(split, whole, dataset)
    truth = whole if limit is None else whole.of_images(whole.image_ids[:limit])
    if not len(truth.image_ids):
        raise InputError(f"{split.annotations} lists no image.")
    notes = [
        *split.notes,
        *read.notes,
        *_renamed_note(split, truth),
        *_same_names_note(split, names),
        *_id_zero_note(split, truth),
    ]
    if split.size is not None and limit is None and split.size != len(truth.image_ids):
        notes.append(
            f"{split.name} has {len(truth.image_ids)} images here and {split.size} as published: compare with care."
        )
    left_out = (*read.left_out, *unusable_parts(truth, ids, _where(split), SCORED))
    if read.folders:
        split = replace(split, images=read.folders)
    if dataset is not None:
        split = _with_likely_folder_first(split, dataset)
        dataset = dataset.with_categories(ids, names)
    return OpenSplit(split, truth, names, ids, split.wordings, tuple(notes), dataset, whole, left_out)


def with_images_of(opened: OpenSplit, dataset: CocoDataset) -> OpenSplit:
    """Returns a split with some of its images only, such as those of a few-shot list.

    Args:
        opened: the split.
        dataset: the images and their boxes, with the classes of `opened`.
    """
    truth = Truth.from_coco(dataset)
    left_out = unusable_parts(truth, opened.category_ids, _where(opened.split), SCORED)
    return replace(opened, truth=truth, dataset=dataset, unlimited=None, left_out=tuple(left_out))


def learned_parts(opened: OpenSplit, dataset: CocoDataset) -> list[LeftOut]:
    """Returns which boxes and classes of a training split are not learned.

    Args:
        opened: the split.
        dataset: its images to learn from.
    """
    truth = opened.whole_truth.of_images([image.id for image in dataset.images])
    return unusable_parts(truth, opened.category_ids, f"{opened.split.name}, training split", LEARNED)


def _where(split: Split) -> str:
    return f"{split.name}, {split.split} split" if split.split else split.name


@dataclass(frozen=True)
class _Read:
    """What was read of a split, and what should be said about it."""

    truth: Truth
    dataset: CocoDataset | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    folders: tuple[Path, ...] = ()


def _read(split: Split) -> _Read:
    path = split.annotations
    if split.format == "lvis":
        from glip.data.lvis import read_lvis

        return _Read(read_lvis(path))
    if split.format == "voc":
        from glip.data.voc import read_voc

        return _Read(read_voc(path, path.parents[2] / "Annotations"))
    assert split.format in ("coco", "coco-images", "d3"), f"{split.format} has no class names"
    if split.format == "coco-images":
        file = read_coco(path, split.images, boxes=False)
    else:
        file = read_annotated(path, split.images, split.split)
    truth = Truth.from_coco(file.dataset)
    if split.format == "coco-images":
        return _Read(truth, None, file.notes)
    check_box_format(truth, path)
    return _Read(truth, file.dataset, file.notes, file.left_out, file.folders)


def _with_likely_folder_first(split: Split, dataset: CocoDataset) -> Split:
    """Returns the split with the folder first that has the first image."""
    if not dataset.images:
        return split
    first = dataset.images[0].file_name
    return replace(split, images=tuple(sorted(split.images, key=lambda folder: not (folder / first).is_file())))


def _prompted_classes(
    split: Split, truth: Truth, dataset: CocoDataset | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns the names to prompt, and their category ids."""
    known = dict(zip(truth.category_ids.tolist(), truth.names, strict=True))
    if split.classes is not None:
        missing = [id for id, _ in split.classes if id not in known]
        if missing:
            raise InputError(
                f"{split.annotations} has no category {missing[0]}; {split.name} is prompted with it. The first are "
                f"{', '.join(f'{id} {name!r}' for id, name in list(known.items())[:5])}. The file may belong to "
                f"another version of the data set; download the published one."
            )
        return tuple(name for _, name in split.classes), tuple(id for id, _ in split.classes)
    group = dataset.unused_group if dataset is not None and split.format == "coco" else None
    prompted = {id: name for id, name in known.items() if can_be_prompted(name) and id != group}
    if not prompted:
        raise InputError(f"{split.annotations} names no class that can be prompted.")
    return tuple(prompted.values()), tuple(prompted)


def _id_zero_note(split: Split, truth: Truth) -> list[str]:
    """Returns a note if an annotation has the id 0, which COCO's evaluator treats as unmatched."""
    if split.format != "coco" or 0 not in truth.annotation_id:
        return []
    return [
        f"{split.name} has an annotated box with the id 0, which COCO's evaluator never counts as found; published "
        f"scores contain this error, and so does this one."
    ]


def _same_names_note(split: Split, names: Sequence[str]) -> list[str]:
    """Returns a note if the model cannot tell some classes apart, because it reads their names alike."""
    if split.format != "coco":
        return []
    pairs = [" and ".join(map(repr, group)) for group in names_read_alike(names)]
    if not pairs:
        return []
    return [
        f"{split.name} has classes that a model reads as the same name: {', '.join(pairs)}. A model that is asked by "
        f"name gives each the boxes of all of them, so a right box of one is a false positive of the others and lowers "
        f"their AP; join or rename them in {split.annotations}."
    ]


def _renamed_note(split: Split, truth: Truth) -> list[str]:
    """Returns a note if classes are prompted by other names than the file's."""
    if split.classes is None:
        return []
    known = dict(zip(truth.category_ids.tolist(), truth.names, strict=True))
    renamed = [f"{known[id]!r} as {name!r}" for id, name in split.classes if known[id] != name]
    return [f"{split.name} prompts {', '.join(renamed)}, as the benchmark does."] if renamed else []
