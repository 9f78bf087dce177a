"""Opens the train, val and test splits of a data set for tuning: each file is read once, val held out where missing.

`open_training_splits` reads the files; `few_shot` takes a few examples of what was read, as often as needed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from glip.data.coco import CocoDataset
from glip.data.fewshot import choose_few_shot
from glip.data.lookup import TrainingSplits
from glip.data.splits import OpenSplit, Split, learned_parts, open_split, with_images_of
from glip.errors import InputError
from glip.left_out import LeftOut, first_examples, without_repeats

if TYPE_CHECKING:
    from glip.prompts import Wording

HELD_OUT = 5  # without a validation split, every fifth image is held out for it
_HELD_OUT_SEED = 0
_LISTED = 5  # class names in a message
_COMPARED = 20_000  # of more images the contents are not compared, only the paths


@dataclass(frozen=True, eq=False)
class OpenTrainingSplits:
    """The splits of a data set, read.

    Attributes:
        files: where they are.
        read: the training split as it was read.
        train: images to learn from, with the categories that are prompted.
        folders: of the images of `train`; those that exist.
        val: to choose the best epoch by.
        test: scored at the end.
        notes: what a person should know, in sentences.
        left_out: boxes and classes that are not learned or cannot be found, and validation images that are training
            images.
    """

    files: TrainingSplits
    read: OpenSplit
    train: CocoDataset
    folders: tuple[Path, ...]
    val: OpenSplit
    test: OpenSplit
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def name(self) -> str:
        """Returns the name of the data set."""
        return self.files.name

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the class names as they are prompted."""
        return self.test.names

    @property
    def wordings(self) -> tuple[Wording, ...] | None:
        """Returns how each class is written in the caption; None for the plain names."""
        return self.test.wordings


def open_training_splits(splits: TrainingSplits) -> OpenTrainingSplits:
    """Reads the annotations of a data set to tune on. Files that did not change are read once per process.

    Raises:
        InputError: a file cannot be used, a split is empty, or the splits have different categories.
    """
    return _open(splits, tuple(map(_version, (splits.train, splits.val, splits.test))))


def _version(split: Split | None) -> tuple[int, int]:
    """Returns what changes when a file does."""
    if split is None or not split.annotations.is_file():
        return 0, 0
    found = split.annotations.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=64)
def _open(splits: TrainingSplits, versions: tuple[tuple[int, int], ...]) -> OpenTrainingSplits:
    opened = open_split(splits.train)
    train = _dataset(opened)
    notes = list(opened.notes)
    if splits.val is None:
        train, held_out = _hold_out(train, splits.train.annotations)
        notes.append(
            f"{splits.name} has no validation split: {len(held_out.images)} of its images are held out for it."
        )
        val = replace(with_images_of(opened, held_out), notes=())
    else:
        val = open_split(splits.val)
        _check_same_categories(opened, val)
    test = val if splits.test is None else open_split(splits.test)
    if splits.test is None:
        notes.append(f"{splits.name} has no test split: the validation images are scored at the end.")
    else:
        _check_same_categories(opened, test)
    images = opened.split.images
    folders = tuple(folder for folder in images if folder.is_dir()) or images[:1]
    found = OpenTrainingSplits(splits, opened, train, folders, val, test, tuple(notes))
    return replace(found, left_out=_left_out(found))


def few_shot(opened: OpenTrainingSplits, shots: int, seed: int) -> OpenTrainingSplits:
    """Returns the splits with a few examples of train and val: those of published lists, or drawn by the same rule.

    Args:
        opened: all examples; stays as it is.
        shots: images per class.
        seed: of the lists or the draw.

    Raises:
        InputError: a list has other categories, or no image has a box.
    """
    train = choose_few_shot(opened.train, opened.files.train.annotations, "train", shots, seed)
    val_file = (opened.files.val or opened.files.train).annotations
    val = choose_few_shot(_dataset(opened.val), val_file, "val", shots, seed).dataset
    names = {category.id: category.name for category in opened.train.categories}
    short = [(names[id], shots - count) for id, count in train.missing.items() if count < shots]
    notes = list(opened.notes)
    if short:
        listed = ", ".join(f"{name!r} ({count})" for name, count in short[:_LISTED])
        more = f" and {len(short) - _LISTED} more" if len(short) > _LISTED else ""
        notes.append(
            f"{opened.name}: {shots} images per class were asked for, but there are fewer of {listed}{more}; all of "
            f"those are used."
        )
    few = replace(opened, train=train.dataset, val=with_images_of(opened.val, val), notes=tuple(notes))
    return replace(few, left_out=_left_out(few))


def _left_out(found: OpenTrainingSplits) -> tuple[LeftOut, ...]:
    """Returns what of the splits is not learned or scored, each once."""
    learned = learned_parts(found.read, found.train)
    return tuple(without_repeats([*_shared_images(found), *learned, *found.val.left_out, *found.test.left_out]))


def _shared_images(found: OpenTrainingSplits) -> list[LeftOut]:
    """Returns an entry if validation images are training images, by their path or their content."""
    folders = replace(found.test.split, images=found.folders)
    learned = {folders.image_path(image.file_name).resolve() for image in found.train.images}
    shared = [path for path in found.val.images if path in learned]
    if len(learned) + len(found.val.images) <= _COMPARED:
        shared += _copies([path for path in found.val.images if path not in learned], learned)
    if not shared:
        return []
    files = found.files
    same_file = files.val is not None and files.val.annotations == files.train.annotations
    reason = f"{files.train.annotations} is given for both" if same_file else "they are training images as well"
    return [
        LeftOut(
            kind="validation_images_in_training",
            count=len(shared),
            sentence=f"{found.name}: {len(shared)} of {len(found.val.images)} validation images are no independent "
            f"test, because {reason}. Their score says how well training images are remembered; validate on others.",
            examples=first_examples(path.name for path in shared),
        )
    ]


def _copies(candidates: Sequence[Path], others: Iterable[Path]) -> list[Path]:
    """Returns the files whose content is that of one of the others."""
    by_size: dict[int, list[Path]] = {}
    for path in others:
        by_size.setdefault(_size_of(path), []).append(path)
    digest = lru_cache(maxsize=None)(_digest)
    return [
        path
        for path in candidates
        if (size := _size_of(path)) > 0 and (own := digest(path)) in map(digest, by_size.get(size, ())) and own
    ]


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file_digest(file, "blake2b").digest()
    except OSError:
        return None


def _dataset(opened: OpenSplit) -> CocoDataset:
    if opened.dataset is None:
        raise InputError(f"{opened.split.annotations} is not a COCO file, which tuning needs.")
    return opened.dataset


def _check_same_categories(train: OpenSplit, other: OpenSplit) -> None:
    here, there = train.class_of_id, other.class_of_id
    if here == there:
        return
    id = next(id for id in sorted({*here, *there}) if here.get(id) != there.get(id))
    texts = [repr(names[id]) if id in names else "missing" for names in (here, there)]
    raise InputError(
        f"The splits have different categories: {id} is {texts[0]} in {train.split.annotations} and {texts[1]} in "
        f"{other.split.annotations}. Give all splits the same categories."
    )


def _hold_out(dataset: CocoDataset, annotations: Path) -> tuple[CocoDataset, CocoDataset]:
    """Returns most of the images, and the others."""
    boxes = dataset.boxes_by_image()
    ids = [image.id for image in dataset.images if boxes[image.id]]
    if len(ids) < 2:
        raise InputError(
            f"{annotations} has {len(ids)} images with boxes and no validation split next to it; at least 2 are "
            f"needed, one to learn from and one to validate on."
        )
    random.Random(_HELD_OUT_SEED).shuffle(ids)  # noqa: S311  # which images, not a secret
    held_out = set(ids[::HELD_OUT] if len(ids) >= HELD_OUT else ids[:1])
    return dataset.with_images({image.id for image in dataset.images} - held_out), dataset.with_images(held_out)
